//! The Merkle functions against their definition in RFC 6962 and against another implementation,
//! over every size and pair of sizes up to a limit that crosses several powers of two.

use std::collections::BTreeMap;
use tercet_core::ids::Hash;
use tercet_core::records::Broken;
use tercet_core::transparency::{
    Frontier, Nodes, consistency_proof, empty_root, inclusion_proof, leaf_hash, node_hash, root_at,
    root_from_inclusion, verify_consistency,
};
use tlog_tiles::tlog;

const MAX_SIZE: u64 = 70;

/// A log in memory, as a store would hold it, and its roots at every size.
struct Log {
    nodes: BTreeMap<(u8, u64), Hash>,
    roots: Vec<Hash>,
}

impl Nodes for Log {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        self.nodes.get(&(level, index)).copied().ok_or_else(|| Broken(format!("no node ({level}, {index})")))
    }
}

fn data(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn leaf(index: u64) -> Hash {
    leaf_hash(&data(index))
}

fn log(size: u64) -> Log {
    let mut frontier = Frontier::default();
    let mut log = Log { nodes: BTreeMap::new(), roots: vec![frontier.root()] };
    for index in 0..size {
        frontier.append_to(leaf(index), |level, at, hash| {
            log.nodes.insert((level, at), hash);
        });
        log.roots.push(frontier.root());
    }
    log
}

/// The definition, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => empty_root(),
        1 => leaves[0],
        n => {
            let k = (1..n).rev().find(|k| k.is_power_of_two()).expect("n is at least 2");
            node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
        }
    }
}

/// The other implementation's store.
struct Tlog(Vec<tlog::Hash>);

impl tlog::HashReader for Tlog {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|&index| self.0[index as usize]).collect())
    }
}

fn tlog(size: u64) -> Tlog {
    let mut store = Tlog(Vec::new());
    for index in 0..size {
        let hashes = tlog::stored_hashes(index, &data(index), &store).expect("the store holds every earlier hash");
        store.0.extend(hashes);
    }
    store
}

fn theirs(hashes: Vec<tlog::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(|hash| Hash(hash.0)).collect()
}

#[test]
fn every_root_is_the_one_of_the_definition() {
    let log = log(MAX_SIZE);
    let leaves: Vec<_> = (0..MAX_SIZE).map(leaf).collect();
    for size in 0..=MAX_SIZE {
        let expected = mth(&leaves[..size as usize]);
        assert_eq!(log.roots[size as usize], expected, "frontier at {size}");
        assert_eq!(root_at(&log, size).unwrap(), expected, "nodes at {size}");
    }
}

#[test]
fn every_inclusion_proof_leads_to_the_root_and_to_no_other_place() {
    let log = log(MAX_SIZE);
    for size in 1..=MAX_SIZE {
        let root = log.roots[size as usize];
        for index in 0..size {
            let proof = inclusion_proof(&log, index, size).unwrap();
            assert_eq!(root_from_inclusion(leaf(index), index, size, &proof), Some(root), "{index} of {size}");
            for other in (0..size).filter(|other| *other != index) {
                assert_ne!(root_from_inclusion(leaf(index), other, size, &proof), Some(root));
            }
            let mut long = proof.clone();
            long.push(empty_root());
            assert_eq!(root_from_inclusion(leaf(index), index, size, &long), None, "one hash too many");
            if let Some((_, short)) = proof.split_last() {
                assert_ne!(root_from_inclusion(leaf(index), index, size, short), Some(root), "one hash too few");
            }
        }
        assert!(inclusion_proof(&log, size, size).is_err());
        assert_eq!(root_from_inclusion(leaf(0), size, size, &[]), None);
    }
    assert_eq!(root_from_inclusion(leaf(0), 0, 0, &[]), None);
}

#[test]
fn every_consistency_proof_verifies_and_no_altered_one_does() {
    let log = log(MAX_SIZE);
    let stranger = leaf_hash(b"stranger");
    for new in 0..=MAX_SIZE {
        for old in 0..=new {
            let (old_root, new_root) = (log.roots[old as usize], log.roots[new as usize]);
            let proof = consistency_proof(&log, old, new).unwrap();
            assert!(verify_consistency(old, new, &old_root, &new_root, &proof), "{old} to {new}");
            assert_eq!(proof.is_empty(), old == 0 || old == new, "{old} to {new}");
            let mut long = proof.clone();
            long.push(stranger);
            assert!(!verify_consistency(old, new, &old_root, &new_root, &long));
            assert!(!verify_consistency(old, new, &stranger, &new_root, &proof), "another old root");
            assert!(old == 0 || !verify_consistency(old, new, &old_root, &stranger, &proof), "another new root");
            for at in 0..proof.len() {
                let mut altered = proof.clone();
                altered[at] = stranger;
                assert!(!verify_consistency(old, new, &old_root, &new_root, &altered), "{old} to {new} at {at}");
                altered.remove(at);
                assert!(!verify_consistency(old, new, &old_root, &new_root, &altered));
            }
            assert!(old == new || !verify_consistency(new, old, &new_root, &old_root, &proof), "a log never shrinks");
        }
        assert!(consistency_proof(&log, new + 1, new).is_err());
    }
}

#[test]
fn proofs_are_those_of_another_implementation() {
    let (ours, other) = (log(MAX_SIZE), tlog(MAX_SIZE));
    for size in 0..=MAX_SIZE {
        assert_eq!(tlog::tree_hash(size, &other).unwrap().0, ours.roots[size as usize].0, "root at {size}");
        for index in 0..size {
            let expected = theirs(tlog::prove_record(size, index, &other).unwrap());
            assert_eq!(inclusion_proof(&ours, index, size).unwrap(), expected, "leaf {index} of {size}");
        }
        for old in 1..size {
            let expected = theirs(tlog::prove_tree(size, old, &other).unwrap());
            assert_eq!(consistency_proof(&ours, old, size).unwrap(), expected, "{old} to {size}");
        }
    }
}

/// Nodes of a log so large that it cannot be built: each is a hash of its place.
struct Imagined;

impl Nodes for Imagined {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        Ok(leaf_hash(format!("{level} {index}").as_bytes()))
    }
}

#[test]
fn the_largest_sizes_neither_overflow_nor_panic() {
    for size in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) + 1] {
        let _ = root_at(&Imagined, size).unwrap();
        let proof = inclusion_proof(&Imagined, size - 1, size).unwrap();
        assert!(root_from_inclusion(leaf(0), size - 1, size, &proof).is_some());
        let _ = consistency_proof(&Imagined, size - 1, size).unwrap();
        assert!(!verify_consistency(size - 1, size, &leaf(0), &leaf(1), &[]));
    }
}
