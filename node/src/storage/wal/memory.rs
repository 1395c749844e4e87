//! The log of simulations.

use super::{Done, Durable, Log, LogState, Position, Record, SavedVote, invalid, next_index, take_bytes};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[derive(Default)]
struct MemoryState {
    entries: BTreeMap<u64, Record>,
    state: LogState,
}

/// A log in memory whose writes are durable at once. It outlives its replica, so it also plays the
/// disk of a node that restarts.
#[derive(Clone)]
pub struct MemoryLog {
    inner: Arc<Mutex<MemoryState>>,
    durable: Durable,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { inner: Arc::default(), durable: Durable::new(0) }
    }
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn state(&self) -> LogState {
        self.lock().state
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Record>> {
        if from >= to {
            return Ok(Vec::new());
        }
        take_bytes(self.lock().entries.range(from..to).map(|(_, record)| Ok(record.clone())), max_bytes)
    }

    fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        let mut inner = self.lock();
        for (position, bytes) in records {
            if inner.state.last.is_some_and(|last| last.index + 1 != position.index) {
                return Err(invalid("a log entry would leave a gap"));
            }
            inner.state.last = Some(position);
            inner.entries.insert(position.index, (position, bytes));
        }
        let next = next_index(inner.state.last);
        drop(inner);
        self.durable.when_done(next, done).tell(Ok(()));
        Ok(())
    }

    fn save_vote(&self, vote: SavedVote, done: Done) -> io::Result<()> {
        self.lock().state.vote = Some(vote);
        done.tell(Ok(()));
        Ok(())
    }

    fn save_mark(&self, mark: Option<Position>, done: Done) -> io::Result<()> {
        self.lock().state.mark = mark;
        done.tell(Ok(()));
        Ok(())
    }

    fn save_committed(&self, position: Position) -> io::Result<()> {
        let mut inner = self.lock();
        if Some(position) > inner.state.committed && Some(position) <= inner.state.last {
            inner.state.committed = Some(position);
        }
        Ok(())
    }

    fn truncate_after(&self, last: Option<Position>) -> io::Result<()> {
        let mut inner = self.lock();
        if last >= inner.state.last {
            return Ok(());
        }
        inner.entries.split_off(&next_index(last));
        inner.state.last = last;
        drop(inner);
        self.durable.truncate(next_index(last));
        Ok(())
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        let mut inner = self.lock();
        inner.entries = inner.entries.split_off(&(upto.index + 1));
        inner.state.purged = inner.state.purged.max(Some(upto));
        inner.state.last = inner.state.last.max(Some(upto));
        drop(inner);
        self.durable.raise(upto.index + 1);
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<u64> {
        self.durable.0.next.subscribe()
    }

    fn blocks(&self) -> bool {
        false
    }
}
