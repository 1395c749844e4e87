//! `tercet event`.

mod certificate;
mod confirm;
mod get;
mod import;
mod list;
mod reject;
mod submit;

use crate::exit::{Failure, REFUSED, TIMED_OUT, retry_hint};
use crate::session::{Globals, TenantArgs};
use clap::{Args, Subcommand, ValueEnum};
use tercet::events::Wait;
use tercet_core::events::Level;
use tercet_core::ids::{CloudId, EventKey, Hash};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign and submit one event
    Submit(submit::Submit),
    /// Show one event: envelope, level, votes and marks
    Get(get::Get),
    /// List a tenant's events
    List(list::List),
    /// Import a file of CloudEvents, one a line
    Import(import::Import),
    /// Confirm an event as one cloud's operator (tenants with manual confirmation)
    Confirm(confirm::Confirm),
    /// Reject an event as one cloud's operator (tenants with manual confirmation)
    Reject(reject::Reject),
    /// Fetch the certificate of a FINAL or SEALED event
    Certificate(certificate::Certificate),
}

/// Names an event of a tenant.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// The event's id
    #[arg(value_name = "ID")]
    id: String,
    /// The event's source, for CloudEvents
    #[arg(long, value_name = "SOURCE", default_value = "", hide_default_value = true)]
    source: String,
    #[command(flatten)]
    tenant: TenantArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitArg {
    /// Two of three clouds agree
    Final,
    /// The third cloud audited both
    Sealed,
}

impl KeyArgs {
    fn key(&self) -> Result<EventKey, Failure> {
        Ok(EventKey::new(self.source.clone(), self.id.clone())?)
    }
}

impl From<WaitArg> for Wait {
    fn from(wait: WaitArg) -> Self {
        match wait {
            WaitArg::Final => Self::Final,
            WaitArg::Sealed => Self::Sealed,
        }
    }
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Submit(command) => submit::run(globals, command).await,
        Command::Get(command) => get::run(globals, command).await,
        Command::List(command) => list::run(globals, command).await,
        Command::Import(command) => import::run(globals, command).await,
        Command::Confirm(command) => confirm::run(globals, &command).await,
        Command::Reject(command) => reject::run(globals, &command).await,
        Command::Certificate(command) => certificate::run(globals, command).await,
    }
}

/// Why a wait ended below its level.
fn missed(wait: Wait, level: Level, key: &EventKey) -> Failure {
    if level == Level::Quarantined {
        let why = "it is QUARANTINED: the clouds voted for different contents, and none can reach the quorum";
        return Failure::new(REFUSED, format!("{why}; see `tercet event get {:?}`", key.id()));
    }
    let (level, wanted) = (tercet::events::level_name(level), wait.as_str().to_uppercase());
    let why = format!("the event was accepted but is {level}, not {wanted}, when the time was over");
    Failure::new(TIMED_OUT, format!("{why}; see `tercet status`\n{}", retry_hint(key)))
}

/// An operator's decision; confirm and reject differ in one word.
async fn decide(globals: &Globals, args: &KeyArgs, content: Option<Hash>, confirm: bool) -> Result<(), Failure> {
    let what = if confirm { "a cloud confirms for itself alone" } else { "a cloud rejects for itself alone" };
    let cloud: &CloudId = globals.required_cloud(what)?;
    let (context, client) = globals.asking()?;
    let (tenant, key) = (args.tenant.tenant(&context)?, args.key()?);
    client.decide(cloud, &tenant, &key, confirm, content).await?;
    let view = client.event(&tercet::client::Route::Only(cloud.clone()), &tenant, &key).await?;
    let word = if confirm { "confirms" } else { "rejects" };
    eprintln!("cloud {cloud} {word} {key}");
    get::show(globals, &view)
}

fn parse_hash(text: &str) -> Result<Hash, String> {
    text.parse().map_err(|error: tercet_core::ids::InvalidId| error.to_string())
}
