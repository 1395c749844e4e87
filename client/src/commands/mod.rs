//! The command tree: one noun a folder, one verb a file.

mod agent;
mod bench;
mod completions;
pub mod event;
mod evidence;
pub mod exec;
mod guard;
mod keep;
mod lease;
mod man;
mod role;
mod status;
mod tenant;
mod verify;
mod watch;

use crate::exit::Failure;
use crate::session::Globals;
use clap::{Parser, Subcommand};

/// Three clouds confirm your events: submit, watch, verify.
#[derive(Debug, Parser)]
#[command(name = "tercet", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Examples:
  tercet status
  tercet event submit --id order-17 --payload '{\"amount\": 5}' --wait sealed
  tercet event certificate order-17 --out order-17.cert
  tercet verify order-17.cert --trust trust.json

Exit codes: 0 ok, 2 usage, 3 refused, 4 no quorum, 5 not leader, 6 timed out with outcome unknown")]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit, read, import and decide on events
    #[command(subcommand)]
    Event(event::Command),
    /// Verify a certificate or evidence offline
    Verify(verify::Verify),
    /// Show every cloud and node
    Status(status::Status),
    /// Follow what happens, as it happens
    Watch(watch::Watch),
    /// Proofs that a cloud lied
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// Create and list tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Roles that one holder has at a time: win, show and hand over
    #[command(subcommand)]
    Role(role::Command),
    /// Processes that stand for roles
    #[command(subcommand)]
    Agent(agent::Command),
    /// Stop a container when its time is over
    #[command(hide = true)]
    AgentWatchdog(agent::watchdog::Watchdog),
    /// Run a command only where a role is held
    Guard(guard::Guard),
    /// Become a command that ends with its parent
    #[command(hide = true)]
    ExecChild(exec::Exec),
    /// Keep a command for as long as a role is held
    #[command(hide = true)]
    KeepChild(keep::Keep),
    /// Grants of leases
    #[command(subcommand)]
    Lease(lease::Command),
    /// Measure the cluster
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print a shell's completion script
    Completions(completions::Completions),
    /// Write the manual pages into a folder
    Man(man::Man),
}

pub async fn run(cli: Cli) -> Result<(), Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Event(command) => event::run(globals, command).await,
        Command::Verify(command) => verify::run(globals, &command),
        Command::Status(_) => status::run(globals).await,
        Command::Watch(command) => watch::run(globals, command).await,
        Command::Evidence(command) => evidence::run(globals, command).await,
        Command::Tenant(command) => tenant::run(globals, command).await,
        Command::Role(command) => role::run(globals, command).await,
        Command::ExecChild(command) => exec::run(&command),
        Command::KeepChild(command) => keep::run(&command).await,
        Command::Agent(command) => agent::run(globals, command).await,
        Command::AgentWatchdog(command) => agent::watchdog::run(&command).await,
        Command::Guard(command) => guard::run(globals, &command).await,
        Command::Lease(command) => lease::run(globals, &command),
        Command::Bench(command) => bench::run(globals, command).await,
        Command::Completions(command) => completions::run(&command),
        Command::Man(command) => man::run(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn leaves(command: &clap::Command, path: &str, out: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        if !command.has_subcommands() {
            out.push((path, command.clone()));
            return;
        }
        for inner in command.get_subcommands() {
            leaves(inner, &path, out);
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_examples_that_name_it() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() >= 15, "{} verbs", found.len());
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:") && help.contains(&path), "{path} has no examples of itself");
            assert!(command.get_about().is_some(), "{path} does not say what it does");
        }
    }
}
