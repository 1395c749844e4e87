//! `tercet role history`.

use super::{Views, parse_lease};
use crate::exit::Failure;
use crate::output::{self, Colour, paint};
use crate::session::{Globals, TenantArgs};
use clap::Args;
use serde_json::json;
use tercet::client::Route;
use tercet_core::ids::{HolderId, LeaseId};
use tercet_core::leases::{Because, Scope, What};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role history primary
  tercet role history primary --cloud aws --limit 5 -o json

What one cloud was told, the newest first: when by the wall clock of the node that took it, who asked as they named
themselves (`--by`, or the holder), and why (`--why`). The token of the API is what lets somebody ask; names are not
verified. How long nobody held the role is in milliseconds of that cloud's logged time, which stands while the cloud is
down. In JSON `at` is logged time and `time` Unix time, both in milliseconds.")]
pub struct History {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    /// The most changes to show, up to 1000
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: &History) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = command.tenant.tenant(&context)?;
    // Of a lease of one cloud the others hear nothing.
    let route = match (globals.reading(), Views::ask(&client, &tenant, &command.name).await?.scope()) {
        (Route::Any, Scope::Cloud(cloud)) => Route::Only(cloud),
        (route, _) => route,
    };
    let changes = client.lease_history(&route, &tenant, &command.name, command.limit).await?;
    if globals.is_json() {
        return output::json(&json!({ "changes": changes }));
    }
    let rows = changes.into_iter().map(|change| {
        let (what, holder, token, details) = describe(change.what);
        let when = output::moment(&json!(change.time.0));
        let why = [details, change.why.unwrap_or_default()].into_iter().filter(|text| !text.is_empty());
        let by = change.by.unwrap_or_default();
        vec![change.number.to_string(), when, what, holder, token, by, why.collect::<Vec<_>>().join("; ")]
    });
    output::print(&output::table(&["change", "when", "what", "holder", "token", "by", "why"], rows))
}

fn describe(what: What) -> (String, String, String, String) {
    let none = String::new;
    let named = |holder: Option<HolderId>| holder.map_or_else(|| "nobody".to_owned(), |holder| holder.to_string());
    match what {
        What::Created => ("created".into(), none(), none(), none()),
        What::Changed { preferred, frozen } => {
            let frozen = if frozen { ", frozen" } else { "" };
            ("changed".into(), none(), none(), format!("preferred: {}{frozen}", named(preferred)))
        }
        What::Acquired { holder, token, because, vacant_ms, .. } => {
            let why = match because {
                Because::First => "the first holder",
                Because::Expired => "the one before was out of time",
                Because::Released => "the one before released it",
            };
            let vacant = vacant_ms.map_or_else(none, |ms| format!(", {ms} ms without a holder"));
            ("acquired".into(), holder.to_string(), token.to_string(), format!("{why}{vacant}"))
        }
        What::Released { holder, token, to } => {
            let to = to.map_or_else(none, |to| format!("to {to}"));
            ("released".into(), holder.to_string(), token.to_string(), to)
        }
        What::SplitBrain { token, holder, other } => {
            let what = paint(Colour::Red, "SPLIT BRAIN");
            (what, holder.to_string(), token.to_string(), format!("{other} showed a grant with the same token"))
        }
    }
}
