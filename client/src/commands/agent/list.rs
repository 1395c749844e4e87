//! `tercet agent list`.

use crate::exit::Failure;
use crate::output::{self, Colour, paint};
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::json;
use tercet_core::agents::Status;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet agent list
  tercet agent list --cloud aws -o json

As one cloud knows them. `owns` is what an agent says that it runs, with the fencing token that it runs it under.")]
pub struct List {
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: &List) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let agents = client.agents(&globals.reading(), &command.tenant.tenant(&context)?).await?;
    if globals.is_json() {
        return output::json(&json!({ "agents": agents }));
    }
    let rows = agents.iter().map(|agent| {
        let status = match agent.status {
            Status::Alive => paint(Colour::Green, "alive"),
            Status::Stale => paint(Colour::Red, "stale"),
            Status::Silent => paint(Colour::Dim, "silent"),
        };
        let heard = agent.heard_ms_ago.map_or_else(|| "-".into(), |ms| format!("{:.1} s ago", ms as f64 / 1000.0));
        let stands = agent.standing.iter().map(|standing| {
            let ready = if standing.ready { "" } else { " (not ready)" };
            format!("{}{ready}", standing.lease)
        });
        let owns = agent.standing.iter().filter_map(|standing| {
            let owned = standing.owns.as_ref()?;
            let container = owned
                .container
                .as_ref()
                .map_or_else(String::new, |id| format!(" in {}", id.chars().take(12).collect::<String>()));
            Some(format!("{} with token {}{container}", standing.lease, owned.token))
        });
        let weight = if agent.witness { "witness".to_owned() } else { agent.weight.to_string() };
        vec![
            agent.agent.to_string(),
            status,
            heard,
            weight,
            stands.collect::<Vec<_>>().join(", "),
            owns.collect::<Vec<_>>().join(", "),
        ]
    });
    output::print(&output::table(&["agent", "status", "heard", "weight", "stands for", "owns"], rows))
}
