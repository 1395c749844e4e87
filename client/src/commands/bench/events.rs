//! `tercet bench events`: how many events a second reach a level, and how long one takes.

use crate::commands::event::WaitArg;
use crate::exit::{Failure, NO_QUORUM};
use crate::output::{self, grouped};
use crate::session::{Globals, SignArgs};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use serde_json::value::RawValue;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tercet::Client;
use tercet::client::{Patience, Route};
use tercet::events::{BatchItem, Draft, Payload, Wait};
use tercet::load::{self, Load, Measured, Progress};
use tercet::sign::Signer;
use tercet::status::ClusterStatus;
use tercet::usage::Usage;
use tercet_core::ids::{CloudId, EventKey};

/// How long a request may take, unless `--timeout` says otherwise.
const REQUEST: Duration = Duration::from_secs(15);
/// How many clients share a connection to each node, and the most connections.
const CLIENTS_PER_CONNECTION: u32 = 64;
const MAX_CONNECTIONS: u32 = 16;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet bench events
  tercet bench events --clients 64 --batch 1 --duration 30s -o json
  tercet bench events --clients 8 --batch 256 --payload-bytes 1024
  tercet bench events --rate 500 --wait sealed

Without --rate each client sends its next request after the answer to the one before. With it, a latency counts from when
a request was due, so that a stall counts for all that it kept from being made. CPU and memory are of nodes on this
machine. The events stay: bench a cluster or a tenant that is for tests.")]
pub struct Events {
    /// How long to send
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_time)]
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

fn parse_time(text: &str) -> Result<Duration, String> {
    tercet::duration::parse_at_least(text, load::SLOT)
}

/// What all clients share.
struct Shared {
    /// Several, because a server takes only so many requests on one connection.
    connections: Vec<Arc<Client>>,
    signer: Signer,
    /// Makes this run's ids new.
    run: String,
    wait: Wait,
    /// How long a request may take.
    limit: Duration,
    batch: u32,
    payload_bytes: usize,
    /// The only cloud that is asked, if one was named.
    cloud: Option<CloudId>,
}

pub async fn run(globals: &Globals, command: Events) -> Result<(), Failure> {
    let context = globals.context()?;
    let signer = command.sign.signer(&context)?;
    let count = command.clients.div_ceil(CLIENTS_PER_CONNECTION).min(MAX_CONNECTIONS);
    let limit = globals.timeout.unwrap_or(REQUEST);
    let connect = |_| globals.client(&context, Patience::interactive(limit));
    let connections = (0..count).map(connect).collect::<Result<Vec<_>, Failure>>()?;
    connections[0].send(&Route::Any, &tercet::http::Call::get(&["v1", "status"])).await?;
    let mut run = [0; 6];
    getrandom::fill(&mut run).map_err(|error| Failure::new(crate::exit::OTHER, format!("no random bytes: {error}")))?;
    let shared = Arc::new(Shared {
        connections,
        signer,
        run: hex::encode(run),
        wait: command.wait.into(),
        limit,
        batch: command.batch,
        payload_bytes: command.payload_bytes as usize,
        cloud: globals.cloud.clone(),
    });
    let load = Load {
        clients: command.clients,
        weight: command.batch,
        duration: command.duration,
        rate: command.rate.map(|rate| rate as f64),
    };
    let progress = Arc::new(Progress::default());
    let before = shared.connections[0].cluster_status().await;
    let used = Used::start(&before);
    let drawing = tokio::spawn(draw(progress.clone(), command.duration, shared.wait));
    let asking = shared.clone();
    let request = move |client, round| {
        let shared = asking.clone();
        async move { shared.one_request(client, round).await }
    };
    let measured = load::run(load, &progress, request).await;
    drawing.abort();
    report(globals, &command, &shared, &measured, &used.end())
}

/// What each node used during a run, as far as it runs on this machine.
struct Used(Vec<(String, u32, Usage)>);

impl Used {
    fn start(status: &ClusterStatus) -> Self {
        let nodes = status.clouds.iter().flat_map(|cloud| &cloud.nodes);
        let known = nodes.filter_map(|node| Some((node.id.to_string(), node.pid?, Usage::of(node.pid?)?)));
        Self(known.collect())
    }

    /// Name, milliseconds of CPU, and memory at the end.
    fn end(&self) -> Vec<(&str, u64, Usage)> {
        let mut used = Vec::new();
        for (name, pid, before) in &self.0 {
            if let Some(now) = Usage::of(*pid) {
                used.push((name.as_str(), now.cpu_ms.saturating_sub(before.cpu_ms), now));
            }
        }
        used
    }
}

impl Shared {
    /// Sends one request and returns once all of its events have their level.
    async fn one_request(&self, number: u32, round: u32) -> Result<(), String> {
        let client = &self.connections[number as usize % self.connections.len()];
        let clouds = client.clouds();
        let route = match &self.cloud {
            Some(cloud) => Route::Only(cloud.clone()),
            None => Route::Prefer(clouds[number as usize % clouds.len()].name.clone()),
        };
        let wait = (self.wait, self.limit);
        let drafts: Result<Vec<Draft>, String> = (0..self.batch).map(|at| self.draft(number, round, at)).collect();
        let drafts = drafts?;
        if let [draft] = drafts.as_slice() {
            let receipt = client.submit_and_wait(&route, &self.signer, draft, wait).await;
            return self.reached(receipt.map_err(|error| error.to_string())?.level);
        }
        let item = |draft: &Draft| {
            let content = draft.content(self.signer.tenant()).map_err(|error| error.to_string())?;
            Ok(BatchItem { json: draft.json(None), content: content.hash() })
        };
        let items = drafts.iter().map(item).collect::<Result<Vec<_>, String>>()?;
        let results = client.submit_batch(&route, &self.signer, &items, Some(wait), client.patience()).await;
        for result in results.map_err(|error| error.to_string())? {
            self.reached(result.map_err(|problem| problem.to_string())?.level)?;
        }
        Ok(())
    }

    fn reached(&self, level: tercet_core::events::Level) -> Result<(), String> {
        if self.wait.is_met_by(level) { Ok(()) } else { Err(format!("still {level:?} after the wait")) }
    }

    fn draft(&self, number: u32, round: u32, at: u32) -> Result<Draft, String> {
        let id = format!("bench-{}-{number}-{round}-{at}", self.run);
        let key = EventKey::new("", id).map_err(|error| error.to_string())?;
        let payload = RawValue::from_string(payload(self.payload_bytes, (number, round, at)));
        let payload = Payload::Json(payload.map_err(|error| error.to_string())?);
        Ok(Draft { key, content_type: "application/json".to_owned(), payload, supersedes: None })
    }
}

/// A JSON text of so many bytes that no compression shortens much: base64 digits of a generator with this seed.
fn payload(bytes: usize, (number, round, at): (u32, u32, u32)) -> String {
    let mut state = (u64::from(number) << 40 ^ u64::from(round) << 12 ^ u64::from(at)) | 1;
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes);
    text.push('"');
    while text.len() < bytes.saturating_sub(1) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wanted = (bytes - 1 - text.len()).min(10);
        text.extend((0..wanted).map(|digit| char::from(digits[(word >> (6 * digit)) as usize % 64])));
    }
    text.push('"');
    text
}

fn report(
    globals: &Globals,
    command: &Events,
    shared: &Shared,
    total: &Measured,
    used: &[(&str, u64, Usage)],
) -> Result<(), Failure> {
    let (latency, level) = (total.latency_ms(), shared.wait.as_str().to_uppercase());
    // Of one core.
    let share = |cpu_ms: u64| cpu_ms as f64 / 1000.0 / total.seconds;
    if globals.is_json() {
        let nodes = used.iter().map(|(node, cpu_ms, usage)| {
            json!({ "node": node, "cpuMs": cpu_ms, "cores": share(*cpu_ms), "rssBytes": usage.rss_bytes,
                "peakRssBytes": usage.peak_rss_bytes })
        });
        output::json(&json!({
            "seconds": total.seconds,
            "clients": command.clients,
            "batch": command.batch,
            "payloadBytes": command.payload_bytes,
            "wait": shared.wait.as_str(),
            "rate": command.rate,
            "events": total.done,
            "failed": total.failed,
            "unsent": total.unsent,
            "finalPerSecond": (total.per_second() * 10.0).round() / 10.0,
            "latencyMs": latency,
            "slotMs": load::SLOT.as_millis(),
            "course": total.course,
            "nodes": nodes.collect::<Vec<_>>(),
        }))?;
    } else {
        let each = if command.batch == 1 { "1 event".into() } else { format!("{} events", command.batch) };
        let mut fields = vec![
            (
                "load",
                format!("{} clients, {each} a request, {} bytes a payload", command.clients, command.payload_bytes),
            ),
            ("time", format!("{:.1} s", total.seconds)),
            (
                level.as_str(),
                format!(
                    "{} events, {} a second; {} more after that time",
                    grouped(total.in_time),
                    grouped(total.per_second() as u64),
                    grouped(total.done - total.in_time)
                ),
            ),
            ("latency p50", format!("{:.1} ms", latency.p50)),
            ("latency p90", format!("{:.1} ms", latency.p90)),
            ("latency p99", format!("{:.1} ms", latency.p99)),
            ("latency max", format!("{:.1} ms", latency.max)),
            ("failed", grouped(total.failed)),
        ];
        if let Some(rate) = command.rate {
            fields.insert(1, ("rate", format!("{} events a second were due", grouped(rate))));
            fields.push(("not sent", grouped(total.unsent)));
        }
        let usage = |(_, cpu_ms, usage): &(&str, u64, Usage)| {
            format!("{:.0} % of a core, {} MiB", share(*cpu_ms) * 100.0, usage.rss_bytes >> 20)
        };
        fields.extend(used.iter().map(|node| (node.0, usage(node))));
        output::print(&output::fields(&fields))?;
    }
    if let Some(why) = &total.last_error {
        eprintln!("last failure: {why}");
    }
    if total.unsent > 0 {
        eprintln!(
            "{} events were due and not sent, since all clients waited for answers; they are in no percentile. \
             Use a lower --rate or more --clients.",
            grouped(total.unsent)
        );
    }
    if total.done == 0 {
        Err(Failure::new(NO_QUORUM, format!("no event became {level}; see `tercet status`")))
    } else {
        Ok(())
    }
}

async fn draw(progress: Arc<Progress>, duration: Duration, wait: Wait) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let seconds = duration.as_secs().max(1);
    let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} s\n{msg}") {
        bar.set_style(style);
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let reached = progress.done.load(Relaxed);
        bar.set_position((bar.position() + 1).min(seconds));
        let level = wait.as_str().to_uppercase();
        bar.set_message(format!("{level} {}  now {}/s", grouped(reached), grouped(reached - before)));
        before = reached;
    }
}
