//! The applied state of one replica: the core state, the records it changed since the last flush,
//! and the engine below them. Readers see active changes, then frozen ones, then the engine.
//!
//! Nothing here is the only copy of anything: what is not flushed is in the Raft log.

use super::types::{LogId, StoredMembership};
use crate::storage::Engine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_core::codec;
use tercet_core::records::{Broken, Records, RecordsMut, Row};
use tercet_core::state::State;
use tercet_core::time::Millis;
use tokio::time::Instant;

/// First byte of the node's own keys. The state machine's records come before it.
pub const NODE_PREFIX: u8 = 0xff;
const APPLIED_KEY: &[u8] = b"\xffapplied";

/// What an engine says about the state it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Not set while a snapshot is written over the state: then it is neither the old nor the new.
    pub complete: bool,
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
    /// The snapshot that this state began with. Up to it the log may have a hole.
    pub installed: Option<LogId>,
}

impl Stored {
    pub fn read(engine: &dyn Engine) -> Result<Option<Self>, Broken> {
        let Some(bytes) = engine.get(APPLIED_KEY)? else { return Ok(None) };
        Ok(Some(codec::decode(&bytes)?))
    }

    pub fn row(&self) -> Row {
        (APPLIED_KEY.to_vec(), codec::encode(self))
    }
}

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Changes over an engine.
pub struct Overlay {
    active: Rows,
    active_bytes: usize,
    frozen: Arc<Rows>,
    engine: Arc<dyn Engine>,
}

impl Overlay {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { active: Rows::new(), active_bytes: 0, frozen: Arc::default(), engine }
    }

    pub fn active_bytes(&self) -> usize {
        self.active_bytes
    }

    /// Sets the active changes aside for a flush; they stay readable until [`Self::thaw`].
    pub fn freeze(&mut self) -> Arc<Rows> {
        debug_assert!(self.frozen.is_empty(), "one flush at a time");
        self.frozen = Arc::new(std::mem::take(&mut self.active));
        self.active_bytes = 0;
        self.frozen.clone()
    }

    /// The frozen changes are in the engine.
    pub fn thaw(&mut self) {
        self.frozen = Arc::default();
    }
}

impl Records for Overlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.active.get(key).or_else(|| self.frozen.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None => self.engine.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self.engine.scan(from, to, limit)?;
        let bounds = || (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let newer = |rows: &Rows| -> Vec<Row> {
            rows.range::<[u8], _>(bounds()).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let (frozen, active) = (newer(&self.frozen), newer(&self.active));
        if frozen.is_empty() && active.is_empty() {
            return Ok(stored);
        }
        // Rows are never removed, so the first `limit` of the union are among the first of each.
        let mut merged: Rows = stored.into_iter().collect();
        merged.extend(frozen);
        merged.extend(active);
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl RecordsMut for Overlay {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        debug_assert!(key.first() != Some(&NODE_PREFIX), "keys from 0xff on belong to the node");
        self.active_bytes += key.len() + value.len();
        self.active.insert(key, value);
    }

    fn append(&mut self, key: Vec<u8>, more: &[u8]) -> Result<(), Broken> {
        self.active_bytes += more.len();
        if let Some(value) = self.active.get_mut(&key) {
            value.extend_from_slice(more);
            return Ok(());
        }
        let mut value = self.get(&key)?.unwrap_or_default();
        value.extend_from_slice(more);
        self.put(key, value);
        Ok(())
    }
}

/// Records of an engine, for loading a state from it.
pub struct EngineRecords<'a>(pub &'a dyn Engine);

impl Records for EngineRecords<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        self.0.scan(from, to, limit)
    }
}

/// Everything that one lock protects.
pub struct Machine {
    pub state: State,
    pub overlay: Overlay,
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
    pub installed: Option<LogId>,
    /// Since when something waits for a flush.
    pub dirty_since: Option<Instant>,
    /// When the latest entry was applied here.
    pub applied_at: Instant,
    /// Why this state must not be read, changed or flushed any more.
    pub unusable: Option<String>,
}

impl Machine {
    pub fn check(&self) -> Result<(), Broken> {
        match &self.unusable {
            Some(why) => Err(Broken(why.clone())),
            None => Ok(()),
        }
    }

    /// The logged time of the latest entry, and what passed since.
    pub fn now(&self) -> Millis {
        Millis(self.state.now().0 + self.applied_at.elapsed().as_millis() as u64)
    }

    pub fn applied_index(&self) -> u64 {
        self.applied.as_ref().map_or(0, |id| id.index)
    }

    /// The index of the entry to apply next.
    pub fn next_index(&self) -> u64 {
        self.applied.as_ref().map_or(0, |id| id.index + 1)
    }

    pub fn stored(&self) -> Stored {
        Stored { complete: true, applied: self.applied, membership: self.membership.clone(), installed: self.installed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryEngine;
    use tercet_core::records::MemoryRecords;

    #[test]
    fn an_overlay_reads_like_one_store_at_every_stage_of_a_flush() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut overlay = Overlay::new(engine.clone());
        let mut model = MemoryRecords::default();
        let put = |overlay: &mut Overlay, model: &mut MemoryRecords, n: u8, value: u8| {
            overlay.put(vec![n], vec![value]);
            model.put(vec![n], vec![value]);
        };
        let same = |overlay: &Overlay, model: &MemoryRecords| {
            for limit in [0, 1, 3, 99] {
                for (from, to) in [(0, 9), (2, 5), (5, 2), (3, 4)] {
                    assert_eq!(overlay.scan(&[from], &[to], limit), model.scan(&[from], &[to], limit));
                }
            }
            for key in 0..9 {
                assert_eq!(overlay.get(&[key]), model.get(&[key]));
            }
        };
        for (round, keys) in [[1, 3, 5], [3, 4, 7], [0, 3, 8]].into_iter().enumerate() {
            for key in keys {
                put(&mut overlay, &mut model, key, round as u8);
            }
            same(&overlay, &model);
            let frozen = overlay.freeze();
            put(&mut overlay, &mut model, 3, 100);
            same(&overlay, &model);
            let rows: Vec<Row> = frozen.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            engine.write(&crate::storage::refs(&rows)).unwrap();
            same(&overlay, &model);
            overlay.thaw();
            same(&overlay, &model);
        }
    }
}
