//! Proposing: the leader stamps each command with its logged time and hands it to Raft, in order.
//!
//! The time starts at the last logged one and advances only with this leader's monotonic clock
//! since it was elected. So it waits until everything logged before its election is applied.

use super::apply::Store;
use super::network::call;
use super::types::{LeaderId, Proposal, Raft, TypeConfig};
use super::{Committed, Leadership, ProposeError, Replica};
use crate::env::{MAX_FRAME_BYTES, WallClock};
use crate::peer::Method;
use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tercet_core::codec;
use tercet_core::command::Command;
use tercet_core::ids::{NodeId, RequestId};
use tercet_core::leases;
use tercet_core::mutant;
use tercet_core::rejection::Rejection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Commands of clients on this node that wait for their outcome.
const MAX_IN_FLIGHT: usize = 4096;
/// Their bytes, counted in units of this many.
const BYTE_UNIT: usize = 1024;
const MAX_IN_FLIGHT_UNITS: usize = 64 << 10;
/// The same for what comes from the other clouds: a few commands a peer, each with full chunks.
const MAX_CLOUDS: usize = 256;
const MAX_CLOUDS_UNITS: usize = 128 << 10;
/// Votes on leases and reports of agents: small, and late ones end tenures, so neither events nor peers hold
/// them up.
const MAX_LEASES: usize = 1024;
const MAX_LEASES_UNITS: usize = 4 << 10;
/// The largest command, in bytes: it has to fit a message to a follower.
const MAX_COMMAND_BYTES: usize = MAX_FRAME_BYTES / 2;
/// How long a command may take to be committed and applied.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);

type Outcome = ClientWriteResult<TypeConfig>;

/// A command on its way to the proposer.
pub struct Pending {
    body: Bytes,
    answer: oneshot::Sender<Result<Sent, ProposeError>>,
}

/// The command is in Raft's hands: its outcome arrives here.
struct Sent(tokio::sync::oneshot::Receiver<Outcome>);

/// Bounds what waits. What comes from the other clouds (their logs, evidence, epochs) has room of its
/// own, so that no flood of clients keeps this cloud from auditing and voting; clients are told first.
pub struct Limits {
    /// This cloud refuses to sign: an event that it took now would be lost when it is renewed.
    no_events: AtomicBool,
    clients: Room,
    clouds: Room,
    leases: Room,
}

struct Room {
    commands: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Limits {
    pub fn new() -> Self {
        Self {
            no_events: AtomicBool::new(false),
            clients: Room::new(MAX_IN_FLIGHT, MAX_IN_FLIGHT_UNITS),
            clouds: Room::new(MAX_CLOUDS, MAX_CLOUDS_UNITS),
            leases: Room::new(MAX_LEASES, MAX_LEASES_UNITS),
        }
    }

    fn refuses(&self, command: &Command) -> bool {
        let votes = match command {
            Command::Events(_) => true,
            Command::Leases(command) => matches!(**command, leases::Command::Vote { .. }),
            _ => false,
        };
        votes && self.no_events.load(Ordering::Relaxed)
    }

    fn enter(
        &self,
        command: &Command,
        len: usize,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), ProposeError> {
        match command {
            Command::Tenants(_) | Command::Events(_) => self.clients.enter(len, MAX_IN_FLIGHT_UNITS),
            Command::Mirrors(_) | Command::Evidence(_) | Command::Epochs(_) => self.clouds.enter(len, MAX_CLOUDS_UNITS),
            Command::Leases(_) | Command::Agents(_) => self.leases.enter(len, MAX_LEASES_UNITS),
        }
    }
}

impl Room {
    fn new(commands: usize, units: usize) -> Self {
        Self { commands: Arc::new(Semaphore::new(commands)), bytes: Arc::new(Semaphore::new(units)) }
    }

    fn enter(&self, len: usize, most: usize) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), ProposeError> {
        let units = (len / BYTE_UNIT + 1).min(most) as u32;
        let command = self.commands.clone().try_acquire_owned().map_err(|_| ProposeError::Overloaded)?;
        let bytes = self.bytes.clone().try_acquire_many_owned(units).map_err(|_| ProposeError::Overloaded)?;
        Ok((command, bytes))
    }
}

pub fn queue() -> (mpsc::Sender<Pending>, mpsc::Receiver<Pending>) {
    mpsc::channel(MAX_IN_FLIGHT + MAX_CLOUDS + MAX_LEASES)
}

/// The clock of one leadership.
struct Clock {
    leader: LeaderId,
    base: u64,
    started: Instant,
    last: u64,
}

impl Clock {
    fn stamp(&mut self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last = self.base.saturating_add(elapsed).max(self.last);
        self.last
    }
}

/// Stamps commands and hands them to Raft, one after the other.
pub async fn run(
    raft: Raft,
    store: Arc<Store>,
    wall: Arc<dyn WallClock>,
    mut leadership: watch::Receiver<Leadership>,
    mut queue: mpsc::Receiver<Pending>,
) {
    let mut clock: Option<Clock> = None;
    loop {
        let pending = tokio::select! {
            pending = queue.recv() => pending,
            // A new leadership starts its clock, also when nothing is proposed yet.
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                if leadership.borrow_and_update().is_leader {
                    let _ = current_clock(&raft, &store, &mut leadership, &mut clock).await;
                }
                continue;
            }
        };
        let Some(pending) = pending else { return };
        if pending.answer.is_closed() {
            continue;
        }
        let sent = match current_clock(&raft, &store, &mut leadership, &mut clock).await {
            Ok(clock) => {
                let at = if mutant!(WallClockForAt) { wall.now().0 } else { clock.stamp() };
                submit(&raft, clock.leader, Proposal { at, body: pending.body }).await
            }
            Err(error) => Err(error),
        };
        // Whoever asked may have gone; the command is then on its way all the same.
        let _ = pending.answer.send(sent);
    }
}

async fn submit(raft: &Raft, leader: LeaderId, proposal: Proposal) -> Result<Sent, ProposeError> {
    let (responder, outcome) = ProgressResponder::<TypeConfig, Outcome>::complete_only();
    let written = raft.write(proposal).with_leader(leader).responder(responder).await;
    written.map(|()| Sent(outcome)).map_err(|_| ProposeError::Stopped)
}

/// The clock of the current leadership; a new one starts where the log ends.
async fn current_clock<'c>(
    raft: &Raft,
    store: &Store,
    leadership: &mut watch::Receiver<Leadership>,
    clock: &'c mut Option<Clock>,
) -> Result<&'c mut Clock, ProposeError> {
    let leader = raft.as_leader().map_err(forwarded)?.to_committed_leader_id();
    if clock.as_ref().is_none_or(|clock| clock.leader != leader) {
        let started = Instant::now();
        let mut applied = store.applied.subscribe();
        // The first entry of this leadership comes after everything logged before.
        let base = loop {
            applied.mark_unchanged();
            {
                let machine = store.read();
                if machine.applied.is_some_and(|id| id.leader_id == leader) {
                    break machine.state.now().0;
                }
            }
            tokio::select! {
                _ = applied.changed() => {}
                _ = leadership.changed() => {
                    raft.as_leader().map_err(forwarded)?;
                }
            }
        };
        *clock = Some(Clock { leader, base, started, last: base });
    }
    clock.as_mut().ok_or(ProposeError::Stopped)
}

pub fn not_leader(leader: Option<NodeId>) -> ProposeError {
    match leader {
        Some(leader) => ProposeError::NotLeader { leader: Some(leader) },
        None => ProposeError::NoLeader,
    }
}

pub fn forwarded(forward: ForwardToLeader<TypeConfig>) -> ProposeError {
    not_leader(forward.leader_node.and_then(|name| NodeId::new(name).ok()))
}

/// A command forwarded to the leader.
#[derive(Serialize, Deserialize)]
pub struct Forwarded {
    request_id: Option<RequestId>,
    command: Command,
}

/// The leader's answer to it.
type ForwardAnswer = Result<Committed, ProposeError>;

/// Answers a forwarded command. It is not forwarded once more.
pub async fn answer_forwarded(replica: &Replica, request: Bytes) -> Result<Bytes, String> {
    let forwarded: Forwarded = codec::decode(&request).map_err(|error| error.to_string())?;
    let answer: ForwardAnswer = replica.propose(forwarded.request_id, forwarded.command).await;
    Ok(codec::encode(&answer).into())
}

impl Replica {
    /// Whether events are refused while this node leads, because its cloud may not sign what it knows.
    pub fn refuse_events(&self, refuse: bool) {
        self.inner.limits.no_events.store(refuse, Ordering::Relaxed);
    }

    pub(super) async fn propose_here(
        &self,
        request_id: Option<RequestId>,
        command: &Command,
    ) -> Result<Committed, ProposeError> {
        self.check_running()?;
        let leadership = self.leadership().borrow().clone();
        if !leadership.is_leader {
            return Err(not_leader(leadership.leader));
        }
        let body = Proposal::encode_body(&request_id, command);
        if body.len() > MAX_COMMAND_BYTES {
            let text = format!("a command of {} bytes; at most {MAX_COMMAND_BYTES} fit", body.len());
            let index = *self.inner.shared.store.applied.borrow();
            return Ok(Committed { index, reply: Err(Rejection::TooLarge(text)) });
        }
        if self.inner.limits.refuses(command) {
            let index = *self.inner.shared.store.applied.borrow();
            return Ok(Committed { index, reply: Err(Rejection::EpochNotOpen) });
        }
        let _room = self.inner.limits.enter(command, body.len())?;
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { body, answer };
        self.inner.proposals.send(pending).await.map_err(|_| ProposeError::Stopped)?;
        // Not handed to Raft in time: closing the answer keeps the proposer from doing so later,
        // unless it does so at this very moment.
        let sent = tokio::time::timeout_at(deadline, answered).await.map_err(|_| ProposeError::OutcomeUnknown)?;
        let Sent(outcome) = sent.map_err(|_| ProposeError::Stopped)??;
        let outcome = tokio::time::timeout_at(deadline, outcome).await.map_err(|_| ProposeError::OutcomeUnknown)?;
        match outcome.map_err(|_| ProposeError::OutcomeUnknown)? {
            Ok(written) => {
                let reply = written.data.0.ok_or(ProposeError::OutcomeUnknown)?;
                Ok(Committed { index: written.log_id.index, reply })
            }
            Err(ClientWriteError::ForwardToLeader(forward)) => Err(forwarded(forward)),
            Err(ClientWriteError::PreconditionFailed(_)) => Err(not_leader(self.leadership().borrow().leader.clone())),
            Err(_) => Err(ProposeError::OutcomeUnknown),
        }
    }

    pub(super) async fn propose_there(
        &self,
        request_id: Option<RequestId>,
        command: &Command,
    ) -> Result<Committed, ProposeError> {
        let deadline = Instant::now() + PROPOSE_TIMEOUT;
        // An election takes so long; what certainly changed nothing is tried again meanwhile.
        let patience = (Instant::now() + 2 * self.inner.election_max).min(deadline);
        let mut leadership = self.leadership();
        // Where an earlier answer pointed.
        let mut hint: Option<NodeId> = None;
        loop {
            self.check_running()?;
            let elected = leadership.wait_for(|now| now.leader.is_some() || now.is_leader);
            let now = tokio::time::timeout_at(patience, elected).await.map(|now| now.map(|now| now.clone()));
            let Ok(Ok(now)) = now else { return Err(ProposeError::NoLeader) };
            let result = match hint.take().or(now.leader) {
                _ if now.is_leader => self.propose_here(request_id, command).await,
                Some(leader) => self.forward(&leader, request_id, command, deadline).await,
                None => Err(ProposeError::NoLeader),
            };
            match &result {
                Err(ProposeError::NotLeader { leader }) => hint.clone_from(leader),
                Err(ProposeError::NoLeader) => {}
                _ => return result,
            }
            if Instant::now() >= patience {
                return result;
            }
            // The new leader, or this node, may need a moment to know.
            let _ = tokio::time::timeout(self.inner.heartbeat, leadership.changed()).await;
        }
    }

    async fn forward(
        &self,
        leader: &NodeId,
        request_id: Option<RequestId>,
        command: &Command,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            request_id: Option<RequestId>,
            command: &'a Command,
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        let request = Borrowed { request_id, command };
        match call::<_, ForwardAnswer>(&self.inner.peers, leader, Method::Propose, &request, timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%leader, %error, "forwarding a command failed");
                match error.kind() {
                    // There was no connection: the command never left.
                    ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable => Err(ProposeError::NoLeader),
                    _ => Err(ProposeError::OutcomeUnknown),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_core::{events, mirrors};

    #[test]
    fn a_flood_of_clients_leaves_room_for_the_other_clouds() {
        let limits = Limits::new();
        let submit = Command::Events(events::Command::Submit { created_at: Default::default(), items: Vec::new() });
        let ingest = Command::Mirrors(mirrors::Command::Ingest { chunks: Vec::new(), bodies: Vec::new() });
        let flood: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| limits.enter(&submit, 10).expect("there is room")).collect();
        assert_eq!(limits.enter(&submit, 10).err(), Some(ProposeError::Overloaded));
        let _room = limits.enter(&ingest, MAX_COMMAND_BYTES).expect("the other clouds have room of their own");
        drop(flood);
        let _room = limits.enter(&submit, 10).expect("there is room again");
    }
}
