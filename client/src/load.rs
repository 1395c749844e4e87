//! Generating load and measuring it: so many clients, each with one request at a time, as fast as answers come
//! (closed loop) or at a fixed rate (open loop). At a rate a latency counts from the moment at which the request was
//! due, not from when it was sent, so a stall is not hidden by the requests that it kept from being made (Gil Tene's
//! "coordinated omission"). The histograms are HDR, with three digits, from 1 us to 10 minutes.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The longest latency that is told apart, in microseconds.
const MAX_LATENCY_US: u64 = 600_000_000;
/// What refuses must not be flooded with what it refuses.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(40);
/// How finely the course of a run is kept.
pub const SLOT: Duration = Duration::from_millis(100);

/// How many clients ask, for how long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: u32,
    /// What one request counts for: the events of a batch.
    pub weight: u32,
    pub duration: Duration,
    /// Weight per second over all clients; none for as much as possible.
    pub rate: Option<f64>,
}

/// What is going on, for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    pub done: AtomicU64,
    pub failed: AtomicU64,
}

#[derive(Debug, Clone)]
pub struct Measured {
    pub seconds: f64,
    /// From when a request was due, or sent, to its answer; each counted with its weight.
    pub latencies: Histogram<u64>,
    pub done: u64,
    pub failed: u64,
    /// Done before the time was over.
    pub in_time: u64,
    /// Due in this time, and never sent: every client still waited for an answer. In no percentile.
    pub unsent: u64,
    /// What was done in each [`SLOT`] since the start.
    pub course: Vec<u64>,
    pub last_error: Option<String>,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latencies {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

impl Measured {
    fn new(load: &Load) -> Self {
        let latencies = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("bounds that it accepts");
        let seconds = load.duration.as_secs_f64();
        Self { seconds, latencies, done: 0, failed: 0, in_time: 0, unsent: 0, course: Vec::new(), last_error: None }
    }

    fn add(&mut self, other: Self) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.latencies.add(other.latencies);
        (self.done, self.failed) = (self.done + other.done, self.failed + other.failed);
        self.in_time += other.in_time;
        self.unsent += other.unsent;
        self.course.resize(self.course.len().max(other.course.len()), 0);
        self.course.iter_mut().zip(&other.course).for_each(|(sum, more)| *sum += more);
        self.last_error = other.last_error.or(self.last_error.take());
    }

    pub fn per_second(&self) -> f64 {
        self.in_time as f64 / self.seconds
    }

    pub fn latency_ms(&self) -> Latencies {
        let at = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let (max, mean) = (self.latencies.max() as f64 / 1000.0, self.latencies.mean() / 1000.0);
        Latencies { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max, mean }
    }
}

/// Runs the load. `request` is asked for the answer to request `round` of client `client`.
pub async fn run<F, Asked>(load: Load, progress: &Arc<Progress>, request: F) -> Measured
where
    F: Fn(u32, u32) -> Asked + Clone + Send + 'static,
    Asked: Future<Output = Result<(), String>> + Send + 'static,
{
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        clients.spawn(one_client(load, number, begun, progress.clone(), request.clone()));
    }
    let mut total = Measured::new(&load);
    while let Some(measured) = clients.join_next().await {
        match measured {
            Ok(measured) => total.add(measured),
            Err(error) => total.last_error = Some(format!("a client ended: {error}")),
        }
    }
    total
}

async fn one_client<F, Asked>(load: Load, number: u32, begun: Instant, progress: Arc<Progress>, request: F) -> Measured
where
    F: Fn(u32, u32) -> Asked,
    Asked: Future<Output = Result<(), String>>,
{
    let mut measured = Measured::new(&load);
    let weight = u64::from(load.weight);
    let until = begun + load.duration;
    let every = load.rate.map(|rate| Duration::from_secs_f64(f64::from(load.clients) * f64::from(load.weight) / rate));
    // Clients with a rate begin one after the other, not all at once.
    let offset = every.map_or(Duration::ZERO, |every| every * number / load.clients);
    for round in 0_u32.. {
        let due = every.map_or_else(Instant::now, |every| begun + offset + every * round);
        if due.max(Instant::now()) >= until {
            let due_until_then = until.saturating_duration_since(due).as_nanos();
            let requests = every.map_or(0, |every| due_until_then.div_ceil(every.as_nanos().max(1)));
            measured.unsent = u64::try_from(requests).unwrap_or(u64::MAX).saturating_mul(weight);
            break;
        }
        sleep_until(due).await;
        match request(number, round).await {
            Ok(()) => {
                let latency_us = (due.elapsed().as_micros() as u64).clamp(1, MAX_LATENCY_US);
                measured.latencies.saturating_record_n(latency_us, weight);
                measured.done += weight;
                progress.done.fetch_add(weight, Relaxed);
                let slot = (begun.elapsed().as_millis() / SLOT.as_millis()) as usize;
                measured.course.resize(measured.course.len().max(slot + 1), 0);
                measured.course[slot] += weight;
                if Instant::now() <= until {
                    measured.in_time += weight;
                }
            }
            Err(why) => {
                measured.failed += weight;
                progress.failed.fetch_add(weight, Relaxed);
                measured.last_error = Some(why);
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: Option<f64>) -> Load {
        Load { clients: 2, weight: 1, duration: Duration::from_secs(10), rate }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_counts_for_every_request_that_was_due_in_it() {
        // Answers take 10 ms; the first of one client takes 5 s.
        let answer = |client, round| async move {
            sleep(Duration::from_millis(if (client, round) == (0, 0) { 5_000 } else { 10 })).await;
            Ok(())
        };
        let measured = run(load(Some(20.0)), &Arc::default(), answer).await;
        assert_eq!((measured.done, measured.failed, measured.unsent), (200, 0, 0));
        let slow = 200 - measured.latencies.count_between(0, 100_000);
        assert!(
            (54..=56).contains(&slow),
            "{slow} of the 100 requests of that client were due in the stall or waited behind it, 55 should be"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_due_and_never_sent_is_told() {
        let answer = |_, _| async move {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        // Two clients can do two of the twenty a second.
        let measured = run(load(Some(20.0)), &Arc::default(), answer).await;
        assert_eq!((measured.done, measured.unsent), (20, 180));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_the_next_request_follows_the_answer() {
        let answer = |_, round| async move {
            sleep(Duration::from_millis(100)).await;
            if round % 10 == 9 { Err("no".to_owned()) } else { Ok(()) }
        };
        let measured = run(load(None), &Arc::default(), answer).await;
        assert!((165..=180).contains(&measured.done) && measured.failed > 10, "{measured:?}");
        assert_eq!(measured.last_error.as_deref(), Some("no"));
        assert_eq!(measured.course.iter().sum::<u64>(), measured.done);
    }
}
