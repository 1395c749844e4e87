//! RFC 6962 section 2.1 (RFC 9162 section 2.1): tree hashing, inclusion and consistency proofs.

use crate::ids::Hash;
use crate::records::Broken;
use serde::{Deserialize, Serialize};

/// The complete subtrees of a log, as stored: `(level, index)` covers leaves
/// `index << level .. (index + 1) << level`; level 0 is a leaf hash.
pub trait Nodes {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken>;
}

/// What is needed to append to a log and to name its root: one hash per set bit of the size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest first.
    peaks: Vec<Hash>,
}

impl Frontier {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash. Returns every subtree that it completed, `(level, index, hash)`, the
    /// leaf itself (level 0) first.
    pub fn append(&mut self, leaf: Hash) -> Vec<(u8, u64, Hash)> {
        let (mut level, mut index, mut hash) = (0_u8, self.size, leaf);
        let mut completed = vec![(level, index, hash)];
        while index & 1 == 1 {
            let left = self.peaks.pop().expect("an odd index has a left sibling");
            hash = node_hash(&left, &hash);
            level += 1;
            index >>= 1;
            completed.push((level, index, hash));
        }
        self.peaks.push(hash);
        self.size += 1;
        completed
    }

    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(&last) = peaks.next() else { return empty_root() };
        peaks.fold(last, |right, left| node_hash(left, &right))
    }
}

pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut bytes = Vec::with_capacity(leaf.len() + 1);
    bytes.push(0);
    bytes.extend_from_slice(leaf);
    crate::wire::sha256(&bytes)
}

pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    crate::wire::sha256(&bytes)
}

/// The root of a log without leaves: the hash of nothing.
pub fn empty_root() -> Hash {
    crate::wire::sha256(&[])
}

/// The root of the first `size` leaves.
pub fn root_at(_nodes: &dyn Nodes, _size: u64) -> Result<Hash, Broken> {
    unimplemented!()
}

/// Proof that leaf `index` is in the tree of `size` leaves. `index < size`, else broken.
pub fn inclusion_proof(_nodes: &dyn Nodes, _index: u64, _size: u64) -> Result<Vec<Hash>, Broken> {
    unimplemented!()
}

/// The root that a proof leads to, `None` if the proof has not exactly the right length.
pub fn root_from_inclusion(_leaf: Hash, _index: u64, _size: u64, _proof: &[Hash]) -> Option<Hash> {
    unimplemented!()
}

/// Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves; empty if `old` is
/// 0 or equals `new`.
pub fn consistency_proof(_nodes: &dyn Nodes, _old: u64, _new: u64) -> Result<Vec<Hash>, Broken> {
    unimplemented!()
}

pub fn verify_consistency(_old: u64, _new: u64, _old_root: &Hash, _new_root: &Hash, _proof: &[Hash]) -> bool {
    unimplemented!()
}
