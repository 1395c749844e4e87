//! Raft inside one cloud, on openraft. Everything of openraft stays in this folder: the rest of
//! the node knows a [`Replica`], which proposes commands, reads applied state and tells who leads.
//!
//! A command's way: `propose.rs` stamps it, `log_store.rs` makes it durable, `network.rs` brings it
//! to the other members, `apply.rs` applies it, and `flush.rs` moves what it changed to the engine.

mod apply;
mod boot;
mod flush;
#[cfg(feature = "mutants")]
mod foresee;
mod known;
mod log_store;
mod machine;
mod network;
mod propose;
mod serve;
mod sessions;
mod snapshot;
mod spool;
#[cfg(test)]
mod tests;
mod types;

use crate::env::{Env, WallClock};
use crate::peer::{Handler, Method, PeerClient};
use crate::storage::Engine;
use crate::storage::wal::{Log, MemoryLog, Wal};
use anyhow::Context;
use apply::Store;
use openraft::ReadPolicy;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use sessions::Sessions;
use std::borrow::Borrow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::fact::Fact;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, NodeId, RequestId};
use tercet_core::mutant;
use tercet_core::records::{Broken, Records};
use tercet_core::rejection::Rejection;
use tercet_core::state::State;
use tercet_core::time::Millis;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use types::Raft;

/// Where and how this replica runs.
pub struct ReplicaConfig {
    pub genesis: Genesis,
    pub cloud: CloudId,
    pub region: String,
    pub node: NodeId,
    /// All nodes of this cloud, sorted; the index of a node here + 1 is its Raft id.
    pub members: Vec<NodeId>,
    /// Folder of the Raft log; `None` keeps it in memory (simulation).
    pub log_dir: Option<PathBuf>,
    pub engine: Arc<dyn Engine>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    pub retention: Retention,
}

/// How much of the Raft log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot, so that a follower rarely needs one.
    pub kept_entries: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { snapshot_entries: 50_000, kept_entries: 20_000 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    pub is_leader: bool,
}

/// The facts of one applied entry.
#[derive(Debug, Clone)]
pub struct FactBatch {
    pub index: u64,
    pub facts: Vec<Fact>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum ProposeError {
    #[error("this node does not lead its cloud")]
    NotLeader { leader: Option<NodeId> },
    #[error("no leader: the cloud has no quorum of nodes")]
    NoLeader,
    #[error("too many commands wait for this node")]
    Overloaded,
    #[error("the command was sent, and whether it took effect is unknown; retry with the same key")]
    OutcomeUnknown,
    #[error("this node is stopping")]
    Stopped,
}

/// The outcome of a committed command, and the log index that holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committed {
    pub index: u64,
    pub reply: Result<Reply, Rejection>,
}

/// Local applied state under its lock: the state and the records that it reads.
pub struct View<'a> {
    pub state: &'a State,
    pub records: &'a dyn Records,
    /// Log index up to which this is applied.
    pub applied: u64,
    /// The logged time of the latest entry, and what passed since by this node's monotonic clock.
    pub now: Millis,
}

/// How often idle snapshot readers are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a last flush may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the replica's tasks share.
struct Shared {
    id: u64,
    members: Vec<NodeId>,
    heartbeat: Duration,
    election_min: Duration,
    election_max: Duration,
    retention: Retention,
    store: Arc<Store>,
    raft: OnceLock<Raft>,
    peers: PeerClient,
    /// The logged time never follows it; only a planted bug would.
    wall: Arc<dyn WallClock>,
    incoming: Mutex<Option<serve::Incoming>>,
    may_vote: AtomicBool,
    leadership: watch::Sender<Leadership>,
    stopping: AtomicBool,
}

impl Shared {
    fn others(&self) -> impl Iterator<Item = &NodeId> {
        (1..).zip(&self.members).filter(|(id, _)| *id != self.id).map(|(_, member)| member)
    }
}

struct Inner {
    shared: Arc<Shared>,
    peers: PeerClient,
    heartbeat: Duration,
    election_max: Duration,
    limits: propose::Limits,
    proposals: mpsc::Sender<propose::Pending>,
    /// Ended when the last handle goes, or by `stop`.
    tasks: Mutex<JoinSet<()>>,
}

/// The Raft log in a folder, or in memory without one.
pub async fn open_log(dir: Option<PathBuf>) -> anyhow::Result<Arc<dyn Log>> {
    let Some(dir) = dir else { return Ok(Arc::new(MemoryLog::default())) };
    let open = tokio::task::spawn_blocking(move || {
        let dir = dir.join("wal");
        Wal::open(&dir).with_context(|| format!("opening the Raft log in {}", dir.display()))
    });
    Ok(Arc::new(open.await.context("opening the Raft log")??))
}

/// One replica of its cloud's state. Clones are handles to the same one.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

impl Replica {
    /// Opens the log and the state, joins the group, and returns before there is a leader.
    pub async fn start(config: ReplicaConfig, env: Env, peers: PeerClient) -> anyhow::Result<Self> {
        let log = open_log(config.log_dir.clone()).await?;
        Self::start_on(config, log, env, peers).await
    }

    /// The same with a given log: a simulated disk that outlives its node.
    pub async fn start_on(
        config: ReplicaConfig,
        log: Arc<dyn Log>,
        env: Env,
        peers: PeerClient,
    ) -> anyhow::Result<Self> {
        let place = config.members.iter().position(|member| *member == config.node);
        let place = place.with_context(|| format!("node {} is not among the members of its cloud", config.node))?;
        let alone = config.members.len() == 1;
        if let Some(dir) = &config.log_dir {
            spool::remove_leftovers(dir).with_context(|| format!("cleaning {}", dir.display()))?;
        }
        let (genesis, cloud, region, engine) = (config.genesis, config.cloud, config.region, config.engine);
        let blocks = engine.blocks();
        let sessions = Sessions::new(config.log_dir, env.entropy);
        let open = move || -> anyhow::Result<(Store, boot::Plan)> {
            let store =
                Store::open(genesis, cloud, region, engine, log, sessions).context("reading the applied state")?;
            let plan = boot::plan(&store, &*store.log, alone)?;
            Ok((store, plan))
        };
        let (store, plan) = match blocks {
            true => tokio::task::spawn_blocking(open).await.context("opening the store")??,
            false => open()?,
        };
        let shared = Arc::new(Shared {
            id: place as u64 + 1,
            members: config.members,
            heartbeat: config.heartbeat,
            election_min: config.election_min,
            election_max: config.election_max,
            retention: config.retention,
            store: Arc::new(store),
            raft: OnceLock::new(),
            peers: peers.clone(),
            wall: env.wall,
            incoming: Mutex::default(),
            may_vote: AtomicBool::new(true),
            leadership: watch::Sender::new(Leadership { term: 0, leader: None, is_leader: false }),
            stopping: AtomicBool::new(false),
        });
        boot::config(&shared)?;
        let (proposals, queue) = propose::queue();
        let mut tasks = JoinSet::new();
        tasks.spawn(flush::run(shared.store.clone()));
        tasks.spawn(known::fill(shared.store.clone()));
        tasks.spawn(sweep(shared.clone()));
        // Only a replica that has to ask others first starts in the background: they may have to
        // ask this one, which it can answer once its methods are registered.
        if alone || (plan.needs_state.is_none() && !plan.empty_log) {
            let raft = boot::run(&shared, plan).await?;
            tasks.spawn(operate(shared.clone(), raft, queue));
        } else {
            let shared = shared.clone();
            tasks.spawn(async move {
                match boot::run(&shared, plan).await {
                    Ok(raft) => operate(shared, raft, queue).await,
                    Err(error) => shared.store.fail(format!("{error:#}")),
                }
            });
        }
        let inner = Inner {
            peers,
            heartbeat: shared.heartbeat,
            election_max: shared.election_max,
            shared,
            limits: propose::Limits::new(),
            proposals,
            tasks: Mutex::new(tasks),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The peer methods this replica answers: register them with the peer server.
    pub fn methods(&self) -> Vec<(Method, Handler)> {
        serve::methods(self)
    }

    /// Proposes on this node, which must lead. Waits for commit and apply.
    pub async fn propose(
        &self,
        request_id: Option<RequestId>,
        command: impl Borrow<Command>,
    ) -> Result<Committed, ProposeError> {
        self.propose_here(request_id, command.borrow()).await
    }

    /// Proposes here or, if another node leads, through it.
    pub async fn propose_anywhere(
        &self,
        request_id: Option<RequestId>,
        command: Command,
    ) -> Result<Committed, ProposeError> {
        self.propose_there(request_id, &command).await
    }

    /// Reads local applied state, possibly old. Keep `f` short: it holds up applying.
    pub fn read<R>(&self, f: impl FnOnce(View<'_>) -> Result<R, Broken>) -> Result<R, Broken> {
        let store = &self.inner.shared.store;
        let machine = store.read();
        machine.check()?;
        let result = f(View {
            state: &machine.state,
            records: &machine.overlay,
            applied: machine.applied_index(),
            now: machine.now(),
        });
        // Whoever cannot read its own records must not go on signing and serving.
        result.inspect_err(|broken| store.fail(format!("applied state cannot be read: {broken}")))
    }

    /// ReadIndex: once it returns, `read` sees everything committed before the call. Only on a leader.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        self.check_running()?;
        if mutant!(ReadWithoutReadIndex) && self.leadership().borrow().is_leader {
            return Ok(*self.applied().borrow());
        }
        let raft = self.inner.shared.raft.get().ok_or(ProposeError::NoLeader)?;
        let read = raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(self.inner.election_max, read).await {
            Ok(Ok(position)) => Ok(position.index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(propose::forwarded(forward))
            }
            Ok(Err(RaftError::Fatal(_))) => Err(ProposeError::Stopped),
            Ok(Err(_)) | Err(_) => Err(ProposeError::NoLeader),
        }
    }

    /// Waits until this node has applied again what it may have shown before a restart.
    pub async fn recovered(&self) {
        let shared = &self.inner.shared;
        // A leader that is known has told this node where the log stands.
        let mut leadership = self.leadership();
        let _ = leadership.wait_for(|now| now.leader.is_some()).await;
        if let Some(raft) = shared.raft.get() {
            // It ends early only if Raft stops, which `failed` reports.
            let _ = raft.wait_for_recovery(None).await;
        }
    }

    /// Whether this replica votes and stands for election: not while it catches up after it lost its log.
    pub fn takes_part(&self) -> bool {
        self.inner.shared.raft.get().is_some() && self.inner.shared.may_vote.load(Ordering::SeqCst)
    }

    /// The applied log index; changes wake the receiver.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.store.applied.subscribe()
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.shared.leadership.subscribe()
    }

    /// Facts from now on, bounded (a slow receiver gets `Lagged`).
    pub fn facts(&self) -> broadcast::Receiver<Arc<FactBatch>> {
        self.inner.shared.store.facts.subscribe()
    }

    /// Facts of recent entries with index > `after`, oldest first, as long as the bounded memory
    /// still holds all of them; `None` if it does not.
    pub fn recent_facts(&self, after: u64) -> Option<Vec<Arc<FactBatch>>> {
        self.inner.shared.store.recent_facts(after)
    }

    /// Resolves with the reason when the replica cannot go on (a fatal Raft or storage error).
    pub async fn failed(&self) -> String {
        let mut failed = self.inner.shared.store.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "the replica is gone".into())
    }

    /// Flushes applied state and stops. Idempotent.
    pub async fn stop(&self) {
        let shared = &self.inner.shared;
        if shared.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        // A snapshot that is being built waits for them.
        shared.store.sessions.close_all();
        if let Some(raft) = shared.raft.get() {
            // A task that panicked was reported by `failed`.
            let _ = raft.shutdown().await;
        }
        // What is not flushed is applied again from the log.
        let flush = shared.store.flush.flush_now(&shared.store);
        if tokio::time::timeout(STOP_TIMEOUT, flush).await.is_err() {
            tracing::warn!("stopping without the last flush: it took longer than {STOP_TIMEOUT:?}");
        }
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        let resigned = Leadership { leader: None, is_leader: false, ..shared.leadership.borrow().clone() };
        shared.leadership.send_replace(resigned);
    }

    /// On the leader, every other member and how long ago it last answered an append or a heartbeat, if it ever did in this
    /// term; nothing on a follower, which hears from the leader alone.
    pub fn heard(&self) -> Vec<(NodeId, Option<Duration>)> {
        let shared = &self.inner.shared;
        let Some(raft) = shared.raft.get() else { return Vec::new() };
        let metrics = raft.metrics();
        let Some(heard) = metrics.borrow_watched().heartbeat.clone() else { return Vec::new() };
        let others = (1..).zip(&shared.members).filter(|(id, _)| *id != shared.id);
        let ago = |id| heard.get(&id).copied().flatten().map(|at| openraft::Instant::elapsed(&at.into_inner()));
        others.map(|(id, member)| (member.clone(), ago(id))).collect()
    }

    /// Whoever was not heard of for so long would have been replaced as a leader.
    pub fn patience(&self) -> Duration {
        self.inner.election_max
    }

    fn check_running(&self) -> Result<(), ProposeError> {
        let failed = self.inner.shared.store.failed.borrow().is_some();
        if failed || self.inner.shared.stopping.load(Ordering::SeqCst) { Err(ProposeError::Stopped) } else { Ok(()) }
    }
}

/// Everything that runs beside Raft.
async fn operate(shared: Arc<Shared>, raft: Raft, queue: mpsc::Receiver<propose::Pending>) {
    // Only this task sets it.
    let _ = shared.raft.set(raft.clone());
    let leadership = shared.leadership.subscribe();
    tokio::join!(
        boot::watch_rejoin(shared.clone(), raft.clone()),
        propose::run(raft.clone(), shared.store.clone(), shared.wall.clone(), leadership, queue),
        watch_raft(shared, raft),
    );
}

/// Publishes who leads, and ends the replica when Raft has ended.
async fn watch_raft(shared: Arc<Shared>, raft: Raft) {
    let mut metrics = raft.metrics();
    loop {
        {
            let now = metrics.borrow_watched();
            let is_leader = now.state == ServerState::Leader;
            // After a restart Raft remembers that this node led; it does not, until it is elected again.
            let leader = now.current_leader.filter(|id| is_leader || *id != shared.id);
            let leader = leader.and_then(|id| shared.members.get(id.checked_sub(1)? as usize)).cloned();
            let leadership = Leadership { term: now.current_term, leader, is_leader };
            shared.leadership.send_if_modified(|known| {
                let news = *known != leadership;
                if news {
                    tracing::info!(term = leadership.term, leader = ?leadership.leader, "leadership");
                }
                *known = leadership;
                news
            });
            if let Err(fatal) = &now.running_state {
                return ended(&shared, fatal);
            }
        }
        if metrics.changed().await.is_err() {
            return ended(&shared, "its task is gone");
        }
    }
}

fn ended(shared: &Shared, why: impl std::fmt::Display) {
    if !shared.stopping.load(Ordering::SeqCst) {
        shared.store.fail(format!("Raft ended: {why}"));
    }
}

async fn sweep(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let metrics = shared.raft.get().map(openraft::Raft::metrics);
        let matched = |member: &NodeId| {
            let place = shared.members.iter().position(|known| known == member)?;
            let metrics = metrics.as_ref()?.borrow_watched();
            Some(metrics.replication.as_ref()?.get(&(place as u64 + 1))?.as_ref().map_or(0, |id| id.index))
        };
        shared.store.sessions.sweep(matched);
    }
}
