//! `tercet event submit`.

use super::WaitArg;
use crate::exit::{Failure, TIMED_OUT, retry_hint};
use crate::output;
use crate::session::{DEFAULT_WAIT, Globals, SignArgs, parse_cloud, read_file};
use clap::Args;
use serde_json::value::RawValue;
use std::path::PathBuf;
use tercet::client::{Patience, Route};
use tercet::events::{Draft, Payload, Receipt, Wait};
use tercet_core::cloudevents::is_json;
use tercet_core::ids::{CloudId, EventKey};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event submit --id order-17 --payload '{\"amount\": 5}'
  tercet event submit --id order-17 --source /shop --file order.json --wait sealed
  tercet event submit --id scan-3 --file scan.pdf --content-type application/pdf --at gcp
  tercet event submit --id order-17-appeal --supersedes order-17 --payload '{\"amount\": 6}'

The same id with the same content is the same event, at any cloud: repeating a submission is safe.")]
pub struct Submit {
    /// The event's id, unique in its tenant and source
    #[arg(long, value_name = "ID")]
    id: String,
    /// The event's source
    #[arg(long, value_name = "SOURCE", default_value = "", hide_default_value = true)]
    source: String,
    /// The payload itself
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    payload: Option<String>,
    /// The file that holds the payload; - is stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The payload's media type; JSON is canonicalised, anything else is kept byte for byte
    #[arg(long, value_name = "TYPE", default_value = "application/json")]
    content_type: String,
    /// Wait until the event has this level
    #[arg(long, value_enum, value_name = "LEVEL")]
    wait: Option<WaitArg>,
    /// Submit to this cloud and no other
    #[arg(long, value_name = "CLOUD", value_parser = parse_cloud)]
    at: Option<CloudId>,
    /// The id of the event that this one appeals
    #[arg(long, value_name = "ID")]
    supersedes: Option<String>,
    /// The source of the event that this one appeals [default: the same source]
    #[arg(long, value_name = "SOURCE", requires = "supersedes")]
    supersedes_source: Option<String>,
    #[command(flatten)]
    sign: SignArgs,
}

pub async fn run(globals: &Globals, command: Submit) -> Result<(), Failure> {
    let draft = command.draft()?;
    let context = globals.context()?;
    let signer = command.sign.signer(&context)?;
    draft.content(signer.tenant())?;
    let client =
        globals.client(&context, Patience::interactive(globals.timeout.unwrap_or(crate::session::DEFAULT_TIMEOUT)))?;
    let route = command.at.clone().map_or(Route::Any, Route::Only);
    let sent = client.submit(&route, &signer, &draft).await;
    let mut receipt = sent.map_err(|error| Failure::from(error).with_key(&draft.key))?;
    let Some(wait) = command.wait.map(Wait::from) else {
        return show(globals, &receipt);
    };
    if !wait.is_met_by(receipt.level) {
        let limit = globals.timeout.unwrap_or(DEFAULT_WAIT);
        // The cloud that took it knows it first; another one can tell the level as well.
        let near = Route::Prefer(receipt.origin_cloud.clone());
        match client.wait_for(&near, signer.tenant(), &draft.key, wait, Some(limit)).await {
            Ok(view) => receipt.level = view.level,
            Err(error) => {
                show(globals, &receipt)?;
                let why = format!("the event was accepted, but its level is not known: {error}");
                return Err(Failure::new(TIMED_OUT, format!("{why}\n{}", retry_hint(&draft.key))));
            }
        }
    }
    show(globals, &receipt)?;
    if wait.is_met_by(receipt.level) {
        return Ok(());
    }
    Err(super::missed(wait, receipt.level, &draft.key))
}

impl Submit {
    fn draft(&self) -> Result<Draft, Failure> {
        let key = EventKey::new(self.source.clone(), self.id.clone())?;
        let bytes = match (&self.payload, &self.file) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(path)) => Some(read_file(path)?),
            (None, None) => None,
        };
        let payload = match bytes {
            None => Payload::None,
            Some(bytes) if is_json(&self.content_type.to_ascii_lowercase()) => {
                let text = String::from_utf8(bytes)
                    .map_err(|_| Failure::usage("the payload is not UTF-8, so it is not JSON"))?;
                let raw = RawValue::from_string(text).map_err(|error| {
                    Failure::usage(format!("the payload is not JSON: {error}; for other payloads pass --content-type"))
                })?;
                Payload::Json(raw)
            }
            Some(bytes) => Payload::Bytes(bytes),
        };
        let supersedes = self.supersedes.clone().map(|id| {
            let source = self.supersedes_source.clone().unwrap_or_else(|| self.source.clone());
            EventKey::new(source, id)
        });
        Ok(Draft { key, content_type: self.content_type.clone(), payload, supersedes: supersedes.transpose()? })
    }
}

fn show(globals: &Globals, receipt: &Receipt) -> Result<(), Failure> {
    if globals.is_json() {
        return output::json(receipt);
    }
    output::print(&output::fields(&[
        ("id", receipt.id.clone()),
        ("source", receipt.source.clone()),
        ("tenant", receipt.tenant.to_string()),
        ("level", output::level(receipt.level)),
        ("new", if receipt.new { "yes" } else { "no, it was there already" }.into()),
        ("origin", receipt.origin_cloud.to_string()),
        ("content hash", receipt.content_hash.to_string()),
        ("hash", receipt.hash.to_string()),
    ]))
}
