//! The engine of simulations: a map. It outlives the replica that uses it, so it also plays the
//! disk of a node that restarts.

use super::{Engine, RowRef};
use std::sync::{PoisonError, RwLock};
use tercet_core::records::{Broken, MemoryRecords, Records, Row};

#[derive(Default)]
pub struct MemoryEngine {
    rows: RwLock<MemoryRecords>,
}

impl MemoryEngine {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).scan(from, to, limit)
    }

    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken> {
        let rows = rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        self.rows.write().unwrap_or_else(PoisonError::into_inner).0.extend(rows);
        Ok(())
    }

    fn clear(&self) -> Result<(), Broken> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner).0.clear();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.0.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn blocks(&self) -> bool {
        false
    }
}
