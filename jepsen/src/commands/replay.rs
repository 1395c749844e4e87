//! `jepsen replay`: the story of one seed.

use super::duration;
use anyhow::{Result, bail};
use jepsen::checker;
use jepsen::sim::run::{self, Options};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    seed: u64,
    /// Simulated time until the last fault; a seed's story depends on it
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    sim_time: Duration,
    /// Show what happened, a line each, on standard output
    #[arg(long)]
    trace: bool,
    /// With --trace: every message, too
    #[arg(long, requires = "trace")]
    messages: bool,
}

pub fn run(args: &Args) -> Result<()> {
    run::watch_panics();
    let trace =
        args.trace.then(|| Box::new(std::io::BufWriter::new(std::io::stdout())) as Box<dyn std::io::Write + Send>);
    let report = run::run(Options { seed: args.seed, sim_time: args.sim_time, trace, frames: args.messages });
    let failures = checker::failures(&report.history);
    eprintln!(
        "seed {}: digest {:016x}, {:.0} s simulated in {:.1} s, {} frames, {} records",
        report.seed,
        report.digest,
        report.simulated.as_secs_f64(),
        report.real.as_secs_f64(),
        report.frames,
        report.history.len()
    );
    for (name, why) in &failures {
        eprintln!("  {name}\n    {why}");
    }
    if failures.is_empty() { Ok(()) } else { bail!("{} invariants are not shown to hold", failures.len()) }
}
