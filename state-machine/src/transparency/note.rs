//! Notes: a cloud's checkpoint plus what it audited, signed by exactly `threshold` of its nodes.

use crate::epochs::{Closing, Opening};
use crate::ids::{CloudId, EpochId, FedId, Hash, NodeId};
use crate::signature::{Signature, SigningKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a log: `fed_id/cloud/epoch`, the first line of its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub fed: FedId,
    pub cloud: CloudId,
    pub epoch: EpochId,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fed, self.cloud, self.epoch)
    }
}

/// "I recomputed that root from the leaves and found no double vote."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

/// What the nodes sign: the cloud's own checkpoint, its audits sorted by cloud, its closings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteBody {
    pub origin: Origin,
    pub size: u64,
    pub root: Hash,
    pub audits: Vec<Audit>,
    pub closings: Vec<Closing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSignature {
    pub node: NodeId,
    pub signature: Signature,
}

/// A note and its signatures, sorted by node id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNote {
    pub body: NoteBody,
    pub signatures: Vec<NodeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("not a note: {0}")]
    Malformed(String),
    #[error("the note is of {found}, not of {expected}")]
    OtherOrigin { found: String, expected: String },
    #[error("the note carries {found} signatures, exactly {threshold} are needed")]
    WrongCount { found: usize, threshold: u32 },
    #[error("node {0} is not a signer of this epoch, or signs twice")]
    UnknownNode(NodeId),
    #[error("the signature of node {0} does not verify")]
    BadSignature(NodeId),
}

impl NoteBody {
    /// The signed text: a C2SP tlog-checkpoint with extension lines, ending in a newline.
    pub fn text(&self) -> String {
        unimplemented!()
    }

    pub fn sign(&self, _node: &NodeId, _key: &SigningKey) -> NodeSignature {
        unimplemented!()
    }

    /// Verifies one node's signature; the leader does so before it counts one.
    pub fn verify_one(&self, _signature: &NodeSignature, _opening: &Opening) -> Result<(), NoteError> {
        unimplemented!()
    }
}

impl SignedNote {
    /// The whole C2SP signed note: text, empty line, signature lines.
    pub fn text(&self) -> String {
        unimplemented!()
    }

    /// Parses strictly: what it accepts, `text` writes back byte for byte.
    pub fn parse(_text: &str) -> Result<Self, NoteError> {
        unimplemented!()
    }

    /// Exactly `threshold` distinct, known, valid signatures of the epoch, and its origin.
    pub fn verify(&self, _fed: &FedId, _opening: &Opening) -> Result<(), NoteError> {
        unimplemented!()
    }
}
