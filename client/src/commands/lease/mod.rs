//! `tercet lease`: what stands behind roles.

mod verify;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify a grant offline
    Verify(verify::Verify),
}

pub fn run(globals: &Globals, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Verify(command) => verify::run(globals, command),
    }
}
