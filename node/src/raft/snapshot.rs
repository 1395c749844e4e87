//! Snapshots. One is not a file: it is the engine as it stands after a flush, read in key order
//! while further flushes are held. The receiver fetches it piece by piece, keeps the pieces aside,
//! and puts them in place of its state only when it has them all.
//!
//! A crash while they are put in place leaves a state marked incomplete: it is dropped at the next
//! start, and fetched again.

use super::apply::Store;
use super::flush::{self, Hold};
use super::log_store::off_worker;
use super::machine::{NODE_PREFIX, Stored};
use super::network::call;
use super::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use crate::env::Entropy;
use crate::peer::{Method, PeerClient};
use crate::storage::refs;
use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotOf;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::codec;
use tercet_core::ids::NodeId;
use tercet_core::mutant;
use tercet_core::records::{Broken, Row};
use tokio::time::Instant;

/// Bytes of rows in one piece (one row is sent whatever its size).
const PIECE_BYTES: usize = 1 << 20;
/// Rows read from the engine at once.
const READ_ROWS: usize = 256;
/// Snapshots read by others at the same time.
const MAX_SESSIONS: usize = 4;
/// A reader that is silent for so long has gone.
const SESSION_IDLE: Duration = Duration::from_secs(10);
/// How long a member may take to put a fetched snapshot in place.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How often the leader asks how far it is.
const OFFER_POLL: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const SPOOL_PREFIX: &str = "incoming-";

/// A snapshot as openraft passes it around.
pub enum SnapshotData {
    /// An engine, kept still.
    Held(Arc<Store>, Hold),
    /// Another member's, fetched completely.
    Fetched(Spool),
}

/// Requests of `Method::RaftSnapshot`.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// The leader offers a snapshot; repeated until the member has it.
    Offer { vote: Vote, session: u64, meta: SnapshotMeta },
    /// A member that lost its state asks for a snapshot.
    Open,
    /// The rows after a key.
    Fetch { session: u64, after: Option<Vec<u8>> },
    /// What a member with an empty log asks before it takes part.
    Status,
}

#[derive(Serialize, Deserialize)]
pub enum Answer {
    /// The offer is being fetched or put in place.
    Working,
    Installed(SnapshotResponse<TypeConfig>),
    Opened {
        session: u64,
        meta: SnapshotMeta,
    },
    Rows {
        rows: Vec<Row>,
        end: bool,
    },
    Status {
        vote: Option<Vote>,
        last: Option<LogId>,
    },
}

impl SnapshotData {
    /// Gives every piece, in key order.
    fn for_each(self, mut take: impl FnMut(Vec<Row>) -> Result<(), Broken>) -> Result<(), Broken> {
        let (store, _hold) = match self {
            Self::Fetched(spool) => return spool.for_each(take),
            Self::Held(store, hold) => (store, hold),
        };
        let (mut after, mut end) = (None, false);
        while !end {
            let rows;
            (rows, end) = read_piece(&store, after)?;
            after = rows.last().map(|(key, _)| key.clone());
            take(rows)?;
        }
        Ok(())
    }
}

/// The snapshot that the engine holds, if there is one.
pub async fn current(store: &Arc<Store>) -> Option<SnapshotOf<TypeConfig, SnapshotData>> {
    Some(held(store).await).filter(|snapshot| snapshot.meta.last_log_id.is_some())
}

async fn held(store: &Arc<Store>) -> SnapshotOf<TypeConfig, SnapshotData> {
    let hold = store.flush.hold().await;
    let stored = store.stored();
    let meta = SnapshotMeta { last_log_id: stored.applied, last_membership: stored.membership };
    SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: SnapshotData::Held(store.clone(), hold) }
}

/// Building a snapshot is a flush.
pub struct Builder {
    store: Arc<Store>,
}

impl Builder {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        if mutant!(PurgedBeforeDurable) {
            let mut snapshot = held(&self.store).await;
            snapshot.meta.last_log_id = self.store.read().applied;
            return Ok(snapshot);
        }
        self.store.flush.flush_now(&self.store).await;
        Ok(held(&self.store).await)
    }
}

// ---- the giving side ----

struct Session {
    /// Keeps the engine still until the last piece was read.
    hold: Option<Hold>,
    last_used: Instant,
}

impl Session {
    fn is_alive(&self) -> bool {
        self.last_used.elapsed() < if self.hold.is_some() { SESSION_IDLE } else { INSTALL_TIMEOUT }
    }
}

/// Snapshots that others read.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<u64, Session>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: u64, hold: Hold) -> io::Result<()> {
        let mut open = self.lock();
        open.retain(|_, session| session.is_alive());
        if open.len() >= MAX_SESSIONS {
            return Err(io::Error::other("too many snapshots are being read; retry later"));
        }
        open.insert(id, Session { hold: Some(hold), last_used: Instant::now() });
        Ok(())
    }

    fn close(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Lets go of what nobody reads any more, or of everything if memory runs out.
    pub fn sweep(&self, all: bool) {
        self.lock().retain(|_, session| session.is_alive() && !(all && session.hold.is_some()));
    }

    pub async fn open(&self, store: &Arc<Store>, entropy: &dyn Entropy) -> io::Result<Answer> {
        let snapshot = current(store).await;
        let Some(SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: SnapshotData::Held(_, hold) }) = snapshot
        else {
            return Err(io::Error::other("this node has no applied state either"));
        };
        let session = random(entropy);
        self.add(session, hold)?;
        Ok(Answer::Opened { session, meta })
    }

    pub fn fetch(&self, store: &Store, id: u64, after: Option<Vec<u8>>) -> io::Result<Answer> {
        let touch = |end| {
            let mut open = self.lock();
            let session = open.get_mut(&id).filter(|session| session.hold.is_some());
            let session = session.ok_or_else(|| io::Error::other("this snapshot is closed; start again"))?;
            session.last_used = Instant::now();
            if end {
                session.hold = None;
            }
            io::Result::Ok(())
        };
        touch(false)?;
        let (rows, end) = off_worker(store.engine.blocks(), || read_piece(store, after)).map_err(io::Error::other)?;
        // Closed in the meantime, the engine may have moved under the reading.
        touch(end)?;
        Ok(Answer::Rows { rows, end })
    }
}

pub fn random(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn read_piece(store: &Store, after: Option<Vec<u8>>) -> Result<(Vec<Row>, bool), Broken> {
    let mut from = after.map_or_else(Vec::new, |mut key| {
        key.push(0);
        key
    });
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while bytes < PIECE_BYTES {
        let more = store.engine.scan(&from, &[NODE_PREFIX], READ_ROWS)?;
        let last = more.len() < READ_ROWS;
        for (key, value) in more {
            from.clone_from(&key);
            bytes += key.len() + value.len();
            rows.push((key, value));
        }
        if last {
            return Ok((rows, true));
        }
        from.push(0);
    }
    Ok((rows, false))
}

/// Brings a snapshot to a member. The member does the work; this keeps the engine still, and asks
/// until it is done, as long as it sees progress.
pub async fn offer(
    peers: &PeerClient,
    sessions: &Sessions,
    to: &NodeId,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
    patience: Duration,
) -> io::Result<SnapshotResponse<TypeConfig>> {
    let SnapshotData::Held(_, hold) = snapshot.snapshot else {
        return Err(io::Error::other("only the own state can be offered"));
    };
    // The id needs to be fresh only among the sessions of this process.
    let session = SESSION_IDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    sessions.add(session, hold)?;
    let _close = CloseOnDrop { sessions, session };
    let request = Request::Offer { vote, session, meta: snapshot.meta };
    let started = Instant::now();
    loop {
        match call(peers, to, Method::RaftSnapshot, &request, CALL_TIMEOUT).await? {
            Answer::Installed(response) => return Ok(response),
            Answer::Working => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer to an offer")),
        }
        let (idle, reading) = match sessions.lock().get(&session) {
            Some(open) => (open.last_used.elapsed(), open.hold.is_some()),
            None => return Err(io::Error::other("the snapshot was closed: nobody read it, or memory ran out")),
        };
        if idle > if reading { patience } else { INSTALL_TIMEOUT } {
            let text = format!("{to} stopped reading the snapshot after {:?}", started.elapsed());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        tokio::time::sleep(OFFER_POLL).await;
    }
}

static SESSION_IDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

struct CloseOnDrop<'a> {
    sessions: &'a Sessions,
    session: u64,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.sessions.close(self.session);
    }
}

// ---- the receiving side ----

/// A fetched snapshot, kept aside until it is complete.
pub enum Spool {
    Memory(Vec<Vec<Row>>),
    File(SpoolFile),
}

pub struct SpoolFile {
    path: PathBuf,
    file: File,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // A file left behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Spool {
    /// In `dir`, or in memory without one.
    pub fn create(dir: Option<&Path>, session: u64) -> io::Result<Self> {
        let Some(dir) = dir else { return Ok(Self::Memory(Vec::new())) };
        let path = dir.join(format!("{SPOOL_PREFIX}{session}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Self::File(SpoolFile { path, file }))
    }

    /// Removes what a crash left behind.
    pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SPOOL_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn push(&mut self, rows: Vec<Row>) -> io::Result<()> {
        match self {
            Self::Memory(pieces) => pieces.push(rows),
            Self::File(spool) => {
                let bytes = codec::encode(&rows);
                spool.file.write_all(&(bytes.len() as u64).to_le_bytes())?;
                spool.file.write_all(&crc32fast::hash(&bytes).to_le_bytes())?;
                spool.file.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Gives every piece, in order.
    fn for_each(self, mut take: impl FnMut(Vec<Row>) -> Result<(), Broken>) -> Result<(), Broken> {
        match self {
            Self::Memory(pieces) => pieces.into_iter().try_for_each(take),
            Self::File(spool) => {
                let failed = |error: io::Error| Broken(format!("a fetched snapshot cannot be read back: {error}"));
                let file = File::open(&spool.path).map_err(failed)?;
                let mut reader = BufReader::new(file);
                while let Some(rows) = read_spooled(&mut reader).map_err(failed)? {
                    take(rows)?;
                }
                Ok(())
            }
        }
    }
}

fn read_spooled(reader: &mut impl Read) -> io::Result<Option<Vec<Row>>> {
    let mut len = [0; 8];
    if reader.read(&mut len[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut len[1..])?;
    let mut sum = [0; 4];
    reader.read_exact(&mut sum)?;
    let len = u64::from_le_bytes(len);
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if len > codec::MAX_BYTES as u64 {
        return Err(invalid("its length is damaged"));
    }
    let mut bytes = vec![0; len as usize];
    reader.read_exact(&mut bytes)?;
    if crc32fast::hash(&bytes).to_le_bytes() != sum {
        return Err(invalid("its checksum does not match"));
    }
    codec::decode(&bytes).map(Some).map_err(|error| invalid(&error.to_string()))
}

/// Fetches all rows of a session.
pub async fn fetch(peers: &PeerClient, from: &NodeId, session: u64, mut spool: Spool) -> io::Result<Spool> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let request = Request::Fetch { session, after: after.clone() };
        let answer = call(peers, from, Method::RaftSnapshot, &request, CALL_TIMEOUT).await?;
        let Answer::Rows { rows, end } = answer else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer to a fetch"));
        };
        let ascending = rows.first().is_none_or(|(first, _)| after.as_ref().is_none_or(|after| first > after))
            && rows.is_sorted_by(|(a, _), (b, _)| a < b);
        if !ascending || (rows.is_empty() && !end) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the rows of a snapshot are out of order"));
        }
        after = rows.last().map(|(key, _)| key.clone()).or(after);
        let in_memory = matches!(spool, Spool::Memory(_));
        off_worker(!in_memory, || spool.push(rows))?;
        if end {
            return Ok(spool);
        }
    }
}

/// Puts a fetched snapshot in place of the applied state.
pub async fn install(store: &Arc<Store>, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), Broken> {
    // openraft hands back the own snapshot at a restart only if it is newer than the state, which it
    // cannot be: it is the state.
    if matches!(&snapshot, SnapshotData::Held(own, _) if Arc::ptr_eq(own, store)) {
        return Err(Broken("the own state was offered as a snapshot to install".into()));
    }
    let _exclusive = store.flush.exclude().await;
    tracing::info!(upto = ?meta.last_log_id.map(|id| id.index), "installing a snapshot");
    store.write().unusable = Some("a snapshot is being installed; retry in a moment".into());
    let stored = Stored {
        complete: true,
        applied: meta.last_log_id,
        membership: meta.last_membership.clone(),
        installed: meta.last_log_id,
    };
    flush::blocking(store, move |store| {
        let engine = &*store.engine;
        engine.write(&refs(&[Stored { complete: false, ..Stored::default() }.row()]))?;
        engine.clear()?;
        engine.write(&refs(&[Stored { complete: false, ..Stored::default() }.row()]))?;
        snapshot.for_each(|rows| engine.write(&refs(&rows)))?;
        engine.write(&refs(&[stored.row()]))?;
        store.reload(stored)
    })
    .await
}
