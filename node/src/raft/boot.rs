//! Bringing a replica up: what is on disk decides what has to happen before it takes part.
//!
//! - State and log are there: it starts.
//! - The state is lost, and the log does not reach back far enough: a snapshot is fetched first.
//! - The log is empty. Either the group is new, or this disk was lost together with votes given and
//!   entries acknowledged; a node that does not know must not act as if it had promised nothing. So
//!   it asks *all* other members. If none of them has an entry beyond the first, no entry was ever
//!   committed: the group is new, and its first member initialises it (always the same first entry,
//!   under the same id). Otherwise this node adopts the highest vote that any of them knows, and
//!   neither votes nor stands for election until it has applied everything they have: whatever it
//!   acknowledged before, one of them has too.

use super::apply::{Applier, Store};
use super::log_store::LogStore;
use super::network::{Network, call};
use super::snapshot::{self, Answer, Request};
use super::types::{LogId, Raft, position, saved_vote};
use super::{Retention, Shared};
use crate::peer::Method;
use crate::storage::wal::{Done, Log, Position, SavedVote};
use anyhow::Context;
use openraft::SnapshotPolicy;
use openraft::errors::{InitializeError, RaftError};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tercet_core::ids::NodeId;
use tercet_core::mutant;
use tokio::sync::oneshot;

/// Entries purged at once, if so many are kept.
const PURGE_ENTRIES: u64 = 5_000;
/// Entries in one message to a follower, and in one write to the log.
const MESSAGE_ENTRIES: u64 = 512;
const APPEND_ENTRIES: u64 = 1024;
/// Requests to Raft that wait.
const QUEUE: u64 = 16_384;
/// How long a member may be silent while it fetches a snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);
/// openraft's timers have to differ by as much.
const TICK: Duration = Duration::from_millis(1);

pub fn config(shared: &Shared) -> anyhow::Result<openraft::Config> {
    let alone = shared.members.len() == 1;
    let Retention { snapshot_entries, kept_entries } = shared.retention;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Ours are counted from the leader's last sign of life. openraft waits its leader lease first, which is as long as its
    // longest election timeout, and only then a timeout.
    let election_max = (shared.election_max / 2).max(shared.heartbeat + 2 * TICK);
    let election_min = shared.election_min.saturating_sub(election_max).max(shared.heartbeat + TICK);
    let config = openraft::Config {
        cluster_name: "tercet".into(),
        heartbeat_interval: millis(shared.heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
        max_payload_entries: MESSAGE_ENTRIES,
        max_append_entries: Some(APPEND_ENTRIES),
        api_channel_size: Some(QUEUE),
        notification_channel_size: Some(QUEUE),
        // A group of one has nobody to fetch a lost state from: its log stays whole.
        snapshot_policy: if alone { SnapshotPolicy::Never } else { SnapshotPolicy::LogsSinceLast(snapshot_entries) },
        max_in_snapshot_log_to_keep: kept_entries,
        purge_batch_size: PURGE_ENTRIES.min(kept_entries.max(1)),
        enable_pre_vote: Some(true),
        // A leader that lost power may have lost the end of its log: it has to be elected again.
        enable_leader_restore: Some(mutant!(LeaderRestoreOn)),
        // A member that lost its disk comes back with an empty log (see above why that is safe).
        allow_log_reversion: Some(true),
        enable_elect: shared.may_vote.load(Ordering::SeqCst),
        backoff: "50ms 100ms 200ms ...1s".into(),
        ..openraft::Config::default()
    };
    config.validate().context("the Raft timers do not fit together; see raft in cluster.toml")
}

/// What has to happen before this replica takes part.
pub struct Plan {
    /// A snapshot from at least here on.
    pub needs_state: Option<Position>,
    pub empty_log: bool,
}

pub fn plan(store: &Store, log: &dyn Log, alone: bool) -> anyhow::Result<Plan> {
    let (stored, state) = (store.stored(), log.state());
    let applied = stored.applied.as_ref().map(position);
    let empty_log = state.last.is_none() && state.vote.is_none();
    if !empty_log && state.last < applied && stored.applied != stored.installed {
        anyhow::bail!(
            "the Raft log ends at {:?}, but entries up to {:?} are applied: the log lost acknowledged entries; \
             check the disk, then move this node's raft and state folders away so that it fetches both again",
            state.last.map(|last| last.index),
            applied.map(|applied| applied.index),
        );
    }
    let needs_state = state.purged.filter(|purged| applied < Some(*purged));
    if alone && needs_state.is_some() {
        anyhow::bail!(
            "the applied state is lost, the log begins after it, and no other node has a copy; restore a backup"
        );
    }
    if alone && empty_log && applied.is_some() {
        anyhow::bail!("the Raft log is gone, but there is applied state; restore the raft folder or remove both");
    }
    Ok(Plan { needs_state, empty_log })
}

/// Does what the plan says, and starts Raft.
pub async fn run(shared: &Arc<Shared>, plan: Plan) -> anyhow::Result<Raft> {
    if let Some(purged) = plan.needs_state {
        fetch_state(shared, purged).await;
    }
    let alone = shared.members.len() == 1;
    let mut initialise = alone && plan.empty_log;
    if plan.empty_log && !alone {
        match ask_all(shared).await {
            Found::NewGroup => initialise = shared.id == 1,
            Found::Group { .. } if mutant!(WipedNodeVotesAtOnce) => {}
            Found::Group { vote, last } => rejoin(shared, vote, last).await?,
        }
    }
    if let Some(target) = shared.store.log.state().mark {
        shared.may_vote.store(false, Ordering::SeqCst);
        tracing::warn!(upto = target.index, "this node lost its log; it takes no part in votes until it has caught up");
    }
    let applier = Applier { store: shared.store.clone() };
    let network = Network { members: shared.members.clone(), peers: shared.peers.clone(), store: shared.store.clone() };
    let log = LogStore::new(shared.store.log.clone());
    let raft = Raft::new(shared.id, Arc::new(config(shared)?), network, log, applier).await.context("starting Raft")?;
    if initialise {
        let members: BTreeMap<u64, String> = (1..).zip(shared.members.iter().map(NodeId::to_string)).collect();
        match raft.initialize(members).await {
            // It was initialised before this node was asked to.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(error).context("initialising the Raft group"),
        }
    }
    Ok(raft)
}

/// Opens the votes to this node once it has caught up.
pub async fn watch_rejoin(shared: Arc<Shared>, raft: Raft) {
    let Some(target) = shared.store.log.state().mark else { return };
    let mut applied = shared.store.applied.subscribe();
    loop {
        let caught_up = shared.store.read().applied.as_ref().map(position) >= Some(target);
        if caught_up {
            break;
        }
        if applied.changed().await.is_err() {
            return;
        }
    }
    if let Err(error) = durably(|done| shared.store.log.save_mark(None, done)).await {
        return shared.store.fail(format!("the Raft log cannot be written: {error}"));
    }
    tracing::info!("this node has caught up and takes part in votes again");
    shared.may_vote.store(true, Ordering::SeqCst);
    raft.runtime_config().elect(true);
}

async fn durably(write: impl FnOnce(Done) -> io::Result<()>) -> io::Result<()> {
    let (tell, told) = oneshot::channel();
    write(Done::new(move |result| drop(tell.send(result))))?;
    told.await.map_err(|_| io::Error::other("the log stopped"))?
}

enum Found {
    NewGroup,
    Group { vote: Option<SavedVote>, last: Position },
}

/// Asks every other member what it has; comes back when all have answered.
async fn ask_all(shared: &Shared) -> Found {
    let (mut vote, mut last) = (None, None);
    for member in shared.others() {
        let (its_vote, its_last) = ask(shared, member).await;
        vote = vote.max(its_vote);
        last = last.max(its_last);
    }
    match last {
        Some(last) if last.index > 0 => Found::Group { vote, last },
        _ => Found::NewGroup,
    }
}

async fn ask(shared: &Shared, member: &NodeId) -> (Option<SavedVote>, Option<Position>) {
    let mut warned = false;
    loop {
        match call(&shared.peers, member, Method::RaftSnapshot, &Request::Status, ASK_TIMEOUT).await {
            Ok(Answer::Status { vote, last }) => {
                return (vote.as_ref().map(saved_vote), last.as_ref().map(position));
            }
            Ok(_) => tracing::warn!(%member, "an unexpected answer; is it of another version?"),
            Err(error) if !warned => {
                tracing::info!(%member, %error, "this node's log is empty: it waits for every other member to answer once");
                warned = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn rejoin(shared: &Shared, vote: Option<SavedVote>, last: Position) -> anyhow::Result<()> {
    let log = &shared.store.log;
    // The mark first: a vote alone would look like a member that never lost anything.
    durably(|done| log.save_mark(Some(last), done)).await.context("writing the Raft log")?;
    if let Some(vote) = vote {
        durably(|done| log.save_vote(vote, done)).await.context("writing the Raft log")?;
    }
    Ok(())
}

/// Fetches the state of any member that has at least what this node's log begins after.
async fn fetch_state(shared: &Arc<Shared>, purged: Position) {
    let mut attempt = 0u32;
    loop {
        for member in shared.others() {
            match fetch_from(shared, member, purged).await {
                Ok(upto) => {
                    return tracing::info!(%member, upto = upto.map(|id| id.index), "the lost state was fetched");
                }
                Err(error) if attempt.is_multiple_of(20) => {
                    tracing::error!(%member, %error, "the applied state is lost and cannot be fetched yet");
                }
                Err(_) => {}
            }
        }
        attempt += 1;
        tokio::time::sleep(RETRY).await;
    }
}

async fn fetch_from(shared: &Arc<Shared>, member: &NodeId, purged: Position) -> anyhow::Result<Option<LogId>> {
    let opened = call(&shared.peers, member, Method::RaftSnapshot, &Request::Open, ASK_TIMEOUT).await?;
    let Answer::Opened { session, applied } = opened else { anyhow::bail!("an unexpected answer") };
    anyhow::ensure!(
        applied.as_ref().map(position) >= Some(purged),
        "its flushed state is older than the start of this log"
    );
    let fetched = snapshot::fetch(&shared.peers, &shared.store, member, session).await?;
    snapshot::install(&shared.store, &fetched.meta, fetched.snapshot).await?;
    Ok(fetched.meta.last_log_id)
}
