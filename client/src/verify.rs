//! Verification without any network: a certificate or evidence against a trust bundle, with public
//! keys only. The bytes say by their domain which of the two they are.

use serde::Serialize;
use tercet_core::certificate::{Certificate, TRUST_VERSION, TrustBundle, Verified};
use tercet_core::evidence::Evidence;
use tercet_core::ids::{CloudId, FedId, Hash};
use tercet_core::wire::{Reader, domain};

/// The largest file that is verified, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the trust bundle cannot be used: {0}")]
    BadTrust(String),
    #[error("the trust bundle is of federation {found}, not of {expected}")]
    OtherFederation { found: FedId, expected: FedId },
    #[error(
        "this is neither a certificate nor evidence; pass what `tercet event certificate` or `tercet evidence get` wrote"
    )]
    Unknown,
    #[error("REFUSED certificate: {0}")]
    Certificate(String),
    #[error("REFUSED evidence: {0}")]
    Evidence(String),
}

/// What was verified, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    Certificate(Box<Verified>),
    Evidence(CheckedEvidence),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedEvidence {
    pub id: Hash,
    /// The cloud that is proven to have lied.
    pub cloud: CloudId,
    pub kind: &'static str,
}

/// Reads a trust bundle and checks that it is consistent in itself. `pinned` is the federation that
/// the caller expects; without it the bundle itself is what is trusted.
pub fn read_trust(json: &[u8], pinned: Option<&FedId>) -> Result<TrustBundle, VerifyError> {
    let bad = |why: String| VerifyError::BadTrust(why);
    let trust: TrustBundle = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
    if trust.version != TRUST_VERSION {
        return Err(bad(format!("it has version {}, this program reads {TRUST_VERSION}", trust.version)));
    }
    trust.genesis.check().map_err(|error| bad(error.to_string()))?;
    for opening in &trust.openings {
        opening.check(&trust.genesis).map_err(|error| bad(error.to_string()))?;
    }
    let found = trust.genesis.fed_id();
    match pinned {
        Some(&expected) if expected != found => Err(VerifyError::OtherFederation { found, expected }),
        _ => Ok(trust),
    }
}

pub fn verify(bytes: &[u8], trust: &TrustBundle) -> Result<Checked, VerifyError> {
    if Reader::new(bytes, domain::CERTIFICATE).is_ok() {
        let verified = Certificate::verify(bytes, trust);
        return verified
            .map(|verified| Checked::Certificate(Box::new(verified)))
            .map_err(|error| VerifyError::Certificate(error.0));
    }
    if Reader::new(bytes, domain::EVIDENCE).is_err() {
        return Err(VerifyError::Unknown);
    }
    let evidence = Evidence::decode(bytes).map_err(|error| VerifyError::Evidence(error.0))?;
    let verified = evidence.verify(&trust.genesis, &trust.openings);
    verified.map_err(|error| VerifyError::Evidence(error.to_string()))?;
    Ok(Checked::Evidence(CheckedEvidence { id: evidence.id(), kind: evidence.kind(), cloud: evidence.cloud }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_not_json_is_refused_with_the_reason() {
        let error = read_trust(b"{", None).unwrap_err();
        assert!(error.to_string().starts_with("the trust bundle cannot be used"), "{error}");
    }
}
