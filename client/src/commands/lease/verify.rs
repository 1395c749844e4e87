//! `tercet lease verify`: no network, only public keys.

use crate::exit::{Failure, REFUSED};
use crate::output;
use crate::session::{Globals, read_file};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tercet::verify::read_trust;
use tercet_core::leases::Grant;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet lease verify \"$TERCET_GRANT\"
  echo \"$TERCET_GRANT\" | tercet lease verify - --trust trust.json -o json

Exit code 0: it verifies. 3: it is refused, and the reason is named. That it verifies says who was granted the lease and
with which fencing token, not that nobody was granted it since: a resource refuses tokens lower than the highest it saw.")]
pub struct Verify {
    /// The grant's text; - is stdin
    #[arg(value_name = "GRANT")]
    grant: String,
    /// The federation's public keys [default: the context's]
    #[arg(long, value_name = "BUNDLE")]
    trust: Option<PathBuf>,
}

pub fn run(globals: &Globals, command: &Verify) -> Result<(), Failure> {
    let bundle = match &command.trust {
        Some(path) => path.clone(),
        None => {
            globals.context()?.trust.ok_or_else(|| Failure::usage("pass --trust BUNDLE; the context names none"))?
        }
    };
    let trust = read_trust(&read_file(&bundle)?, None).map_err(|error| Failure::usage(error.to_string()))?;
    let text = match command.grant.as_str() {
        "-" => String::from_utf8_lossy(&read_file(Path::new("-"))?).into_owned(),
        text => text.to_owned(),
    };
    let refused = |error: tercet_core::leases::NotGranted| Failure::new(REFUSED, format!("REFUSED grant: {error}"));
    let granted = Grant::from_text(&text).and_then(|grant| grant.verify(&trust.genesis, &trust.openings));
    let granted = granted.map_err(refused)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let expired = u128::from(granted.expires_at.0) < now;
    if globals.is_json() {
        let mut value = serde_json::to_value(&granted).map_err(|error| Failure::usage(error.to_string()))?;
        value["expired"] = expired.into();
        return output::json(&value);
    }
    let clouds: Vec<&str> = granted.clouds.iter().map(tercet_core::ids::CloudId::as_str).collect();
    output::print(&output::fields(&[
        ("VERIFIED", format!("grant by {}", clouds.join(", "))),
        ("tenant", granted.tenant.to_string()),
        ("lease", granted.lease.to_string()),
        ("holder", granted.holder.to_string()),
        ("fencing token", granted.fencing_token.to_string()),
        ("scope", granted.scope.clone()),
        ("renewal", granted.renewal.to_string()),
        ("granted", output::moment(&json!(granted.acquired_at.0))),
        (if expired { "ended by" } else { "ends by" }, output::moment(&json!(granted.expires_at.0))),
        ("session", granted.session.to_string()),
    ]))
}
