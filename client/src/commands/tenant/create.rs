//! `tercet tenant create`.

use crate::exit::{Failure, NO_QUORUM, REFUSED};
use crate::output;
use crate::session::{Globals, parse_tenant};
use clap::Args;
use futures::future::join_all;
use serde_json::json;
use tercet::tenants::{DEFAULT_MAX_PENDING, NewTenant, prepare};
use tercet_core::ids::TenantId;
use tercet_core::tenants::Confirm;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet tenant create shop
  tercet tenant create payments --manual
  tercet tenant create sensors --unsigned --max-pending 500000

Key and secret are written to tenants/NAME.key and tenants/NAME.json next to the context. If a cloud
could not be reached, run the same command again: it uses the same files and repeats nothing.")]
pub struct Create {
    /// The tenant's name
    #[arg(value_name = "NAME", value_parser = parse_tenant)]
    name: TenantId,
    /// Each cloud votes only when its operator says so
    #[arg(long)]
    manual: bool,
    /// Accept events without signatures: any one cloud can then take or block this tenant's ids
    #[arg(long)]
    unsigned: bool,
    /// How many events may wait for FINAL in one cloud
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PENDING)]
    max_pending: u64,
}

pub async fn run(globals: &Globals, command: Create) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let confirm = if command.manual { Confirm::Manual } else { Confirm::Auto };
    let new = NewTenant { id: command.name, confirm, unsigned: command.unsigned, max_pending: command.max_pending };
    let (tenant, fresh) = prepare(&context, &new)?;
    let (key, description) = context.tenant_files(&tenant.id);
    if fresh {
        eprintln!("wrote {} (secret, keep it)", description.display());
    } else {
        eprintln!("using {} from before", description.display());
    }
    if tenant.unsigned {
        eprintln!("warning: events of this tenant are not signed, so any one cloud can take or block its ids");
    }
    let told = join_all(client.clouds().iter().map(|cloud| client.put_tenant(&cloud.name, &tenant))).await;
    let mut failures = Vec::new();
    let mut clouds = serde_json::Map::new();
    for (cloud, result) in client.clouds().iter().zip(told) {
        let state = match result {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                let failure = Failure::from(error);
                let text = failure.message.clone();
                failures.push((cloud.name.clone(), failure));
                text
            }
        };
        clouds.insert(cloud.name.to_string(), json!(state));
    }
    if globals.is_json() {
        output::json(&json!({ "tenant": tenant.id, "confirm": tenant.confirm, "unsigned": tenant.unsigned,
            "keys": tenant.keys, "clouds": clouds }))?;
    } else {
        let mut rows = vec![("tenant", tenant.id.to_string()), ("confirm", format!("{confirm:?}").to_lowercase())];
        let key = if tenant.unsigned { "none (unsigned)".into() } else { key.display().to_string() };
        rows.push(("key", key));
        rows.extend(clouds.iter().map(|(cloud, state)| (cloud.as_str(), output::text(state))));
        output::print(&output::fields(&rows))?;
    }
    let Some((_, worst)) = failures.iter().find(|(_, failure)| failure.code == REFUSED).or(failures.first()) else {
        return Ok(());
    };
    let names: Vec<&str> = failures.iter().map(|(cloud, _)| cloud.as_str()).collect();
    let code = if worst.code == REFUSED { REFUSED } else { NO_QUORUM };
    let why = format!("the tenant does not exist yet on: {}", names.join(", "));
    Err(Failure::new(code, format!("{why}; run the same command again when they answer, that is safe")))
}
