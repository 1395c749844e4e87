//! `jepsen check FILE`: judges a history again, without the system that wrote it.

use anyhow::{Context as _, Result, bail};
use jepsen::{checker, history};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A history as the other commands write it: one JSON record a line
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let history = history::load(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let broken = checker::check(&history);
    for (name, _) in checker::INVARIANTS {
        match broken.iter().find(|(broken, _)| *broken == name) {
            None => println!("  holds   {name}"),
            Some((_, why)) => println!("  BROKEN  {name}\n          {why}"),
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("{} invariants do not hold", broken.len()) }
}
