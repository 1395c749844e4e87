//! `tercet bench`.

mod events;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure events: how many a second become FINAL, and how long one takes
    Events(events::Events),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Events(command) => events::run(globals, command).await,
    }
}
