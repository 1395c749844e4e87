//! Serving logs to another cloud: the own log under the latest signed note, a third cloud's mirror
//! under the note that came with it. Each subscription has its own cursor and a small window of
//! unacknowledged chunks, so a slow receiver slows only itself. Without news nothing is sent.

use super::board::{Stats, lock};
use super::frames::{
    Answer, MAX_ANNOUNCED, MAX_ANSWER_BYTES, MAX_ASKED_EVIDENCE, MAX_ASKED_TAGS, MAX_OPENINGS, PROTOCOL, Question,
    Receiver, Reply, Request, Sender, WINDOW_CHUNKS, split,
};
use super::{Shared, epochs};
use crate::env::Connection;
use crate::raft::Leadership;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::events::PackedBody;
use tercet_core::fact::Fact;
use tercet_core::ids::{CloudId, EpochId, Hash, NodeId, Tag};
use tercet_core::mirrors::LogChunk;
use tercet_core::mutant;
use tercet_core::records::Broken;
use tercet_core::transparency::{NoteBody, SignedNote};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// How long a fresh connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A subscriber that acknowledges nothing for so long is gone.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes over a connection that a node of another cloud opened.
pub(super) async fn serve(shared: Arc<Shared>, connection: Connection) {
    let peer = connection.peer.clone();
    let Some(cloud) = shared.other_cloud_of(&peer).cloned() else {
        tracing::warn!(%peer, "a federation connection from a node of no other cloud was closed");
        return;
    };
    // A node needs one connection: a new one means that the one before is dead, noticed or not.
    let replaced = CancellationToken::new();
    if let Some(before) = lock(&shared.board.streams).insert(peer.clone(), replaced.clone()) {
        before.cancel();
    }
    let (sender, receiver) = split(connection);
    let mut stream = Stream { shared: &shared, cloud, sender, subscriptions: BTreeMap::new() };
    let ended = tokio::select! {
        biased;
        () = replaced.cancelled() => Err(io::Error::other("the peer opened another connection")),
        ended = stream.run(&peer, receiver) => ended,
    };
    if !replaced.is_cancelled() {
        lock(&shared.board.streams).remove(&peer);
    }
    match ended {
        Ok(()) => tracing::debug!(%peer, "federation stream closed"),
        Err(error) => tracing::debug!(%peer, "federation stream ended: {error}"),
    }
}

struct Subscription {
    epoch: EpochId,
    next: u64,
    serial: u64,
    unacknowledged: usize,
    /// The note last sent, once the stream reached its size.
    sent: Option<NoteBody>,
}

struct Stream<'a> {
    shared: &'a Shared,
    cloud: CloudId,
    sender: Sender,
    subscriptions: BTreeMap<CloudId, Subscription>,
}

impl Stream<'_> {
    async fn run(&mut self, peer: &NodeId, mut requests: Receiver<Request>) -> io::Result<()> {
        let shared = self.shared;
        // Subscribed before anything is read, so that no change falls between.
        let mut facts = shared.replica.facts();
        let mut signed = shared.signed.subscribe();
        let mut leadership = shared.replica.leadership();
        match tokio::time::timeout(HELLO_TIMEOUT, requests.recv()).await {
            Ok(Some(Ok(Request::Hello { protocol: PROTOCOL, fed, cloud, node, notes })))
                if fed == shared.fed && cloud == self.cloud && node == *peer =>
            {
                shared.board.shown(shared, &cloud, &notes);
                shared.board.greeted(&cloud, &node);
            }
            Ok(Some(Ok(_))) => return Err(io::Error::other("not a greeting of this federation and version")),
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) => return Ok(()),
            Err(_) => return Err(io::Error::other("no greeting in time")),
        }
        let now = leadership.borrow_and_update().clone();
        if self.redirected(now).await? {
            return Ok(());
        }
        self.welcome().await?;
        loop {
            self.pump(&mut signed).await?;
            let waits = self.subscriptions.values().any(|subscription| subscription.unacknowledged > 0);
            tokio::select! {
                biased;
                changed = leadership.changed() => {
                    let now = leadership.borrow_and_update().clone();
                    if changed.is_err() || self.redirected(now).await? {
                        return Ok(());
                    }
                }
                request = requests.recv() => match request {
                    None => return Ok(()),
                    Some(request) => self.handle(request?).await?,
                },
                changed = signed.changed() => if changed.is_err() { return Ok(()) },
                batch = facts.recv() => match batch {
                    Ok(batch) => self.announce(&batch.facts).await?,
                    Err(RecvError::Lagged(_)) => self.announce_all().await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = tokio::time::sleep(ACK_TIMEOUT), if waits => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "chunks are not acknowledged"));
                }
            }
        }
    }

    async fn redirected(&mut self, leadership: Leadership) -> io::Result<bool> {
        if !leadership.is_leader {
            self.sender.send(&Reply::Redirect { leader: leadership.leader }).await?;
        }
        Ok(!leadership.is_leader)
    }

    async fn welcome(&mut self) -> io::Result<()> {
        let (openings, evidence) = (epochs::known(self.shared), self.evidence_ids()?);
        self.sender.send(&Reply::Welcome { notes: self.shared.notes(), openings, evidence }).await
    }

    async fn announce(&mut self, facts: &[Fact]) -> io::Result<()> {
        let news = |fact: &Fact| matches!(fact, Fact::Convicted { .. } | Fact::EpochIntroduced { .. });
        if facts.iter().any(news) { self.announce_all().await } else { Ok(()) }
    }

    async fn announce_all(&mut self) -> io::Result<()> {
        let (openings, evidence) = (epochs::known(self.shared), self.evidence_ids()?);
        self.sender.send(&Reply::News { openings, evidence }).await
    }

    fn evidence_ids(&self) -> io::Result<Vec<Hash>> {
        if mutant!(EvidenceNotSentOn) {
            return Ok(Vec::new());
        }
        let latest = |ids: &[Hash]| ids.iter().rev().take(MAX_ANNOUNCED).copied().collect();
        self.shared.replica.read(|view| Ok(latest(view.state.evidence_ids()))).map_err(io::Error::other)
    }

    async fn handle(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Hello { .. } => return Err(io::Error::other("a second greeting")),
            Request::Subscribe { cloud, epoch, from, serial } => {
                if self.shared.directory.cloud(&cloud).is_none() {
                    return Err(io::Error::other(format!("no cloud is called {cloud}")));
                }
                let fresh = Subscription { epoch, next: from, serial, unacknowledged: 0, sent: None };
                self.subscriptions.insert(cloud, fresh);
            }
            Request::Unsubscribe { cloud } => {
                self.subscriptions.remove(&cloud);
            }
            Request::Ack { cloud, serial } => {
                if let Some(subscription) = self.subscriptions.get_mut(&cloud).filter(|s| s.serial == serial) {
                    subscription.unacknowledged = subscription.unacknowledged.saturating_sub(1);
                }
            }
            Request::Ask { id, question } => {
                let answer = answer(self.shared, &question).map_err(io::Error::other)?;
                self.sender.send(&Reply::Answer { id, answer }).await?;
            }
        }
        Ok(())
    }

    /// Sends what is news to each subscription, as far as its window allows.
    async fn pump(&mut self, signed: &mut tokio::sync::watch::Receiver<Option<Arc<SignedNote>>>) -> io::Result<()> {
        let own = signed.borrow_and_update().clone();
        let clouds: Vec<CloudId> = self.subscriptions.keys().cloned().collect();
        for cloud in clouds {
            while let Some(subscription) = self.subscriptions.get_mut(&cloud) {
                if subscription.unacknowledged >= WINDOW_CHUNKS {
                    break;
                }
                let next = next_chunk(self.shared, &cloud, subscription, own.as_deref()).map_err(io::Error::other)?;
                let Some(chunk) = next else { break };
                subscription.next = chunk.first_index + chunk.leaves.len() as u64;
                subscription.sent = (subscription.next == chunk.note.body.size).then(|| chunk.note.body.clone());
                subscription.unacknowledged += 1;
                let serial = subscription.serial;
                Stats::add(&self.shared.board.stats.chunks_sent);
                self.sender.send(&Reply::Chunk { serial, chunk: Box::new(chunk) }).await?;
            }
        }
        Ok(())
    }
}

/// The next chunk of a subscription; `None` if there is no news.
fn next_chunk(
    shared: &Shared,
    cloud: &CloudId,
    subscription: &Subscription,
    own: Option<&SignedNote>,
) -> Result<Option<LogChunk>, Broken> {
    shared.replica.read(|view| {
        let mirrored = || view.state.note_in(cloud, &subscription.epoch);
        let note = if *cloud == shared.me { own } else { mirrored() };
        let Some(note) = note.filter(|note| note.body.origin.epoch == subscription.epoch) else { return Ok(None) };
        let stale = note.body.size < subscription.next;
        let nothing_new = note.body.size == subscription.next && subscription.sent.as_ref() == Some(&note.body);
        if stale || nothing_new {
            return Ok(None);
        }
        let chunk = view.state.log_chunk(view.records, cloud, subscription.next, note)?;
        // A chunk that brings the stream no further would be sent for ever.
        let moves = |chunk: &LogChunk| !chunk.leaves.is_empty() || note.body.size == subscription.next;
        Ok(chunk.filter(moves))
    })
}

fn answer(shared: &Shared, question: &Question) -> Result<Answer, Broken> {
    let replica = &shared.replica;
    Ok(match question {
        Question::Bodies(tags) => Answer::Bodies(bodies(shared, tags)?),
        Question::Evidence(ids) => {
            let held = replica.read(|view| view.state.evidence(view.records))?;
            let wanted = held.into_iter().filter(|evidence| ids.contains(&evidence.id()));
            Answer::Evidence(wanted.take(MAX_ASKED_EVIDENCE).collect())
        }
        Question::Openings => {
            let known = replica.read(|view| Ok(view.state.openings()))?;
            Answer::Openings(known.into_iter().take(MAX_OPENINGS).collect())
        }
        Question::Note(cloud) => Answer::Note(match *cloud == shared.me {
            true => shared.signed.borrow().as_ref().map(|note| Box::new(SignedNote::clone(note))),
            false => replica.read(|view| Ok(view.state.note(cloud).cloned().map(Box::new)))?,
        }),
        Question::Root { cloud, size } => {
            Answer::Root(replica.read(|view| view.state.root_at(view.records, cloud, *size))?)
        }
        Question::Leaf { cloud, index, size } => Answer::Leaf(replica.read(|view| {
            let Some(leaf) = view.state.leaf(view.records, cloud, *index)? else { return Ok(None) };
            let proof = view.state.proof(view.records, cloud, *index, *size)?;
            Ok(proof.map(|proof| (leaf, proof)))
        })?),
        Question::Testimony(tags) => replica.read(|view| {
            let tags = &tags[..tags.len().min(MAX_ASKED_TAGS)];
            let statements = view.state.testimony(view.records, tags)?;
            let strays = view.state.stray_notes().into_iter().map(|chunk| chunk.note).collect();
            Ok(Answer::Testimony { statements, strays })
        })?,
    })
}

/// The bodies of these tags, as many as fit an answer.
fn bodies(shared: &Shared, tags: &[Tag]) -> Result<Vec<PackedBody>, Broken> {
    let (mut found, mut size) = (Vec::new(), 0);
    for tag in tags.iter().take(MAX_ASKED_TAGS) {
        let held = shared.replica.read(|view| view.state.bodies(view.records, std::slice::from_ref(tag)))?;
        size += held.iter().map(PackedBody::size).sum::<usize>();
        found.extend(held);
        if size >= MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(found)
}
