//! Certificates: what an outsider verifies offline, with the trust bundle alone, to learn that an
//! event is FINAL or SEALED. Re-encoding an accepted certificate gives the input byte for byte.

use crate::content::{Content, Envelope};
use crate::epochs::Opening;
use crate::events::Level;
use crate::genesis::Genesis;
use crate::ids::{CloudId, EpochId, Hash};
use crate::transparency::{SignedNote, Vote};
use serde::{Deserialize, Serialize};

/// Version of the trust bundle's form.
pub const TRUST_VERSION: u32 = 1;

/// The public keys of a federation: its genesis and the epochs known so far. Its hash of the
/// genesis is what a user pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    pub version: u32,
    pub genesis: Genesis,
    pub openings: Vec<Opening>,
}

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
    pub fn bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Decodes and verifies. The level that is written must be exactly the level that is proven.
    pub fn verify(_bytes: &[u8], _trust: &TrustBundle) -> Result<Verified, Refused> {
        unimplemented!()
    }
}
