//! Durable storage: the Raft log (`wal.rs`), and the engines that hold applied state behind one
//! trait: sled, fjall, and memory for simulation.

use tercet_core::records::{Broken, Row};

/// An ordered store of applied records. It is never the only copy of anything acknowledged.
pub trait Engine: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken>;
    /// Rows with `from <= key < to`, ascending, at most `limit`.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken>;
    /// Writes all rows as one generation: after a crash either all of them or none are visible, and
    /// when this returns they are durable.
    fn write(&self, rows: Vec<Row>) -> Result<(), Broken>;
    /// Drops everything (a snapshot is about to be installed).
    fn clear(&self) -> Result<(), Broken>;
    /// Bytes on disk.
    fn size_bytes(&self) -> u64;
}
