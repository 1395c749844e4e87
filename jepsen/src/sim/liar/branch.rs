//! A forged continuation of a log: it has the true log's leaves up to the fork, and after it the
//! same leaves except for those that the liar changes. It is a log of its own, with roots and proofs,
//! so that whoever is told of it alone can audit it.

use std::collections::BTreeMap;
use tercet_core::ids::Hash;
use tercet_core::records::Broken;
use tercet_core::transparency::{Frontier, Leaf, Nodes, consistency_proof, inclusion_proof, leaf_hash, root_at};

#[derive(Default)]
pub struct Branch {
    leaves: Vec<Leaf>,
    frontier: Frontier,
    subtrees: BTreeMap<(u8, u64), Hash>,
}

impl Nodes for Branch {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        let found = self.subtrees.get(&(level, index)).copied();
        found.ok_or_else(|| Broken(format!("the branch has no subtree {index} of level {level}")))
    }
}

impl Branch {
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub fn push(&mut self, leaf: Leaf) {
        self.frontier.append_to(leaf_hash(&leaf.bytes()), |level, index, hash| {
            self.subtrees.insert((level, index), hash);
        });
        self.leaves.push(leaf);
    }

    pub fn leaf(&self, index: u64) -> Option<&Leaf> {
        self.leaves.get(usize::try_from(index).ok()?)
    }

    pub fn root(&self, size: u64) -> Option<Hash> {
        (size <= self.size()).then(|| root_at(self, size).ok()).flatten()
    }

    pub fn proof(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        (size <= self.size()).then(|| inclusion_proof(self, index, size).ok()).flatten()
    }

    pub fn consistency(&self, from: u64, to: u64) -> Option<Vec<Hash>> {
        (to <= self.size()).then(|| consistency_proof(self, from, to).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_core::ids::Tag;
    use tercet_core::transparency::{root_from_inclusion, verify_consistency};

    #[test]
    fn every_size_of_a_branch_has_proofs_that_verify() {
        let leaf = |number: u8| Leaf::Held { config: 0, tag: Tag([number; 32]) };
        let mut branch = Branch::default();
        (0..21).for_each(|number| branch.push(leaf(number)));
        let root = branch.root(21).expect("its own size");
        assert_eq!(root, branch.frontier.root());
        for size in 1..=21 {
            let old = branch.root(size).expect("it was as long");
            let proof = branch.consistency(size, 21).expect("a prefix");
            assert!(verify_consistency(size, 21, &old, &root, &proof), "from {size}");
            let index = size - 1;
            let hash = leaf_hash(&branch.leaf(index).expect("in it").bytes());
            let proof = branch.proof(index, 21).expect("in it");
            assert_eq!(root_from_inclusion(hash, index, 21, &proof), Some(root));
        }
        assert_eq!(branch.root(22), None);
    }
}
