//! The applied state of one replica: the core state, the records it changed since the last flush,
//! and the engine below them. Readers see active changes, then frozen ones, then the engine.
//!
//! Nothing here is the only copy of anything: what is not flushed is in the Raft log.

use super::known::Known;
use super::types::{LogId, SnapshotMeta, StoredMembership};
use crate::storage::{Engine, RowRef};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use tercet_core::codec;
use tercet_core::records::{Broken, EVENTS, Records, RecordsMut, Row, TagHashes};
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

    /// What it is a snapshot of.
    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    pub fn row(&self) -> Row {
        (APPLIED_KEY.to_vec(), codec::encode(self))
    }
}

/// Changed rows. Records of events are most of them; their keys are hashes, so they are found by those and not in order.
#[derive(Default)]
pub struct Rows {
    events: HashMap<Vec<u8>, Vec<u8>, TagHashes>,
    others: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rows {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.others.is_empty()
    }

    fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        if is_event(key) { self.events.get(key) } else { self.others.get(key) }
    }

    fn get_mut(&mut self, key: &[u8]) -> Option<&mut Vec<u8>> {
        if is_event(key) { self.events.get_mut(key) } else { self.others.get_mut(key) }
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if is_event(&key) {
            self.events.insert(key, value);
        } else {
            self.others.insert(key, value);
        }
    }

    /// Every row, ascending.
    pub fn sorted(&self) -> Vec<RowRef<'_>> {
        let mut rows: Vec<RowRef<'_>> = self.events.iter().map(as_refs).collect();
        rows.extend(self.others.iter().map(as_refs));
        // The second part is in order, which this kind of sorting makes use of.
        rows.sort();
        rows
    }

    /// Rows of a range, at most `limit`, ascending. Records of events are not meant to be read so.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Vec<Row> {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let mut rows: Vec<Row> = self.others.range::<[u8], _>(bounds).take(limit).map(copy).collect();
        if from < [EVENTS + 1].as_slice() && to > [EVENTS].as_slice() {
            rows.extend(self.events.iter().filter(|(key, _)| from <= key.as_slice() && key.as_slice() < to).map(copy));
            rows.sort();
            rows.truncate(limit);
        }
        rows
    }
}

fn is_event(key: &[u8]) -> bool {
    key.first() == Some(&EVENTS)
}

fn as_refs<'r>((key, value): (&'r Vec<u8>, &'r Vec<u8>)) -> RowRef<'r> {
    (key, value)
}

/// Changes over an engine.
pub struct Overlay {
    active: Rows,
    active_bytes: usize,
    frozen: Arc<Rows>,
    engine: Arc<dyn Engine>,
    pub known: Known,
}

impl Overlay {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { active: Rows::default(), active_bytes: 0, frozen: Arc::default(), engine, known: Known::default() }
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

    /// The frozen changes are in the engine. They are given back, so that they are freed outside of any lock.
    pub fn thaw(&mut self) -> Arc<Rows> {
        std::mem::take(&mut self.frozen)
    }
}

impl Records for Overlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.active.get(key).or_else(|| self.frozen.get(key)) {
            Some(value) => Ok(Some(value.clone())),
            None if is_event(key) && self.known.is_new(key) => Ok(None),
            None => self.engine.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self.engine.scan(from, to, limit)?;
        let (frozen, active) = (self.frozen.range(from, to, limit), self.active.range(from, to, limit));
        if frozen.is_empty() && active.is_empty() {
            return Ok(stored);
        }
        // Rows are never removed, so the first `limit` of the union are among the first of each.
        let mut merged: BTreeMap<_, _> = stored.into_iter().collect();
        merged.extend(frozen);
        merged.extend(active);
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl RecordsMut for Overlay {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        debug_assert!(key.first() != Some(&NODE_PREFIX), "keys from 0xff on belong to the node");
        self.active_bytes += key.len() + value.len();
        if is_event(&key) {
            self.known.insert(&key);
        }
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
    use crate::storage::{MemoryEngine, refs};
    use tercet_core::records::MemoryRecords;

    #[test]
    fn an_overlay_reads_like_one_store_at_every_stage_of_a_flush() {
        for stored_keys_are_read in [false, true] {
            reads_like_one_store(stored_keys_are_read);
        }
    }

    fn reads_like_one_store(stored_keys_are_read: bool) {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut model = MemoryRecords::default();
        let stored = (vec![EVENTS, 8], vec![9]);
        engine.write(&refs(std::slice::from_ref(&stored))).unwrap();
        let mut overlay = Overlay::new(engine.clone());
        if stored_keys_are_read {
            overlay.known.read(std::slice::from_ref(&stored.0));
        }
        model.0.extend([stored]);
        let put = |overlay: &mut Overlay, model: &mut MemoryRecords, n: u8, value: u8| {
            // Every second one is an event's.
            let key = if n.is_multiple_of(2) { vec![n] } else { vec![EVENTS, n] };
            overlay.put(key.clone(), vec![value]);
            model.put(key, vec![value]);
        };
        let same = |overlay: &Overlay, model: &MemoryRecords| {
            for limit in [0, 1, 3, 99] {
                let all = [0].as_slice()..&[0xff];
                let bounds = [all, &[2]..&[5], &[5]..&[2], &[2]..&[EVENTS, 4], &[EVENTS, 2]..&[EVENTS, 7]];
                for range in bounds {
                    assert_eq!(overlay.scan(range.start, range.end, limit), model.scan(range.start, range.end, limit));
                }
            }
            for key in 0..9 {
                assert_eq!(overlay.get(&[key]), model.get(&[key]));
                assert_eq!(overlay.get(&[EVENTS, key]), model.get(&[EVENTS, key]));
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
            engine.write(&frozen.sorted()).unwrap();
            same(&overlay, &model);
            overlay.thaw();
            same(&overlay, &model);
        }
    }
}
