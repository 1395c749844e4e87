//! `jepsen`: runs and checks from the command line. One file a command.

mod commands;

use clap::{Parser, Subcommand};
use commands::NotShown;
use std::process::ExitCode;

const NOT_SHOWN: u8 = 1;
/// Also what wrong arguments end with.
const COULD_NOT_RUN: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "jepsen",
    version,
    about = "Fault injection for Tercet: simulation, model checking, real processes",
    after_help = "Exit code 0: everything was shown to hold. 1: something was not. 2: the command could not do its work."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Harm nine real processes under load, and judge what came of it
    Real(commands::real::Args),
    /// Find out what this machine can do to real processes, and what is not covered
    Doctor(commands::doctor::Args),
    /// Run the whole system in a seeded simulation, many seeds
    Sim(commands::sim::Args),
    /// Run one seed again and show what happened
    Replay(commands::replay::Args),
    /// Explore every order of what clouds can do and hear, with liars, crashes and losses
    Model(commands::model::Args),
    /// Show which layer catches each planted bug
    Mutants(commands::mutants::Args),
    /// Check a history that was written before
    Check(commands::check::Args),
    /// Draw the report of a history that was written before
    Report(commands::report::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Sim(args) => commands::sim::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Model(args) => commands::model::run(&args),
        Command::Mutants(args) => commands::mutants::run(&args),
        Command::Real(args) => commands::real::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Report(args) => commands::report::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jepsen: {error:#}");
            ExitCode::from(if error.is::<NotShown>() { NOT_SHOWN } else { COULD_NOT_RUN })
        }
    }
}
