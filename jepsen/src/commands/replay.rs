//! `jepsen replay`: one seed, in a process of its own; its story if that is wanted.

use super::{Output, duration, not_shown};
use anyhow::{Context as _, Result};
use jepsen::history;
use jepsen::report::{self, Meta};
use jepsen::sim::run::{self, Options, Report};
use jepsen::sim::summary::Summary;
use jepsen::sim::swarm::Lie;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen replay --seed 17 --sim-time 10m --trace | less
  jepsen replay --seed 17 --sim-time 10m --trace --messages | grep 'gcp-1 ->'
  jepsen replay --seed 17 --liar equivocate --trace | grep -i -e lie -e evidence
  jepsen replay --seed 17 --out target/jepsen/17     # history.jsonl, history.edn, report.html")]
pub struct Args {
    #[arg(long)]
    seed: u64,
    /// Simulated time until the last fault; a seed's story depends on it
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    sim_time: Duration,
    /// Show what happened, a line each, on standard output
    #[arg(long, conflicts_with = "output")]
    trace: bool,
    /// With --trace: every message, too
    #[arg(long, requires = "trace")]
    messages: bool,
    /// Let a cloud tell this kind of lie; else the seed decides
    #[arg(long, value_name = "KIND")]
    liar: Option<Lie>,
    /// Where the history and the report go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With --out: only if an invariant does not hold
    #[arg(long, requires = "out")]
    only_failed: bool,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(folder) = args.out.as_ref().filter(|_| !args.only_failed) {
        super::make_writable(folder)?;
    }
    run::watch_panics();
    let out = || Box::new(BufWriter::new(std::io::stdout())) as Box<dyn Write + Send>;
    let trace = args.trace.then(out);
    let report = run::run(Options {
        seed: args.seed,
        sim_time: args.sim_time,
        trace,
        frames: args.messages,
        liar: args.liar,
        prepare: None,
    });
    let summary = Summary::of(&report);
    if let Some(folder) = args.out.as_ref().filter(|_| !args.only_failed || !summary.failures.is_empty()) {
        keep(&report, args, folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    if args.output.json() {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        tell(&summary);
    }
    match summary.failures.len() {
        0 => Ok(()),
        count => not_shown(format!("{count} invariants are not shown to hold")),
    }
}

fn tell(summary: &Summary) {
    eprintln!(
        "seed {}: digest {}, {:.0} s simulated in {:.1} s, {} frames, {} acknowledged, liar {}",
        summary.seed,
        summary.digest,
        summary.simulated_s,
        summary.real_s,
        summary.frames,
        summary.acknowledged,
        summary.liar.as_deref().unwrap_or("none")
    );
    for failure in &summary.failures {
        eprintln!("  {}\n    {}", failure.invariant, failure.why);
    }
}

/// The history in every form, and its report.
fn keep(report: &Report, args: &Args, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    history::save(&report.history, &folder.join("history.jsonl"))?;
    let (seed, time) = (args.seed.to_string(), format!("{}s", args.sim_time.as_secs()));
    let mut words =
        vec!["cargo", "run", "--release", "-p", "jepsen", "--", "replay", "--seed", &seed, "--sim-time", &time];
    words.extend(args.liar.iter().flat_map(|lie| ["--liar", lie.name()]));
    let meta = Meta::here(words.into_iter().map(str::to_owned).collect());
    report::write(folder, &report.history, &jepsen::checker::check(&report.history), &meta)?;
    Ok(())
}
