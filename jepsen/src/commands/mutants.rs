//! `jepsen mutants`: which layers catch each planted bug.

use anyhow::Result;
#[cfg(feature = "mutants")]
use jepsen::mutants::Layer;

#[cfg(not(feature = "mutants"))]
const BUILD: &str = "this program was built without planted bugs; build one that has them, in a profile of its own:
  cargo run --profile mutants -p jepsen --features mutants -- mutants --help";

#[cfg(not(feature = "mutants"))]
#[derive(Debug, clap::Args)]
#[command(override_usage = "jepsen mutants", after_help = BUILD)]
pub struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _ignored: Vec<String>,
}

#[cfg(not(feature = "mutants"))]
pub fn run(_: &Args) -> Result<()> {
    anyhow::bail!(BUILD)
}

#[cfg(feature = "mutants")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (after `cargo run --profile mutants -p jepsen --features mutants --`):
  mutants                                          every bug, every layer but real; writes the README's table
  mutants --only DedupOff --only VotesNotSynced --layer sim --layer model
  mutants --layer real --nemesis power-cut-all,kill-leader --only VotesNotSynced
  mutants --list -o json

Every chosen layer looks for every bug, unless it does not run the code that the bug is planted in. Exit code 1: nothing
caught a bug, or a layer found something in the product as it is.")]
pub struct Args {
    /// Only this bug (may be given several times); `--list` shows all. The README stays as it is
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only this layer (may be given several times). The README stays as it is
    #[arg(long, value_enum, value_name = "LAYER")]
    layer: Vec<Layer>,
    /// Show the planted bugs
    #[arg(long)]
    list: bool,
    /// Seeds of the simulation for each bug; all of them run
    #[arg(long, value_name = "N", default_value = "6", value_parser = super::count::<u64>)]
    seeds: u64,
    /// Simulated time of one seed
    #[arg(long, value_name = "TIME", default_value = "4m")]
    sim_time: String,
    /// Time of one run with real processes
    #[arg(long, value_name = "TIME", default_value = "2m")]
    real_time: String,
    /// What harms the real processes: names as `jepsen real` takes them, with commas between
    #[arg(long, value_name = "NAMES", default_value = "all")]
    nemesis: String,
    /// The longest that one process may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u64,
    /// Bugs looked for at the same time [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::count::<usize>)]
    jobs: Option<usize>,
    /// Take it as given that the layers find nothing in the product as it is
    #[arg(long)]
    skip_baseline: bool,
    #[command(flatten)]
    output: super::Output,
}

#[cfg(feature = "mutants")]
pub fn run(args: &Args) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            outcome = gate::run(args) => outcome,
            // What was started ends with the gate.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("ended early; the README is as it was"),
        }
    })
}

#[cfg(feature = "mutants")]
mod gate {
    use super::Args;
    use crate::commands::not_shown;
    use anyhow::{Context as _, Result};
    use jepsen::mutants::{self, Effort, Layer, Programs, Verdict};
    use serde_json::json;
    use std::path::Path;
    use std::time::Duration;
    use tercet_core::mutants::{Mutant, find};

    const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

    pub async fn run(args: &Args) -> Result<()> {
        if args.list {
            return list(args);
        }
        let which = chosen(&args.only)?;
        let effort = effort(args);
        let programs = Programs::prepare(&effort.layers).await?;
        let mut baseline = None;
        if !args.skip_baseline {
            let verdict = mutants::baseline(&programs, &effort).await?;
            tell(&verdict);
            if let Some(attempt) = verdict.finds().next() {
                let found = attempt.found.as_deref().unwrap_or_default();
                let layer = attempt.layer.name();
                return not_shown(format!("without any planted bug the {layer} finds: {found}; mend that first"));
            }
            baseline = Some(verdict);
        }
        let verdicts = mutants::run(&programs, &effort, &which, tell).await?;
        let table = mutants::render(&verdicts, &effort.layers);
        if args.output.json() {
            let summary = mutants::summary(&verdicts, &effort.layers);
            let told = json!({ "baseline": baseline, "verdicts": verdicts, "summary": summary });
            println!("{}", serde_json::to_string_pretty(&told)?);
        } else {
            print!("{table}");
        }
        if args.only.is_empty() && args.layer.is_empty() {
            let readme = std::fs::read_to_string(README).with_context(|| format!("reading {README}"))?;
            let written = mutants::write_into(&readme, &table)?;
            std::fs::write(Path::new(README), written).with_context(|| format!("writing {README}"))?;
        }
        let escaped: Vec<_> = verdicts.iter().filter(|v| !v.is_caught()).filter_map(|v| v.mutant).collect();
        if escaped.is_empty() { Ok(()) } else { not_shown(format!("caught by nothing: {}", escaped.join(", "))) }
    }

    fn list(args: &Args) -> Result<()> {
        if args.output.json() {
            let told = |mutant: &Mutant| json!({ "name": mutant.name(), "bug": mutant.bug(), "place": mutant.place() });
            let all: Vec<_> = Mutant::ALL.iter().map(told).collect();
            println!("{}", serde_json::to_string_pretty(&all)?);
            return Ok(());
        }
        for mutant in Mutant::ALL {
            println!("{:<28} {} ({})", mutant.name(), mutant.bug(), mutant.place());
        }
        Ok(())
    }

    fn chosen(only: &[String]) -> Result<Vec<Mutant>> {
        if only.is_empty() {
            return Ok(Mutant::ALL.to_vec());
        }
        let named = |name: &String| find(name).with_context(|| format!("no bug is called {name}; --list shows all"));
        only.iter().map(named).collect()
    }

    fn effort(args: &Args) -> Effort {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut layers = if args.layer.is_empty() { Layer::DEFAULT.to_vec() } else { args.layer.clone() };
        layers.sort();
        layers.dedup();
        Effort {
            layers,
            seeds: args.seeds,
            sim_time: args.sim_time.clone(),
            real_time: args.real_time.clone(),
            nemesis: args.nemesis.clone(),
            limit: Duration::from_secs(args.limit),
            jobs: args.jobs.unwrap_or(cores),
        }
    }

    fn tell(verdict: &Verdict) {
        let name = verdict.mutant.unwrap_or("no planted bug");
        let attempts = verdict.attempts.iter();
        let told: Vec<_> =
            attempts.map(|a| format!("\n  {}, {:.1} s: {}", a.layer.name(), a.seconds, mutants::cell(a))).collect();
        let outcome = if verdict.is_caught() { "caught" } else { "nothing found" };
        eprintln!("{name}: {outcome}{}", told.concat());
    }
}
