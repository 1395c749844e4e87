//! `jepsen sim`: many seeds, several at once.

use super::Output;
use super::duration::{self, parse_seeds};
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jepsen::report::Meta;
use jepsen::sim::run::{self, Options, Report};
use jepsen::{checker, history};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen sim --seeds 0..200 --sim-time 10m
  jepsen sim --seeds random:50 --sim-time 5m      # new seeds each time; they are printed
  jepsen replay --seed 17 --sim-time 10m --trace  # the story of one seed")]
pub struct Args {
    /// Which seeds: A..B, one number, or random:N for N new ones
    #[arg(long, default_value = "0..20", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Simulated time of each seed until the last fault (30s, 10m, 1h)
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    sim_time: Duration,
    /// Seeds at once
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// Run every seed twice and demand the same digest
    #[arg(long)]
    twice: bool,
    /// Where histories of failing seeds go
    #[arg(long, value_name = "DIR", default_value = "target/jepsen")]
    out: PathBuf,
    /// Stop at the first seed that fails
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    output: Output,
}

/// What is kept of a seed.
struct Judged {
    seed: u64,
    broken: Vec<(String, String)>,
    digest: u64,
    simulated: Duration,
    real: Duration,
    acknowledged: usize,
    lies: usize,
    conflicts: usize,
    convictions: usize,
    faults: BTreeMap<String, usize>,
    liar: bool,
}

pub fn run(args: &Args) -> Result<()> {
    run::watch_panics();
    let begun = Instant::now();
    let next = Mutex::new(args.seeds.clone());
    let judged = Mutex::new(Vec::new());
    let bar = ProgressBar::new(args.seeds.end - args.seeds.start);
    bar.set_style(
        ProgressStyle::with_template("{pos}/{len} seeds {bar:30} {elapsed} {msg}").expect("a sound template"),
    );
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().expect("no panic while it is held").next() else { return };
                    let done = judge(seed, args);
                    if !done.broken.is_empty() {
                        bar.println(failure(&done, args));
                        if args.fail_fast {
                            next.lock().expect("no panic while it is held").start = args.seeds.end;
                        }
                    }
                    bar.inc(1);
                    let mut all = judged.lock().expect("no panic while it is held");
                    all.push(done);
                    bar.set_message(speed(&all, begun.elapsed()));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut all = judged.into_inner().expect("no panic while it was held");
    all.sort_by_key(|judged| judged.seed);
    report(&all, begun.elapsed(), args)
}

fn options(seed: u64, args: &Args) -> Options {
    Options { seed, sim_time: args.sim_time, trace: None, frames: false }
}

fn judge(seed: u64, args: &Args) -> Judged {
    let report = run::run(options(seed, args));
    let mut broken: Vec<(String, String)> =
        checker::failures(&report.history).into_iter().map(|(name, why)| (name.to_owned(), why)).collect();
    if args.twice {
        let again = run::run(options(seed, args));
        if again.digest != report.digest {
            let why = format!("the first run gave {:016x}, the second {:016x}", report.digest, again.digest);
            broken.push(("the same seed gives the same run".into(), why));
        }
    }
    if !broken.is_empty()
        && let Err(error) = keep(&report, args)
    {
        broken.push(("the history is kept".into(), error.to_string()));
    }
    Judged::of(&report, broken)
}

impl Judged {
    fn of(report: &Report, broken: Vec<(String, String)>) -> Self {
        use jepsen::history::What;
        let mut faults = BTreeMap::new();
        let (mut acknowledged, mut lies, mut convicted) = (0, 0, BTreeSet::new());
        for record in &report.history {
            match &record.what {
                What::FaultBegan { fault, .. } => *faults.entry(fault.clone()).or_default() += 1,
                What::Acknowledged { .. } => acknowledged += 1,
                What::Lied { .. } => lies += 1,
                What::Convicted { by, evidence, .. } => drop(convicted.insert((by, evidence))),
                _ => {}
            }
        }
        Self {
            seed: report.seed,
            broken,
            digest: report.digest,
            simulated: report.simulated,
            real: report.real,
            acknowledged,
            lies,
            conflicts: report.conflicts,
            convictions: convicted.len(),
            faults,
            liar: report.swarm.liar.is_some(),
        }
    }
}

fn keep(report: &Report, args: &Args) -> Result<()> {
    let folder = args.out.join(format!("sim-{}", report.seed));
    std::fs::create_dir_all(&folder)?;
    history::save(&report.history, &folder.join("history.jsonl"))?;
    let (seed, time) = (report.seed.to_string(), format!("{}s", args.sim_time.as_secs()));
    let words = ["cargo", "run", "--release", "-p", "jepsen", "--", "replay", "--seed", &seed, "--sim-time", &time];
    let meta = Meta::here(words.map(String::from).to_vec());
    jepsen::report::write(&folder, &report.history, &checker::check(&report.history), &meta)?;
    Ok(())
}

fn failure(judged: &Judged, args: &Args) -> String {
    let mut text = format!("seed {}: FAILED", judged.seed);
    for (name, why) in &judged.broken {
        text += &format!("\n  {name}\n    {why}");
    }
    text + &format!("\n  jepsen replay --seed {} --sim-time {}s --trace", judged.seed, args.sim_time.as_secs())
}

fn speed(all: &[Judged], real: Duration) -> String {
    let simulated: Duration = all.iter().map(|judged| judged.simulated).sum();
    format!("{:.0} x real time", simulated.as_secs_f64() / real.as_secs_f64())
}

fn report(all: &[Judged], real: Duration, args: &Args) -> Result<()> {
    let simulated: Duration = all.iter().map(|judged| judged.simulated).sum();
    let one: Duration = all.iter().map(|judged| judged.real).sum();
    let failed: Vec<&Judged> = all.iter().filter(|judged| !judged.broken.is_empty()).collect();
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for (fault, times) in all.iter().flat_map(|judged| &judged.faults) {
        *faults.entry(fault).or_default() += times;
    }
    let liars = all.iter().filter(|judged| judged.liar).count();
    let per_day = liars as f64 / real.as_secs_f64() * 86_400.0;
    let sum = |of: fn(&Judged) -> usize| all.iter().map(of).sum::<usize>();
    if args.output.json() {
        let failures: Vec<_> = failed
            .iter()
            .map(|judged| json!({ "seed": judged.seed, "broken": judged.broken.iter().map(|(name, why)| json!({ "invariant": name, "why": why })).collect::<Vec<_>>() }))
            .collect();
        println!(
            "{}",
            json!({
                "seeds": all.len(), "failed": failures, "simulatedHours": simulated.as_secs_f64() / 3600.0,
                "realSeconds": real.as_secs_f64(), "speed": simulated.as_secs_f64() / real.as_secs_f64(),
                "speedOfOneThread": simulated.as_secs_f64() / one.as_secs_f64(), "byzantineScenariosPerDay": per_day,
                "acknowledged": sum(|judged| judged.acknowledged), "convictions": sum(|judged| judged.convictions),
                "conflictingFinals": sum(|judged| judged.conflicts), "lies": sum(|judged| judged.lies), "faults": faults,
                "digests": all.iter().map(|judged| (judged.seed.to_string(), format!("{:016x}", judged.digest))).collect::<BTreeMap<_, _>>(),
            })
        );
    } else {
        println!("{} seeds: {} failed", all.len(), failed.len());
        println!(
            "simulated {:.1} h in {:.0} s: {:.0} x real time ({:.0} x on one thread)",
            simulated.as_secs_f64() / 3600.0,
            real.as_secs_f64(),
            simulated.as_secs_f64() / real.as_secs_f64(),
            simulated.as_secs_f64() / one.as_secs_f64()
        );
        println!(
            "{} events acknowledged; {liars} runs with a liar ({per_day:.0} a day at this pace), {} convictions, {} events with two FINALs",
            sum(|judged| judged.acknowledged),
            sum(|judged| judged.convictions),
            sum(|judged| judged.conflicts)
        );
        let faults: Vec<String> = faults.iter().map(|(fault, times)| format!("{fault} {times}")).collect();
        println!("faults: {}", faults.join(", "));
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!(
        "{} of {} seeds failed: {:?}",
        failed.len(),
        all.len(),
        failed.iter().map(|judged| judged.seed).collect::<Vec<_>>()
    )
}
