//! Evidence: a self-contained proof that a cloud lied, verifiable by a stranger from the evidence
//! and the federation's public keys. It never expires, and it convicts only by signed bodies.

mod apply;

pub(crate) use apply::{apply, bridge, convict};

use crate::epochs::Opening;
use crate::genesis::Genesis;
use crate::ids::{CloudId, Hash};
use crate::transparency::{Leaf, SignedNote};
use crate::wire::WireError;
use serde::{Deserialize, Serialize};

/// "This leaf stands at this index of the log that this note signs."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub note: SignedNote,
    pub index: u64,
    pub leaf: Leaf,
    pub proof: Vec<Hash>,
}

/// The lie. The two parts are ordered by their bytes, so that each lie has one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lie {
    /// Two different votes for one tag, in any epochs.
    DoubleVote(Box<Statement>, Box<Statement>),
    /// Two notes of one epoch with the same size and another root.
    ForkAtSize(Box<SignedNote>, Box<SignedNote>),
    /// Two leaves at one index of one epoch.
    ForkAtIndex(Box<Statement>, Box<Statement>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub cloud: CloudId,
    pub lie: Lie,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this evidence convicts nobody: {0}")]
pub struct NotEvidence(pub String);

impl Evidence {
    /// Names the evidence: a hash of its bytes.
    pub fn id(&self) -> Hash {
        crate::wire::sha256(&self.bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, WireError> {
        unimplemented!()
    }

    /// Checks every signature, proof and the contradiction itself. `openings` are the epochs that
    /// the verifier knows, each checked against the genesis.
    pub fn verify(&self, _genesis: &Genesis, _openings: &[Opening]) -> Result<(), NotEvidence> {
        unimplemented!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Evidence whose signatures the proposing leader has verified.
    Accuse(Box<Evidence>),
}
