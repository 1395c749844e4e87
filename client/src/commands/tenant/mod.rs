//! `tercet tenant`.

mod create;
mod list;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a tenant on every cloud, with a new secret and key
    Create(create::Create),
    /// List the tenants and the clouds that know them
    List(list::List),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(command) => create::run(globals, command).await,
        Command::List(_) => list::run(globals).await,
    }
}
