//! Records of a cloud that forks cheaply: rows are shared, never copied, and a digest of all of them
//! is kept up to date, so that equal states are found to be equal without comparing them.

use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_core::records::{Broken, Records, RecordsMut, Row};
use tercet_core::wire::sha256;

/// 128 bits of SHA-256 a row, summed: enough that no two states of one run are taken for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u128);

type SharedRow = (Arc<[u8]>, Digest);

#[derive(Debug, Clone, Default)]
pub struct SharedRows {
    rows: BTreeMap<Arc<[u8]>, SharedRow>,
    digest: Digest,
}

impl SharedRows {
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn extend(&mut self, rows: Vec<Row>) {
        for (key, value) in rows {
            self.put(key, value);
        }
    }
}

impl Digest {
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(8 + key.len() + value.len());
        bytes.extend_from_slice(&(key.len() as u64).to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        let hash = sha256(&bytes).0;
        Self(u128::from_be_bytes(hash[..16].try_into().expect("16 of 32 bytes")))
    }
}

impl Records for SharedRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        Ok(self.rows.get(key).map(|(value, _)| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.rows.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(range.take(limit).map(|(key, (value, _))| (key.to_vec(), value.to_vec())).collect())
    }
}

impl RecordsMut for SharedRows {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let digest = Digest::of(&key, &value);
        let before = self.rows.insert(key.into(), (value.into(), digest));
        self.digest.0 = self.digest.0.wrapping_add(digest.0).wrapping_sub(before.map_or(0, |(_, digest)| digest.0));
    }
}
