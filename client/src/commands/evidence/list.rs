//! `tercet evidence list`.

use crate::exit::Failure;
use crate::output;
use crate::session::Globals;
use clap::Args;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet evidence list
  tercet evidence list --cloud azure -o json")]
pub struct List {}

pub async fn run(globals: &Globals) -> Result<(), Failure> {
    let (_, client) = globals.asking()?;
    let evidence = client.evidence_list(&globals.reading()).await?;
    if globals.is_json() {
        return output::json(&json!({ "evidence": evidence }));
    }
    if evidence.is_empty() {
        eprintln!("no cloud is known to have lied");
    }
    let rows = evidence.into_iter().map(|found| vec![found.id, found.cloud, found.kind]);
    output::print(&output::table(&["id", "cloud that lied", "lie"], rows))
}
