//! `tercet role freeze`, `thaw`, `prefer` and `handover`.

use super::{AskedArgs, Views, parse_holder, parse_lease, put_everywhere, put_where_they_answer};
use crate::exit::{Failure, REFUSED, TIMED_OUT};
use crate::output;
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tercet::client::Patience;
use tercet_core::ids::{HolderId, LeaseId};
use tercet_core::leases::{Asked, Spec};
use tokio::time::Instant;

/// How long a handover may take, unless `--timeout` says otherwise.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// The role, and whether only to say what would be done.
#[derive(Debug, Args)]
struct Which {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    tenant: TenantArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role freeze primary
  tercet role freeze primary --why 'database upgrade' --by alice
  tercet role freeze primary --plan

For maintenance: the holder goes on as long as it renews; when it stops, nobody takes over until `tercet role thaw`.")]
pub struct Freeze {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role thaw primary
  tercet role thaw primary --plan")]
pub struct Thaw {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role prefer primary web-gcp
  tercet role prefer primary --nobody
  tercet role prefer primary web-gcp --plan

The preferred candidate goes first when the role is free. Whoever holds it keeps it: to move it now, hand it over.")]
pub struct Prefer {
    #[command(flatten)]
    which: Which,
    /// Who goes first
    #[arg(value_name = "ID", value_parser = parse_holder, required_unless_present = "nobody")]
    holder: Option<HolderId>,
    /// Nobody goes first
    #[arg(long, conflicts_with = "holder")]
    nobody: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role handover primary --to web-gcp
  tercet role handover primary --to web-gcp --timeout 30s
  tercet role handover primary --to web-gcp --plan

The successor has to be an agent that reports it is ready. The holder releases the role to it alone, and drains after
the switch. If it takes too long the role stays where it is.")]
pub struct Handover {
    #[command(flatten)]
    which: Which,
    /// Who shall hold it
    #[arg(long, value_name = "ID", value_parser = parse_holder)]
    to: HolderId,
}

pub async fn freeze(globals: &Globals, command: &Freeze) -> Result<(), Failure> {
    change(globals, &command.which, |spec| spec.frozen = true).await
}

pub async fn thaw(globals: &Globals, command: &Thaw) -> Result<(), Failure> {
    change(globals, &command.which, |spec| spec.frozen = false).await
}

pub async fn prefer(globals: &Globals, command: &Prefer) -> Result<(), Failure> {
    change(globals, &command.which, |spec| spec.preferred.clone_from(&command.holder)).await
}

async fn change(globals: &Globals, which: &Which, change: impl FnOnce(&mut Spec)) -> Result<(), Failure> {
    let asked = which.asked.asked(None)?;
    let (context, client) = globals.asking()?;
    let views = Views::ask(&client, &which.tenant.tenant(&context)?, &which.name).await?;
    let before = views.views[0].spec();
    let mut spec = before.clone();
    change(&mut spec);
    if !which.plan {
        put_everywhere(&client, &spec, &asked).await?;
    }
    show(globals, which.plan, &before, &spec)
}

fn show(globals: &Globals, planned: bool, before: &Spec, spec: &Spec) -> Result<(), Failure> {
    if globals.is_json() {
        return output::json(&json!({
            "role": spec.lease, "frozen": spec.frozen, "preferredHolder": spec.preferred, "planned": planned,
            "changed": before != spec,
        }));
    }
    let named = |spec: &Spec| spec.preferred.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let from_to = |from: String, to: String| if from == to { to } else { format!("{from} -> {to}") };
    output::print(&output::fields(&[
        (if planned { "would change" } else { "role" }, spec.lease.to_string()),
        ("frozen", from_to(before.frozen.to_string(), spec.frozen.to_string())),
        ("preferred", from_to(named(before), named(spec))),
    ]))
}

pub async fn handover(globals: &Globals, command: &Handover) -> Result<(), Failure> {
    let context = globals.context()?;
    let timeout = globals.timeout.unwrap_or(HANDOVER_TIMEOUT);
    let client = globals.client(&context, Patience::interactive(timeout.min(crate::session::DEFAULT_TIMEOUT)))?;
    let tenant = command.which.tenant.tenant(&context)?;
    let (name, to) = (&command.which.name, &command.to);
    let asked = command.which.asked.asked(Some(format!("handover to {to}")))?;
    let over = Asked { why: Some(format!("the handover to {to} is over")), ..asked.clone() };
    let views = Views::ask(&client, &tenant, name).await?;
    let clouds = client.clouds().len();
    let holder = views.holder(clouds).map(|(holder, _)| holder.clone());
    let before = views.views[0].spec();
    if holder.as_ref() == Some(to) {
        return Err(Failure::new(REFUSED, format!("{to} holds {name} already")));
    }
    let standing = client.leader(&tenant, name).await?;
    let ready = standing.candidates.iter().find(|candidate| candidate.agent == *to).map(|candidate| candidate.ready);
    match ready {
        Some(true) => {}
        Some(false) => return Err(Failure::new(REFUSED, format!("{to} stands for {name} and is not ready yet"))),
        None => {
            let known: Vec<String> = standing.candidates.iter().map(|candidate| candidate.agent.to_string()).collect();
            let known = if known.is_empty() { "nobody does".to_owned() } else { format!("{} do", known.join(", ")) };
            return Err(Failure::new(REFUSED, format!("no agent {to} stands for {name}; {known}")));
        }
    }
    let mut spec = before.clone();
    spec.preferred = Some(to.clone());
    let from = holder.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    if command.which.plan {
        eprintln!("{from} holds {name}; it would release it to {to}, which is ready");
        return show(globals, true, &before, &spec);
    }
    // Without one cloud the wish arrives all the same: the holder asks one that answers.
    let told = put_where_they_answer(&client, &spec, &asked).await?;
    let begun = Instant::now();
    let moved = loop {
        let views = Views::ask(&client, &tenant, name).await?;
        match views.holder(clouds) {
            Some((holder, token)) if holder == to => break Some(token),
            _ if begun.elapsed() >= timeout => break None,
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    // Who goes first afterwards is what it was.
    let taken_back = put_where_they_answer(&client, &before, &over).await?;
    for cloud in told.iter().filter(|cloud| !taken_back.contains(cloud)) {
        eprintln!("cloud {cloud} did not take the wish back; do it with `tercet role prefer {name}` when it answers");
    }
    let Some(token) = moved else {
        let why = format!("{from} did not hand {name} over to {to} within {timeout:?}; the wish is taken back");
        return Err(Failure::new(TIMED_OUT, why));
    };
    let took = begun.elapsed().as_millis();
    if globals.is_json() {
        return output::json(&json!({ "role": name, "from": holder, "to": to, "fencingToken": token, "tookMs": took }));
    }
    output::print(&output::fields(&[
        ("role", name.to_string()),
        ("handed over", format!("{from} -> {to}")),
        ("fencing token", token.to_string()),
        ("took", format!("{took} ms")),
    ]))
}
