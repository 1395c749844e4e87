//! `tercet role list`.

use super::{Views, gather};
use crate::exit::{Failure, NO_QUORUM};
use crate::output;
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use tercet_core::ids::LeaseId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role list
  tercet role list --tenant shop -o json")]
pub struct List {
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: &List) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = command.tenant.tenant(&context)?;
    let mut roles: BTreeMap<LeaseId, Views> = BTreeMap::new();
    let (mut why, mut answered) = (None, 0);
    let answers = gather(
        &client,
        |cloud| client.leases(cloud, &tenant),
        |cloud, answer| {
            match answer {
                Ok(listed) => {
                    for view in listed {
                        let none = || Views { views: Vec::new(), silent: BTreeMap::new() };
                        roles.entry(view.name.clone()).or_insert_with(none).views.push(view);
                    }
                    answered += 1;
                }
                Err(error) => {
                    eprintln!("cloud {cloud}: {error}");
                    why = Some(Failure::from(error));
                }
            }
            answered > client.clouds().len() / 2
        },
    );
    answers.await;
    if let Some(why) = why.filter(|_| roles.is_empty()) {
        return Err(Failure::new(if why.code == 0 { NO_QUORUM } else { why.code }, why.message));
    }
    let clouds = client.clouds().len();
    if globals.is_json() {
        let row = |(name, views): (&LeaseId, &Views)| {
            let holder = views.holder(clouds);
            json!({
                "name": name, "scope": views.views[0].scope, "leaseDurationMs": views.views[0].lease_duration_ms,
                "holderIdentity": holder.map(|(holder, _)| holder), "fencingToken": holder.map(|(_, token)| token),
                "frozen": views.views[0].frozen, "preferredHolder": views.views[0].preferred_holder,
                "clouds": views.views.iter().map(|view| &view.cloud).collect::<Vec<_>>(),
            })
        };
        return output::json(&json!({ "roles": roles.iter().map(row).collect::<Vec<_>>() }));
    }
    let rows = roles.iter().map(|(name, views)| {
        let (holder, token) = views
            .holder(clouds)
            .map_or(("-".into(), "-".into()), |(holder, token)| (holder.to_string(), token.to_string()));
        let first = &views.views[0];
        let known: Vec<&str> = views.views.iter().map(|view| view.cloud.as_str()).collect();
        let known = if known.len() == clouds { "all".into() } else { known.join(", ") };
        let frozen = if first.frozen { "frozen" } else { "" };
        vec![
            name.to_string(),
            first.scope.to_string(),
            format!("{} ms", first.lease_duration_ms),
            holder,
            token,
            known,
            frozen.into(),
        ]
    });
    output::print(&output::table(&["role", "scope", "lease", "holder", "token", "known to", ""], rows))
}
