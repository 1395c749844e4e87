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

    /// Appends a leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        self.append_to(leaf, |_, _, _| {});
    }

    /// Appends a leaf hash. Every subtree that it completed is named, `(level, index, hash)`, the leaf itself
    /// (level 0) first.
    pub fn append_to(&mut self, leaf: Hash, mut completed: impl FnMut(u8, u64, Hash)) {
        let (mut level, mut index, mut hash) = (0_u8, self.size, leaf);
        completed(level, index, hash);
        while index & 1 == 1 {
            let left = self.peaks.pop().expect("an odd index has a left sibling");
            hash = node_hash(&left, &hash);
            level += 1;
            index >>= 1;
            completed(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(&last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(last, |right, left| node_hash(left, &right))
    }
}

pub fn leaf_hash(leaf: &[u8]) -> Hash {
    crate::wire::sha256_of(&[&[0], leaf])
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
pub fn root_at(nodes: &dyn Nodes, size: u64) -> Result<Hash, Broken> {
    if size == 0 { Ok(empty_root()) } else { range_root(nodes, 0, size) }
}

/// Proof that leaf `index` is in the tree of `size` leaves. `index < size`, else broken.
pub fn inclusion_proof(nodes: &dyn Nodes, index: u64, size: u64) -> Result<Vec<Hash>, Broken> {
    if index >= size {
        return Err(Broken(format!("there is no leaf {index} in a log of {size} leaves")));
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range_root(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range_root(nodes, from, middle)?);
            from = middle;
        }
    }
    // The siblings were met from the root down; a proof names them from the leaf up.
    path.reverse();
    Ok(path)
}

/// The root that a proof leads to, `None` if the proof has not exactly the right length.
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sibling, &root);
            skip_missing_siblings(&mut node, &mut last);
        } else {
            root = node_hash(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves; empty if `old` is
/// 0 or equals `new`.
pub fn consistency_proof(nodes: &dyn Nodes, old: u64, new: u64) -> Result<Vec<Hash>, Broken> {
    if old > new {
        return Err(Broken(format!("a log of {new} leaves has no prefix of {old}")));
    }
    let mut path = Vec::new();
    if old == 0 {
        return Ok(path);
    }
    let (mut from, mut to) = (0, new);
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range_root(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range_root(nodes, from, middle)?);
            from = middle;
        }
    }
    // A prefix that is itself one complete subtree is the old root, which the verifier knows.
    if from > 0 {
        path.push(range_root(nodes, from, to)?);
    }
    path.reverse();
    Ok(path)
}

pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    if old > new {
        return false;
    }
    let (mut node, mut last) = (old - 1, new - 1);
    let complete = node.trailing_ones();
    node >>= complete;
    last >>= complete;
    let (start, rest) = if node == 0 {
        (*old_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else {
            return false;
        };
        (*first, rest)
    };
    let (mut old_side, mut new_side) = (start, start);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_side = node_hash(sibling, &old_side);
            new_side = node_hash(sibling, &new_side);
            skip_missing_siblings(&mut node, &mut last);
        } else {
            new_side = node_hash(&new_side, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_side == *old_root && new_side == *new_root
}

/// The right edge of an incomplete tree has no siblings on some levels: there a subtree is lifted
/// unchanged until it becomes a right child.
fn skip_missing_siblings(node: &mut u64, last: &mut u64) {
    let levels = if *node == 0 { 0 } else { node.trailing_zeros() };
    *node >>= levels;
    *last >>= levels;
}

/// The largest power of two below `leaves`, which is at least 2: where RFC 6962 splits a tree.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The root of leaves `from..to`, a subtree of the RFC 6962 recursion: it begins at a multiple of
/// every power of two up to its own width.
fn range_root(nodes: &dyn Nodes, from: u64, to: u64) -> Result<Hash, Broken> {
    let leaves = to - from;
    if leaves.is_power_of_two() {
        let level = leaves.ilog2();
        return nodes.node(level as u8, from >> level);
    }
    let middle = from + split(leaves);
    Ok(node_hash(&range_root(nodes, from, middle)?, &range_root(nodes, middle, to)?))
}
