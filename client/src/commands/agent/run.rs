//! `tercet agent run`.

use crate::exit::Failure;
use crate::session::{Globals, TenantArgs};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use tercet::agent::{AgentKey, Config};
use tercet::client::Patience;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long one call to a cloud may take.
const CALL: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet agent run agent.toml

  id = \"web-gcp\"
  engine = \"/var/run/docker.sock\"      # without it only hooks run
  listen = \"127.0.0.1:7900\"            # GET /leader/ROLE, POST /deploy
  [[role]]
  name = \"primary\"
  drain = \"5s\"                         # after a handover
  on_promote = [\"/usr/local/bin/promote\"]
  on_demote = [\"/usr/local/bin/demote\"]
  [role.container]
  name = \"web\"
  image = \"shop/web:1.2\"
  standby = \"warm\"                     # or cold: it runs only while the role is held

Create the agent first (`tercet agent create ID`) and its roles (`tercet role create NAME`). Ends on SIGINT and SIGTERM,
and gives its roles back. Containers see the grant and the fencing token in /run/tercet.")]
pub struct Run {
    /// The agent's configuration
    #[arg(value_name = "FILE")]
    config: PathBuf,
    /// The agent's key [default: agents/ID.json next to the context]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: &Run) -> Result<(), Failure> {
    let context = globals.context()?;
    let client = globals.client(&context, Patience::interactive(CALL))?;
    let tenant = command.tenant.tenant(&context)?;
    let config = Config::read(&command.config)?;
    let path = command.key.clone().unwrap_or_else(|| AgentKey::path(&context, &config.id));
    if !path.exists() {
        let id = &config.id;
        return Err(Failure::usage(format!("no key at {}; run `tercet agent create {id}`", path.display())));
    }
    let key = AgentKey::read(&path)?;
    if key.agent != config.id {
        return Err(Failure::usage(format!("{} is the key of {}, not of {}", path.display(), key.agent, config.id)));
    }
    let (stop, stopping) = watch::channel(false);
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return Err(Failure::usage("cannot wait for signals"));
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("stopping: roles are given back");
        stop.send_replace(true);
    });
    eprintln!("agent {} stands for {}", config.id, names(&config));
    let token = context.token()?;
    Ok(tercet::agent::run(client, context.trust_bundle()?, tenant, key, config, token, stopping).await?)
}

fn names(config: &Config) -> String {
    config.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>().join(", ")
}
