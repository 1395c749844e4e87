//! `tercet bench peers`: Tercet beside etcd, the same load on the same machine in the same run. What counts are the
//! ratios; figures drift with the machine. `--write` puts the table and the plots into a folder of documents.

mod etcd;
mod grow;
mod nine;
mod plot;
mod stretch;
mod table;
mod tercet;

use ::tercet::load::Load;
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use plot::Axis;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use table::Row;
use tercet::Events;
use tercet_tests::{Cluster, slots};

/// Puts of etcd and clients of Tercet at full load.
const CLIENTS: u32 = 256;
/// Clients that send batches, and events in each.
const BATCHES: (u32, u32) = (16, 256);
/// Loads along the plots.
const SWEEP: [u32; 5] = [1, 4, 16, 64, 256];
const SWEEP_BATCHES: [u32; 4] = [1, 2, 4, 16];
/// Where the table stands in a folder of documents.
const DOCUMENT: &str = "PERFORMANCE.md";
/// How often a certificate is verified.
const VERIFICATIONS: u32 = 200;
const SHORTEST: Duration = Duration::from_secs(4);
/// etcd is measured before and after Tercet; a machine on which it then does so much more or less was not quiet.
const QUIET: f64 = 0.15;
/// How long after a kill a cloud's loss may show.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Parser)]
#[command(
    name = "tercet bench peers",
    version,
    about,
    after_help = "Examples:
  tercet bench peers --duration 20s -o json | jq .ratios
  tercet bench peers --grow 1000000 --write docs

Starts etcd (three nodes, its default durability) and Tercet (three clouds of one node, then of three) one after the
other, each alone on the machine, then etcd once more, and needs `etcd` and `etcdctl` on the path. Nothing of it stays."
)]
struct Cli {
    /// How long each full load lasts
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    duration: Duration,
    /// Size of a payload, and of etcd's values
    #[arg(long, value_name = "N", default_value_t = 256)]
    payload_bytes: usize,
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Also fill a ledger with so many events, and see how throughput, memory and disk develop
    #[arg(long, value_name = "N")]
    grow: Option<u64>,
    /// Rewrite the table in this folder's PERFORMANCE.md, and the plots beside it
    #[arg(long, value_name = "DIR", requires = "grow")]
    write: Option<PathBuf>,
}

/// Shorter ones measure how programs warm up.
fn duration(text: &str) -> Result<Duration, String> {
    ::tercet::duration::parse_at_least(text, SHORTEST)
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tercet bench peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn progress(what: &str) {
    eprintln!("measuring: {what}");
}

/// A point of a plot: work per second, and the median latency in milliseconds.
type Point = (f64, f64);

struct Peer {
    full: f64,
    p50_alone: f64,
    p99_half: f64,
    p50_half: f64,
    rss_mib: f64,
    points: Vec<Point>,
}

impl Peer {
    /// What the machine itself changed by in between.
    fn end(&self, again: f64) -> Row {
        let change = again / self.full;
        if (change - 1.0).abs() > QUIET {
            eprintln!(
                "warning: etcd does {change:.2} of what it did at the beginning. The machine is not quiet: measure again."
            );
        }
        let what = "etcd itself at the end of the run, against its beginning";
        let (again, full, within) = (again.round(), self.full.round(), format!("within {QUIET}"));
        Row { ratio: Some(change), ..Row::plain(what, format!("{again} against {full} /s"), &within) }
            .judged((change - 1.0).abs() <= QUIET)
    }
}

fn run(cli: &Cli) -> Result<()> {
    let version = etcd::version()?;
    if let Some(folder) = &cli.write {
        table::check(&folder.join(DOCUMENT))?;
    }
    let alone = slots::measuring().context("another `tercet bench peers` measures on this machine; wait for it")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    progress("waiting until no test runs a cluster here");
    drop(slots::large());
    let peer = runtime.block_on(measure_etcd(cli))?;
    let mut rows = Vec::new();
    let mut points = vec![("etcd, 3 nodes: puts".to_owned(), peer.points.clone())];
    let mut raw = BTreeMap::new();
    small(cli, &peer, &mut rows, &mut points, &mut raw)?;
    nine::measure(cli, &peer, &mut rows, &mut raw)?;
    rows.extend(stretch::measure(cli, &runtime)?);
    let grown = cli.grow.map(|events| grow::measure(cli, events)).transpose()?;
    if let Some(grown) = &grown {
        rows.extend(grown.rows());
    }
    rows.push(peer.end(runtime.block_on(etcd_again(cli))?));
    drop(alone);
    let ratios: serde_json::Map<String, Value> =
        rows.iter().filter_map(|row| Some((row.key?.to_owned(), json!(row.ratio?)))).collect();
    let machine = table::machine(&version);
    match cli.output {
        Output::Json => {
            let rows: Vec<Value> = rows.iter().map(Row::json).collect();
            let points: Value = points.iter().map(|(name, points)| json!({ "of": name, "points": points })).collect();
            let out = json!({ "ratios": ratios, "rows": rows, "machine": machine, "sweep": points, "raw": raw,
                "etcd": { "putsPerSecond": peer.full, "p50Ms": peer.p50_alone, "rssMib": peer.rss_mib } });
            println!("{}", serde_json::to_string_pretty(&out)?);
        }
        Output::Table => println!("{machine}\n\n{}", table::markdown(&rows)),
    }
    let Some((folder, grown)) = cli.write.as_ref().zip(grown) else { return Ok(()) };
    let x = "puts or FINAL events per second";
    let plot =
        plot::draw("Latency against throughput", (x, Axis::Logarithmic), ("p50, ms", Axis::Logarithmic), &points);
    std::fs::write(folder.join("latency.svg"), plot).context("the plot cannot be written")?;
    let line = [(format!("in batches of {}", BATCHES.1), grown.course)];
    let (x, y) = (("events held", Axis::Linear), ("FINAL events per second", Axis::Linear));
    let plot = plot::draw("Throughput against the size of the ledger", x, y, &line);
    std::fs::write(folder.join("growth.svg"), plot).context("the plot cannot be written")?;
    table::write(&folder.join(DOCUMENT), &machine, &rows)
}

/// etcd's full load once more, at the end of the run.
async fn etcd_again(cli: &Cli) -> Result<f64> {
    progress("etcd, full load again");
    let etcd = etcd::Etcd::start(None).await?;
    let load = Load { clients: CLIENTS, weight: 1, duration: cli.duration, rate: None };
    Ok(etcd.puts(load, cli.payload_bytes, "again").await?.per_second())
}

async fn measure_etcd(cli: &Cli) -> Result<Peer> {
    let etcd = etcd::Etcd::start(None).await?;
    let load = |clients, seconds: Duration, rate| Load { clients, weight: 1, duration: seconds, rate };
    let short = cli.duration / 4;
    progress("etcd, one client");
    let alone = etcd.puts(load(1, short, None), cli.payload_bytes, "alone").await?.latency_ms();
    let mut points = Vec::new();
    for (clients, run) in SWEEP.into_iter().zip(["s1", "s4", "s16", "s64", "s256"]) {
        progress(&format!("etcd, {clients} clients"));
        let measured = etcd.puts(load(clients, short, None), cli.payload_bytes, run).await?;
        points.push((measured.per_second(), measured.latency_ms().p50));
    }
    progress("etcd, full load");
    let full = etcd.puts(load(CLIENTS, cli.duration, None), cli.payload_bytes, "full").await?.per_second();
    progress("etcd, half load");
    let half = etcd.puts(load(CLIENTS, short, Some(full / 2.0)), cli.payload_bytes, "half").await?.latency_ms();
    let rss_mib = etcd.usage().iter().map(|usage| usage.rss_bytes).max().unwrap_or(0) as f64 / 1024.0 / 1024.0;
    Ok(Peer { full, p50_alone: alone.p50, p50_half: half.p50, p99_half: half.p99, rss_mib, points })
}

/// Three clouds of one node.
fn small(
    cli: &Cli,
    peer: &Peer,
    rows: &mut Vec<Row>,
    points: &mut Vec<(String, Vec<Point>)>,
    raw: &mut BTreeMap<&'static str, Value>,
) -> Result<()> {
    let mut cluster = Cluster::small();
    let seconds = cli.duration.as_secs().max(4);
    let short = (seconds / 4).max(2);
    let events = |clients, batch, seconds| Events {
        clients,
        batch,
        payload_bytes: cli.payload_bytes,
        seconds,
        rate: None,
        sealed: false,
    };
    progress("Tercet, one client");
    let alone = tercet::bench(&cluster, events(1, 1, short), None)?;
    let sealed = tercet::bench(&cluster, Events { sealed: true, ..events(1, 1, short) }, None)?;
    let (mut singles, mut batches) = (Vec::new(), Vec::new());
    for clients in SWEEP {
        progress(&format!("Tercet, {clients} clients"));
        let measured = tercet::bench(&cluster, events(clients, 1, short), None)?;
        singles.push((measured.per_second(), measured.latency("p50")));
    }
    for clients in SWEEP_BATCHES {
        progress(&format!("Tercet, {clients} clients, batches of {}", BATCHES.1));
        let measured = tercet::bench(&cluster, events(clients, BATCHES.1, short), None)?;
        batches.push((measured.per_second(), measured.latency("p50")));
    }
    points.push(("Tercet, 3 clouds of 1 node: single events".into(), singles));
    points.push((format!("Tercet, 3 clouds of 1 node: batches of {}", BATCHES.1), batches));
    progress("Tercet, full load of single events");
    let single = tercet::bench(&cluster, events(CLIENTS, 1, seconds), None)?;
    progress("Tercet, full load in batches");
    let batched = tercet::bench(&cluster, events(BATCHES.0, BATCHES.1, seconds), None)?;
    progress("Tercet, half load");
    let rate = (single.per_second() / 2.0) as u64;
    let half = tercet::bench(&cluster, Events { rate: Some(rate.max(1)), ..events(CLIENTS, 1, short) }, None)?;
    rows.push(Row::ratio(
        "final_events_per_s_batched",
        format!("FINAL events/s in batches of {}, 3 clouds of 1 node", BATCHES.1),
        (batched.per_second(), peer.full, "/s"),
        5.0,
    ));
    rows.push(Row::ratio(
        "final_events_per_s_single",
        format!("FINAL events/s one by one, {CLIENTS} clients"),
        (single.per_second(), peer.full, "/s"),
        1.5,
    ));
    rows.push(Row::at_most(
        "put_latency_p50",
        "one client, submit to FINAL, p50".into(),
        (alone.latency("p50"), peer.p50_alone, "ms"),
        3.0,
    ));
    rows.push(Row::at_most(
        "p99_to_p50_at_half_load",
        format!("p99 against p50 at half load (etcd's own: {:.1})", peer.p99_half / peer.p50_half),
        (half.latency("p99"), half.latency("p50"), "ms"),
        4.0,
    ));
    let behind = (sealed.latency("p50") - alone.latency("p50")).max(0.0);
    rows.push(Row::plain(
        "SEALED behind FINAL, p50",
        format!("{behind:.1} ms"),
        "one more round trip (none on loopback)",
    ));
    rows.push(Row::plain(
        "memory of a node at the end of full load",
        format!("{:.0} MiB (etcd: {:.0} MiB)", batched.rss_mib().max(single.rss_mib()), peer.rss_mib),
        "at most 512 MiB",
    ));
    rows.push(Row::plain(
        "CPU of an event in batches, all nodes together",
        format!("{:.0} us", batched.cores() / batched.per_second() * 1e6),
        "-",
    ));
    rows.extend(certificate(&cluster)?);
    progress("Tercet, one cloud is killed");
    let kill = Duration::from_secs(seconds / 2);
    let killed = tercet::bench_while(&mut cluster, events(CLIENTS, 1, seconds), None, kill, |cluster| {
        cluster.kill_cloud("gcp");
    })?;
    // The program takes a moment to start, so the kill comes a little before its time.
    let begun = Duration::from_millis(500);
    let before = killed.mean(begun, kill.saturating_sub(begun));
    let after = killed.mean(kill + SETTLE, Duration::from_secs(seconds));
    rows.push(Row {
        key: Some("throughput_without_one_cloud"),
        ratio: Some(after / before),
        ..Row::plain("one cloud killed: throughput of the others after 1 s", format!("{:.2}", after / before), "0.90")
            .judged(after >= 0.9 * before)
    });
    raw.insert("batched", batched.0);
    raw.insert("single", single.0);
    raw.insert("killed", killed.0);
    Ok(())
}

/// Size of a certificate, and how long its verification takes.
fn certificate(cluster: &Cluster) -> Result<[Row; 2]> {
    let (cli, file) = (cluster.cli(), cluster.scratch().join("bench.cert"));
    let path = file.to_str().context("a path that is text")?;
    cli.json(&["event", "submit", "--id", "bench-certificate", "--payload", "1", "--wait", "sealed"]);
    cli.run(&["event", "certificate", "bench-certificate", "--out", path]).ok();
    let bytes = std::fs::read(&file)?;
    let trust = std::fs::read(cluster.data_dir().join("trust.json"))?;
    let trust = ::tercet::verify::read_trust(&trust, None)?;
    let begun = std::time::Instant::now();
    for _ in 0..VERIFICATIONS {
        ::tercet::verify::verify(&bytes, &trust)?;
    }
    let ms = begun.elapsed().as_secs_f64() * 1000.0 / f64::from(VERIFICATIONS);
    Ok([
        Row::plain("a certificate", format!("{} bytes", bytes.len()), "6144 bytes").judged(bytes.len() <= 6144),
        Row::plain("verifying it", format!("{ms:.2} ms"), "2 ms").judged(ms <= 2.0),
    ])
}
