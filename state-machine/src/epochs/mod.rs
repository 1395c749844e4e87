//! Epochs: a cloud's log belongs to one epoch, whose node keys the cloud's root key certified. A
//! cloud that lost state opens a new epoch, and may vote there only once every other voter has
//! closed the old one.

mod apply;
mod recovery;

pub(crate) use apply::{admits, adopted, apply, introduce, open_leaf_fits};
pub use recovery::Recovery;
pub(crate) use recovery::{finish_recovery, take_closings};

use crate::genesis::Genesis;
use crate::ids::{CloudId, EpochId, FedId, Hash, NodeId};
use crate::signature::{PublicKey, Signature};
use crate::wire::{Writer, domain};
use serde::{Deserialize, Serialize};

/// The most nodes that a cloud may have.
pub const MAX_NODES_PER_CLOUD: usize = 9;

/// The signed birth of an epoch. Its id is a hash of the fresh keys, so it cannot be reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    pub cloud: CloudId,
    /// 0 for the first epoch of a cloud, then one more each time.
    pub number: u32,
    /// Keys of the nodes that sign notes in this epoch, sorted by node id.
    pub keys: Vec<(NodeId, PublicKey)>,
    /// How many node signatures a note carries: exactly this many.
    pub threshold: u32,
    pub root_signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    #[error("cloud {0} is not a voter of this federation")]
    UnknownCloud(CloudId),
    #[error("an epoch has 1 to {MAX_NODES_PER_CLOUD} nodes with distinct keys, sorted by id")]
    BadKeys,
    #[error("the threshold {threshold} is not a majority of {nodes} nodes, or more than all of them")]
    BadThreshold { threshold: u32, nodes: usize },
    #[error("the epoch is not signed by the root key of cloud {0}")]
    BadSignature(CloudId),
}

impl Opening {
    /// What the root key signs, and whose hash is the epoch's id.
    pub fn bytes(&self, fed: &FedId) -> Vec<u8> {
        let mut out = Writer::new(domain::EPOCH)
            .raw(&fed.0)
            .lp(self.cloud.as_str().as_bytes())
            .u32(self.number)
            .u32(self.threshold)
            .u32(self.keys.len() as u32);
        for (node, key) in &self.keys {
            out = out.lp(node.as_str().as_bytes()).raw(&key.to_bytes());
        }
        out.finish()
    }

    pub fn id(&self, fed: &FedId) -> EpochId {
        let hash = crate::wire::sha256(&self.bytes(fed));
        EpochId(hash.0[..16].try_into().expect("16 of 32 bytes"))
    }

    pub fn key(&self, node: &NodeId) -> Option<&PublicKey> {
        self.keys.iter().find(|(id, _)| id == node).map(|(_, key)| key)
    }

    pub fn check(&self, genesis: &Genesis) -> Result<(), OpeningError> {
        let voter = genesis.voter(&self.cloud).ok_or_else(|| OpeningError::UnknownCloud(self.cloud.clone()))?;
        let nodes = self.keys.len();
        let sorted = self.keys.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let mut keys: Vec<_> = self.keys.iter().map(|(_, key)| key.to_bytes()).collect();
        keys.sort_unstable();
        keys.dedup();
        if nodes == 0 || nodes > MAX_NODES_PER_CLOUD || !sorted || keys.len() != nodes {
            return Err(OpeningError::BadKeys);
        }
        let threshold = self.threshold;
        if 2 * threshold as usize <= nodes || threshold as usize > nodes {
            return Err(OpeningError::BadThreshold { threshold, nodes });
        }
        let signed = voter.root_key.verify(&self.bytes(&genesis.fed_id()), &self.root_signature);
        signed.map_err(|_| OpeningError::BadSignature(self.cloud.clone()))
    }
}

/// A voter's signed promise about a closed epoch of another cloud: "I hold your epoch at this size
/// and root, and will take no more of it than your next epoch adopts." A line of the voter's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Opens this cloud's own epoch: the first command of a new cluster, and of a recovered cloud.
    Open(Opening),
}
