//! `tercet event reject`.

use super::KeyArgs;
use crate::exit::Failure;
use crate::session::Globals;
use clap::Args;
use tercet_core::ids::Hash;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event reject order-17 --cloud aws
  tercet event reject order-17 --cloud aws --source /shop --tenant shop

A cloud votes on a key once, ever; the vote cannot be taken back.")]
pub struct Reject {
    #[command(flatten)]
    key: KeyArgs,
    /// Only this content, if the cloud holds several
    #[arg(long, value_name = "HASH", value_parser = super::parse_hash)]
    content_hash: Option<Hash>,
}

pub async fn run(globals: &Globals, command: &Reject) -> Result<(), Failure> {
    super::decide(globals, &command.key, command.content_hash, false).await
}
