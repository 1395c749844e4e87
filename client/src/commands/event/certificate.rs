//! `tercet event certificate`.

use super::KeyArgs;
use crate::exit::{Failure, OTHER};
use crate::output;
use crate::session::Globals;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use tercet::client::{Patience, Route};

/// How long an event may still be on its way to FINAL, unless `--timeout` says otherwise.
const NOT_FINAL_YET: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event certificate order-17 --out order-17.cert
  tercet event certificate order-17 --source /shop > order-17.cert
  tercet verify order-17.cert --trust trust.json")]
pub struct Certificate {
    #[command(flatten)]
    key: KeyArgs,
    /// Write to this file [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(globals: &Globals, command: Certificate) -> Result<(), Failure> {
    if command.out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("a certificate is binary; name a file with --out, or redirect stdout"));
    }
    let context = globals.context()?;
    let client = globals.client(&context, Patience::interactive(globals.timeout.unwrap_or(NOT_FINAL_YET)))?;
    let (tenant, key) = (command.key.tenant.tenant(&context)?, command.key.key()?);
    let bytes = client.certificate(&Route::Any, &tenant, &key).await?;
    match &command.out {
        None => output::bytes(&bytes),
        Some(path) => {
            std::fs::write(path, &bytes)
                .map_err(|error| Failure::new(OTHER, format!("cannot write {}: {error}", path.display())))?;
            eprintln!(
                "wrote {} ({} bytes); check it with `tercet verify {}`",
                path.display(),
                bytes.len(),
                path.display()
            );
            Ok(())
        }
    }
}
