//! Durable storage: the Raft log (`wal.rs`), and the engines that hold applied state behind one
//! trait: sled, fjall, and memory for simulation. Nothing here knows what the records mean.
//!
//! Every record carries a checksum. An engine that meets a bad one condemns its folder: the next
//! [`open`] sets the folder aside and starts an empty one, which the replica fills again from its
//! log or from another replica.

mod fjall;
mod folder;
mod memory;
mod record;
mod sled;
#[cfg(test)]
mod suite;
pub mod wal;

pub use memory::MemoryEngine;

use crate::config::EngineKind;
use std::path::Path;
use std::sync::Arc;
use tercet_core::records::{Broken, Row};

/// A row to be written: it stays where it is, since readers see it there until it is durable.
pub type RowRef<'a> = (&'a [u8], &'a [u8]);

pub fn refs(rows: &[Row]) -> Vec<RowRef<'_>> {
    rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect()
}

/// An ordered store of applied records. It is never the only copy of anything acknowledged.
pub trait Engine: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken>;
    /// Rows with `from <= key < to`, ascending, at most `limit`.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken>;
    /// The keys that [`Self::scan`] would give.
    fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Broken> {
        Ok(self.scan(from, to, limit)?.into_iter().map(|(key, _)| key).collect())
    }
    /// Writes all rows as one generation: after a crash either all of them or none are visible, and
    /// when this returns they are durable.
    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken>;
    /// Drops everything (a snapshot is about to be installed). A crash in the middle may leave any
    /// part of the rows, so the caller marks the store as incomplete first.
    fn clear(&self) -> Result<(), Broken>;
    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
    /// Whether calls may wait for a disk. Those are kept off the async workers.
    fn blocks(&self) -> bool {
        true
    }
}

/// Opens the store in `dir`, creating it if there is none. What cannot be read is set aside as
/// `<dir>.broken-<n>`, and an empty store takes its place.
pub fn open(kind: EngineKind, dir: &Path) -> anyhow::Result<Arc<dyn Engine>> {
    folder::open(dir, |dir, condemn| match kind {
        EngineKind::Sled => Ok(Arc::new(sled::SledEngine::open(dir, condemn)?) as Arc<dyn Engine>),
        EngineKind::Fjall => Ok(Arc::new(fjall::FjallEngine::open(dir, condemn)?) as Arc<dyn Engine>),
    })
}
