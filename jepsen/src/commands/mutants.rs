//! `jepsen mutants`: which layer catches each planted bug.

use anyhow::Result;
#[cfg(feature = "mutants")]
use jepsen::mutants::Layer;

#[cfg(not(feature = "mutants"))]
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _ignored: Vec<String>,
}

#[cfg(not(feature = "mutants"))]
pub fn run(_: &Args) -> Result<()> {
    anyhow::bail!(
        "this program has no planted bugs; build one that has: cargo run --profile mutants -p jepsen --features mutants -- mutants"
    )
}

#[cfg(feature = "mutants")]
#[derive(Debug, clap::Args)]
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
    /// The most seeds of the simulation for one bug
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// Simulated time of one seed
    #[arg(long, value_name = "TIME", default_value = "5m")]
    sim_time: String,
    /// Time of one run with real processes
    #[arg(long, value_name = "TIME", default_value = "2m")]
    real_time: String,
    /// The longest that one process may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    limit: u64,
    /// Bugs looked for at the same time [default: all cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Take it as given that the layers find nothing in the product as it is
    #[arg(long)]
    skip_baseline: bool,
    #[command(flatten)]
    output: super::Output,
}

#[cfg(feature = "mutants")]
pub fn run(args: &Args) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(gate::run(args))
}

#[cfg(feature = "mutants")]
mod gate {
    use super::Args;
    use crate::commands::not_shown;
    use anyhow::{Context as _, Result};
    use jepsen::mutants::{self, Effort, Layer, Programs, Verdict};
    use std::path::Path;
    use std::time::Duration;
    use tercet_core::mutants::{Mutant, find};

    const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

    pub async fn run(args: &Args) -> Result<()> {
        if args.list {
            for mutant in Mutant::ALL {
                println!("{:<28} {} ({})", mutant.name(), mutant.bug(), mutant.place());
            }
            return Ok(());
        }
        let which = chosen(&args.only)?;
        let effort = effort(args);
        let programs = Programs::prepare(&effort.layers).await?;
        if !args.skip_baseline {
            let baseline = mutants::baseline(&programs, &effort).await?;
            tell(&baseline);
            if let Some(attempt) = baseline.caught() {
                let found = attempt.found.as_deref().unwrap_or_default();
                let layer = attempt.layer.name();
                return not_shown(format!("without any planted bug the {layer} finds: {found}; mend that first"));
            }
        }
        let verdicts = mutants::run(&programs, &effort, &which, tell).await?;
        let table = mutants::render(&verdicts);
        match args.output.json() {
            true => println!("{}", serde_json::to_string_pretty(&verdicts)?),
            false => println!("{table}"),
        }
        if args.only.is_empty() && args.layer.is_empty() {
            let readme = std::fs::read_to_string(README).with_context(|| format!("reading {README}"))?;
            let written = mutants::write_into(&readme, &table)?;
            std::fs::write(Path::new(README), written).with_context(|| format!("writing {README}"))?;
        }
        let escaped: Vec<_> = verdicts.iter().filter(|v| v.caught().is_none()).filter_map(|v| v.mutant).collect();
        if escaped.is_empty() { Ok(()) } else { not_shown(format!("not caught: {}", escaped.join(", "))) }
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
        Effort {
            layers: if args.layer.is_empty() { Layer::DEFAULT.to_vec() } else { args.layer.clone() },
            seeds: args.seeds,
            sim_time: args.sim_time.clone(),
            real_time: args.real_time.clone(),
            limit: Duration::from_secs(args.limit),
            jobs: args.jobs.unwrap_or(cores),
        }
    }

    fn tell(verdict: &Verdict) {
        let name = verdict.mutant.unwrap_or("no planted bug");
        match verdict.caught() {
            Some(attempt) => {
                let found = attempt.found.as_deref().unwrap_or_default();
                eprintln!(
                    "{name}: {} after {}, {:.1} s: {found}",
                    attempt.layer.name(),
                    attempt.effort,
                    attempt.seconds
                );
            }
            None => {
                let tried: Vec<_> = verdict
                    .attempts
                    .iter()
                    .map(|a| format!("{} ({}, {:.1} s)", a.layer.name(), a.effort, a.seconds))
                    .collect();
                eprintln!("{name}: nothing found by {}", tried.join(", "));
            }
        }
    }
}
