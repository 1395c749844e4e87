//! `jepsen`: runs and checks from the command line. One file a command.

mod commands;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "jepsen", version, about = "Fault injection for Tercet: simulation, model checking, real processes")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole system in a seeded simulation, many seeds
    Sim(commands::sim::Args),
    /// Run one seed again and show what happened
    Replay(commands::replay::Args),
    /// Check a history that was written before
    Check(commands::check::Args),
    /// Show which layer catches each planted bug
    Mutants(commands::mutants::Args),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Sim(args) => commands::sim::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Mutants(args) => commands::mutants::run(&args),
    }
}
