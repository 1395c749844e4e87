//! The way of submissions into Raft. Concurrent requests share commands: while earlier commands are
//! in flight, submissions queue up, and the next command takes all of them that fit. There is no
//! timer, so a lone request never waits for company.
//!
//! Everything here is bounded; a full queue answers at once, and never drops what it took.

use crate::raft::{Committed, ProposeError, Replica};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::events::{self, MAX_SUBMIT, Receipt, Submission};
use tercet_core::ids::RequestId;
use tercet_core::rejection::Rejection;
use tercet_core::time::WallMillis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// The most single submissions that wait to be proposed.
pub const MAX_QUEUED: usize = 8192;
/// The most coalesced commands in flight; more would only make them smaller.
const MAX_IN_FLIGHT: usize = 4;
/// The most payload bytes of one coalesced command.
const MAX_COMMAND_BYTES: usize = 4 << 20;
/// The most commands in flight that are not coalesced: batches, decisions, keyed requests.
pub const MAX_DIRECT: usize = 64;
/// How long a proposal may take before its outcome is called unknown.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// What became of one submission, and the log index that decided it.
pub type Outcome = Result<(u64, Result<Receipt, Rejection>), ProposeError>;

struct Queued {
    submission: Submission,
    answer: oneshot::Sender<Outcome>,
}

/// Proposes for the handlers.
pub struct Submits {
    proposer: Arc<Proposer>,
    queue: mpsc::Sender<Queued>,
    direct: Semaphore,
}

struct Proposer {
    replica: Replica,
    wall: Arc<dyn crate::env::WallClock>,
    /// Exponentially weighted mean of the time from proposal to apply, in microseconds.
    latency_us: AtomicU64,
    proposals: AtomicU64,
}

impl Submits {
    pub fn start(replica: Replica, wall: Arc<dyn crate::env::WallClock>) -> Self {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let (latency_us, proposals) = (AtomicU64::new(0), AtomicU64::new(0));
        let proposer = Arc::new(Proposer { replica, wall, latency_us, proposals });
        tokio::spawn(coalesce(queued, proposer.clone()));
        Self { proposer, queue, direct: Semaphore::new(MAX_DIRECT) }
    }

    /// Submits one event together with whatever else is waiting.
    pub async fn submit(&self, submission: Submission) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send(Queued { submission, answer }).map_err(|_| ProposeError::Overloaded)?;
        // The answer is dropped only if the task that proposes was, after it may have proposed.
        outcome.await.unwrap_or(Err(ProposeError::OutcomeUnknown))
    }

    /// Submits these events as a command of their own.
    pub async fn submit_alone(
        &self,
        request_id: Option<RequestId>,
        items: Vec<Submission>,
    ) -> Result<(u64, Vec<Result<Receipt, Rejection>>), ProposeError> {
        let count = items.len();
        let created_at = self.proposer.wall.now();
        let committed = self.propose(request_id, submit_command(created_at, items)).await?;
        Ok((committed.index, receipts(committed.reply, count)))
    }

    /// Proposes any command, on whichever node leads.
    pub async fn propose(&self, request_id: Option<RequestId>, command: Command) -> Result<Committed, ProposeError> {
        let _permit = self.direct.try_acquire().map_err(|_| ProposeError::Overloaded)?;
        self.proposer.propose(request_id, command).await
    }

    /// How full the queue is, 0 to 1.
    pub fn load(&self) -> f64 {
        1.0 - self.queue.capacity() as f64 / MAX_QUEUED as f64
    }

    pub fn queued(&self) -> usize {
        MAX_QUEUED - self.queue.capacity()
    }

    pub fn latency_ms(&self) -> f64 {
        self.proposer.latency_us.load(Ordering::Relaxed) as f64 / 1000.0
    }

    pub fn proposals(&self) -> u64 {
        self.proposer.proposals.load(Ordering::Relaxed)
    }
}

impl Proposer {
    async fn propose(&self, request_id: Option<RequestId>, command: Command) -> Result<Committed, ProposeError> {
        let started = Instant::now();
        self.proposals.fetch_add(1, Ordering::Relaxed);
        let committed = timeout(PROPOSE_TIMEOUT, self.replica.propose_anywhere(request_id, command)).await;
        let committed = committed.map_err(|_| ProposeError::OutcomeUnknown)??;
        let sample = started.elapsed().as_micros() as u64;
        let before = self.latency_us.load(Ordering::Relaxed);
        let mean = if before == 0 { sample } else { (before * 7 + sample) / 8 };
        self.latency_us.store(mean, Ordering::Relaxed);
        Ok(committed)
    }
}

/// Turns the queue into commands until the last handler is gone.
async fn coalesce(mut queued: mpsc::Receiver<Queued>, proposer: Arc<Proposer>) {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut held_over: Option<Queued> = None;
    loop {
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        let first = match held_over.take() {
            Some(first) => first,
            None => match queued.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // Lets handlers that are ready now put in their submissions before this command is made.
        tokio::task::yield_now().await;
        let (items, over) = gather(first, &mut queued);
        held_over = over;
        tokio::spawn(propose_together(proposer.clone(), items, permit));
    }
}

/// Everything that is queued now, up to the limits of one command; the second value did not fit.
fn gather(first: Queued, queued: &mut mpsc::Receiver<Queued>) -> (Vec<Queued>, Option<Queued>) {
    let mut bytes = first.submission.content.payload.len();
    let mut items = vec![first];
    while items.len() < MAX_SUBMIT {
        let Ok(next) = queued.try_recv() else { break };
        bytes += next.submission.content.payload.len();
        if bytes > MAX_COMMAND_BYTES {
            return (items, Some(next));
        }
        items.push(next);
    }
    (items, None)
}

async fn propose_together(proposer: Arc<Proposer>, items: Vec<Queued>, permit: OwnedSemaphorePermit) {
    let (submissions, answers): (Vec<_>, Vec<_>) = items.into_iter().map(|q| (q.submission, q.answer)).unzip();
    let command = submit_command(proposer.wall.now(), submissions);
    let outcome = proposer.propose(None, command).await;
    drop(permit);
    match outcome {
        Ok(Committed { index, reply }) => {
            let receipts = receipts(reply, answers.len());
            for (answer, receipt) in answers.into_iter().zip(receipts) {
                // A caller that went away needs no answer.
                let _ = answer.send(Ok((index, receipt)));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

fn submit_command(created_at: WallMillis, items: Vec<Submission>) -> Command {
    Command::Events(events::Command::Submit { created_at, items })
}

/// One answer for each submission: a rejected command rejects all of them.
fn receipts(reply: Result<Reply, Rejection>, count: usize) -> Vec<Result<Receipt, Rejection>> {
    match reply {
        Ok(Reply::Submitted(receipts)) if receipts.len() == count => receipts,
        // Only the answer to an earlier, different request with the same Idempotency-Key is like this.
        Ok(_) => {
            let reason = "this Idempotency-Key was used for another request; use a fresh one".to_owned();
            vec![Err(Rejection::InvalidContent(reason)); count]
        }
        Err(rejection) => vec![Err(rejection); count],
    }
}
