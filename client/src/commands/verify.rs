//! `tercet verify`: no network, no cluster, only two files.

use crate::exit::{Failure, REFUSED};
use crate::output;
use crate::session::{Globals, read_file};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use tercet::events::level_name;
use tercet::verify::{Checked, CheckedEvidence, VerifyError, read_trust};
use tercet_core::certificate::{TrustBundle, Verified};
use tercet_core::ids::{CloudId, FedId};

/// What no offline check can see.
const REVIEW_NOTE: &str = "REVIEW cannot be seen offline: whether a cloud that this rests on was caught lying later is known only to the clouds";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet verify order-17.cert --trust trust.json
  tercet verify order-17.cert --trust trust.json --fed-id 3f1c... -o json
  tercet verify evidence.bin --trust trust.json

Exit code 0: it verifies. 3: it is refused, and the reason is named. 2: a file cannot be read.")]
pub struct Verify {
    /// A certificate or evidence; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The federation's public keys [default: the context's]
    #[arg(long, value_name = "BUNDLE")]
    trust: Option<PathBuf>,
    /// The federation that the bundle must be of, as you noted it when you began to trust it
    #[arg(long, value_name = "HEX", value_parser = parse_fed)]
    fed_id: Option<FedId>,
}

pub fn run(globals: &Globals, command: &Verify) -> Result<(), Failure> {
    let bundle = match &command.trust {
        Some(path) => path.clone(),
        None => {
            globals.context()?.trust.ok_or_else(|| Failure::usage("pass --trust BUNDLE; the context names none"))?
        }
    };
    let trust = read_trust(&read_file(&bundle)?, command.fed_id.as_ref()).map_err(refuse)?;
    let bytes = read_file(&command.file)?;
    match tercet::verify::verify(&bytes, &trust).map_err(refuse)? {
        Checked::Certificate(verified) => show_certificate(globals, &verified, &trust),
        Checked::Evidence(evidence) => show_evidence(globals, &evidence, &trust),
    }
}

fn refuse(error: VerifyError) -> Failure {
    match error {
        VerifyError::BadTrust(_) => Failure::usage(error.to_string()),
        _ => Failure::new(REFUSED, error.to_string()),
    }
}

fn show_certificate(globals: &Globals, verified: &Verified, trust: &TrustBundle) -> Result<(), Failure> {
    let (content, envelope) = (&verified.content, &verified.envelope);
    if globals.is_json() {
        return output::json(&json!({
            "kind": "certificate",
            "level": verified.level,
            "tenant": content.tenant,
            "source": content.key.source(),
            "id": content.key.id(),
            "contentHash": verified.content_hash,
            "hash": verified.hash,
            "contentType": content.content_type,
            "payloadBytes": content.payload.len(),
            "originCloud": envelope.origin_cloud,
            "region": envelope.region,
            "logicalClock": envelope.logical_clock,
            "createdAt": envelope.created_at,
            "voters": verified.voters,
            "auditors": verified.auditors,
            "trustVersion": verified.trust_version,
            "fedId": trust.genesis.fed_id(),
            "review": "unknown offline",
        }));
    }
    let names = |clouds: &[CloudId]| clouds.iter().map(CloudId::as_str).collect::<Vec<_>>().join(", ");
    let promise = match level_name(verified.level) {
        "SEALED" => "two clouds agree and the third audited both",
        _ => "two clouds agree and audited each other",
    };
    output::print(&output::fields(&[
        ("VERIFIED", format!("certificate, {} ({promise})", output::level(verified.level))),
        ("tenant", content.tenant.to_string()),
        ("event id", content.key.id().to_owned()),
        ("source", content.key.source().to_owned()),
        ("content hash", verified.content_hash.to_string()),
        ("hash", verified.hash.to_string()),
        ("payload", format!("{} bytes of {}", content.payload.len(), content.content_type)),
        ("origin", format!("{} ({})", envelope.origin_cloud, envelope.region)),
        ("created", output::moment(&json!(envelope.created_at.0))),
        ("voters", names(&verified.voters)),
        ("auditors", names(&verified.auditors)),
        ("trust bundle", format!("version {}, federation {}", verified.trust_version, trust.genesis.fed_id())),
        ("not shown", REVIEW_NOTE.to_owned()),
    ]))
}

fn show_evidence(globals: &Globals, evidence: &CheckedEvidence, trust: &TrustBundle) -> Result<(), Failure> {
    let fed_id = trust.genesis.fed_id();
    if globals.is_json() {
        return output::json(&json!({
            "kind": "evidence",
            "lie": evidence.kind,
            "cloud": evidence.cloud,
            "id": evidence.id,
            "trustVersion": trust.version,
            "fedId": fed_id,
        }));
    }
    let what = match evidence.kind {
        "double-vote" => "it signed two different votes for one event",
        "fork-at-size" => "it signed two different logs of one size",
        "diverging-notes" => "it signed two notes, neither of which grew from the other",
        _ => "it signed two different votes at one place of its log",
    };
    output::print(&output::fields(&[
        ("VERIFIED", format!("evidence: cloud {} lied, {what}", evidence.cloud)),
        ("lie", evidence.kind.to_owned()),
        ("evidence id", evidence.id.to_string()),
        ("trust bundle", format!("version {}, federation {fed_id}", trust.version)),
    ]))
}

fn parse_fed(text: &str) -> Result<FedId, String> {
    text.parse().map_err(|error: tercet_core::ids::InvalidId| error.to_string())
}
