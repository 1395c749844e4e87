//! `tercet role show`.

use super::{Views, parse_lease};
use crate::exit::Failure;
use crate::output::{self, Colour, paint};
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::json;
use tercet::leases::LeaseView;
use tercet_core::ids::LeaseId;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role show primary
  tercet role show primary -o json | jq -r .holderIdentity

The holder is the one whom enough clouds name for the role's scope; each cloud's own answer follows. The clouds see a
tenure end a little after its holder does, since they wait for clocks that run wrong.")]
pub struct Show {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: &Show) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = command.tenant.tenant(&context)?;
    let views = Views::ask(&client, &tenant, &command.name).await?;
    views.complain();
    let holder = views.holder(client.clouds().len());
    let of_holder = |view: &&LeaseView| holder.is_some() && view.fencing_token == holder.map(|(_, token)| token);
    let best = views.views.iter().filter(of_holder).max_by_key(|view| view.renew_time.clone());
    let first = best.or(views.views.first()).expect("at least one cloud answered");
    let transitions = views.views.iter().map(|view| view.lease_transitions).max().unwrap_or(0);
    let acquired = views.views.iter().filter(of_holder).find_map(|view| view.acquire_time.clone());
    let renewed = best.and_then(|view| view.renew_time.clone());
    let unknown = views.unknown(client.clouds().len());
    if globals.is_json() {
        let silent: Vec<_> = views.silent.keys().collect();
        output::json(&json!({
            "tenant": first.tenant, "name": first.name, "scope": first.scope,
            "leaseDurationMs": first.lease_duration_ms,
            "holderIdentity": holder.map(|(holder, _)| holder), "fencingToken": holder.map(|(_, token)| token),
            "acquireTime": acquired, "renewTime": renewed, "leaseTransitions": transitions,
            "preferredHolder": first.preferred_holder, "frozen": first.frozen,
            "clouds": views.views, "silent": silent, "known": unknown.is_none(),
        }))?;
        return unknown.map_or(Ok(()), Err);
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let held = match holder {
        Some((holder, _)) => paint(Colour::Green, holder.as_str()),
        None if unknown.is_some() => paint(Colour::Red, "unknown"),
        None => paint(Colour::Yellow, "nobody"),
    };
    output::print(&output::fields(&[
        ("role", first.name.to_string()),
        ("holder", held),
        ("fencing token", holder.map_or_else(String::new, |(_, token)| token.to_string())),
        ("scope", first.scope.to_string()),
        ("lease", format!("{} ms", first.lease_duration_ms)),
        ("acquired", text(&acquired)),
        ("renewed", text(&renewed)),
        ("transitions", transitions.to_string()),
        ("preferred", first.preferred_holder.as_ref().map_or_else(String::new, ToString::to_string)),
        ("frozen", if first.frozen { "yes: nobody new gets a vote" } else { "" }.to_owned()),
    ]))?;
    output::print("")?;
    let rows = views.views.iter().map(|view| {
        let vote = view.vote.as_ref();
        let state = match (&view.holder_identity, vote) {
            (Some(_), _) => "holds",
            (None, Some(vote)) if vote.released => "released",
            (None, Some(_)) => "out of time",
            (None, None) => "never voted",
        };
        vec![
            view.cloud.to_string(),
            vote.map_or_else(|| "-".into(), |vote| vote.holder.to_string()),
            vote.map_or_else(|| "-".into(), |vote| vote.token.to_string()),
            vote.map_or_else(|| "-".into(), |vote| vote.renewal.to_string()),
            state.into(),
        ]
    });
    output::print(&output::table(&["cloud", "its vote", "token", "renewal", ""], rows))?;
    unknown.map_or(Ok(()), Err)
}
