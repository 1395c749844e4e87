//! Imports a file of events: batches under one signature each, a few in flight, through outages and
//! across clouds. It may be stopped and run again at any time, because events deduplicate on their
//! key. It keeps no state on disk.
//!
//! An event that a cloud accepted and then took down with it is submitted again elsewhere: while
//! FINAL is waited for, its line is kept until some cloud calls it FINAL.

mod lines;
mod tracker;

pub use lines::{BadLine, Lines, MAX_LINE_BYTES, Prepared};

use crate::client::{Client, Patience, Route};
use crate::error::Error;
use crate::events::{ItemResult, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_LEVELS, Wait};
use crate::sign::Signer;
use lines::Chunk;
use serde::Serialize;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::ids::{CloudId, EventKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracker::{Tracked, Tracker};

/// Events of a batch, unless asked otherwise.
pub const DEFAULT_BATCH: usize = 256;
/// The most batches that are on their way at a time.
const MAX_IN_FLIGHT: usize = 4;
/// The most events that may wait for FINAL before more are sent.
const MAX_UNSETTLED: usize = 50_000;
/// Bytes of events in one batch; half of what the server takes leaves room for the wrapping.
const BATCH_BYTES: usize = MAX_BATCH_BYTES / 2;
/// How often the import looks what is due.
const TICK: Duration = Duration::from_millis(50);
/// The shortest and the longest pause between two polls. Questions compete with the work that they
/// ask about, so the pause grows while the answers bring little.
const POLL_PAUSE_MIN: Duration = Duration::from_millis(100);
const POLL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The most questions about levels of one poll.
const POLL_CHUNKS: usize = 4;
/// How long one question about levels may take.
const POLL_PATIENCE: Duration = Duration::from_secs(3);
/// The pause before events are sent again that were refused for now.
const RESEND_PAUSE: Duration = Duration::from_millis(500);

pub struct Options {
    pub batch: usize,
    pub wait: Option<Wait>,
    /// Overall; `None` waits through any outage.
    pub timeout: Option<Duration>,
    /// Sends everything to this cloud first; otherwise batches are spread over the clouds.
    pub prefer: Option<CloudId>,
}

/// How far the import is; read by whoever draws it.
#[derive(Debug, Default)]
pub struct Progress {
    pub bytes: AtomicU64,
    pub total: AtomicU64,
    pub new: AtomicU64,
    pub existing: AtomicU64,
    pub finals: AtomicU64,
    pub sealed: AtomicU64,
    pub failed: AtomicU64,
    pub again: AtomicU64,
    pub quarantined: AtomicU64,
}

/// What became of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub total: u64,
    pub new: u64,
    pub existing: u64,
    /// FINAL or better at the end.
    #[serde(rename = "final")]
    pub finals: u64,
    pub sealed: u64,
    pub failed: u64,
}

/// The summary, and why the import ended before all was done, if it did.
#[derive(Debug)]
pub struct Ended {
    pub summary: Summary,
    pub quarantined: u64,
    pub timed_out: bool,
    pub stopped: Option<Error>,
}

type Report = dyn Fn(&BadLine) + Send + Sync;

/// What a background task brought back.
enum Done {
    Batch { events: Vec<Tracked>, first: bool, result: Result<Vec<ItemResult>, Error> },
    Poll { cloud: CloudId, asked: Vec<Tracked>, levels: Vec<Option<Level>> },
}

/// Imports everything that `input` holds. `report` hears of each line that failed.
pub async fn import(
    client: Arc<Client>,
    signer: Signer,
    input: Box<dyn Read + Send>,
    options: Options,
    progress: Arc<Progress>,
    report: Box<Report>,
) -> Ended {
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let chunks = read_chunks(input, &signer, options.batch.clamp(1, MAX_BATCH_EVENTS));
    let mut run = Run {
        tracker: Tracker::new(options.wait),
        tasks: JoinSet::new(),
        turn: 0,
        polling: 0,
        poll_pause: POLL_PAUSE_MIN,
        poll_at: Instant::now(),
        polled: (0, 0),
        in_flight: 0,
        reading: true,
        client,
        signer,
        options,
        deadline,
        progress,
        report,
    };
    let stopped = run.drive(chunks).await.err();
    let timed_out = stopped.is_none() && !run.is_complete();
    run.collect().await;
    run.count_levels().await;
    let quarantined = run.progress.quarantined.load(Relaxed);
    Ended { summary: run.progress.summary(), quarantined, timed_out, stopped }
}

struct Run {
    tracker: Tracker,
    tasks: JoinSet<Done>,
    /// Rotates over the clouds, for batches and for polls.
    turn: usize,
    polling: usize,
    poll_pause: Duration,
    poll_at: Instant,
    /// Asked and settled by the current poll.
    polled: (usize, usize),
    in_flight: usize,
    reading: bool,
    client: Arc<Client>,
    signer: Signer,
    options: Options,
    deadline: Option<Instant>,
    progress: Arc<Progress>,
    report: Box<Report>,
}

impl Run {
    fn is_complete(&self) -> bool {
        !self.reading && self.in_flight == 0 && self.tracker.is_done()
    }

    /// Reads, sends and asks until everything is where it shall be, or the time is over.
    async fn drive(&mut self, mut chunks: mpsc::Receiver<std::io::Result<Chunk>>) -> Result<(), Error> {
        let (deadline, limited) = (self.deadline.unwrap_or_else(Instant::now), self.deadline.is_some());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_complete() {
            let may_read = self.reading && self.in_flight < MAX_IN_FLIGHT && self.tracker.unsettled() < MAX_UNSETTLED;
            tokio::select! {
                chunk = chunks.recv(), if may_read => match chunk {
                    None => self.reading = false,
                    Some(Err(error)) => return Err(Error::Invalid(format!("cannot read the file: {error}"))),
                    Some(Ok(chunk)) => self.accept(chunk),
                },
                Some(done) = self.tasks.join_next() => {
                    let done = done.map_err(|error| Error::Invalid(format!("a task of the import died: {error}")))?;
                    self.finish(done)?;
                }
                () = tokio::time::sleep_until(deadline), if limited => return Ok(()),
                _ = tick.tick() => {
                    self.send_again();
                    self.poll();
                }
            }
        }
        Ok(())
    }

    /// Takes in what is still under way when the import ends early; each part ends by itself soon.
    async fn collect(&mut self) {
        while let Some(done) = self.tasks.join_next().await {
            if let Ok(done) = done {
                // The first error is already the reason for the end.
                let _ = self.finish(done);
            }
        }
    }

    fn accept(&mut self, chunk: Chunk) {
        self.progress.bytes.fetch_add(chunk.bytes, Relaxed);
        self.progress.total.fetch_add((chunk.events.len() + chunk.bad.len()) as u64, Relaxed);
        for bad in &chunk.bad {
            self.fail(bad);
        }
        let events: Vec<Tracked> = chunk.events.into_iter().map(Tracked::new).collect();
        let route = self.next_route();
        self.submit(events, route, true);
    }

    fn fail(&self, bad: &BadLine) {
        self.progress.failed.fetch_add(1, Relaxed);
        (self.report)(bad);
    }

    fn next_cloud(&mut self) -> CloudId {
        self.turn += 1;
        let clouds = self.client.clouds();
        clouds[self.turn % clouds.len()].name.clone()
    }

    fn next_route(&mut self) -> Route {
        match self.options.prefer.clone() {
            Some(cloud) => Route::Prefer(cloud),
            None => Route::Prefer(self.next_cloud()),
        }
    }

    fn submit(&mut self, events: Vec<Tracked>, route: Route, first: bool) {
        if events.is_empty() {
            return;
        }
        let (client, signer) = (self.client.clone(), self.signer.clone());
        let patience =
            Patience::through_outages(self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
        self.in_flight += 1;
        self.tasks.spawn(async move {
            let items: Vec<_> = events.iter().filter_map(|event| event.item.clone()).collect();
            let result = client.submit_batch(&route, &signer, &items, None, patience).await;
            Done::Batch { events, first, result }
        });
    }

    /// Sends again what was refused for now or is lost from sight.
    fn send_again(&mut self) {
        while self.in_flight < MAX_IN_FLIGHT {
            let Some((cloud, first, events)) = self.tracker.due(self.options.batch.clamp(1, MAX_BATCH_EVENTS)) else {
                return;
            };
            self.progress.again.fetch_add(events.len() as u64, Relaxed);
            let route = cloud.map_or_else(|| self.next_route(), Route::Prefer);
            self.submit(events, route, first);
        }
    }

    /// Asks one cloud, another each time, for the levels of the oldest open events.
    fn poll(&mut self) {
        if self.polling > 0 || Instant::now() < self.poll_at {
            return;
        }
        self.polled = (0, 0);
        let cloud = self.next_cloud();
        for _ in 0..POLL_CHUNKS {
            let asked = self.tracker.take_open(MAX_LEVELS);
            if asked.is_empty() {
                return;
            }
            let (client, tenant, cloud) = (self.client.clone(), self.signer.tenant().clone(), cloud.clone());
            self.polling += 1;
            self.tasks.spawn(async move {
                let keys: Vec<&EventKey> = asked.iter().map(|event| &event.key).collect();
                // Only this cloud: what another one answers would be taken for its knowledge.
                let route = Route::Only(cloud.clone());
                let patience =
                    Patience { nobody_listens: Some(Duration::ZERO), ..Patience::interactive(POLL_PATIENCE) };
                let levels = client.levels(&route, &tenant, &keys, patience).await.unwrap_or_default();
                Done::Poll { cloud, asked, levels }
            });
        }
    }

    fn finish(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::Poll { cloud, asked, levels } => {
                self.polling -= 1;
                self.polled.0 += asked.len();
                self.polled.1 += self.tracker.learn(asked, &levels, &cloud, &self.progress);
                if self.polling == 0 {
                    let brought_little = self.polled.1 * 4 < self.polled.0;
                    self.poll_pause =
                        if brought_little { (self.poll_pause * 2).min(POLL_PAUSE_MAX) } else { POLL_PAUSE_MIN };
                    self.poll_at = Instant::now() + self.poll_pause;
                }
            }
            Done::Batch { events, first, result } => {
                self.in_flight -= 1;
                match result {
                    Ok(results) => {
                        for (event, result) in events.into_iter().zip(results) {
                            self.settle(event, first, result)?;
                        }
                    }
                    // Too many wait for FINAL: the events keep their turn.
                    Err(error) if error.is_retryable() => self.tracker.later(events, first, RESEND_PAUSE),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, event: Tracked, first: bool, result: ItemResult) -> Result<(), Error> {
        match result {
            Ok(receipt) => {
                if first {
                    let count = if receipt.new { &self.progress.new } else { &self.progress.existing };
                    count.fetch_add(1, Relaxed);
                }
                self.tracker.accepted(event, receipt.origin_cloud, receipt.level, &self.progress);
            }
            Err(problem) if problem.retryable => self.tracker.later(vec![event], first, RESEND_PAUSE),
            // These fail for every event, so going on would only repeat them.
            Err(problem) if matches!(problem.code.as_str(), "unknown_tenant" | "bad_signature" | "forbidden") => {
                return Err(Error::Refused(problem));
            }
            Err(problem) if first => self.fail(&BadLine { line: event.line, why: problem.to_string() }),
            // Accepted once and refused now: another content won the race for this key.
            Err(problem) => self.tracker.accepted_elsewhere(event, &problem),
        }
        Ok(())
    }

    /// Looks once more at everything that was not seen SEALED, for the summary.
    async fn count_levels(&mut self) {
        let open = self.tracker.drain();
        let tenant = self.signer.tenant().clone();
        for chunk in open.chunks(MAX_LEVELS) {
            let keys: Vec<&EventKey> = chunk.iter().map(|(key, _)| key).collect();
            let patience = Patience::interactive(POLL_PATIENCE);
            let Ok(levels) = self.client.levels(&Route::Any, &tenant, &keys, patience).await else {
                return;
            };
            for ((_, counted), level) in chunk.iter().zip(levels) {
                tracker::count(*counted, level.unwrap_or(Level::Pending), &self.progress);
            }
        }
    }
}

impl Progress {
    pub fn summary(&self) -> Summary {
        Summary {
            total: self.total.load(Relaxed),
            new: self.new.load(Relaxed),
            existing: self.existing.load(Relaxed),
            finals: self.finals.load(Relaxed),
            sealed: self.sealed.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

/// Reads and prepares on a thread of its own: parsing and hashing would stall the sockets.
fn read_chunks(input: Box<dyn Read + Send>, signer: &Signer, batch: usize) -> mpsc::Receiver<std::io::Result<Chunk>> {
    let (out, chunks) = mpsc::channel(MAX_IN_FLIGHT);
    let mut lines = Lines::new(BufReader::with_capacity(1 << 16, input), signer.tenant().clone());
    tokio::task::spawn_blocking(move || {
        while let Some(chunk) = lines.chunk(batch, BATCH_BYTES).transpose() {
            let failed = chunk.is_err();
            // The receiver is gone once the import ended early.
            if out.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    });
    chunks
}
