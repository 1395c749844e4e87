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
    /// Check a history that was written before
    Check(commands::check::Args),
    /// Explore every interleaving of the finality core within bounds
    Model(commands::model::Args),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Check(args) => commands::check::run(&args),
        Command::Model(args) => commands::model::run(&args),
    }
}
