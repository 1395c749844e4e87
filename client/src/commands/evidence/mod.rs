//! `tercet evidence`.

mod get;
mod list;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the evidence that a cloud holds
    List(list::List),
    /// Fetch one piece of evidence
    Get(get::Get),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(_) => list::run(globals).await,
        Command::Get(command) => get::run(globals, command).await,
    }
}
