//! `jepsen`: runs and checks from the command line.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use jepsen::history::{self, Record, What};
use jepsen::{checker, smoke};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(name = "jepsen", version, about = "Fault injection for Tercet")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill leaders and clouds of nine real nodes under load, and check that nothing is lost
    Smoke {
        /// How long the nemesis is at work, in seconds (such as 30s)
        #[arg(long, default_value = "30s", value_parser = parse_seconds)]
        time: Duration,
        /// Fixes what the nemesis and the clients choose
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the history goes, one JSON record a line
        #[arg(long, value_name = "FILE", default_value = "target/jepsen-history.jsonl")]
        out: PathBuf,
    },
    /// Check a history that was written before
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> Result<()> {
    let (history, broken) = match Cli::parse().command {
        Command::Smoke { time, seed, out } => {
            println!("smoke run: seed {seed}, {} s", time.as_secs());
            let report = smoke::run(smoke::Options { seed, time })?;
            history::save(&report.history, &out).with_context(|| format!("cannot write {}", out.display()))?;
            println!("history: {}", out.display());
            (report.history, report.broken)
        }
        Command::Check { file } => {
            let history = history::load(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let broken = checker::check(&history);
            (history, broken)
        }
    };
    summarise(&history);
    for (name, _) in checker::INVARIANTS {
        match broken.iter().find(|(broken, _)| *broken == name) {
            None => println!("  holds   {name}"),
            Some((_, why)) => println!("  BROKEN  {name}\n          {why}"),
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("{} invariants do not hold", broken.len()) }
}

fn summarise(history: &[Record]) {
    let count = |is: fn(&What) -> bool| history.iter().filter(|record| is(&record.what)).count();
    println!(
        "{} submissions: {} acknowledged, {} failed, {} unknown; {} observations",
        count(|what| matches!(what, What::Invoked { .. })),
        count(|what| matches!(what, What::Acknowledged { .. })),
        count(|what| matches!(what, What::Failed { .. })),
        count(|what| matches!(what, What::Unknown { .. })),
        count(|what| matches!(what, What::Observed { .. })),
    );
    for Record { at_ms, what } in history {
        match what {
            What::Harmed { how, cloud, nodes } => {
                println!("{:>7.1} s  {how:?} {cloud}: {}", *at_ms as f64 / 1000.0, nodes.join(", "));
            }
            What::Restored { cloud } => println!("{:>7.1} s  restored {cloud}", *at_ms as f64 / 1000.0),
            What::Healed { took_ms, complete, .. } => {
                println!("{:>7.1} s  all SEALED: {complete}, after {took_ms} ms", *at_ms as f64 / 1000.0);
            }
            _ => {}
        }
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| "use seconds, such as 30s".to_owned())?;
    Ok(Duration::from_secs(number))
}
