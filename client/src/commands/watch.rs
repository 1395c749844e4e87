//! `tercet watch`.

use crate::exit::{Failure, NO_QUORUM, TIMED_OUT};
use crate::output;
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tercet::Client;
use tercet::client::{Patience, Route};
use tercet::http::Call;
use tercet::watch::Message;
use tercet_core::ids::CloudId;
use tokio::time::Instant;

/// How long a cloud may take to show that it can be watched.
const PROBE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet watch
  tercet watch --cloud aws --tenant shop
  tercet watch --cloud gcp --from 1200 -o json   (resume after log index 1200)
  tercet watch --count 10 --timeout 1m

One cloud is watched; if it goes down the watch waits and resumes where it was, without a gap.")]
pub struct Watch {
    /// Resume after this log index, of the same cloud
    #[arg(long, value_name = "INDEX", requires = "cloud")]
    from: Option<u64>,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Only facts of this tenant [default: all tenants]
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: Watch) -> Result<(), Failure> {
    let context = globals.context()?;
    let client = globals.client(&context, Patience::interactive(PROBE))?;
    let cloud = match &globals.cloud {
        Some(cloud) => cloud.clone(),
        None => first_that_answers(&client).await?,
    };
    eprintln!("watching cloud {cloud}; stop with Ctrl-C");
    let from = command.from.map(|index| index.to_string());
    let mut watch = tercet::watch::Watch::new(&client, cloud.clone(), command.tenant.tenant, from);
    let deadline = globals.timeout.map(|timeout| Instant::now() + timeout);
    let (mut seen, mut told) = (0, false);
    while command.count.is_none_or(|count| seen < count) {
        let next = match deadline {
            None => watch.next().await,
            Some(deadline) => match tokio::time::timeout_at(deadline, watch.next()).await {
                Ok(next) => next,
                Err(_) if command.count.is_some() => {
                    return Err(Failure::new(TIMED_OUT, format!("{seen} messages when the time was over")));
                }
                Err(_) => return Ok(()),
            },
        };
        match next? {
            Some(message) => {
                (seen, told) = (seen + 1, false);
                show(globals, &cloud, &message)?;
            }
            None if !told => {
                told = true;
                let why = watch.interrupted.as_deref().unwrap_or("no node streams");
                eprintln!("cloud {cloud}: {why}; waiting to resume (another cloud: --cloud)");
            }
            None => {}
        }
    }
    Ok(())
}

async fn first_that_answers(client: &Client) -> Result<CloudId, Failure> {
    for cloud in client.clouds() {
        let probe = Call::get(&["livez"]).attempt_timeout(PROBE);
        let patience = Patience::once(PROBE);
        if client.send_for(&Route::Only(cloud.name.clone()), &probe, patience).await.is_ok() {
            return Ok(cloud.name.clone());
        }
    }
    Err(Failure::new(NO_QUORUM, "no cloud answers; is the cluster running? Start it with `tercetd up`"))
}

fn show(globals: &Globals, cloud: &CloudId, message: &Message) -> Result<(), Failure> {
    let data: Value = serde_json::from_str(&message.data).unwrap_or_else(|_| Value::String(message.data.clone()));
    if globals.is_json() {
        // One message a line, so that it can be read while it streams.
        return output::print(
            &json!({ "cloud": cloud, "id": message.id, "event": message.event, "data": data }).to_string(),
        );
    }
    let details = match &data {
        Value::Object(members) => {
            let shown = members.iter().filter(|(name, _)| *name != "fact");
            shown.map(|(name, value)| format!("{name}={}", output::text(value))).collect::<Vec<_>>().join("  ")
        }
        other => output::text(other),
    };
    output::print(&format!("{:>10}  {:<16} {details}", message.id.as_deref().unwrap_or("-"), message.event))
}
