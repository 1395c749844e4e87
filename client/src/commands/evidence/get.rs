//! `tercet evidence get`.

use crate::exit::{Failure, OTHER};
use crate::output;
use crate::session::Globals;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet evidence get 5ad1... --out lie.evidence
  tercet verify lie.evidence --trust trust.json")]
pub struct Get {
    /// The evidence's id, from `tercet evidence list`
    #[arg(value_name = "ID")]
    id: String,
    /// Write to this file [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(globals: &Globals, command: Get) -> Result<(), Failure> {
    if command.out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("evidence is binary; name a file with --out, or redirect stdout"));
    }
    let (_, client) = globals.asking()?;
    let bytes = client.evidence(&globals.reading(), &command.id).await?;
    let Some(path) = &command.out else {
        return output::bytes(&bytes);
    };
    std::fs::write(path, &bytes)
        .map_err(|error| Failure::new(OTHER, format!("cannot write {}: {error}", path.display())))?;
    eprintln!("wrote {} ({} bytes); check it with `tercet verify {}`", path.display(), bytes.len(), path.display());
    Ok(())
}
