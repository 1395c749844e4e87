//! `tercet role create`.

use super::{AskedArgs, Views, parse_holder, parse_lease, put_everywhere};
use crate::exit::{Failure, REFUSED};
use crate::output;
use crate::session::{Globals, TenantArgs, parse_duration};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use tercet_core::ids::{CloudId, HolderId, LeaseId};
use tercet_core::leases::{MAX_DURATION_MS, MIN_DURATION_MS, Scope, Spec};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role create primary --scope global --lease 3s
  tercet role create vault-unsealer --scope strict --lease 10s
  tercet role create gcp-cron --scope cloud --cloud gcp --lease 5s
  tercet role create primary --lease 3s --plan

Scopes: `global` is granted by 2 of 3 clouds and goes on without any one of them; a lying cloud can help two holders to
it, and is convicted by their grants. `strict` is granted by all three, for what must never happen twice. `cloud` is
one cloud's alone. Scope and lease never change. Running it again changes nothing but who is preferred, if that is named.")]
pub struct Create {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    /// global, strict, cloud:NAME, or cloud for the one that --cloud names
    #[arg(long, value_name = "SCOPE", default_value = "global")]
    scope: String,
    /// How long a holder may act without renewing, from 200ms to 10m
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = parse_duration)]
    lease: Duration,
    /// Who goes first when the role is free
    #[arg(long, value_name = "ID", value_parser = parse_holder)]
    preferred: Option<HolderId>,
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: Create) -> Result<(), Failure> {
    let asked = command.asked.asked(None)?;
    let (context, client) = globals.asking()?;
    let scope = match command.scope.as_str() {
        "cloud" => Scope::Cloud(globals.required_cloud("`--scope cloud` is of one cloud")?.clone()),
        text => text.parse()?,
    };
    let spec = Spec {
        tenant: command.tenant.tenant(&context)?,
        lease: command.name,
        scope,
        duration_ms: u32::try_from(command.lease.as_millis()).unwrap_or(u32::MAX),
        preferred: command.preferred,
        frozen: false,
    };
    // Running it again neither thaws the role nor forgets who goes first.
    let mut spec = spec;
    let duration = MIN_DURATION_MS..=MAX_DURATION_MS;
    if !duration.contains(&spec.duration_ms) {
        let (least, most) = duration.into_inner();
        return Err(Failure::usage(format!("a lease lasts {least} to {most} ms, not {}", spec.duration_ms)));
    }
    if let Scope::Cloud(cloud) = &spec.scope
        && !client.clouds().iter().any(|known| known.name == *cloud)
    {
        return Err(Failure::usage(format!("the context names no cloud {cloud}")));
    }
    let mut exists = false;
    if let Ok(known) = Views::ask(&client, &spec.tenant, &spec.lease).await {
        exists = known.silent.is_empty();
        let known = known.views[0].spec();
        if (&known.scope, known.duration_ms) != (&spec.scope, spec.duration_ms) {
            let why = format!(
                "{} exists with scope {} and a lease of {} ms, which never change",
                spec.lease, known.scope, known.duration_ms
            );
            return Err(Failure::new(REFUSED, why));
        }
        spec.frozen = known.frozen;
        spec.preferred = spec.preferred.or(known.preferred);
    }
    let clouds: Vec<&CloudId> = client.clouds().iter().map(|cloud| &cloud.name).collect();
    if !command.plan {
        put_everywhere(&client, &spec, &asked).await?;
    }
    if globals.is_json() {
        return output::json(&json!({
            "role": spec.lease, "tenant": spec.tenant, "scope": spec.scope, "leaseDurationMs": spec.duration_ms,
            "preferredHolder": spec.preferred, "clouds": clouds, "planned": command.plan,
        }));
    }
    let names: Vec<&str> = clouds.iter().map(|cloud| cloud.as_str()).collect();
    output::print(&output::fields(&[
        (
            if !command.plan {
                "role"
            } else if exists {
                "exists"
            } else {
                "would create"
            },
            spec.lease.to_string(),
        ),
        ("tenant", spec.tenant.to_string()),
        ("scope", spec.scope.to_string()),
        ("lease", format!("{} ms", spec.duration_ms)),
        ("preferred", spec.preferred.map_or_else(String::new, |holder| holder.to_string())),
        ("clouds", names.join(", ")),
    ]))
}
