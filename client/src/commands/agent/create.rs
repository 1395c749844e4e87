//! `tercet agent create`.

use crate::commands::role::parse_holder;
use crate::exit::{Failure, NO_QUORUM, REFUSED};
use crate::output;
use crate::session::{Globals, TenantArgs, parse_duration};
use clap::Args;
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;
use tercet::agent::AgentKey;
use tercet::tenants::write_secret;
use tercet_core::agents::{Agent, AgentSecret};
use tercet_core::ids::HolderId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet agent create web-gcp
  tercet agent create web-aws --weight 5 --stale 30s
  tercet agent create observer --witness
  tercet agent create web-gcp --plan

Its key is written to agents/ID.json next to the context. If a cloud could not be reached, run it again: it uses the same
key. Running it again with other options changes them.")]
pub struct Create {
    /// The agent's id
    #[arg(value_name = "ID", value_parser = parse_holder)]
    id: HolderId,
    /// Of two candidates that are equally far, the heavier one leads
    #[arg(long, value_name = "N", default_value_t = 1)]
    weight: u32,
    /// Reports, and never leads
    #[arg(long)]
    witness: bool,
    /// Without a report for so long it is no candidate
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    stale: Duration,
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: Create) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = command.tenant.tenant(&context)?;
    let path = AgentKey::path(&context, &command.id);
    let known = path.exists();
    let mut failed = Vec::new();
    if !command.plan {
        let key = if known { AgentKey::read(&path)? } else { fresh(&path, &command.id)? };
        let agent = Agent {
            tenant: tenant.clone(),
            agent: command.id.clone(),
            secret: key.secret,
            weight: command.weight,
            witness: command.witness,
            stale_ms: command.stale.as_millis() as u64,
        };
        let put = join_all(client.clouds().iter().map(|cloud| client.put_agent(&cloud.name, &agent))).await;
        for (cloud, result) in client.clouds().iter().zip(put) {
            if let Err(error) = result {
                eprintln!("cloud {}: {error}", cloud.name);
                failed.push((cloud.name.to_string(), Failure::from(error)));
            }
        }
    }
    if globals.is_json() {
        output::json(&json!({
            "agent": command.id, "tenant": tenant, "weight": command.weight, "witness": command.witness,
            "staleMs": command.stale.as_millis() as u64, "key": path, "planned": command.plan,
        }))?;
    } else {
        output::print(&output::fields(&[
            (if command.plan { "would register" } else { "agent" }, command.id.to_string()),
            ("tenant", tenant.to_string()),
            ("weight", command.weight.to_string()),
            ("witness", if command.witness { "yes" } else { "" }.to_owned()),
            ("stale after", format!("{:?}", command.stale)),
            ("key", path.display().to_string()),
        ]))?;
    }
    let Some((_, worst)) = failed.iter().find(|(_, failure)| failure.code == REFUSED).or(failed.first()) else {
        return Ok(());
    };
    let names: Vec<&str> = failed.iter().map(|(cloud, _)| cloud.as_str()).collect();
    let code = if worst.code == REFUSED { REFUSED } else { NO_QUORUM };
    let why = format!("not registered on: {}; run the same command again when they answer", names.join(", "));
    Err(Failure::new(code, why))
}

fn fresh(path: &std::path::Path, id: &HolderId) -> Result<AgentKey, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("the operating system has random bytes");
    let key = AgentKey { agent: id.clone(), secret: AgentSecret(secret) };
    let json = serde_json::to_vec_pretty(&key).expect("a key has string keys and no failing serialisers");
    write_secret(path, &json)?;
    eprintln!("wrote {} (secret, keep it)", path.display());
    Ok(key)
}
