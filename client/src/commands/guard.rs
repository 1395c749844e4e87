//! `tercet guard`: runs a command only on the holder of a role.

use crate::commands::role::{Views, parse_holder, parse_lease};
use crate::exit::{Failure, NOT_LEADER, OTHER};
use crate::session::{Globals, TenantArgs};
use clap::Args;
use std::ffi::OsString;
use tercet_core::ids::{HolderId, LeaseId};
use tokio::process::Command;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet guard primary --candidate web-1 -- ./deploy.sh
  tercet guard primary --candidate web-1 -- true && echo 'web-1 leads'

Asks all clouds. Unless the candidate holds the role it runs nothing, says `not-leader` and who leads, and ends with
code 5. It looks once, before the command: what must stop when the role is lost belongs into `tercet role run`, and
what must never happen twice checks the fencing token.")]
pub struct Guard {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    /// Who has to hold it
    #[arg(long, value_name = "ID", value_parser = parse_holder)]
    candidate: HolderId,
    #[command(flatten)]
    tenant: TenantArgs,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

pub async fn run(globals: &Globals, guard: &Guard) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = guard.tenant.tenant(&context)?;
    let views = Views::ask(&client, &tenant, &guard.name).await?;
    if let Some(unknown) = views.unknown(client.clouds().len()) {
        return Err(unknown);
    }
    let token = match views.holder(client.clouds().len()) {
        Some((holder, token)) if *holder == guard.candidate => token,
        Some((holder, _)) => {
            return Err(Failure::new(NOT_LEADER, format!("not-leader: {holder} holds {}", guard.name)));
        }
        None => return Err(Failure::new(NOT_LEADER, format!("not-leader: nobody holds {}", guard.name))),
    };
    let (program, arguments) = guard.command.split_first().expect("clap requires a command");
    let mut command = Command::new(program);
    command.args(arguments).env("TERCET_ROLE", guard.name.as_str()).env("TERCET_FENCING_TOKEN", token.to_string());
    let status = command.status().await;
    let status =
        status.map_err(|error| Failure::usage(format!("cannot run {}: {error}", program.to_string_lossy())))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::new(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OTHER), "")),
    }
}
