//! openraft's view of the log. Translation only: what is durable when, and what a torn tail means,
//! is decided in `storage::wal`.

use super::types::{Entry, LogId, TypeConfig, Vote, log_id, position, saved_vote, to_entry, to_record, vote};
use crate::storage::wal::{Done, Log, Record};
use futures::Stream;
use futures::stream::{self, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use tercet_core::command::Command;
use tercet_core::mutant;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Bytes of entries in one message to a follower (one entry is sent whatever its size).
const REPLICATION_BYTES: usize = 2 << 20;
/// Bytes of entries that apply reads ahead.
const APPLY_READ_BYTES: usize = 2 << 20;

/// Work on so many bytes, or entries, is done where it is. A write is only queued, and a read mostly finds the log's cache:
/// handing the other tasks of a worker to another thread costs more than the rare wait (a fifth of one client's CPU time).
pub const IN_PLACE_BYTES: usize = 1 << 20;
const IN_PLACE_ENTRIES: u64 = 64;

/// Runs what may wait for a disk without holding up the tasks of this worker.
pub fn off_worker<T>(blocks: bool, work: impl FnOnce() -> T) -> T {
    let multi = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if blocks && multi { tokio::task::block_in_place(work) } else { work() }
}

#[derive(Clone)]
pub struct LogStore {
    log: Arc<dyn Log>,
}

impl LogStore {
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let blocks = self.log.blocks() && to.saturating_sub(from) > IN_PLACE_ENTRIES;
        let records = off_worker(blocks, || self.log.read(from, to, max_bytes))?;
        records.into_iter().map(to_entry).collect()
    }
}

/// The bounds as `from <= index < to`.
fn half_open(range: impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(from) => from + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(to) => to.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = half_open(range);
        self.read(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.state().vote.map(vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, REPLICATION_BYTES)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = half_open(range);
        let (store, ready) = (self.clone(), VecDeque::new());
        let step = |(store, mut ready, from, to): (Self, VecDeque<Entry>, u64, u64)| async move {
            if ready.is_empty() {
                match store.read(from, to, APPLY_READ_BYTES) {
                    Ok(entries) => ready = entries.into(),
                    // The range ends with the error.
                    Err(error) => return Some((Err(error), (store, ready, to, to))),
                }
            }
            let entry: Entry = ready.pop_front()?;
            let next = entry.log_id.index + 1;
            Some((Ok(entry), (store, ready, next, to)))
        };
        stream::unfold((store, ready, from, to), step).boxed()
    }
}

/// For the planted bug `ReceivedVotesNotSynced`: whether every command among these is what other
/// clouds sent.
fn come_from_clouds(records: &[Record]) -> bool {
    records.iter().all(|record| match to_entry(record.clone()).map(|entry| entry.payload) {
        Ok(EntryPayload::Normal(proposal)) => {
            matches!(proposal.decode(), Ok(entry) if matches!(entry.command, Command::Mirrors(_)))
        }
        Ok(EntryPayload::Blank | EntryPayload::Membership(_)) | Err(_) => false,
    })
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState { last_purged_log_id: state.purged.map(log_id), last_log_id: state.last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        // Nobody waits any more if Raft stopped in the meantime.
        let done = Done::new(move |result| drop(tell.send(result)));
        off_worker(self.log.blocks(), || self.log.save_vote(saved_vote(vote), done))?;
        if mutant!(VotesNotSynced) {
            return Ok(());
        }
        told.await.map_err(|_| io::Error::other("the log stopped"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let committed = if mutant!(CommitPointerAhead) { self.log.state().last.map(log_id) } else { committed };
        match committed {
            Some(id) => self.log.save_committed(position(&id)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.state().committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let records: Vec<Record> = entries.into_iter().map(|entry| to_record(&entry)).collect();
        let early = match mutant!(ReceivedVotesNotSynced) {
            true => come_from_clouds(&records),
            false => mutant!(AcknowledgeBeforeSync),
        };
        let done = if early {
            callback.io_completed(Ok(()));
            Done::new(drop)
        } else {
            Done::new(move |result| callback.io_completed(result))
        };
        let bytes = records.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        off_worker(self.log.blocks() && bytes > IN_PLACE_BYTES, || self.log.append(records, done))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        off_worker(self.log.blocks(), || self.log.truncate_after(last.as_ref().map(position)))
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        off_worker(self.log.blocks(), || self.log.purge(position(&upto)))
    }
}
