//! `tercet event list`.

use crate::exit::Failure;
use crate::output;
use crate::session::{Globals, TenantArgs};
use clap::{Args, ValueEnum};
use serde_json::Value;
use tercet::events::{MAX_PAGE, Page};
use tercet_core::events::Level;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LevelArg {
    Pending,
    Quarantined,
    Final,
    Sealed,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event list
  tercet event list --level pending --cloud azure
  tercet event list --after 1000 --limit 500 -o json
  tercet event list --all -o json")]
pub struct List {
    /// Only events of this level
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<LevelArg>,
    /// Begin after this sequence number
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// How many events at most, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// All pages, not only one
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    tenant: TenantArgs,
}

pub async fn run(globals: &Globals, command: List) -> Result<(), Failure> {
    let (context, client) = globals.asking()?;
    let tenant = command.tenant.tenant(&context)?;
    let level = command.level.map(|level| match level {
        LevelArg::Pending => Level::Pending,
        LevelArg::Quarantined => Level::Quarantined,
        LevelArg::Final => Level::Final,
        LevelArg::Sealed => Level::Sealed,
    });
    let limit = if command.all { MAX_PAGE } else { command.limit };
    let mut page = client.list(&globals.reading(), &tenant, command.after, limit, level).await?;
    while command.all
        && let Some(next) = page.next
    {
        let more = client.list(&globals.reading(), &tenant, Some(next), limit, level).await?;
        page.events.extend(more.events);
        page.next = more.next;
    }
    show(globals, &page)
}

fn show(globals: &Globals, page: &Page) -> Result<(), Failure> {
    if globals.is_json() {
        return output::json(page);
    }
    let text = |event: &Value, name: &str| event.get(name).map_or_else(|| "-".into(), output::text);
    let rows = page.events.iter().map(|event| ["seq", "id", "source", "level"].map(|name| text(event, name)).to_vec());
    output::print(&output::table(&["seq", "id", "source", "level"], rows))?;
    if let Some(next) = page.next {
        eprintln!("more: add --after {next}, or --all");
    }
    Ok(())
}
