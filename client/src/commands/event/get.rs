//! `tercet event get`.

use super::{KeyArgs, WaitArg};
use crate::exit::Failure;
use crate::output::{self, Colour, paint};
use crate::session::{DEFAULT_WAIT, Globals};
use clap::Args;
use tercet::events::{EventView, Wait};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event get order-17
  tercet event get order-17 --source /shop -o json
  tercet event get order-17 --wait sealed --timeout 1m
  tercet event get order-17 --cloud aws      (as aws sees it)")]
pub struct Get {
    #[command(flatten)]
    key: KeyArgs,
    /// Wait until the event has this level
    #[arg(long, value_enum, value_name = "LEVEL")]
    wait: Option<WaitArg>,
}

pub async fn run(globals: &Globals, command: Get) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let (tenant, key) = (command.key.tenant.tenant(&context)?, command.key.key()?);
    let Some(wait) = command.wait.map(Wait::from) else {
        return show(globals, &client.event(&globals.reading(), &tenant, &key).await?);
    };
    let limit = globals.timeout.unwrap_or(DEFAULT_WAIT);
    let view = client.wait_for(&globals.reading(), &tenant, &key, wait, Some(limit)).await?;
    show(globals, &view)?;
    if wait.is_met_by(view.level) {
        return Ok(());
    }
    Err(super::missed(wait, view.level, &key))
}

pub fn show(globals: &Globals, view: &EventView) -> Result<(), Failure> {
    if globals.is_json() {
        return output::json(view);
    }
    let mut rows = vec![
        ("id", view.id.clone()),
        ("source", view.source.clone()),
        ("tenant", view.tenant.to_string()),
        ("level", format!("{}{}", output::level(view.level), marks(view))),
        ("content hash", view.content_hash.map_or_else(|| "-".into(), |hash| hash.to_string())),
    ];
    if let Some(envelope) = &view.envelope {
        let text = |name: &str| envelope.get(name).map_or_else(|| "-".into(), output::text);
        rows.push(("origin", text("originCloud")));
        rows.push(("region", text("region")));
        rows.push(("logical clock", text("logicalClock")));
        rows.push(("created", envelope.get("createdAt").map_or_else(|| "-".into(), output::moment)));
        rows.push(("hash", text("hash")));
        rows.push(("signed", envelope.get("signature").is_some_and(|value| !value.is_null()).to_string()));
        let other = envelope.get("payloadBase64").map(|base64| format!("base64 {}", output::text(base64)));
        rows.push(("payload", shortened(&other.unwrap_or_else(|| text("payload")))));
    }
    let votes = view.votes.iter().map(|vote| {
        let audited: Vec<&str> = vote.audited_by.iter().map(tercet_core::ids::CloudId::as_str).collect();
        let audited = if audited.is_empty() { "nobody yet".into() } else { audited.join(", ") };
        vec![vote.cloud.to_string(), vote.verdict.clone(), vote.index.to_string(), audited]
    });
    let votes = output::table(&["cloud", "vote", "leaf", "audited by"], votes);
    output::print(&format!("{}\n\n{votes}", output::fields(&rows)))
}

fn marks(view: &EventView) -> String {
    let marks = view.marks;
    let said = [
        (marks.review, Colour::Yellow, "REVIEW: it rests on a cloud that lied"),
        (marks.conflict, Colour::Red, "CONFLICT: two contents are FINAL, an operator decides"),
        (marks.dissent, Colour::Yellow, "dissent: one vote differs"),
        (marks.actionable, Colour::Yellow, "actionable: every vote is known and audited"),
    ];
    said.iter().filter(|(set, ..)| *set).map(|(_, colour, text)| format!("  {}", paint(*colour, text))).collect()
}

fn shortened(text: &str) -> String {
    /// What fits on a screen; `-o json` shows all.
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} ... ({} bytes, all with -o json)", &text[..end], text.len()),
    }
}
