//! `tercet agent`.

mod create;
mod list;
mod run;
pub mod watchdog;

use crate::exit::Failure;
use crate::session::Globals;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register an agent on every cloud, with a new key
    Create(create::Create),
    /// List the agents, whether they live, and what they own
    List(list::List),
    /// Run an agent: report, campaign for its roles, make containers and hooks follow
    Run(run::Run),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(command) => create::run(globals, command).await,
        Command::List(command) => list::run(globals, &command).await,
        Command::Run(command) => run::run(globals, &command).await,
    }
}
