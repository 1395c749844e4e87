//! The disk of a simulated node: the Raft log and the applied state. It outlives the processes that
//! use it. What is written is readable at once and durable only after a sync, which takes its time
//! and may fail; a crash keeps a random part, in order, of what was not synced yet: the log is one
//! file, so a torn tail is a shorter prefix.
//!
//! A process holds a [`Mount`]. After a crash its mount is void: whatever the dead process still
//! tries reaches nothing.

use super::trace::Trace;
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::records::{Broken, MemoryRecords, Records, Row};
use tercetd::storage::wal::{Done, Log, LogState, Position, Record, SavedVote, take_bytes};
use tercetd::storage::{Engine, RowRef};
use tokio::sync::watch;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Every sync takes so much longer.
    pub slow: Duration,
    /// Syncs fail with EIO.
    pub sync_fails: bool,
    /// Writes fail with ENOSPC.
    pub full: bool,
}

/// Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    name: String,
    sync: (Duration, Duration),
    random: Random,
    trace: Trace,
    mounted: u64,
    /// By the number of the fault that made it.
    troubles: BTreeMap<u64, Trouble>,
    /// What survives, what the running process reads, and the steps between them.
    durable: Image,
    written: Image,
    unsynced: VecDeque<Step>,
    state: MemoryRecords,
    losses: Losses,
}

/// What trouble and crashes cost so far, as proof that they bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    pub failed_syncs: u64,
    /// Writes for which there was no room.
    pub refused_writes: u64,
    /// Syncs that trouble made longer.
    pub late_syncs: u64,
    /// Changes that were written, not synced, and lost in a crash.
    pub lost_changes: u64,
}

impl Losses {
    /// Writes and syncs of which the process was told that they failed.
    pub fn failures(self) -> u64 {
        self.failed_syncs + self.refused_writes
    }
}

#[derive(Clone, Default)]
struct Image {
    entries: BTreeMap<u64, Record>,
    state: LogState,
}

/// One change of the log.
#[derive(Clone)]
enum Step {
    Entry(Record),
    Vote(SavedVote),
    Mark(Option<Position>),
    Committed(Position),
    Truncate(Option<Position>),
    Purge(Position),
}

impl Image {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry(record) => {
                self.state.last = Some(record.0);
                self.entries.insert(record.0.index, record.clone());
            }
            Step::Vote(vote) => self.state.vote = Some(*vote),
            Step::Mark(mark) => self.state.mark = *mark,
            Step::Committed(position) => self.state.committed = Some(*position),
            Step::Truncate(last) => {
                self.entries.split_off(&next_index(*last));
                self.state.last = *last;
            }
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.state.purged = self.state.purged.max(Some(*upto));
                self.state.last = self.state.last.max(Some(*upto));
            }
        }
    }
}

fn next_index(position: Option<Position>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

impl Disk {
    /// `sync` is how long a sync takes, at least and at most.
    pub fn new(name: &str, seed: u64, sync: (Duration, Duration), trace: Trace) -> Self {
        let stream = name.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self(Arc::new(Mutex::new(Inner {
            name: name.to_owned(),
            sync,
            random: Random::new(seed, 1_000_000 + stream),
            trace,
            mounted: 0,
            troubles: BTreeMap::new(),
            durable: Image::default(),
            written: Image::default(),
            unsynced: VecDeque::new(),
            state: MemoryRecords::default(),
            losses: Losses::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a starting process finds. Earlier mounts are void.
    pub fn mount(&self) -> Mount {
        let mut inner = self.lock();
        inner.mounted += 1;
        inner.written = inner.durable.clone();
        inner.unsynced.clear();
        let next = next_index(inner.durable.state.last);
        Mount {
            disk: self.clone(),
            number: inner.mounted,
            durable: Arc::new(Durable { generation: Mutex::new(0), next: watch::Sender::new(next) }),
            queue: Arc::default(),
        }
    }

    /// The process is gone, or the power is: a random part of what was not synced survives.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.mounted += 1;
        let unsynced = inner.unsynced.len();
        let kept = inner.random.below(unsynced + 1);
        let survivors: Vec<Step> = inner.unsynced.drain(..).take(kept).collect();
        survivors.iter().for_each(|step| inner.durable.apply(step));
        inner.losses.lost_changes += (unsynced - kept) as u64;
        let (name, trace) = (inner.name.clone(), inner.trace.clone());
        drop(inner);
        if unsynced > 0 {
            trace.note(|| format!("{name}: {kept} of {unsynced} unsynced changes survived"));
        }
    }

    /// A fault does this to the disk. Several may at once: what they do, adds up.
    pub fn add_trouble(&self, fault: u64, trouble: Trouble) {
        self.lock().troubles.insert(fault, trouble);
    }

    /// Ends what this fault did to the disk; what others do goes on.
    pub fn take_trouble(&self, fault: u64) {
        self.lock().troubles.remove(&fault);
    }

    pub fn losses(&self) -> Losses {
        self.lock().losses
    }

    /// How many log entries would survive a crash for sure, and how many rows of applied state.
    pub fn holds(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.durable.entries.len(), inner.state.0.len())
    }

    /// Everything is gone: a new disk.
    pub fn wipe(&self) {
        let mut inner = self.lock();
        inner.mounted += 1;
        (inner.durable, inner.written, inner.state) = Default::default();
        inner.unsynced.clear();
    }

    /// The applied state is gone; the log is there.
    pub fn lose_state(&self) {
        self.lock().state = MemoryRecords::default();
    }

    /// A copy as it would be restored from a backup taken now (of a stopped node: what is durable).
    pub fn backup(&self) -> Backup {
        let inner = self.lock();
        Backup { log: inner.durable.clone(), state: inner.state.clone() }
    }

    pub fn restore(&self, backup: &Backup) {
        let mut inner = self.lock();
        inner.mounted += 1;
        inner.durable = backup.log.clone();
        inner.written = backup.log.clone();
        inner.unsynced.clear();
        inner.state = backup.state.clone();
    }

    /// The entry at an index, as the running process reads it.
    pub fn entry(&self, index: u64) -> Option<Record> {
        self.lock().written.entries.get(&index).cloned()
    }
}

impl Inner {
    /// What all faults together do.
    fn trouble(&self) -> Trouble {
        self.troubles.values().fold(Trouble::default(), |sum, one| Trouble {
            slow: sum.slow + one.slow,
            sync_fails: sum.sync_fails || one.sync_fails,
            full: sum.full || one.full,
        })
    }
}

/// A copy of a disk.
#[derive(Clone)]
pub struct Backup {
    log: Image,
    state: MemoryRecords,
}

impl Backup {
    /// How many entries a disk's log goes on after the end of this copy.
    pub fn is_behind(&self, disk: &Disk) -> u64 {
        next_index(disk.lock().durable.state.last).saturating_sub(next_index(self.log.state.last))
    }
}

/// A disk in use by one process.
#[derive(Clone)]
pub struct Mount {
    disk: Disk,
    number: u64,
    durable: Arc<Durable>,
    queue: Arc<Mutex<Queue>>,
}

struct Durable {
    /// A truncation starts a new generation: completions of older ones no longer count.
    generation: Mutex<u64>,
    next: watch::Sender<u64>,
}

/// Syncs that are asked for: how many of the unsynced changes each covers, and who waits.
#[derive(Default)]
struct Queue {
    waiting: Vec<(Option<(u64, u64)>, Done)>,
    syncing: bool,
    failed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::other("the process that used this disk is gone")
}

impl Mount {
    /// The disk, while this process still holds it.
    fn held(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.mounted == self.number { Ok(inner) } else { Err(gone()) }
    }

    fn write(&self, steps: impl IntoIterator<Item = Step>) -> io::Result<()> {
        let mut inner = self.held()?;
        if lock(&self.queue).failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        if inner.trouble().full {
            inner.losses.refused_writes += 1;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        for step in steps {
            inner.written.apply(&step);
            inner.unsynced.push_back(step);
        }
        Ok(())
    }

    /// Tells `done` once everything written so far is durable. One sync serves all that wait.
    fn sync(&self, next: Option<u64>, done: Done) {
        let reached = next.map(|next| (*lock(&self.durable.generation), next));
        let mut queue = lock(&self.queue);
        queue.waiting.push((reached, done));
        if !std::mem::replace(&mut queue.syncing, true) {
            let mount = self.clone();
            tokio::spawn(async move { mount.sync_all().await });
        }
    }

    async fn sync_all(&self) {
        loop {
            let waiting = {
                let mut queue = lock(&self.queue);
                if queue.waiting.is_empty() || queue.failed {
                    queue.syncing = false;
                    queue.waiting.clear();
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            let Ok((covered, time, late)) = self.held().map(|mut inner| {
                let ((least, most), slow) = (inner.sync, inner.trouble().slow);
                let time = inner.random.between_micros(least, most) + slow;
                (inner.unsynced.len(), time, slow > Duration::ZERO)
            }) else {
                return;
            };
            tokio::time::sleep(time).await;
            let Ok(mut inner) = self.held() else { return };
            let fails = inner.trouble().sync_fails;
            // After a failed sync nobody knows what reached the disk.
            let kept = if fails { inner.random.below(covered + 1) } else { covered };
            let steps: Vec<Step> = inner.unsynced.drain(..covered).take(kept).collect();
            steps.iter().for_each(|step| inner.durable.apply(step));
            if kept < covered {
                // The log is read up to its first damage: what was written behind it is gone as well.
                inner.unsynced.clear();
            }
            inner.losses.failed_syncs += u64::from(fails);
            inner.losses.late_syncs += u64::from(late);
            drop(inner);
            if fails {
                lock(&self.queue).failed = true;
            }
            for (reached, done) in waiting {
                if fails {
                    done.tell(Err(io::Error::other("EIO: the sync failed")));
                    continue;
                }
                if let Some((generation, next)) = reached
                    && *lock(&self.durable.generation) == generation
                {
                    self.raise(next);
                }
                done.tell(Ok(()));
            }
        }
    }

    fn raise(&self, next: u64) {
        self.durable.next.send_if_modified(|current| {
            let more = next > *current;
            *current = next.max(*current);
            more
        });
    }
}

impl Log for Mount {
    fn state(&self) -> LogState {
        self.disk.lock().written.state
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Record>> {
        if from >= to {
            return Ok(Vec::new());
        }
        take_bytes(self.held()?.written.entries.range(from..to).map(|(_, record)| Ok(record.clone())), max_bytes)
    }

    fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        let last = self.held()?.written.state.last;
        let mut expected = last.map(|last| last.index + 1);
        for (position, _) in &records {
            if expected.is_some_and(|expected| expected != position.index) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a log entry would leave a gap"));
            }
            expected = Some(position.index + 1);
        }
        self.write(records.into_iter().map(Step::Entry))?;
        self.sync(expected, done);
        Ok(())
    }

    fn save_vote(&self, vote: SavedVote, done: Done) -> io::Result<()> {
        self.write([Step::Vote(vote)])?;
        self.sync(None, done);
        Ok(())
    }

    fn save_mark(&self, mark: Option<Position>, done: Done) -> io::Result<()> {
        self.write([Step::Mark(mark)])?;
        self.sync(None, done);
        Ok(())
    }

    fn save_committed(&self, position: Position) -> io::Result<()> {
        let state = self.held()?.written.state;
        if Some(position) > state.committed && Some(position) <= state.last {
            self.write([Step::Committed(position)])?;
        }
        Ok(())
    }

    fn truncate_after(&self, last: Option<Position>) -> io::Result<()> {
        if last >= self.held()?.written.state.last {
            return Ok(());
        }
        let next = next_index(last);
        *lock(&self.durable.generation) += 1;
        self.durable.next.send_if_modified(|current| {
            *current = next.min(*current);
            false
        });
        self.write([Step::Truncate(last)])
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        self.write([Step::Purge(upto)])?;
        self.raise(upto.index + 1);
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<u64> {
        self.durable.next.subscribe()
    }

    fn blocks(&self) -> bool {
        false
    }
}

impl Engine for Mount {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        self.disk.lock().state.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        self.disk.lock().state.scan(from, to, limit)
    }

    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken> {
        let mut inner = self.held().map_err(|error| Broken(error.to_string()))?;
        let trouble = inner.trouble();
        if trouble.full || trouble.sync_fails {
            inner.losses.refused_writes += u64::from(trouble.full);
            inner.losses.failed_syncs += u64::from(!trouble.full);
            return Err(Broken("the disk of the applied state fails".into()));
        }
        inner.state.0.extend(rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        Ok(())
    }

    fn clear(&self) -> Result<(), Broken> {
        self.held().map_err(|error| Broken(error.to_string()))?.state.0.clear();
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.disk.lock().state.0.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn blocks(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
