//! `tercet bench events`: clients in a closed loop. Each sends, waits until its events have their
//! level, and sends again. With `--rate` a latency counts from the moment at which the request was
//! due, so that a stall is not hidden by the requests that it kept from being made.

use crate::commands::event::WaitArg;
use crate::exit::{Failure, NO_QUORUM};
use crate::output::{self, grouped};
use crate::session::{Globals, SignArgs, parse_duration};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use serde_json::value::RawValue;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tercet::Client;
use tercet::client::{Patience, Route};
use tercet::events::{BatchItem, Draft, Payload, Wait};
use tercet::sign::Signer;
use tercet_core::ids::EventKey;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The longest latency that is told apart, in microseconds.
const MAX_LATENCY_US: u64 = 600_000_000;
/// How long the requests that are under way at the end may take.
const LAST_REQUESTS: Duration = Duration::from_secs(15);
/// How many clients share a connection to each node, and the most connections.
const CLIENTS_PER_CONNECTION: u32 = 64;
const MAX_CONNECTIONS: u32 = 16;
/// The first and the longest pause between two questions about a batch's levels.
const POLL_MIN: Duration = Duration::from_millis(4);
const POLL_MAX: Duration = Duration::from_millis(40);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet bench events
  tercet bench events --clients 64 --batch 1 --duration 30s -o json
  tercet bench events --clients 8 --batch 256 --payload-bytes 1024
  tercet bench events --rate 500 --wait sealed

The events stay: bench a cluster or a tenant that is for tests.")]
pub struct Events {
    /// How long to send
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How many clients send at the same time, spread over the clouds
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// Events of one request, under one signature
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Size of a payload
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=131_072))]
    payload_bytes: u32,
    /// The level that ends the measurement of an event
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "final")]
    wait: WaitArg,
    /// Events per second over all clients [default: as many as possible]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    #[command(flatten)]
    sign: SignArgs,
}

/// What all clients share.
struct Shared {
    /// Several, because a server takes only so many requests on one connection.
    connections: Vec<Arc<Client>>,
    signer: Signer,
    /// Makes this run's ids new.
    run: String,
    wait: Wait,
    batch: u32,
    payload_bytes: usize,
    begun: Instant,
    until: Instant,
    reached: AtomicU64,
    failed: AtomicU64,
}

/// What one client measured.
struct Measured {
    latencies: Histogram<u64>,
    /// Events that reached the level before the time was over.
    in_time: u64,
    last_error: Option<String>,
}

pub async fn run(globals: &Globals, command: Events) -> Result<(), Failure> {
    let context = globals.context()?;
    let signer = command.sign.signer(&context)?;
    let count = command.clients.div_ceil(CLIENTS_PER_CONNECTION).min(MAX_CONNECTIONS);
    let connect = |_| globals.client(&context, Patience::interactive(LAST_REQUESTS));
    let connections = (0..count).map(connect).collect::<Result<Vec<_>, Failure>>()?;
    connections[0].send(&Route::Any, &tercet::http::Call::get(&["v1", "status"])).await?;
    let mut run = [0; 6];
    getrandom::fill(&mut run).map_err(|error| Failure::new(crate::exit::OTHER, format!("no random bytes: {error}")))?;
    let begun = Instant::now();
    let shared = Arc::new(Shared {
        connections,
        signer,
        run: hex::encode(run),
        wait: command.wait.into(),
        batch: command.batch,
        payload_bytes: command.payload_bytes as usize,
        begun,
        until: begun + command.duration,
        reached: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let drawing = tokio::spawn(draw(shared.clone()));
    let mut clients = JoinSet::new();
    for number in 0..command.clients {
        let every = command
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(command.clients) * f64::from(command.batch) / rate as f64));
        clients.spawn(one_client(shared.clone(), number, every, command.clients));
    }
    let mut total = Measured { latencies: histogram(), in_time: 0, last_error: None };
    while let Some(measured) = clients.join_next().await {
        let Ok(measured) = measured else { continue };
        // Both have the same bounds, so adding cannot fail.
        let _ = total.latencies.add(measured.latencies);
        total.in_time += measured.in_time;
        total.last_error = measured.last_error.or(total.last_error);
    }
    drawing.abort();
    report(globals, &command, &shared, &total)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("the bounds are constants that it accepts")
}

async fn one_client(shared: Arc<Shared>, number: u32, every: Option<Duration>, clients: u32) -> Measured {
    let connection = &shared.connections[number as usize % shared.connections.len()];
    let clouds = connection.clouds();
    let route = Route::Prefer(clouds[number as usize % clouds.len()].name.clone());
    let mut measured = Measured { latencies: histogram(), in_time: 0, last_error: None };
    // Clients with a rate begin one after the other, not all at once.
    let offset = every.map_or(Duration::ZERO, |every| every * number / clients);
    for round in 0_u32.. {
        let due = every.map_or_else(Instant::now, |every| shared.begun + offset + every * round);
        if due.max(Instant::now()) >= shared.until {
            break;
        }
        tokio::time::sleep_until(due).await;
        match shared.one_request(connection, &route, number, round).await {
            Ok(()) => {
                let latency_us = (due.elapsed().as_micros() as u64).clamp(1, MAX_LATENCY_US);
                let events = u64::from(shared.batch);
                measured.latencies.saturating_record_n(latency_us, events);
                shared.reached.fetch_add(events, Relaxed);
                if Instant::now() <= shared.until {
                    measured.in_time += events;
                }
            }
            Err(why) => {
                shared.failed.fetch_add(u64::from(shared.batch), Relaxed);
                measured.last_error = Some(why);
                // A cluster that refuses must not be flooded with what it refuses.
                tokio::time::sleep(POLL_MAX).await;
            }
        }
    }
    measured
}

impl Shared {
    /// Sends one request and returns once all of its events have their level.
    async fn one_request(&self, client: &Client, route: &Route, number: u32, round: u32) -> Result<(), String> {
        if self.batch == 1 {
            let draft = self.draft(number, round, 0)?;
            let wait = (self.wait, LAST_REQUESTS);
            let receipt = client.submit_and_wait(route, &self.signer, &draft, wait).await;
            let level = receipt.map_err(|error| error.to_string())?.level;
            return if self.wait.is_met_by(level) { Ok(()) } else { Err(format!("still {level:?} after the wait")) };
        }
        let drafts: Result<Vec<Draft>, String> = (0..self.batch).map(|at| self.draft(number, round, at)).collect();
        let drafts = drafts?;
        let item = |draft: &Draft| {
            let content = draft.content(self.signer.tenant()).map_err(|error| error.to_string())?;
            Ok(BatchItem { json: draft.json(None), content: content.hash() })
        };
        let items = drafts.iter().map(item).collect::<Result<Vec<_>, String>>()?;
        let patience = client.patience();
        let results = client.submit_batch(route, &self.signer, &items, patience).await;
        for result in results.map_err(|error| error.to_string())? {
            result.map_err(|problem| problem.to_string())?;
        }
        self.await_levels(client, route, drafts.iter().map(|draft| &draft.key).collect()).await
    }

    async fn await_levels(&self, client: &Client, route: &Route, mut open: Vec<&EventKey>) -> Result<(), String> {
        let (deadline, mut pause) = (Instant::now() + LAST_REQUESTS, POLL_MIN);
        while !open.is_empty() {
            if Instant::now() >= deadline {
                return Err(format!("{} of {} events are not there after the wait", open.len(), self.batch));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_MAX);
            let asked = &open[..open.len().min(tercet::events::MAX_LEVELS)];
            let levels = client.levels(route, self.signer.tenant(), asked, client.patience()).await;
            let levels = levels.map_err(|error| error.to_string())?;
            let mut at = 0;
            open.retain(|_| {
                at += 1;
                !levels.get(at - 1).is_some_and(|level| level.is_some_and(|level| self.wait.is_met_by(level)))
            });
        }
        Ok(())
    }

    fn draft(&self, number: u32, round: u32, at: u32) -> Result<Draft, String> {
        let id = format!("bench-{}-{number}-{round}-{at}", self.run);
        let key = EventKey::new("", id).map_err(|error| error.to_string())?;
        let payload = format!("\"{}\"", "x".repeat(self.payload_bytes.saturating_sub(2)));
        let payload = RawValue::from_string(payload).map_err(|error| error.to_string())?;
        let content_type = "application/json".to_owned();
        Ok(Draft { key, content_type, payload: Payload::Json(payload), supersedes: None })
    }
}

fn report(globals: &Globals, command: &Events, shared: &Shared, total: &Measured) -> Result<(), Failure> {
    let (reached, failed) = (shared.reached.load(Relaxed), shared.failed.load(Relaxed));
    let per_second = total.in_time as f64 / command.duration.as_secs_f64();
    let ms = |quantile: f64| total.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let level = shared.wait.as_str().to_uppercase();
    if globals.is_json() {
        output::json(&json!({
            "seconds": command.duration.as_secs_f64(),
            "clients": command.clients,
            "batch": command.batch,
            "payloadBytes": command.payload_bytes,
            "wait": shared.wait.as_str(),
            "rate": command.rate,
            "events": reached,
            "failed": failed,
            "finalPerSecond": (per_second * 10.0).round() / 10.0,
            "latencyMs": { "p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "max": total.latencies.max() as f64 / 1000.0 },
        }))?;
    } else {
        let each = if command.batch == 1 { "1 event".into() } else { format!("{} events", command.batch) };
        output::print(&output::fields(&[
            (
                "load",
                format!("{} clients, {each} a request, {} bytes a payload", command.clients, command.payload_bytes),
            ),
            ("time", format!("{:.1} s", command.duration.as_secs_f64())),
            (level.as_str(), format!("{} events, {} a second", grouped(reached), grouped(per_second as u64))),
            ("latency p50", format!("{:.1} ms", ms(0.5))),
            ("latency p90", format!("{:.1} ms", ms(0.9))),
            ("latency p99", format!("{:.1} ms", ms(0.99))),
            ("latency max", format!("{:.1} ms", total.latencies.max() as f64 / 1000.0)),
            ("failed", grouped(failed)),
        ]))?;
    }
    if let Some(why) = &total.last_error {
        eprintln!("last failure: {why}");
    }
    if reached == 0 {
        Err(Failure::new(NO_QUORUM, format!("no event became {level}; see `tercet status`")))
    } else {
        Ok(())
    }
}

async fn draw(shared: Arc<Shared>) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let seconds = (shared.until - shared.begun).as_secs().max(1);
    let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} s\n{msg}") {
        bar.set_style(style);
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let reached = shared.reached.load(Relaxed);
        bar.set_position(shared.begun.elapsed().as_secs().min(seconds));
        let level = shared.wait.as_str().to_uppercase();
        bar.set_message(format!("{level} {}  now {}/s", grouped(reached), grouped(reached - before)));
        before = reached;
    }
}
