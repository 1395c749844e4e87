//! Snapshots. One is not a file: it is what the engine holds after a flush, read while it goes on
//! (`sessions.rs`). The receiver fetches it piece by piece, keeps the pieces aside, and puts them
//! in place of its state only when it has them all.
//!
//! What it ends with is later than what was offered, by as much as happened in the meantime. The log
//! is kept from the offer on, since Raft goes on from there.
//!
//! A crash while they are put in place leaves a state marked incomplete: it is dropped at the next
//! start, and fetched again.

use super::apply::Store;
use super::flush;
use super::log_store::off_worker;
use super::machine::{NODE_PREFIX, Stored};
use super::network::call;
use super::sessions::{Idle, Reader, Sessions};
use super::spool::Spool;
use super::types::{LogId, SnapshotMeta, TypeConfig, Vote};
use crate::peer::{Method, PeerClient};
use crate::storage::refs;
use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotOf;
use openraft::raft::SnapshotResponse;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::NodeId;
use tercet_core::mutant;
use tercet_core::records::{Broken, Row};
use tokio::time::Instant;

/// How often the leader asks how far a member is, and a builder whether anybody still reads.
const POLL: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the log is kept for readers, however many come one after the other: it must not fill the disk.
const KEEP_LOG: Duration = Duration::from_secs(20 * 60);

/// A snapshot as openraft passes it around.
pub enum SnapshotData {
    /// Of the own engine, to be read when a member asks for it.
    Own(Arc<Store>),
    /// Another member's, fetched completely.
    Fetched(Spool<Vec<Row>>),
}

pub type Snapshot = SnapshotOf<TypeConfig, SnapshotData>;

/// Requests of `Method::RaftSnapshot`.
#[derive(Serialize, Deserialize)]
pub enum Request {
    /// The leader offers a snapshot; repeated until the member has it.
    Offer { vote: Vote, session: u64 },
    /// A member that lost its state asks for a snapshot.
    Open,
    /// The next piece; they are counted from 0.
    Fetch { session: u64, piece: u64 },
    /// What a member with an empty log asks before it takes part.
    Status,
}

#[derive(Serialize, Deserialize)]
pub enum Answer {
    /// The offer is being fetched or put in place.
    Working,
    /// It is in place, up to an index.
    Installed {
        response: SnapshotResponse<TypeConfig>,
        upto: u64,
    },
    Opened {
        session: u64,
        /// The least that it will hold.
        applied: Option<LogId>,
    },
    Rows {
        rows: Vec<Row>,
        /// With the last ones.
        end: Option<SnapshotMeta>,
    },
    Status {
        vote: Option<Vote>,
        last: Option<LogId>,
    },
}

/// The snapshot that the engine holds, if there is one.
pub fn current(store: &Arc<Store>) -> Option<Snapshot> {
    Some(own(store)).filter(|snapshot| snapshot.meta.last_log_id.is_some())
}

fn own(store: &Arc<Store>) -> Snapshot {
    Snapshot { meta: store.stored().meta(), snapshot: SnapshotData::Own(store.clone()) }
}

/// Begins a snapshot for a member that asks for one.
pub fn open(store: &Arc<Store>) -> io::Result<Answer> {
    let Some(snapshot) = current(store) else {
        return Err(io::Error::other("this node has no applied state either"));
    };
    let session = store.sessions.open(false)?;
    Ok(Answer::Opened { session, applied: snapshot.meta.last_log_id })
}

/// Building a snapshot is a flush. The log is purged behind it, so it waits for those who still need the log.
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

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let begun = Instant::now();
        while !self.store.sessions.is_empty() && begun.elapsed() < KEEP_LOG {
            tokio::time::sleep(POLL).await;
        }
        if mutant!(PurgedBeforeDurable) {
            let mut snapshot = own(&self.store);
            snapshot.meta.last_log_id = self.store.read().applied;
            return Ok(snapshot);
        }
        self.store.flush.flush_now(&self.store).await;
        Ok(own(&self.store))
    }
}

/// Brings the own state to a member. The member does the work; this asks until it is done, as long as it sees progress.
pub async fn offer(
    peers: &PeerClient,
    sessions: &Sessions,
    to: &NodeId,
    vote: Vote,
    patience: Duration,
) -> io::Result<SnapshotResponse<TypeConfig>> {
    let session = sessions.open(true)?;
    let mut close = CloseOnDrop { sessions, session, armed: true };
    let request = Request::Offer { vote, session };
    loop {
        match call(peers, to, Method::RaftSnapshot, &request, CALL_TIMEOUT).await? {
            Answer::Installed { response, upto } => {
                sessions.installed(session, to.clone(), upto);
                close.armed = false;
                return Ok(response);
            }
            Answer::Working => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer to an offer")),
        }
        match sessions.idle(session) {
            None => return Err(io::Error::other("the snapshot was closed before the member had it")),
            Some(Idle { since, reading: true }) if since > patience => {
                let text = format!("{to} stopped reading the snapshot {since:?} ago");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Some(_) => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

struct CloseOnDrop<'a> {
    sessions: &'a Sessions,
    session: u64,
    armed: bool,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.sessions.close(self.session);
        }
    }
}

/// Fetches all rows of a session, and keeps them aside.
pub async fn fetch(peers: &PeerClient, store: &Store, from: &NodeId, session: u64) -> io::Result<Snapshot> {
    let mut spool = Spool::create(store.sessions.spool_dir.as_deref(), &format!("rows-{session}"))?;
    for piece in 0.. {
        let request = Request::Fetch { session, piece };
        let answer = call(peers, from, Method::RaftSnapshot, &request, CALL_TIMEOUT).await?;
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Answer::Rows { rows, end } = answer else { return Err(invalid("an unexpected answer to a fetch")) };
        if rows.iter().any(|(key, _)| key.first() == Some(&NODE_PREFIX)) {
            return Err(invalid("a snapshot with rows that are not of the state"));
        }
        off_worker(!spool.in_memory(), || spool.push(rows))?;
        if let Some(meta) = end {
            return Ok(Snapshot { meta, snapshot: SnapshotData::Fetched(spool) });
        }
    }
    unreachable!("pieces are counted in 64 bits")
}

/// Puts a snapshot in place of the applied state.
pub async fn install(store: &Arc<Store>, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), Broken> {
    // openraft hands back the own snapshot at a restart only if it is newer than the state, which it
    // cannot be: it is the state.
    if matches!(&snapshot, SnapshotData::Own(own) if Arc::ptr_eq(own, store)) {
        return Err(Broken("the own state was offered as a snapshot to install".into()));
    }
    let _exclusive = store.flush.exclude().await;
    store.sessions.close_all();
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
        copy(snapshot, |rows| engine.write(&refs(&rows)))?;
        engine.write(&refs(&[stored.row()]))?;
        store.reload(stored)
    })
    .await
}

/// Gives every row, a piece at a time; what comes later for a key stands.
fn copy(snapshot: SnapshotData, mut take: impl FnMut(Vec<Row>) -> Result<(), Broken>) -> Result<(), Broken> {
    match snapshot {
        SnapshotData::Fetched(mut spool) => {
            while let Some(rows) = spool.pop().map_err(|error| Broken(format!("a fetched snapshot: {error}")))? {
                take(rows)?;
            }
        }
        // Another store in the same process, which openraft's suite has.
        SnapshotData::Own(other) => {
            let mut reader = Reader::new(Spool::Memory(VecDeque::new()));
            for piece in 0.. {
                let (rows, end) = reader.read(&*other.engine, piece).map_err(|error| Broken(error.to_string()))?;
                take(rows)?;
                if end {
                    break;
                }
            }
        }
    }
    Ok(())
}
