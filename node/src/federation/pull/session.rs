//! One established connection to another cloud's leader: subscriptions, acknowledgements,
//! questions, and what to do when a chunk does not fit.

use super::Welcome;
use crate::federation::board::{Link, Stats, Wish};
use crate::federation::frames::{Answer, MAX_ASKED_EVIDENCE, Question, Receiver, Reply, Request, Sender};
use crate::federation::ingest::{self, MAX_QUEUED, MAX_RESULTS, Outcome, Piece};
use crate::federation::verify::{Checked, Verifier, contradicts};
use crate::federation::{Shared, epochs, investigate, testimony};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::genesis::CLOUDS;
use tercet_core::ids::{CloudId, EpochId, Hash, NodeId};
use tercet_core::mirrors::{ChunkOutcome, LogChunk};
use tercet_core::transparency::SignedNote;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Wishes that wait for this connection.
const MAX_WISHES: usize = 16;
/// Questions of others in this node that are asked and not yet answered; whoever asks more asks again later.
const MAX_ASKED: usize = 32;
/// How long a subscription rests whose chunks do not fit: doubled each time, up to the longest.
const REST: Duration = Duration::from_millis(500);
const MAX_REST: Duration = Duration::from_secs(30);

/// A log taken from this connection.
struct Subscription {
    serial: u64,
    epoch: Option<EpochId>,
    /// Set while it rests: when to subscribe again.
    resting: Option<Instant>,
    rest: Duration,
}

/// Who waits for an answer.
enum Waiter {
    Link(oneshot::Sender<Answer>),
    Bodies,
    Evidence,
    Openings,
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    /// The cloud at the other end.
    cloud: CloudId,
    link: Link,
    sender: Sender,
    subscriptions: BTreeMap<CloudId, Subscription>,
    serials: u64,
    asked: BTreeMap<u64, Waiter>,
    questions: u64,
    wanted_evidence: VecDeque<Hash>,
    verifier: Verifier,
    complained: bool,
}

pub(super) async fn run(
    shared: &Arc<Shared>,
    cloud: &CloudId,
    node: &NodeId,
    welcome: Welcome,
    sender: Sender,
    receiver: Receiver<Reply>,
) -> io::Result<()> {
    let (wishes, wished) = mpsc::channel(MAX_WISHES);
    let link = Link { cloud: cloud.clone(), wishes };
    shared.board.shown(shared, cloud, &welcome.notes);
    shared.board.update(cloud, |peer| {
        peer.answered = true;
        (peer.link, peer.via) = (Some(link.clone()), Some(node.clone()));
    });
    let mut session = Session {
        shared,
        cloud: cloud.clone(),
        link,
        sender,
        subscriptions: BTreeMap::new(),
        serials: 0,
        asked: BTreeMap::new(),
        questions: 0,
        wanted_evidence: VecDeque::new(),
        verifier: Verifier::new(),
        complained: false,
    };
    session.begin(welcome).await?;
    session.serve(receiver, wished).await
}

impl Session<'_> {
    async fn begin(&mut self, welcome: Welcome) -> io::Result<()> {
        self.news(&welcome.openings, &welcome.evidence).await?;
        for note in welcome.notes.iter().take(CLOUDS) {
            self.examine(note).map_err(io::Error::other)?;
        }
        self.subscribe(self.cloud.clone()).await
    }

    async fn serve(&mut self, mut receiver: Receiver<Reply>, mut wished: mpsc::Receiver<Wish>) -> io::Result<()> {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let (results, mut outcomes) = mpsc::channel(MAX_RESULTS);
        // Aborted together with the session.
        let mut ingesting = JoinSet::new();
        ingesting.spawn(ingest::run(self.shared.clone(), queued, results));
        let mut room = None;
        loop {
            let rested = self.subscriptions.values().filter_map(|subscription| subscription.resting).min();
            tokio::select! {
                biased;
                outcome = outcomes.recv() => match outcome {
                    Some(outcome) => self.settle(outcome).await?,
                    None => return Err(io::Error::other("proposing ended")),
                },
                wish = wished.recv() => match wish {
                    Some(Wish::Restart) => return Err(io::Error::other("nothing arrives")),
                    Some(wish) => self.grant(wish).await?,
                    None => return Ok(()),
                },
                // Read only while there is room for what a message may bring.
                permit = queue.clone().reserve_owned(), if room.is_none() => {
                    room = Some(permit.map_err(|_| io::Error::other("proposing ended"))?);
                }
                reply = receiver.recv(), if room.is_some() => match reply {
                    None => return Ok(()),
                    Some(reply) => {
                        if let Some(piece) = self.handle(reply?).await?
                            && let Some(permit) = room.take()
                        {
                            permit.send(piece);
                        }
                    }
                },
                () = tokio::time::sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {
                    self.wake_rested().await?;
                }
            }
        }
    }

    async fn handle(&mut self, reply: Reply) -> io::Result<Option<Piece>> {
        match reply {
            Reply::Welcome { .. } => Err(io::Error::other("a second greeting")),
            Reply::Redirect { .. } => Err(io::Error::other("this node no longer leads its cloud")),
            Reply::News { openings, evidence } => self.news(&openings, &evidence).await.map(|()| None),
            Reply::Chunk { serial, chunk } => self.chunk(serial, *chunk).await,
            Reply::Answer { id, answer } => self.answered(id, answer).await,
        }
    }

    // ---- subscriptions ----

    /// Asks for a log from where the mirror ends.
    async fn subscribe(&mut self, cloud: CloudId) -> io::Result<()> {
        let epoch = self.epoch_to_pull(&cloud)?;
        let size = |epoch| self.shared.replica.read(|view| Ok(view.state.log_size(&cloud, &epoch).unwrap_or(0)));
        let from = epoch.map_or(Ok(0), size).map_err(io::Error::other)?;
        self.serials += 1;
        let serial = self.serials;
        let rest = self.subscriptions.get(&cloud).map_or(REST, |subscription| subscription.rest);
        // Without an epoch there is nothing to ask for: openings are asked for, and then again.
        let resting = epoch.is_none().then(|| Instant::now() + rest);
        self.subscriptions.insert(cloud.clone(), Subscription { serial, epoch, resting, rest });
        match epoch {
            Some(epoch) => self.sender.send(&Request::Subscribe { cloud, epoch, from, serial }).await,
            None => self.ask(Question::Openings, Waiter::Openings).await,
        }
    }

    /// The current epoch of another cloud, or this cloud's lost one while it recovers. A third cloud is
    /// asked first for what is missing of a closed epoch: its own cloud may have lost it.
    fn epoch_to_pull(&self, cloud: &CloudId) -> io::Result<Option<EpochId>> {
        if *cloud == self.shared.me {
            return Ok(self.shared.lost_epoch());
        }
        let current = |opening: &Opening| opening.id(&self.shared.fed);
        let epoch = self.shared.replica.read(|view| {
            let past = if *cloud == self.cloud { None } else { view.state.unfinished_past(view.records, cloud)? };
            Ok(past.or_else(|| view.state.opening(cloud).map(current)))
        });
        epoch.map_err(io::Error::other)
    }

    /// Stops a subscription whose chunks do not fit, for a while.
    async fn rest(&mut self, cloud: &CloudId) -> io::Result<()> {
        let Some(subscription) = self.subscriptions.get_mut(cloud) else { return Ok(()) };
        subscription.resting = Some(Instant::now() + subscription.rest);
        subscription.rest = (subscription.rest * 2).min(MAX_REST);
        self.serials += 1;
        subscription.serial = self.serials;
        if *cloud == self.cloud {
            self.shared.board.update(cloud, |peer| peer.misfit = true);
        }
        self.sender.send(&Request::Unsubscribe { cloud: cloud.clone() }).await
    }

    async fn wake_rested(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let due = |s: &Subscription| s.resting.is_some_and(|until| until <= now);
        let clouds: Vec<CloudId> = self.subscriptions.iter().filter(|(_, s)| due(s)).map(|(c, _)| c.clone()).collect();
        for cloud in clouds {
            self.subscribe(cloud).await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, serial: u64, chunk: LogChunk) -> io::Result<Option<Piece>> {
        let cloud = chunk.cloud.clone();
        let current = |s: &Subscription| s.serial == serial && s.epoch == Some(chunk.epoch) && s.resting.is_none();
        if !self.subscriptions.get(&cloud).is_some_and(current) {
            return Ok(None);
        }
        Stats::add(&self.shared.board.stats.chunks_received);
        match self.verifier.chunk(self.shared, chunk).await.map_err(io::Error::other)? {
            Checked::Good(chunk) => return Ok(Some(Piece::Chunk { chunk, serial })),
            Checked::Known => self.fits(&cloud, serial).await?,
            Checked::UnknownEpoch => {
                self.ask(Question::Openings, Waiter::Openings).await?;
                self.dropped(&cloud, "its epoch is unknown here").await?;
            }
            Checked::Contradiction(note) => {
                let (shared, stray) = (self.shared.clone(), SignedNote::clone(&note));
                self.shared.tasks.spawn(async move { testimony::keep(&shared, stray).await });
                investigate::start(self.shared, *note, self.link.clone());
                self.dropped(&cloud, "it is signed, and contradicts what is held here").await?;
            }
            Checked::Bad(reason) => self.dropped(&cloud, &reason).await?,
        }
        Ok(None)
    }

    async fn dropped(&mut self, cloud: &CloudId, reason: &str) -> io::Result<()> {
        Stats::add(&self.shared.board.stats.chunks_dropped);
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(log = %cloud, from = %self.cloud, "a chunk was dropped: {reason}");
        }
        self.rest(cloud).await
    }

    async fn settle(&mut self, outcome: Outcome) -> io::Result<()> {
        let (cloud, serial, outcome, note) = match outcome {
            Outcome::Chunk { cloud, serial, outcome, note } => (cloud, serial, outcome, note),
            Outcome::Lost(reason) => return Err(io::Error::other(reason)),
        };
        if self.subscriptions.get(&cloud).is_none_or(|subscription| subscription.serial != serial) {
            return Ok(());
        }
        match outcome {
            ChunkOutcome::Extended { .. } | ChunkOutcome::Known => self.fits(&cloud, serial).await,
            ChunkOutcome::Gap { .. } => self.subscribe(cloud).await,
            ChunkOutcome::Mismatch => {
                if contradicts(self.shared, &note).map_err(io::Error::other)? {
                    investigate::start(self.shared, *note, self.link.clone());
                } else {
                    investigate::start_with_latest(self.shared, cloud.clone(), self.link.clone());
                }
                self.dropped(&cloud, "its leaves do not lead to its note").await
            }
            ChunkOutcome::WrongEpoch => {
                self.ask(Question::Openings, Waiter::Openings).await?;
                self.dropped(&cloud, "its epoch is closed or unknown here").await
            }
        }
    }

    /// A chunk is applied, or was nothing new.
    async fn fits(&mut self, cloud: &CloudId, serial: u64) -> io::Result<()> {
        if let Some(subscription) = self.subscriptions.get_mut(cloud) {
            subscription.rest = REST;
        }
        if *cloud == self.cloud {
            let now = Some(Instant::now());
            self.shared.board.with(cloud, |peer| (peer.progress, peer.misfit) = (now, false));
        }
        self.sender.send(&Request::Ack { cloud: cloud.clone(), serial }).await
    }

    // ---- wishes, questions and news ----

    async fn grant(&mut self, wish: Wish) -> io::Result<()> {
        match wish {
            Wish::Ask { question, answer } => self.ask(question, Waiter::Link(answer)).await,
            Wish::Bodies(tags) => self.ask(Question::Bodies(tags), Waiter::Bodies).await,
            Wish::Relay(cloud) if !self.subscriptions.contains_key(&cloud) => {
                tracing::info!(log = %cloud, via = %self.cloud, "taking a detour");
                self.subscribe(cloud).await
            }
            Wish::StopRelay(cloud) if self.subscriptions.remove(&cloud).is_some() => {
                tracing::info!(log = %cloud, via = %self.cloud, "the detour ends");
                self.sender.send(&Request::Unsubscribe { cloud }).await
            }
            Wish::FollowEpochs => self.follow_epochs().await,
            Wish::Relay(_) | Wish::StopRelay(_) | Wish::Restart => Ok(()),
        }
    }

    async fn ask(&mut self, question: Question, waiter: Waiter) -> io::Result<()> {
        // Whoever stopped waiting makes room.
        self.asked.retain(|_, waiter| !matches!(waiter, Waiter::Link(answer) if answer.is_closed()));
        let full = match waiter {
            // The answer on its way is made after whatever this question is about.
            Waiter::Openings => self.asked.values().any(|waiter| matches!(waiter, Waiter::Openings)),
            // One at a time.
            Waiter::Evidence => false,
            Waiter::Link(_) | Waiter::Bodies => self.asked.len() >= MAX_ASKED,
        };
        if full {
            return Ok(());
        }
        self.questions += 1;
        let id = self.questions;
        self.asked.insert(id, waiter);
        self.sender.send(&Request::Ask { id, question }).await
    }

    async fn answered(&mut self, id: u64, answer: Answer) -> io::Result<Option<Piece>> {
        match (self.asked.remove(&id), answer) {
            (None, _) if id == 0 || id > self.questions => return Err(io::Error::other("an answer to no question")),
            // Whoever asked has stopped waiting.
            (None, _) => {}
            (Some(Waiter::Link(waiting)), answer) => {
                // Whoever asked may have stopped waiting.
                let _ = waiting.send(answer);
            }
            (Some(Waiter::Bodies), Answer::Bodies(bodies)) => {
                let admitted = self.verifier.bodies(self.shared, bodies).await.map_err(io::Error::other)?;
                return Ok((!admitted.is_empty()).then_some(Piece::Bodies(admitted)));
            }
            (Some(Waiter::Evidence), Answer::Evidence(found)) => {
                for evidence in found.into_iter().take(MAX_ASKED_EVIDENCE) {
                    investigate::accuse(self.shared, evidence).await;
                }
                self.fetch_evidence().await?;
            }
            (Some(Waiter::Openings), Answer::Openings(found)) => {
                epochs::introduce(self.shared, found).await;
                self.follow_epochs().await?;
            }
            (Some(_), _) => return Err(io::Error::other("an answer to another question")),
        }
        Ok(None)
    }

    async fn news(&mut self, openings: &[EpochId], evidence: &[Hash]) -> io::Result<()> {
        let known = epochs::known(self.shared);
        if openings.iter().any(|epoch| !known.contains(epoch)) {
            self.ask(Question::Openings, Waiter::Openings).await?;
        }
        let new = self.shared.replica.read(|view| {
            Ok(evidence.iter().filter(|id| !view.state.has_evidence(id)).copied().collect::<VecDeque<_>>())
        });
        let fetching = !self.wanted_evidence.is_empty();
        self.wanted_evidence = new.map_err(io::Error::other)?;
        if fetching { Ok(()) } else { self.fetch_evidence().await }
    }

    async fn fetch_evidence(&mut self) -> io::Result<()> {
        let count = self.wanted_evidence.len().min(MAX_ASKED_EVIDENCE);
        let ids: Vec<Hash> = self.wanted_evidence.drain(..count).collect();
        if ids.is_empty() { Ok(()) } else { self.ask(Question::Evidence(ids), Waiter::Evidence).await }
    }

    /// After new epochs: subscriptions of an older one begin again in the current one.
    async fn follow_epochs(&mut self) -> io::Result<()> {
        let clouds: Vec<CloudId> = self.subscriptions.keys().cloned().collect();
        for cloud in clouds {
            let current = self.epoch_to_pull(&cloud)?;
            if self.subscriptions.get(&cloud).is_some_and(|subscription| subscription.epoch != current) {
                self.subscribe(cloud).await?;
            }
        }
        Ok(())
    }

    /// A note that the server showed when greeting: if it contradicts a mirror, somebody lied.
    fn examine(&self, note: &SignedNote) -> Result<(), tercet_core::records::Broken> {
        let origin = &note.body.origin;
        if origin.cloud == self.shared.me {
            return Ok(());
        }
        if contradicts(self.shared, note)? {
            investigate::start(self.shared, note.clone(), self.link.clone());
        }
        let diverges = self.shared.replica.read(|view| {
            let known = view.state.note_in(&origin.cloud, &origin.epoch);
            Ok(known.is_some_and(|known| known.body.diverges_from(&note.body)))
        })?;
        if diverges {
            let (shared, note) = (self.shared.clone(), note.clone());
            self.shared.tasks.spawn(async move { testimony::keep(&shared, note).await });
        }
        Ok(())
    }
}
