//! This cloud's votes on leases. Its leader decides when an earlier vote is out of time, by its own
//! monotonic clock; Raft commits the vote; then exactly `threshold` nodes sign what their own
//! replicas hold. A follower that is asked passes the question on to the leader.

use super::Shared;
use super::board::{Stats, lock};
use super::signers::{follow, gather};
use crate::peer::Method;
use crate::raft::{ProposeError, View};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercet_core::agents::{Election, elect};
use tercet_core::codec;
use tercet_core::command::{Command, Reply};
use tercet_core::ids::{HolderId, LeaseId, NodeId, TenantId};
use tercet_core::leases::{self, Claim, Lease, Look, SignedClaim, SignedVote, Waits};
use tercet_core::records::Broken;
use tercet_core::rejection::Rejection;
use tercet_core::signature::Signature;
use tokio::time::Instant;

/// How long a follower waits for the leader's answer.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new leader waits between attempts to learn that it leads.
const RETRY: Duration = Duration::from_millis(50);

/// What the leader measured, by its monotonic clock since this process started.
pub(super) struct Clock {
    started: Instant,
    waits: Mutex<Waits>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now(), waits: Mutex::default() }
    }
}

impl Clock {
    /// How long this leader has known the latest vote on this lease, as applied here.
    fn known_for(&self, lease: &Lease) -> Duration {
        lock(&self.waits).known_for(lease, self.started.elapsed())
    }
}

/// What is asked of the leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Question {
    Look { tenant: TenantId, lease: LeaseId, candidate: Option<HolderId> },
    List { tenant: TenantId },
    Vote(Box<SignedClaim>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LeaseAnswer {
    Status(Box<LeaseStatus>),
    List(Vec<LeaseStatus>),
    Voted(Box<SignedVote>),
    Refused(Rejection),
    /// The signature of a claim does not verify.
    BadSignature,
}

/// A lease as the leader of this cloud knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseStatus {
    pub lease: Lease,
    pub look: Look,
    pub election: Election,
    /// Whether the latest vote may still hold: it is neither released nor out of time.
    pub holds: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct AskVote {
    index: u64,
    claim: Claim,
}

/// Answers here or, if another node leads, through it.
pub(super) async fn ask(shared: &Shared, question: Question) -> Result<LeaseAnswer, ProposeError> {
    let leadership = shared.replica.leadership().borrow().clone();
    if leadership.is_leader {
        return answer_here(shared, question).await;
    }
    let Some(leader) = leadership.leader else { return Err(ProposeError::NoLeader) };
    let call = shared.peers.call(&leader, Method::Lease, Bytes::from(codec::encode(&question)));
    match tokio::time::timeout(FORWARD_TIMEOUT, call).await {
        Ok(Ok(answer)) => codec::decode(&answer).unwrap_or(Err(ProposeError::OutcomeUnknown)),
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => {
            Err(ProposeError::NoLeader)
        }
        Ok(Err(_)) | Err(_) => Err(ProposeError::OutcomeUnknown),
    }
}

/// The leader's answer to a follower (`Method::Lease`). It is not forwarded once more.
pub(super) async fn answer(shared: Arc<Shared>, request: Bytes) -> Result<Bytes, String> {
    let question: Question = codec::decode(&request).map_err(|error| error.to_string())?;
    let answer = answer_here(&shared, question).await;
    Ok(codec::encode(&answer).into())
}

async fn answer_here(shared: &Shared, question: Question) -> Result<LeaseAnswer, ProposeError> {
    match question {
        Question::Look { tenant, lease, candidate } => look(shared, tenant, lease, candidate).await,
        Question::List { tenant } => {
            shared.replica.linearize().await?;
            let listed = shared.replica.read(|view| view.state.leases(view.records, &tenant)).map_err(stopped)?;
            Ok(LeaseAnswer::List(
                listed.into_iter().map(|lease| status(shared, lease, None)).collect::<Result<_, _>>()?,
            ))
        }
        Question::Vote(claim) => vote(shared, *claim).await,
    }
}

async fn look(
    shared: &Shared,
    tenant: TenantId,
    name: LeaseId,
    candidate: Option<HolderId>,
) -> Result<LeaseAnswer, ProposeError> {
    // Whoever reads this may act on it: what a deposed leader knows is not good enough.
    shared.replica.linearize().await?;
    let Some(lease) = read(shared, &tenant, &name)? else {
        return Ok(LeaseAnswer::Refused(Rejection::UnknownLease { tenant, lease: name }));
    };
    Ok(LeaseAnswer::Status(Box::new(status(shared, lease, candidate)?)))
}

fn status(shared: &Shared, lease: Lease, candidate: Option<HolderId>) -> Result<LeaseStatus, ProposeError> {
    let known_for = shared.leases.known_for(&lease);
    let judge = |view: View<'_>| {
        let election = elect(&view.state.agents(view.records, &lease.spec.tenant)?, &lease, view.now);
        Ok((view.state.look(&lease, candidate.as_ref(), &election, known_for), election))
    };
    let (look, election) = shared.replica.read(judge).map_err(stopped)?;
    let holds = lease.vote.is_some() && lease.released.is_none() && !lease.left(known_for).is_zero();
    Ok(LeaseStatus { lease, look, election, holds })
}

async fn vote(shared: &Shared, signed: SignedClaim) -> Result<LeaseAnswer, ProposeError> {
    if signed.verify(&shared.fed).is_err() {
        return Ok(LeaseAnswer::BadSignature);
    }
    // As with notes: a state put back from an old copy must not speak before somebody showed what it holds.
    if !shared.board.any_answered() {
        return Ok(LeaseAnswer::Refused(Rejection::NothingShown));
    }
    let claim = signed.claim;
    let Some(lease) = read(shared, &claim.tenant, &claim.lease)? else {
        let Claim { tenant, lease, .. } = claim;
        return Ok(LeaseAnswer::Refused(Rejection::UnknownLease { tenant, lease }));
    };
    let known_for = shared.leases.known_for(&lease);
    let judged = shared.replica.read(|view| Ok(view.state.judge_claim(&lease, &claim, known_for))).map_err(stopped)?;
    let waited_out = match judged {
        Ok(waited_out) => waited_out,
        Err(rejection) => {
            Stats::add(&shared.board.stats.lease_votes_refused);
            return Ok(LeaseAnswer::Refused(rejection));
        }
    };
    let command = leases::Command::Vote { claim: claim.clone(), waited_out, voted_at: shared.env.wall.now() };
    let committed = shared.replica.propose(None, Command::Leases(Box::new(command))).await?;
    // This leader has known the vote from now on.
    if let Some(lease) = read(shared, &claim.tenant, &claim.lease)? {
        shared.leases.known_for(&lease);
    }
    let vote = match committed.reply {
        Ok(Reply::LeaseVote(vote)) => *vote,
        Ok(_) => return Err(ProposeError::OutcomeUnknown),
        Err(rejection) => {
            Stats::add(&shared.board.stats.lease_votes_refused);
            return Ok(LeaseAnswer::Refused(rejection));
        }
    };
    let opening = shared.replica.read(|view| Ok(view.state.opening_of(&vote.epoch).cloned())).map_err(stopped)?;
    let Some(opening) = opening else { return Ok(LeaseAnswer::Refused(Rejection::EpochNotOpen)) };
    let message = vote.message(&shared.fed);
    let valid = |node: &NodeId, signature: &Signature| {
        opening.key(node).is_some_and(|key| key.verify(&message, signature).is_ok())
    };
    let request = AskVote { index: committed.index, claim };
    let own = || shared.key.sign(&message);
    let signatures = gather(shared, &opening, own, (Method::SignLease, &request), valid).await;
    let signatures = signatures.map_err(|reason| {
        tracing::debug!("a vote on a lease stays unsigned: {reason}");
        // The candidate asks again with the same claim, and gets the same vote.
        ProposeError::OutcomeUnknown
    })?;
    Stats::add(&shared.board.stats.lease_votes);
    Ok(LeaseAnswer::Voted(Box::new(SignedVote { vote, signatures })))
}

/// A follower's signature over the vote that its own replica holds (`Method::SignLease`).
pub(super) async fn sign(shared: Arc<Shared>, request: Bytes) -> Result<Bytes, String> {
    let AskVote { index, claim } = codec::decode(&request).map_err(|error| error.to_string())?;
    follow(&shared, index).await?;
    let lease = read(&shared, &claim.tenant, &claim.lease).map_err(|error| error.to_string())?;
    let vote = lease.and_then(|lease| lease.vote).filter(|vote| vote.claim == claim);
    let vote = vote.ok_or_else(|| format!("{} holds another vote on lease {}", shared.node, claim.lease))?;
    Ok(codec::encode(&shared.key.sign(&vote.message(&shared.fed))).into())
}

/// A new leader begins to measure: it has known the votes it finds from now on, and no sooner.
pub(super) async fn lead(shared: Arc<Shared>) {
    *lock(&shared.leases.waits) = Waits::default();
    while shared.replica.linearize().await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
    let all = shared.replica.read(|view| {
        let mut all = Vec::new();
        for tenant in view.state.tenants() {
            all.extend(view.state.leases(view.records, &tenant.id)?);
            if all.len() >= leases::MAX_WAITS {
                break;
            }
        }
        Ok(all)
    });
    for lease in all.unwrap_or_default() {
        shared.leases.known_for(&lease);
    }
}

fn read(shared: &Shared, tenant: &TenantId, lease: &LeaseId) -> Result<Option<Lease>, ProposeError> {
    shared.replica.read(|view| view.state.lease(view.records, tenant, lease)).map_err(stopped)
}

/// A replica that cannot read its state has ended.
fn stopped(_: Broken) -> ProposeError {
    ProposeError::Stopped
}
