//! The Raft log on disk: entries, vote and committed pointer in one ordered write-ahead log (crate
//! `raft-log`), one fdatasync for everything that waits. It knows positions and bytes, nothing of
//! Raft. [`MemoryLog`] is its counterpart for simulation.
//!
//! A failed write or sync is final: whoever waits gets the error, and nothing is tried again.

#[cfg(test)]
mod late;
mod memory;

#[cfg(test)]
pub use late::LateLog;
pub use memory::MemoryLog;

use bytes::Bytes;
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::codeq::{Decode, Encode, Span};
use raft_log::{Config, Dump, DumpApi, RaftLog};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// A file of the log is closed beyond this size, in bytes. Entries of the open file stay in memory.
const CHUNK_BYTES: usize = 16 << 20;
/// Entries in one file of the log.
const CHUNK_RECORDS: usize = 64 << 10;
/// Entries kept in memory for followers and for apply: count and bytes.
const CACHE_ENTRIES: usize = 16 << 10;
const CACHE_BYTES: usize = 24 << 20;
/// How long the writer waits for more entries before it syncs. The default of 1 ms triples latency.
const BATCH_WAIT: Duration = Duration::from_micros(10);
/// Bytes handed over and not yet written.
const QUEUE_BYTES: usize = 64 << 20;
/// Buffer for replaying a file, in bytes.
const REPLAY_BUFFER_BYTES: usize = 4 << 20;
/// The longest payload that is decoded, in bytes.
const MAX_PAYLOAD_BYTES: u32 = 64 << 20;
/// The bytes at the end of a record that hold its checksum.
const CHECKSUM_BYTES: u64 = 4;
/// What a disk writes at once, in bytes.
const SECTOR_BYTES: u64 = 512;

/// Names an entry: who led when it was proposed, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}

/// A saved vote; a committed one is a leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SavedVote {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogState {
    pub vote: Option<SavedVote>,
    pub last: Option<Position>,
    pub committed: Option<Position>,
    pub purged: Option<Position>,
    /// A position that the log's owner wants to remember.
    pub mark: Option<Position>,
}

pub type Record = (Position, Bytes);

/// Told once whether what was handed over is durable.
pub struct Done(Option<Box<dyn FnOnce(io::Result<()>) + Send>>);

impl Done {
    pub fn new(tell: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Whether everything up to here is durable.
    pub fn tell(mut self, result: io::Result<()>) {
        if let Some(tell) = self.0.take() {
            tell(result);
        }
    }
}

/// After an I/O error the writer drops what is queued: silence would read as "still waiting".
impl Drop for Done {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err(io::Error::other("the log stopped before this was durable")));
        }
    }
}

impl raft_log::Callback for Done {
    fn send(self, result: io::Result<()>) {
        self.tell(result);
    }
}

/// An ordered log of entries with a vote and a committed pointer.
pub trait Log: Send + Sync + 'static {
    fn state(&self) -> LogState;
    /// Entries with `from <= index < to`, as many as fit `max_bytes`, but at least one.
    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Record>>;
    /// The entries are readable when this returns, and durable when `done` says so.
    fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()>;
    fn save_vote(&self, vote: SavedVote, done: Done) -> io::Result<()>;
    fn save_mark(&self, mark: Option<Position>, done: Done) -> io::Result<()>;
    /// Remembers what is known to be committed; durable with whatever is synced next.
    fn save_committed(&self, position: Position) -> io::Result<()>;
    fn truncate_after(&self, last: Option<Position>) -> io::Result<()>;
    fn purge(&self, upto: Position) -> io::Result<()>;
    /// The index after the last durable entry.
    fn durable(&self) -> watch::Receiver<u64>;
    fn blocks(&self) -> bool;
}

fn next_index(position: Option<Position>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

// ---- the encoding of raft-log's records ----

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LogTypes;

impl raft_log::Types for LogTypes {
    type LogId = Position;
    type LogPayload = Payload;
    type Vote = SavedVote;
    type Callback = Done;
    type UserData = Position;

    fn log_index(position: &Position) -> u64 {
        position.index
    }

    fn payload_size(payload: &Payload) -> u64 {
        payload.0.len() as u64
    }
}

#[derive(Debug, Clone)]
struct Payload(Bytes);

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Encode for Payload {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let len = u32::try_from(self.0.len()).ok().filter(|len| *len <= MAX_PAYLOAD_BYTES);
        let len = len.ok_or_else(|| invalid("a log entry exceeds 64 MiB"))?;
        // A flipped bit in a plain length reads as a torn tail and silently cuts off acknowledged
        // entries; with its complement beside it, it reads as damage.
        w.write_all(&len.to_be_bytes())?;
        w.write_all(&(!len).to_be_bytes())?;
        w.write_all(&self.0)?;
        Ok(8 + self.0.len())
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let (len, complement) = (u32::decode(&mut r)?, u32::decode(&mut r)?);
        if len != !complement || len > MAX_PAYLOAD_BYTES {
            return Err(invalid("the length of a log entry is damaged"));
        }
        let mut bytes = vec![0; len as usize];
        r.read_exact(&mut bytes)?;
        Ok(Self(bytes.into()))
    }
}

impl Encode for Position {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut w)? + self.node.encode(&mut w)? + self.index.encode(&mut w)?)
    }
}

impl Decode for Position {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self { term: u64::decode(&mut r)?, node: u64::decode(&mut r)?, index: u64::decode(&mut r)? })
    }
}

impl Encode for SavedVote {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut w)? + self.node.encode(&mut w)? + u64::from(self.committed).encode(&mut w)?)
    }
}

impl Decode for SavedVote {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        let (term, node, committed) = (u64::decode(&mut r)?, u64::decode(&mut r)?, u64::decode(&mut r)?);
        Ok(Self { term, node, committed: committed != 0 })
    }
}

// ---- how far the log is durable ----

/// Counts durable entries. A truncation starts a new generation, and completions of older ones no
/// longer count.
#[derive(Clone)]
struct Durable(Arc<DurableState>);

struct DurableState {
    generation: Mutex<u64>,
    next: watch::Sender<u64>,
}

impl Durable {
    fn new(next: u64) -> Self {
        Self(Arc::new(DurableState { generation: Mutex::new(0), next: watch::Sender::new(next) }))
    }

    fn generation(&self) -> MutexGuard<'_, u64> {
        self.0.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports `next` once `done` reports success.
    fn when_done(&self, next: u64, done: Done) -> Done {
        let (this, issued) = (self.clone(), *self.generation());
        Done::new(move |result| {
            if result.is_ok() {
                let generation = this.generation();
                if *generation == issued {
                    this.raise(next);
                }
            }
            done.tell(result);
        })
    }

    fn raise(&self, next: u64) {
        self.0.next.send_if_modified(|current| {
            let more = next > *current;
            *current = next.max(*current);
            more
        });
    }

    fn truncate(&self, next: u64) {
        *self.generation() += 1;
        self.0.next.send_if_modified(|current| {
            *current = next.min(*current);
            false
        });
    }
}

// ---- the log on disk ----

pub struct Wal {
    log: RwLock<RaftLog<LogTypes>>,
    durable: Durable,
}

impl Wal {
    /// Opens or creates the log. A tail torn by a crash is cut off; damage anywhere else refuses.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let config = Arc::new(config(dir)?);
        let log = match RaftLog::open(config.clone()) {
            Ok(log) => log,
            Err(error) => {
                if !cut_torn_tail(config.clone())? {
                    return Err(error);
                }
                RaftLog::open(config)?
            }
        };
        super::folder::sync_dir(dir)?;
        if let Some(parent) = dir.parent() {
            super::folder::sync_dir(parent)?;
        }
        let durable = Durable::new(next_index(log.log_state().last().copied()));
        Ok(Self { log: RwLock::new(log), durable })
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, RaftLog<LogTypes>> {
        self.log.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Wal {
    fn state(&self) -> LogState {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let state = log.log_state();
        LogState {
            vote: state.vote().copied(),
            last: state.last().copied(),
            committed: state.committed().copied(),
            purged: state.purged().copied(),
            mark: state.user_data,
        }
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Record>> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        if from >= to {
            return Ok(Vec::new());
        }
        take_bytes(log.read(from, to).map(|entry| entry.map(|(position, payload)| (position, payload.0))), max_bytes)
    }

    fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        let Some((last, _)) = records.last() else {
            done.tell(Ok(()));
            return Ok(());
        };
        let done = self.durable.when_done(last.index + 1, done);
        let mut log = self.write();
        log.append(records.into_iter().map(|(position, bytes)| (position, Payload(bytes))))?;
        log.flush(true, Some(done))
    }

    fn save_vote(&self, vote: SavedVote, done: Done) -> io::Result<()> {
        let mut log = self.write();
        log.save_vote(vote)?;
        log.flush(true, Some(done))
    }

    fn save_mark(&self, mark: Option<Position>, done: Done) -> io::Result<()> {
        let mut log = self.write();
        log.save_user_data(mark)?;
        log.flush(true, Some(done))
    }

    fn save_committed(&self, position: Position) -> io::Result<()> {
        let mut log = self.write();
        let state = log.log_state();
        // After a snapshot the pointer may be ahead of the log; the applied state then says more.
        if Some(&position) <= state.committed() || Some(&position) > state.last() {
            return Ok(());
        }
        log.commit(position)?;
        log.flush(false, None)
    }

    fn truncate_after(&self, last: Option<Position>) -> io::Result<()> {
        let mut log = self.write();
        if last.as_ref() >= log.log_state().last() {
            return Ok(());
        }
        self.durable.truncate(next_index(last));
        log.truncate(next_index(last))?;
        log.flush(true, None)
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        let mut log = self.write();
        log.purge(upto)?;
        log.flush(true, None)?;
        self.durable.raise(upto.index + 1);
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<u64> {
        self.durable.0.next.subscribe()
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// As many entries as fit, but at least one.
pub fn take_bytes(entries: impl Iterator<Item = io::Result<Record>>, max_bytes: usize) -> io::Result<Vec<Record>> {
    let (mut out, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry?;
        bytes += entry.1.len();
        if bytes > max_bytes && !out.is_empty() {
            break;
        }
        out.push(entry);
    }
    Ok(out)
}

fn config(dir: &Path) -> io::Result<Config> {
    let path =
        dir.to_str().ok_or_else(|| invalid("the path of the Raft log is not UTF-8; choose another data folder"))?;
    let mut config = Config::new(path);
    config.log_cache_max_items = Some(CACHE_ENTRIES);
    config.log_cache_capacity = Some(CACHE_BYTES);
    config.wal.read_buffer_size = Some(REPLAY_BUFFER_BYTES);
    config.wal.chunk_max_records = Some(CHUNK_RECORDS);
    config.wal.chunk_max_size = Some(CHUNK_BYTES);
    config.wal.truncate_incomplete_record = Some(true);
    config.wal.flush_batch_wait = Some(BATCH_WAIT);
    config.wal.flush_queue_max_bytes = Some(QUEUE_BYTES);
    Ok(config)
}

/// A crash can leave the last record half written with zeros up to the end of the file. Cuts such
/// a record off; `false` if the damage is of another kind.
///
/// The record's checksum lies in its last bytes, so a record whose end is zeros was never
/// acknowledged (but for one in four billion, whose checksum is zero, and only if it is damaged).
/// If less of it reached the last sector, that sector was never written.
fn cut_torn_tail(config: Arc<Config>) -> io::Result<bool> {
    let (mut good_end, mut last_chunk, mut bad) = (0, 0, None);
    Dump::<LogTypes>::new(config.clone())?.write_with(|chunk, _, record| {
        if bad.is_some() {
            return Ok(());
        }
        if *chunk != last_chunk {
            (last_chunk, good_end) = (*chunk, 0);
        }
        match record {
            Ok((segment, _)) => good_end = good_end.max(segment.end().0),
            Err(_) => bad = Some((chunk, good_end)),
        }
        Ok(())
    })?;
    let Some((chunk, good_end)) = bad else { return Ok(false) };
    let path = PathBuf::from(config.wal.chunk_path(chunk));
    let mut newest: Vec<PathBuf> =
        fs::read_dir(&config.wal.dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    newest.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    newest.sort();
    if newest.last().and_then(|path| path.file_name()) != path.file_name() {
        return Ok(false);
    }
    let mut file = File::options().read(true).write(true).open(&path)?;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(good_end))?;
    file.read_to_end(&mut tail)?;
    let zeros = tail.iter().rev().take_while(|byte| **byte == 0).count() as u64;
    let in_last_sector = (good_end + tail.len() as u64) % SECTOR_BYTES;
    let last_sector_unwritten = in_last_sector > 0 && zeros >= in_last_sector;
    if zeros < CHECKSUM_BYTES && !last_sector_unwritten {
        return Ok(false);
    }
    tracing::warn!(file = %path.display(), at = good_end, bytes = tail.len(), "cutting off the record that a crash left half written");
    file.set_len(good_end)?;
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests;
