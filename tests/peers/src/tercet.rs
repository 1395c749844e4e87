//! Tercet: `tercetd up` in a folder of its own, and `tercet bench events` against it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tercet_tests::{Cluster, programs};

/// One load of `tercet bench events`.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    pub clients: u32,
    pub batch: u32,
    pub payload_bytes: usize,
    pub seconds: u64,
    pub rate: Option<u64>,
    pub sealed: bool,
}

/// What it measured.
#[derive(Debug, Clone)]
pub struct Bench(pub Value);

impl Bench {
    pub fn per_second(&self) -> f64 {
        self.0["finalPerSecond"].as_f64().unwrap_or(0.0)
    }

    /// A percentile in milliseconds, such as `p50`.
    pub fn latency(&self, percentile: &str) -> f64 {
        self.0["latencyMs"][percentile].as_f64().unwrap_or(f64::NAN)
    }

    /// Cores that all nodes used together.
    pub fn cores(&self) -> f64 {
        self.nodes().map(|node| node["cores"].as_f64().unwrap_or(0.0)).sum()
    }

    /// The largest resident set of a node, in MiB.
    pub fn rss_mib(&self) -> f64 {
        self.nodes().map(|node| node["rssBytes"].as_f64().unwrap_or(0.0)).fold(0.0, f64::max) / 1024.0 / 1024.0
    }

    fn nodes(&self) -> impl Iterator<Item = &Value> {
        self.0["nodes"].as_array().into_iter().flatten()
    }

    /// Events in a slot of the run on average, between two points of it.
    pub fn mean(&self, from: Duration, to: Duration) -> f64 {
        let course: Vec<u64> = self.0["course"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let slot_ms = u128::from(self.0["slotMs"].as_u64().unwrap_or(100));
        let at = |time: Duration| ((time.as_millis() / slot_ms) as usize).min(course.len());
        let slots = course.get(at(from)..at(to)).unwrap_or(&[]);
        slots.iter().sum::<u64>() as f64 / slots.len().max(1) as f64
    }
}

fn command(cluster: &Cluster, events: Events, cloud: Option<&str>) -> Command {
    let mut command = Command::new(programs::tercet());
    command.arg("--context").arg(cluster.data_dir().join("context.toml"));
    if let Some(cloud) = cloud {
        command.args(["--cloud", cloud]);
    }
    let Events { clients, batch, payload_bytes, seconds, rate, sealed } = events;
    command.args(["bench", "events", "-o", "json"]);
    command.args(["--clients", &clients.to_string(), "--batch", &batch.to_string()]);
    command.args(["--payload-bytes", &payload_bytes.to_string(), "--duration", &format!("{seconds}s")]);
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if sealed {
        command.args(["--wait", "sealed"]);
    }
    command
}

pub fn bench(cluster: &Cluster, events: Events, cloud: Option<&str>) -> Result<Bench> {
    finish(start(cluster, events, cloud)?)
}

/// The same, with something done to the cluster after a while.
pub fn bench_while(
    cluster: &mut Cluster,
    events: Events,
    cloud: Option<&str>,
    after: Duration,
    harm: impl FnOnce(&mut Cluster),
) -> Result<Bench> {
    let running = start(cluster, events, cloud)?;
    std::thread::sleep(after);
    harm(cluster);
    finish(running)
}

fn start(cluster: &Cluster, events: Events, cloud: Option<&str>) -> Result<Child> {
    let mut command = command(cluster, events, cloud);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("`tercet` does not start")
}

fn finish(running: Child) -> Result<Bench> {
    let output = running.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`tercet bench events` ended with {}: {error}", output.status);
    Ok(Bench(serde_json::from_slice(&output.stdout)?))
}
