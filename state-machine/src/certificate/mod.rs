//! Certificates: what an outsider verifies offline, with the trust bundle alone, to learn that an
//! event is FINAL or SEALED. Re-encoding an accepted certificate gives the input byte for byte.

mod build;
mod bytes;
mod proof;
mod trust;

pub use build::Disclosed;
pub use trust::{TRUST_VERSION, TrustBundle};

use crate::content::{Content, Envelope};
use crate::events::Level;
use crate::ids::{CloudId, EpochId, Hash};
use crate::transparency::{SignedNote, Vote};
use serde::{Deserialize, Serialize};

/// What HTTP calls a certificate.
pub const MEDIA_TYPE: &str = "application/vnd.tercet.certificate";

/// A confirming vote of a cloud: its leaf and the proofs that put it into checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenVote {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub index: u64,
    pub vote: Vote,
    /// The salt of the envelope hash is disclosed only for the certificate's own envelope; other
    /// clouds may have seen another envelope of the same content first.
    pub proofs: Vec<InclusionProof>,
}

/// Inclusion of the vote's leaf in its cloud's log at one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    pub size: u64,
    pub path: Vec<Hash>,
}

/// Sorted: notes by cloud, votes by cloud, proofs by size. Nothing that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub level: Level,
    pub content: Content,
    pub envelope: Envelope,
    pub key_salt: Hash,
    pub content_salt: Hash,
    pub envelope_salt: Hash,
    /// At most one note a cloud: its checkpoint and its audits.
    pub notes: Vec<SignedNote>,
    pub votes: Vec<ProvenVote>,
}

/// What a verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub level: Level,
    pub content: Content,
    pub envelope: Envelope,
    pub content_hash: Hash,
    pub hash: Hash,
    /// The clouds whose votes count, and the clouds that audited them.
    pub voters: Vec<CloudId>,
    pub auditors: Vec<CloudId>,
    pub trust_version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused: {0}")]
pub struct Refused(pub String);

impl Certificate {
    /// Decodes and verifies. The level that is written must be exactly the level that is proven.
    pub fn verify(bytes: &[u8], trust: &TrustBundle) -> Result<Verified, Refused> {
        trust.check()?;
        let certificate = Self::decode(bytes).map_err(|error| Refused(format!("not a certificate: {error}")))?;
        for note in &certificate.notes {
            let cloud = &note.body.origin.cloud;
            let signed = note.verify_among(&trust.genesis, &trust.openings);
            signed.map_err(|error| Refused(format!("the note of {cloud}: {error}")))?;
        }
        let proven = certificate.prove(&trust.genesis)?;
        if certificate.level != proven.level {
            let (written, proven) = (certificate.level.name(), proven.level.name());
            return Err(Refused(format!("it says {written} and proves {proven}")));
        }
        let content_hash = certificate.content.hash();
        Ok(Verified {
            level: proven.level,
            hash: certificate.envelope.hash(&content_hash),
            content_hash,
            voters: proven.voters,
            auditors: proven.auditors,
            trust_version: trust.version,
            content: certificate.content,
            envelope: certificate.envelope,
        })
    }
}
