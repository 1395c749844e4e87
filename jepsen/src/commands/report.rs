//! `jepsen report FILE --out DIR`: judges a history that exists and draws its report.

use anyhow::{Context as _, Result};
use jepsen::history::{Record, What};
use jepsen::report::{self, Meta};
use jepsen::{checker, history};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen report target/jepsen/sim-17/history.jsonl --out /tmp/17
  jepsen report history.jsonl --out report -o json
  jepsen report history.jsonl --out report -- jepsen replay --seed 17 --sim-time 4m")]
pub struct Args {
    /// A history as the other commands write it: one JSON record a line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder for report.html and repro.sh; it is made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The command that repeats the run, if more than its layer and seed is needed
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    output: super::Output,
}

pub fn run(args: &Args) -> Result<()> {
    let history = history::load(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let judged = checker::check(&history);
    let told = || format!("cannot write into {}", args.out.display());
    std::fs::create_dir_all(&args.out).with_context(told)?;
    let command = if args.command.is_empty() { command(&history) } else { args.command.clone() };
    report::write(&args.out, &history, &judged, &Meta::here(command)).with_context(told)?;
    let (page, script) = (args.out.join("report.html"), args.out.join("repro.sh"));
    if args.output.json() {
        println!("{}", serde_json::json!({ "report": page, "repro": script }));
    } else {
        println!("{}", page.display());
    }
    Ok(())
}

/// What repeats the run, as far as a history tells.
fn command(history: &[Record]) -> Vec<String> {
    let (layer, seed) = match history.first() {
        Some(Record { what: What::Run { layer, seed, .. }, .. }) => (layer.as_str(), *seed),
        _ => ("sim", 0),
    };
    let verb = if layer == "sim" { "replay" } else { layer };
    let words = ["cargo", "run", "--release", "-p", "jepsen", "--", verb, "--seed"];
    words.into_iter().map(String::from).chain([seed.to_string()]).collect()
}
