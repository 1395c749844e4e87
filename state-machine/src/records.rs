//! How the state machine reaches its cold records: an ordered map of bytes, read through a trait
//! and written into an overlay that the node flushes.

use crate::ids::Tag;
#[allow(clippy::disallowed_types, reason = "only for what is found by its tag, and never gone through in order")]
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// A local storage failure or a broken invariant met while applying. It stops the node: neither is
/// an answer that replicas could agree on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<crate::codec::CodecError> for Broken {
    fn from(error: crate::codec::CodecError) -> Self {
        Broken(error.to_string())
    }
}

pub type Row = (Vec<u8>, Vec<u8>);

/// The first bytes of the keys of leaves, hashes and listings: rows that come in order and do not change once they are full.
pub const LEDGER: [u8; 3] = *b"lns";

/// The first byte of the keys of bodies: each new one comes behind all others.
pub const BODIES: u8 = b'b';

/// The first byte of the keys of events' records: a tag follows, so nobody lists them in order.
pub const EVENTS: u8 = b'e';

/// Hashes of tags, and of keys that end with one: eight of their bytes, since a tag is a salted hash itself.
#[derive(Default)]
pub struct TagHasher(u64);
pub type TagHashes = BuildHasherDefault<TagHasher>;

/// Found by tag. Whoever goes through it must not depend on the order.
#[allow(clippy::disallowed_types, reason = "only for what is found by its tag, and never gone through in order")]
pub(crate) type ByTag<T> = HashMap<Tag, T, TagHashes>;

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    /// Lengths are all the same.
    fn write_usize(&mut self, _: usize) {}
}

/// Read access to ordered records.
pub trait Records {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken>;

    /// Rows with `from <= key < to` in ascending order, at most `limit` of them.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken>;
}

/// Write access: what `apply` uses.
pub trait RecordsMut: Records {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);

    /// Adds to the end of a row, which is empty if there is none.
    fn append(&mut self, key: Vec<u8>, more: &[u8]) -> Result<(), Broken> {
        let mut value = self.get(&key)?.unwrap_or_default();
        value.extend_from_slice(more);
        self.put(key, value);
        Ok(())
    }
}

/// Records in memory: the whole store of a simulation, and the base of tests.
#[derive(Debug, Default, Clone)]
pub struct MemoryRecords(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl Records for MemoryRecords {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.0.range(from.to_vec()..to.to_vec());
        Ok(range.take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl RecordsMut for MemoryRecords {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key, value);
    }
}
