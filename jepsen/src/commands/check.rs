//! `jepsen check FILE`: judges a history again, without the system that wrote it. Writes nothing.

use super::not_shown;
use anyhow::{Context as _, Result};
use jepsen::checker::{self, Judged};
use jepsen::history;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen check target/jepsen/sim-17/history.jsonl
  jepsen check target/jepsen/sim-17/history.jsonl -o json | jq '.[] | select(.verdict != \"holds\")'")]
pub struct Args {
    /// A history as the other commands write it: one JSON record a line
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: super::Output,
}

pub fn run(args: &Args) -> Result<()> {
    let history = history::load(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let judged = checker::check(&history);
    if args.output.json() {
        println!("{}", serde_json::to_string_pretty(&judged)?);
    } else {
        print!("{}", table(&judged));
    }
    if checker::passed(&judged) {
        return Ok(());
    }
    let count = judged.iter().filter(|judged| !judged.verdict.holds()).count();
    not_shown(format!("{count} of {} invariants are not shown to hold", judged.len()))
}

fn table(judged: &[Judged]) -> String {
    let mut out = String::new();
    for Judged { invariant, verdict } in judged {
        out += &format!("  {:<9} {invariant}\n", verdict.name());
        if let Some(why) = verdict.why() {
            out += &format!("            {why}\n");
        }
    }
    out
}
