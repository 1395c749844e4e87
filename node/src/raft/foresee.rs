//! For the planted bug `SignBeforeCommit`: what this cloud's note will say if everything in the log
//! of this node gets committed.

use super::Replica;
use super::machine::Overlay;
use super::types::to_entry;
use openraft::EntryPayload;
use tercet_core::records::{Broken, MemoryRecords, Records, RecordsMut, Row};
use tercet_core::state::State;
use tercet_core::transparency::NoteBody;

/// Changes over the applied state that are thrown away.
struct Draft<'a> {
    applied: &'a Overlay,
    changes: MemoryRecords,
}

impl Records for Draft<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        Ok(self.changes.get(key)?.or(self.applied.get(key)?))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        let mut rows = MemoryRecords(self.applied.scan(from, to, limit)?.into_iter().collect());
        rows.0.extend(self.changes.scan(from, to, limit)?);
        rows.scan(from, to, limit)
    }
}

impl RecordsMut for Draft<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.put(key, value);
    }
}

impl Replica {
    /// The note at the end of the log, and its index; `None` if the log does not reach `least`.
    pub fn foresee(&self, least: u64) -> Result<Option<(u64, NoteBody)>, Broken> {
        let store = &self.inner.shared.store;
        let machine = store.read();
        machine.check()?;
        let hot = machine.state.hot_rows().into_iter().collect();
        let mut draft = Draft { applied: &machine.overlay, changes: MemoryRecords(hot) };
        let (genesis, cloud) = (machine.state.genesis().clone(), machine.state.me().clone());
        let mut state = State::load(genesis, cloud, store.region.clone(), &draft)?;
        let mut index = machine.applied_index();
        let broken = |error: std::io::Error| Broken(error.to_string());
        let end = store.log.state().last.map_or(0, |last| last.index + 1);
        let upto = if least > 0 { end.min(least + 1) } else { end };
        for record in store.log.read(machine.next_index(), upto, usize::MAX).map_err(broken)? {
            let entry = to_entry(record).map_err(broken)?;
            index = entry.log_id.index;
            if let EntryPayload::Normal(proposal) = entry.payload {
                state.apply(index, &proposal.decode()?, &mut draft)?;
            }
        }
        let remembered = (least > 0 && least < index).then(|| machine.state.note_body_at(least).cloned()).flatten();
        Ok(remembered.or(state.note_body()).filter(|_| index >= least).map(|body| (index, body)))
    }
}
