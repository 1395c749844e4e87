//! The Raft logs that the nodes of a run leave on their disks: one log id has one payload, at every
//! node of a cloud. Read once all processes are gone.

use super::cluster::{CLOUDS, Cluster};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use tercet_core::ids::Hash;
use tercet_core::wire::sha256;
use tercetd::storage::wal::{Log as _, Position, Wal};

/// Entries are read in pieces of so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// How many entries were found at two nodes or more; an error names two nodes that differ.
pub fn compare(cluster: &Cluster) -> Result<usize> {
    let mut shared = 0;
    for cloud in CLOUDS {
        let mut known: BTreeMap<Position, (Hash, String)> = BTreeMap::new();
        for node in cluster.nodes_of(cloud) {
            let before = known.clone();
            for (position, payload) in read(cluster, &node)? {
                let (first, by) = known.entry(position).or_insert_with(|| (payload, node.clone()));
                ensure!(*first == payload, "{by} and {node} have different payloads at {position:?}");
                shared += usize::from(before.contains_key(&position));
            }
        }
    }
    Ok(shared)
}

/// The hash of each entry that a node still has.
fn read(cluster: &Cluster, node: &str) -> Result<Vec<(Position, Hash)>> {
    let wal = Wal::open(&cluster.node(node)?.folder.join("raft/wal")).with_context(|| format!("the log of {node}"))?;
    let state = wal.state();
    let end = state.last.map_or(0, |last| last.index + 1);
    let (mut from, mut all) = (state.purged.map_or(0, |purged| purged.index + 1), Vec::new());
    while from < end {
        let piece = wal.read(from, end, PIECE_BYTES).with_context(|| format!("the log of {node} from {from}"))?;
        let (last, _) = piece.last().with_context(|| format!("the log of {node} ends before {end}"))?;
        from = last.index + 1;
        all.extend(piece.into_iter().map(|(position, payload)| (position, sha256(&payload))));
    }
    Ok(all)
}
