//! The leaves of a cloud's log and their exact bytes.

use crate::ids::{Hash, Tag};
use crate::wire::WireError;
use serde::{Deserialize, Serialize};

/// A leaf: the opening of an epoch (leaf 0, and only there), or a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaf {
    Open(Open),
    Vote(Vote),
}

/// Leaf 0 of every epoch: under which rules this cloud speaks, and where its last epoch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Hash over the epoch's opening: keys, threshold, number.
    pub opening: Hash,
    /// Number of the federation's configuration, 0 for the genesis.
    pub config: u32,
    /// Hash of the genesis (weights, quorum, root keys).
    pub config_hash: Hash,
    /// The closed head of the epoch before, if there was one: (size, root).
    pub predecessor: Option<(u64, Hash)>,
}

/// A cloud's one and only answer for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub config: u32,
    pub tag: Tag,
    pub verdict: Verdict,
    /// The salted hash of the content that was answered.
    pub content: Hash,
    /// The salted hash of the envelope that this cloud saw first.
    pub envelope: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Confirm,
    /// An operator of this cloud refused the content.
    RejectOperator,
}

impl Leaf {
    pub fn bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    pub fn decode(_bytes: &[u8]) -> Result<Self, WireError> {
        unimplemented!()
    }
}
