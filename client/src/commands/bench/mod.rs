//! `tercet bench`.

mod events;
mod peers;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure events: how many a second become FINAL, and how long one takes
    Events(events::Events),
    /// Measure Tercet beside etcd: the same load on the same machine, as ratios
    Peers(peers::Peers),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Events(command) => events::run(globals, command).await,
        Command::Peers(command) => Err(peers::run(command)),
    }
}
