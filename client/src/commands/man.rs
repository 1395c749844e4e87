//! `tercet man`.

use crate::commands::Cli;
use crate::exit::{Failure, OTHER};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet man ~/.local/share/man/man1
  tercet man /tmp/man && man /tmp/man/tercet-event-import.1")]
pub struct Man {
    /// The folder for the pages; it is made if it does not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(command: &Man) -> Result<(), Failure> {
    let dir = &command.dir;
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|error| Failure::new(OTHER, format!("cannot write to {}: {error}", dir.display())))?;
    eprintln!("wrote the manual pages to {}", dir.display());
    Ok(())
}
