//! What this node currently knows of the other clouds' connections: which are up, what they showed
//! of this cloud's own log, and how far they move. In memory only, and decides nothing by itself.

use super::frames::{Answer, Question};
use super::{PeerCloud, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::ids::{CloudId, NodeId, Tag};
use tercet_core::mutant;
use tercet_core::records::Broken;
use tercet_core::transparency::SignedNote;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a question to another cloud may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What the leader's own tasks want from the connection to a cloud.
pub(super) enum Wish {
    Ask {
        question: Question,
        answer: oneshot::Sender<Answer>,
    },
    /// Fetch these bodies, verify and propose them.
    Bodies(Vec<Tag>),
    /// Take this third cloud's log from here too.
    Relay(CloudId),
    StopRelay(CloudId),
    /// An epoch began: take each log in its current one.
    FollowEpochs,
    /// Nothing arrives although there must be news: dial again.
    Restart,
}

/// A connection to another cloud that is up.
#[derive(Clone)]
pub(super) struct Link {
    pub cloud: CloudId,
    pub wishes: mpsc::Sender<Wish>,
}

impl Link {
    /// `None` if the connection ended or no answer came in time.
    pub async fn ask(&self, question: Question) -> Option<Answer> {
        let (answer, asked) = oneshot::channel();
        let exchange = async {
            self.wishes.send(Wish::Ask { question, answer }).await.ok()?;
            asked.await.ok()
        };
        tokio::time::timeout(ASK_TIMEOUT, exchange).await.ok().flatten()
    }

    /// Leaves a wish if there is room for one; whoever wishes will wish again.
    pub fn wish(&self, wish: Wish) -> bool {
        self.wishes.try_send(wish).is_ok()
    }
}

/// Another cloud, as this leader sees it.
#[derive(Default)]
pub(super) struct Peer {
    pub link: Option<Link>,
    pub via: Option<NodeId>,
    /// The node that greeted us last: only a leader does, so it is the one to dial.
    pub greeted_by: Option<NodeId>,
    /// Whether it showed what it holds of our log since this process started.
    pub answered: bool,
    /// A valid note of our own log that it showed and that we have not yet found in our log.
    pub shown: Option<SignedNote>,
    pub refusal: Option<String>,
    /// When the stream of its log, from itself, last brought something that fits.
    pub progress: Option<Instant>,
    /// Since when what it streams does not fit what is held here.
    pub misfit: bool,
}

pub(super) struct Board {
    peers: Mutex<BTreeMap<CloudId, Peer>>,
    changed: watch::Sender<u64>,
    /// Forks being looked for now.
    pub hunts: Mutex<BTreeSet<CloudId>>,
    /// Whether this process has waited for the others before its first signature.
    pub guarded: AtomicBool,
    /// The connection that each node of another cloud opened last.
    pub streams: Mutex<BTreeMap<NodeId, CancellationToken>>,
    pub stats: Stats,
}

/// Counters for the metrics.
#[derive(Debug, Default)]
pub struct Stats {
    pub rounds_signed: AtomicU64,
    pub rounds_failed: AtomicU64,
    pub signatures_refused: AtomicU64,
    pub chunks_sent: AtomicU64,
    pub chunks_received: AtomicU64,
    pub chunks_dropped: AtomicU64,
    pub bodies_dropped: AtomicU64,
    pub hunts: AtomicU64,
    pub convictions: AtomicU64,
    pub lease_votes: AtomicU64,
    pub lease_votes_refused: AtomicU64,
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Every counter under its name.
    pub fn counts(&self) -> [(&'static str, u64); 11] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("rounds_signed", of(&self.rounds_signed)),
            ("rounds_failed", of(&self.rounds_failed)),
            ("signatures_refused", of(&self.signatures_refused)),
            ("chunks_sent", of(&self.chunks_sent)),
            ("chunks_received", of(&self.chunks_received)),
            ("chunks_dropped", of(&self.chunks_dropped)),
            ("bodies_dropped", of(&self.bodies_dropped)),
            ("fork_hunts", of(&self.hunts)),
            ("convictions", of(&self.convictions)),
            ("lease_votes", of(&self.lease_votes)),
            ("lease_votes_refused", of(&self.lease_votes_refused)),
        ]
    }
}

impl Board {
    pub fn new(others: impl Iterator<Item = CloudId>) -> Self {
        Self {
            peers: Mutex::new(others.map(|cloud| (cloud, Peer::default())).collect()),
            changed: watch::Sender::new(0),
            hunts: Mutex::default(),
            guarded: AtomicBool::new(false),
            streams: Mutex::default(),
            stats: Stats::default(),
        }
    }

    /// Wakes when a connection or what is shown of our log changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CloudId, Peer>> {
        lock(&self.peers)
    }

    pub fn clouds(&self) -> Vec<CloudId> {
        self.lock().keys().cloned().collect()
    }

    pub fn with<R>(&self, cloud: &CloudId, f: impl FnOnce(&mut Peer) -> R) -> Option<R> {
        self.lock().get_mut(cloud).map(f)
    }

    /// As `with`, and wakes whoever watches.
    pub fn update<R>(&self, cloud: &CloudId, f: impl FnOnce(&mut Peer) -> R) -> Option<R> {
        let result = self.with(cloud, f);
        self.changed.send_modify(|version| *version += 1);
        result
    }

    pub fn link(&self, cloud: &CloudId) -> Option<Link> {
        self.with(cloud, |peer| peer.link.clone()).flatten()
    }

    /// A node of another cloud greeted us, so it leads that cloud now. If we still listen to another
    /// node, that one may hang with its sockets open: the connection is given up.
    pub fn greeted(&self, cloud: &CloudId, node: &NodeId) {
        let elsewhere = self.with(cloud, |peer| {
            peer.greeted_by = Some(node.clone());
            peer.link.clone().filter(|_| peer.via.as_ref().is_some_and(|via| via != node))
        });
        if let Some(link) = elsewhere.flatten() {
            link.wish(Wish::Restart);
        }
    }

    pub fn links(&self) -> Vec<Link> {
        self.lock().values().filter_map(|peer| peer.link.clone()).collect()
    }

    pub fn all_answered(&self) -> bool {
        self.lock().values().all(|peer| peer.answered)
    }

    /// Whether any other cloud has shown, since this process started, what it holds of our log.
    pub fn any_answered(&self) -> bool {
        self.lock().values().any(|peer| peer.answered)
    }

    /// This node no longer leads: it has no connections, and whether the cloud may sign is for its
    /// leader to say.
    pub fn disconnect(&self) {
        for peer in self.lock().values_mut() {
            (peer.link, peer.via, peer.progress, peer.misfit) = (None, None, None, false);
            peer.refusal = None;
        }
        lock(&self.hunts).clear();
    }

    pub fn peers(&self) -> Vec<PeerCloud> {
        let row = |(cloud, peer): (&CloudId, &Peer)| PeerCloud {
            cloud: cloud.clone(),
            connected: peer.link.is_some(),
            via: peer.via.clone(),
            refusal: peer.refusal.clone(),
        };
        self.lock().iter().map(row).collect()
    }

    /// Another cloud showed notes. One of our own log counts only if our own nodes signed it: a
    /// cloud cannot stop us with an invented one.
    pub fn shown(&self, shared: &Shared, by: &CloudId, notes: &[SignedNote]) {
        let ours = notes.iter().filter(|note| note.body.origin.cloud == shared.me);
        for note in ours.take(1) {
            let known = self.with(by, |peer| peer.shown.as_ref() == Some(note)).unwrap_or(true);
            let valid = || {
                let opening = shared.own_opening(&note.body.origin.epoch);
                opening.is_some_and(|opening: Opening| note.verify(&shared.fed, &opening).is_ok())
            };
            if !known && valid() {
                self.update(by, |peer| {
                    let longer = peer.shown.as_ref().is_none_or(|shown| shown.body.size <= note.body.size);
                    if longer {
                        peer.shown = Some(note.clone());
                    }
                });
            }
        }
    }

    /// Whether signing must wait, because a peer holds more of our log than we do, or another one.
    /// Notes that our log turns out to contain are forgotten.
    pub async fn refuses(&self, shared: &Shared) -> Result<bool, Broken> {
        let refused = |(_, _, refusal): &(CloudId, SignedNote, Option<String>)| refusal.is_some();
        // A leader that was deposed while it was cut off has less than its cloud signed since. That is no
        // reason for an alarm: it is no leader, and learns so by asking its members.
        if self.judged(shared)?.iter().any(refused) && shared.replica.linearize().await.is_err() {
            return Ok(true);
        }
        let mut refuses = false;
        for (by, note, refusal) in self.judged(shared)? {
            refuses |= refusal.is_some() && !mutant!(LongerHeadIgnored);
            self.with(&by, |peer| {
                if refusal.is_none() && peer.shown.as_ref() == Some(&note) {
                    peer.shown = None;
                }
                if let Some(text) = refusal.as_ref().filter(|_| peer.refusal.is_none()) {
                    tracing::error!(cloud = %by, "refusing to sign: {text}");
                }
                peer.refusal = refusal;
            });
        }
        shared.replica.refuse_events(refuses);
        Ok(refuses)
    }

    /// What each other cloud showed of our log, and what speaks against signing in that.
    fn judged(&self, shared: &Shared) -> Result<Vec<(CloudId, SignedNote, Option<String>)>, Broken> {
        let shown: Vec<_> =
            self.lock().iter().filter_map(|(by, peer)| Some((by.clone(), peer.shown.clone()?))).collect();
        let judge = |(by, note): (CloudId, SignedNote)| {
            let refusal = judge(shared, &by, &note)?;
            Ok((by, note, refusal))
        };
        shown.into_iter().map(judge).collect()
    }
}

/// Compares a valid note of our own log with our log.
fn judge(shared: &Shared, by: &CloudId, note: &SignedNote) -> Result<Option<String>, Broken> {
    let (size, epoch) = (note.body.size, note.body.origin.epoch);
    shared.replica.read(|view| {
        // A note of an epoch that is given up is the business of recovery.
        let configured = shared.configured_epoch().map(|opening| opening.id(&shared.fed));
        if configured.is_some_and(|configured| configured != epoch) {
            return Ok(None);
        }
        let Some(head) = view.state.head(&shared.me) else {
            return Ok((size > 0).then(|| {
                format!("cloud {by} holds {size} leaves that this cloud signed in epoch {epoch}, and none are here: this cloud lost its state; open a new epoch with fresh keys")
            }));
        };
        if head.epoch != epoch {
            return Ok(None);
        }
        if size > head.size {
            return Ok(Some(format!(
                "cloud {by} holds our log at size {size}, here it has {}: this cloud lost or restored old state; open a new epoch with fresh keys",
                head.size
            )));
        }
        let root = view.state.root_at(view.records, &shared.me, size)?;
        let fits = root == Some(note.body.root);
        // What was audited and is forgotten would be contradicted by the next note with a new leaf.
        if fits && !view.state.note_body().is_some_and(|body| body.grew_from(&note.body)) {
            return Ok(Some(format!(
                "cloud {by} holds a note of ours that says more of the other logs than is known here: this cloud lost or restored old state; open a new epoch with fresh keys"
            )));
        }
        Ok((!fits).then(|| format!("cloud {by} holds our log at size {size} with another root: this cloud's log was forked; open a new epoch with fresh keys")))
    })
}

/// A lock whose holder never panics halfway through a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
