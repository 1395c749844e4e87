//! `tercet agent-watchdog`, which an agent starts for a container that must not outlive its role.

use crate::exit::{Failure, OTHER};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo 'until 1000' | tercet agent-watchdog /var/run/docker.sock web

Not for people: reads on stdin until when the container may run, in milliseconds of CLOCK_BOOTTIME, and stops it then.")]
pub struct Watchdog {
    /// The container engine's socket
    #[arg(value_name = "SOCKET")]
    socket: PathBuf,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub async fn run(command: &Watchdog) -> Result<(), Failure> {
    let watched = tercet::agent::watchdog::watch(&command.socket, &command.container).await;
    watched.map_err(|why| Failure::new(OTHER, why))
}
