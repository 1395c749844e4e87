//! Proposing what one other cloud sent, once it is verified: several chunks and bodies a command, a
//! few commands at a time, in the order in which they came. Each cloud's connection has its own
//! queue, so that none waits behind another or behind clients.

use super::Shared;
use crate::raft::{Committed, ProposeError};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::events::PackedBody;
use tercet_core::ids::CloudId;
use tercet_core::mirrors::{self, ChunkOutcome, LogChunk, MAX_BODIES, MAX_CHUNKS};
use tercet_core::rejection::Rejection;
use tercet_core::transparency::SignedNote;
use tokio::sync::mpsc;

/// Verified pieces that wait to be proposed.
pub(super) const MAX_QUEUED: usize = 8;
/// Commands proposed and not yet applied.
const MAX_PROPOSED: usize = 3;
/// The most bytes of bodies in one command.
const MAX_COMMAND_BYTES: usize = 8 << 20;
/// Room for the results of everything that can be under way.
pub(super) const MAX_RESULTS: usize = MAX_QUEUED + (MAX_PROPOSED + 1) * MAX_CHUNKS;
/// Pause after the replica had no room.
const OVERLOADED_RETRY: Duration = Duration::from_millis(20);

/// A verified piece: a chunk with the serial of its subscription, or loose bodies.
pub(super) enum Piece {
    Chunk { chunk: Box<LogChunk>, serial: u64 },
    Bodies(Vec<PackedBody>),
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Outcome {
    Chunk {
        cloud: CloudId,
        serial: u64,
        outcome: ChunkOutcome,
        note: Box<SignedNote>,
    },
    /// The proposal was refused by the state machine, or is lost: start over from the state.
    Lost(String),
}

struct Batch {
    chunks: Vec<(LogChunk, u64)>,
    bodies: Vec<PackedBody>,
}

/// Runs until the queue's sender is dropped or a proposal is lost.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Piece>, outcomes: mpsc::Sender<Outcome>) {
    let mut proposed = FuturesOrdered::new();
    let mut held = None;
    loop {
        let room = proposed.len() < MAX_PROPOSED;
        tokio::select! {
            biased;
            Some((sent, result)) = proposed.next() => {
                for outcome in outcomes_of(sent, result) {
                    if outcomes.send(outcome).await.is_err() {
                        return;
                    }
                }
            }
            piece = next(&mut held, &mut queue), if room => {
                let Some(piece) = piece else { return };
                let batch = gather(piece, &mut held, &mut queue);
                proposed.push_back(start(propose(shared.clone(), batch)).await);
            }
        }
    }
}

async fn next(held: &mut Option<Piece>, queue: &mut mpsc::Receiver<Piece>) -> Option<Piece> {
    match held.take() {
        Some(piece) => Some(piece),
        None => queue.recv().await,
    }
}

/// Takes what waits as well, as much as one command may hold. What does not fit is held.
fn gather(first: Piece, held: &mut Option<Piece>, queue: &mut mpsc::Receiver<Piece>) -> Batch {
    let mut batch = Batch { chunks: Vec::new(), bodies: Vec::new() };
    let mut bytes = 0;
    let mut piece = Some(first);
    while let Some(found) = piece.take() {
        let size = match &found {
            Piece::Chunk { chunk, .. } => weight(&chunk.bodies),
            Piece::Bodies(bodies) => weight(bodies),
        };
        let started = !batch.chunks.is_empty() || !batch.bodies.is_empty();
        if started && bytes + size > MAX_COMMAND_BYTES {
            *held = Some(found);
            break;
        }
        bytes += size;
        match found {
            Piece::Chunk { chunk, serial } => batch.chunks.push((*chunk, serial)),
            Piece::Bodies(bodies) => batch.bodies.extend(bodies),
        }
        if batch.chunks.len() < MAX_CHUNKS && batch.bodies.len() < MAX_BODIES / 2 {
            piece = queue.try_recv().ok();
        }
    }
    batch
}

fn weight(bodies: &[PackedBody]) -> usize {
    bodies.iter().map(PackedBody::size).sum()
}

/// What an outcome says of a chunk beside what became of it: the serial of its subscription, and its note.
type Sent = (u64, SignedNote);
type Proposed = (Vec<Sent>, Result<Committed, ProposeError>);

async fn propose(shared: Arc<Shared>, batch: Batch) -> Proposed {
    let sent = batch.chunks.iter().map(|(chunk, serial)| (*serial, chunk.note.clone())).collect();
    let chunks = batch.chunks.into_iter().map(|(chunk, _)| chunk).collect();
    let command = Command::Mirrors(mirrors::Command::Ingest { chunks, bodies: batch.bodies });
    loop {
        match shared.replica.propose(None, &command).await {
            Err(ProposeError::Overloaded) => tokio::time::sleep(OVERLOADED_RETRY).await,
            result => return (sent, result),
        }
    }
}

/// Polls a proposal once, so that it takes its place in the Raft log before the next one.
async fn start(proposal: impl Future<Output = Proposed> + Send + 'static) -> BoxFuture<'static, Proposed> {
    let mut proposal: BoxFuture<'static, Proposed> = Box::pin(proposal);
    match std::future::poll_fn(|cx| Poll::Ready(proposal.as_mut().poll(cx))).await {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => proposal,
    }
}

fn outcomes_of(sent: Vec<Sent>, result: Result<Committed, ProposeError>) -> Vec<Outcome> {
    let found = match result.map(|committed| committed.reply) {
        Ok(Ok(Reply::Ingested(found))) if found.len() == sent.len() => found,
        Ok(Ok(reply)) => return vec![Outcome::Lost(format!("an unexpected reply: {reply:?}"))],
        Ok(Err(rejection)) => return vec![lost(rejection)],
        Err(error) => return vec![Outcome::Lost(error.to_string())],
    };
    let each = sent.into_iter().zip(found);
    each.map(|((serial, note), outcome)| Outcome::Chunk {
        cloud: note.body.origin.cloud.clone(),
        serial,
        outcome,
        note: Box::new(note),
    })
    .collect()
}

fn lost(rejection: Rejection) -> Outcome {
    tracing::warn!("a batch of another cloud was rejected: {rejection}");
    Outcome::Lost(rejection.to_string())
}
