//! Between clouds: signing this cloud's notes (`sign.rs`), serving the logs to the other clouds
//! (`serve.rs`), pulling theirs (`pull.rs`, `verify.rs`, `ingest.rs`), taking detours around cut
//! links (`relay.rs`) and proving forks (`investigate.rs`). Only the leader signs and pulls, and
//! only the leader serves; another node names it. Nothing here decides a vote or a level: it
//! proposes what it verified, and signs what Raft committed.

mod board;
mod epochs;
pub mod frames;
mod ingest;
mod investigate;
mod leases;
mod pull;
mod relay;
mod serve;
mod sign;
mod signers;
mod testimony;
#[cfg(test)]
mod tests;
mod verify;

pub use board::Stats;
pub use leases::{LeaseAnswer, LeaseStatus};

use crate::config::Directory;
use crate::env::Env;
use crate::peer::{Handler, Method, PeerClient, StreamHandler};
use crate::raft::{ProposeError, Replica};
use board::Board;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::ids::{CloudId, EpochId, FedId, HolderId, LeaseId, NodeId, TenantId};
use tercet_core::leases::SignedClaim;
use tercet_core::signature::SigningKey;
use tercet_core::transparency::SignedNote;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How this node stands with another cloud.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerCloud {
    pub cloud: CloudId,
    /// Whether a stream from that cloud is up (always false on a follower).
    pub connected: bool,
    /// The node that serves it.
    pub via: Option<NodeId>,
    /// Why signing is refused because of this peer, if it is.
    pub refusal: Option<String>,
}

/// What every part of the federation works with.
struct Shared {
    directory: Arc<Directory>,
    fed: FedId,
    me: CloudId,
    node: NodeId,
    key: SigningKey,
    replica: Replica,
    env: Env,
    peers: PeerClient,
    board: Board,
    signed: watch::Sender<Option<Arc<SignedNote>>>,
    signers: signers::Signers,
    leases: leases::Clock,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    /// Another cloud that a node belongs to.
    fn other_cloud_of(&self, node: &NodeId) -> Option<&CloudId> {
        self.directory.cloud_of(node).map(|entry| &entry.cloud).filter(|cloud| **cloud != self.me)
    }

    /// An epoch of this cloud, whether the state knows it already or only the configuration.
    fn own_opening(&self, epoch: &EpochId) -> Option<Opening> {
        let known = self.replica.read(|view| Ok(view.state.openings())).unwrap_or_default();
        let mut all = known.into_iter().chain(self.directory.openings.iter().cloned());
        all.find(|opening| opening.cloud == self.me && opening.id(&self.fed) == *epoch)
    }

    /// The latest epoch that the configuration gives this cloud.
    fn configured_epoch(&self) -> Option<&Opening> {
        let own = self.directory.openings.iter().filter(|opening| opening.cloud == self.me);
        own.max_by_key(|opening| opening.number)
    }

    /// The own epoch that this cloud asks the others for, while it recovers.
    fn lost_epoch(&self) -> Option<EpochId> {
        self.replica.read(|view| view.state.lost_epoch(view.records)).ok().flatten()
    }

    /// The latest notes held, one a log, the own one first if this node signs.
    fn notes(&self) -> Vec<SignedNote> {
        let own = self.signed.borrow().as_ref().map(|note| SignedNote::clone(note));
        let others = self.replica.read(|view| {
            let clouds = view.state.genesis().clouds().filter(|cloud| **cloud != self.me);
            Ok(clouds.filter_map(|cloud| view.state.note(cloud).cloned()).collect::<Vec<_>>())
        });
        own.into_iter().chain(others.unwrap_or_default()).collect()
    }

    /// A random delay below `max`, so that nodes do not retry in step.
    fn jitter(&self, max: Duration) -> Duration {
        let mut bytes = [0; 4];
        self.env.entropy.fill(&mut bytes);
        max.mul_f64(f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX))
    }
}

pub struct Federation {
    shared: Arc<Shared>,
}

impl Federation {
    pub fn start(
        directory: Arc<Directory>,
        node: NodeId,
        key: SigningKey,
        replica: Replica,
        env: Env,
        peers: PeerClient,
    ) -> Arc<Self> {
        let fed = directory.genesis.fed_id();
        let me = directory.cloud_of(&node).expect("the configuration names this node").cloud.clone();
        let others: Vec<CloudId> = directory.genesis.clouds().filter(|cloud| **cloud != me).cloned().collect();
        let shared = Arc::new(Shared {
            fed,
            me,
            node,
            key,
            replica,
            env,
            peers,
            board: Board::new(others.into_iter()),
            signed: watch::Sender::new(None),
            signers: signers::Signers::default(),
            leases: leases::Clock::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            directory,
        });
        shared.tasks.spawn(follow_leadership(shared.clone()));
        Arc::new(Self { shared })
    }

    /// The peer methods that federation answers.
    pub fn methods(self: &Arc<Self>) -> Vec<(Method, Handler)> {
        let (notes, votes, asked) = (self.shared.clone(), self.shared.clone(), self.shared.clone());
        let sign: Handler = Arc::new(move |from, request| Box::pin(sign::answer(notes.clone(), from, request)));
        let sign_lease: Handler = Arc::new(move |_, request| Box::pin(leases::sign(votes.clone(), request)));
        let ask_lease: Handler = Arc::new(move |_, request| Box::pin(leases::answer(asked.clone(), request)));
        vec![(Method::Sign, sign), (Method::SignLease, sign_lease), (Method::Lease, ask_lease)]
    }

    /// This cloud's signed vote on a claim, from its leader.
    pub async fn vote_on_lease(&self, claim: SignedClaim) -> Result<LeaseAnswer, ProposeError> {
        leases::ask(&self.shared, leases::Question::Vote(Box::new(claim))).await
    }

    /// What this cloud's leader knows of a lease, and when somebody may have it.
    pub async fn look_at_lease(
        &self,
        tenant: TenantId,
        lease: LeaseId,
        candidate: Option<HolderId>,
    ) -> Result<LeaseAnswer, ProposeError> {
        leases::ask(&self.shared, leases::Question::Look { tenant, lease, candidate }).await
    }

    /// All leases of a tenant, as this cloud's leader knows them.
    pub async fn list_leases(&self, tenant: TenantId) -> Result<Vec<LeaseStatus>, ProposeError> {
        match leases::ask(&self.shared, leases::Question::List { tenant }).await? {
            LeaseAnswer::List(listed) => Ok(listed),
            _ => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// Serves log streams to the other clouds.
    pub fn streams(self: &Arc<Self>) -> StreamHandler {
        let shared = self.shared.clone();
        Arc::new(move |connection| {
            let shared = shared.clone();
            Box::pin(async move {
                tokio::select! {
                    biased;
                    () = shared.stop.cancelled() => {}
                    () = serve::serve(shared.clone(), connection) => {}
                }
            })
        })
    }

    /// This cloud's latest signed note, on its leader.
    pub fn signed_note(&self) -> watch::Receiver<Option<Arc<SignedNote>>> {
        self.shared.signed.subscribe()
    }

    pub fn peers(&self) -> Vec<PeerCloud> {
        self.shared.board.peers()
    }

    pub fn stats(&self) -> &Stats {
        &self.shared.board.stats
    }

    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Whoever drops a node without stopping it does not want its tasks to live on.
impl Drop for Federation {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Runs the leader's work while this node leads, and drops it when it no longer does.
async fn follow_leadership(shared: Arc<Shared>) {
    let mut leadership = shared.replica.leadership();
    loop {
        let now = leadership.borrow_and_update().clone();
        let mut work = JoinSet::new();
        if now.is_leader {
            start_leading(&shared, &mut work);
        }
        let ended = loop {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => break true,
                changed = leadership.changed() => {
                    if changed.is_err() {
                        break true;
                    }
                    let next = leadership.borrow_and_update().clone();
                    if (next.is_leader, next.term) != (now.is_leader, now.term) && (next.is_leader || now.is_leader) {
                        break false;
                    }
                }
            }
        };
        work.shutdown().await;
        shared.signed.send_replace(None);
        shared.board.disconnect();
        shared.replica.refuse_events(false);
        if ended {
            return;
        }
        leadership.mark_changed();
    }
}

fn start_leading(shared: &Arc<Shared>, work: &mut JoinSet<()>) {
    for cloud in shared.board.clouds() {
        work.spawn(pull::run(shared.clone(), cloud));
    }
    work.spawn(sign::lead(shared.clone()));
    work.spawn(leases::lead(shared.clone()));
    work.spawn(relay::run(shared.clone()));
    work.spawn(testimony::run(shared.clone()));
}
