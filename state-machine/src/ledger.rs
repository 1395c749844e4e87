//! The ledger: the clouds' logs as this cloud stores them (leaves, Merkle nodes, audits), and the
//! keys of every record. It knows nothing of votes; `events/` and `mirrors/` give leaves meaning.

use crate::ids::{CloudId, EpochId, Hash, HolderId, LeaseId, Tag, TenantId};
use crate::records::{Broken, EVENTS, Records, RecordsMut};
use crate::transparency::{Audit, Frontier, Leaf, Nodes, SignedNote, leaf_hash, node_hash, root_at};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most notes kept of one epoch that do not fit its mirror.
pub(crate) const MAX_STRAYS: usize = 4;

/// One epoch of one cloud's log: the own one, or a mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log {
    pub frontier: Frontier,
    /// The latest note of its own cloud that this mirror has reached; unused for the own log.
    pub note: Option<SignedNote>,
    /// How far each other cloud audited this log, confirmed against the leaves held here: (size, root).
    pub audits: BTreeMap<CloudId, (u64, Hash)>,
    /// Audits said by others that are ahead of the leaves held here, or contradict them.
    pub claims: BTreeMap<CloudId, (u64, Hash)>,
    /// Notes of its cloud that do not fit the leaves held here. They prove nothing alone, but once
    /// the cloud is convicted of a fork, what they say of other logs counts everywhere.
    pub strays: Vec<SignedNote>,
    /// Set once the epoch is closed: no leaf is taken any more.
    pub closed: bool,
}

impl Log {
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Keeps a note that does not fit, unless another one kept says as much of every other log.
    pub fn keep_stray(&mut self, note: &SignedNote) {
        let says_all_of = |more: &SignedNote, less: &SignedNote| {
            less.body.audits.iter().all(|audit| {
                let same = |other: &&Audit| (&other.cloud, other.epoch) == (&audit.cloud, audit.epoch);
                more.body.audits.iter().find(same).is_some_and(|other| other.size >= audit.size)
            })
        };
        if self.strays.iter().any(|kept| says_all_of(kept, note)) {
            return;
        }
        self.strays.retain(|kept| !says_all_of(note, kept));
        if self.strays.len() == MAX_STRAYS {
            self.strays.remove(0);
        }
        self.strays.push(note.clone());
    }

    pub fn audited(&self, by: &CloudId) -> u64 {
        self.audits.get(by).map_or(0, |(size, _)| *size)
    }
}

/// How many leaves, or hashes of one level, a row holds: a tile, as C2SP's tlog-tiles has them with 256. A leaf then costs
/// a sixteenth of a row, and of the hashes above the leaves only every fourth level is stored; the others follow from one
/// tile each.
const TILE_HEIGHT: u8 = 4;
const TILE: u64 = 1 << TILE_HEIGHT;

/// The stored leaves and Merkle nodes of one log.
pub(crate) struct StoredNodes<'a> {
    pub records: &'a dyn Records,
    pub cloud: &'a CloudId,
    pub epoch: &'a EpochId,
}

impl Nodes for StoredNodes<'_> {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        let missing = || Broken(format!("log {}/{} lacks node {index} of level {level}", self.cloud, self.epoch));
        // It is the root over 1, 2, 4 or 8 neighbours in a tile of a stored level.
        let above = level % TILE_HEIGHT;
        let (base, first, count) = (level - above, index << above, 1 << above);
        let (tile, from) = (first / TILE, (first % TILE) as usize);
        let mut hashes: Vec<Hash> = match base {
            0 => {
                let row = self.tile(tile)?;
                let leaves: Vec<&[u8]> = Self::split(tile, &row).collect::<Result<_, _>>()?;
                leaves.get(from..from + count).ok_or_else(missing)?.iter().map(|leaf| leaf_hash(leaf)).collect()
            }
            _ => {
                let row = self.records.get(&keys::hashes(self.cloud, self.epoch, base, tile))?.ok_or_else(missing)?;
                let (hashes, _) = row.as_chunks::<32>();
                hashes.get(from..from + count).ok_or_else(missing)?.iter().map(|hash| Hash(*hash)).collect()
            }
        };
        while hashes.len() > 1 {
            hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(hashes[0])
    }
}

impl StoredNodes<'_> {
    /// The root at an earlier size of a log that has `frontier` now.
    pub fn root(&self, frontier: &Frontier, size: u64) -> Result<Hash, Broken> {
        if size == frontier.size() { Ok(frontier.root()) } else { root_at(self, size) }
    }

    pub fn leaf(&self, index: u64) -> Result<Option<Leaf>, Broken> {
        Ok(self.leaves(index, index + 1)?.pop())
    }

    /// The leaves of a run, as far as they are here.
    pub fn leaves(&self, from: u64, to: u64) -> Result<Vec<Leaf>, Broken> {
        let mut leaves = Vec::new();
        for tile in from / TILE..to.div_ceil(TILE) {
            let row = self.tile(tile)?;
            for (index, bytes) in (tile * TILE..to).zip(Self::split(tile, &row)) {
                let bytes = bytes?;
                if index >= from {
                    leaves.push(Leaf::decode(bytes).map_err(|error| Broken(error.to_string()))?);
                }
            }
        }
        Ok(leaves)
    }

    fn tile(&self, tile: u64) -> Result<Vec<u8>, Broken> {
        Ok(self.records.get(&keys::leaves(self.cloud, self.epoch, tile))?.unwrap_or_default())
    }

    /// The leaves in a tile, each after its length.
    fn split<'r>(tile: u64, mut row: &'r [u8]) -> impl Iterator<Item = Result<&'r [u8], Broken>> + use<'r> {
        std::iter::from_fn(move || {
            if row.is_empty() {
                return None;
            }
            let leaf = row.split_first_chunk().and_then(|(length, rest)| {
                let (leaf, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                row = rest;
                Some(leaf)
            });
            Some(leaf.ok_or_else(|| {
                row = &[];
                Broken(format!("tile {tile} of a log's leaves is cut short"))
            }))
        })
    }
}

/// Leaves that go to the end of a log: hashed once, for the check of their root and for being stored.
pub(crate) struct Run {
    first: u64,
    /// The log with them.
    frontier: Frontier,
    leaves: Vec<Vec<u8>>,
    /// The nodes to be stored that they complete: level, index, hash.
    nodes: Vec<(u8, u64, Hash)>,
}

impl Run {
    pub fn new<'l>(mut frontier: Frontier, leaves: impl IntoIterator<Item = &'l Leaf>) -> Self {
        let (first, mut nodes) = (frontier.size(), Vec::new());
        let mut hash = |leaf: &Leaf| {
            let bytes = leaf.bytes();
            frontier.append_to(leaf_hash(&bytes), |level, at, hash| {
                if level > 0 && level % TILE_HEIGHT == 0 {
                    nodes.push((level, at, hash));
                }
            });
            bytes
        };
        let leaves = leaves.into_iter().map(&mut hash).collect();
        Self { first, frontier, leaves, nodes }
    }

    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Writes them, tile by tile.
    pub fn store(self, records: &mut dyn RecordsMut, cloud: &CloudId, epoch: &EpochId) -> Result<Frontier, Broken> {
        for (level, at, hash) in self.nodes {
            records.append(keys::hashes(cloud, epoch, level, at / TILE), &hash.0)?;
        }
        let (mut index, mut rest) = (self.first, self.leaves.as_slice());
        while !rest.is_empty() {
            let room = (TILE - index % TILE) as usize;
            let (tile, after) = rest.split_at(room.min(rest.len()));
            let mut row = Vec::with_capacity(tile.iter().map(|leaf| leaf.len() + 4).sum());
            for leaf in tile {
                row.extend_from_slice(&(leaf.len() as u32).to_be_bytes());
                row.extend_from_slice(leaf);
            }
            records.append(keys::leaves(cloud, epoch, index / TILE), &row)?;
            (index, rest) = (index + tile.len() as u64, after);
        }
        Ok(self.frontier)
    }
}

/// Writes a leaf at the end of a log, and the nodes that it completes. Returns its index.
pub(crate) fn append(
    records: &mut dyn RecordsMut,
    cloud: &CloudId,
    epoch: &EpochId,
    frontier: &mut Frontier,
    leaf: &Leaf,
) -> Result<u64, Broken> {
    let index = frontier.size();
    *frontier = Run::new(std::mem::take(frontier), [leaf]).store(records, cloud, epoch)?;
    Ok(index)
}

/// Bytes of an event in a listing: its position in this cloud's list of all events, and its tag.
const LISTED_BYTES: usize = 40;

/// Lists an event of a tenant. Positions count the events of all tenants, so a tile holds those of one tenant among sixteen.
pub(crate) fn list(records: &mut dyn RecordsMut, tenant: &TenantId, seq: u64, tag: &Tag) -> Result<(), Broken> {
    let mut listed = [0; LISTED_BYTES];
    listed[..8].copy_from_slice(&seq.to_be_bytes());
    listed[8..].copy_from_slice(&tag.0);
    records.append(keys::listed(tenant, seq), &listed)
}

/// Events of a tenant from a position on, at most `limit`.
pub(crate) fn listed(
    records: &dyn Records,
    tenant: &TenantId,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Tag)>, Broken> {
    let mut found = Vec::new();
    // One more: of the first tile, all may be of earlier positions.
    let tiles = records.scan(&keys::listed(tenant, from), &keys::listed(tenant, u64::MAX), limit.saturating_add(1))?;
    for (_, tile) in tiles {
        let (events, rest) = tile.as_chunks::<LISTED_BYTES>();
        if !rest.is_empty() {
            return Err(Broken(format!("a listing of tenant {tenant} is cut short")));
        }
        for event in events {
            let (seq, tag) = event.split_first_chunk().expect("40 bytes");
            let seq = u64::from_be_bytes(*seq);
            if seq >= from && found.len() < limit {
                found.push((seq, Tag(tag.try_into().expect("32 bytes are left"))));
            }
        }
    }
    Ok(found)
}

/// The keys of all records. The first byte names the table.
pub(crate) mod keys {
    use super::*;

    pub const HOT: &[u8] = b"h";

    fn log(table: u8, cloud: &CloudId, epoch: &EpochId) -> Vec<u8> {
        let name = cloud.as_str().as_bytes();
        let mut key = Vec::with_capacity(name.len() + 28);
        key.push(table);
        key.push(name.len() as u8);
        key.extend_from_slice(name);
        key.extend_from_slice(&epoch.0);
        key
    }

    /// One tile of leaves: each with its length before it, 4 bytes.
    pub fn leaves(cloud: &CloudId, epoch: &EpochId, tile: u64) -> Vec<u8> {
        let mut key = log(b'l', cloud, epoch);
        key.extend_from_slice(&tile.to_be_bytes());
        key
    }

    /// One tile of hashes of a level.
    pub fn hashes(cloud: &CloudId, epoch: &EpochId, level: u8, tile: u64) -> Vec<u8> {
        let mut key = log(b'n', cloud, epoch);
        key.push(level);
        key.extend_from_slice(&tile.to_be_bytes());
        key
    }

    pub fn event(tag: &Tag) -> Vec<u8> {
        let mut key = Vec::with_capacity(33);
        key.push(EVENTS);
        key.extend_from_slice(&tag.0);
        key
    }

    /// A body, by the position of its event in this cloud's list and its own among that event's contents: bodies are
    /// written in the order of their keys, so that no engine has to sort them again.
    pub fn body(seq: u64, at: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(10);
        key.push(b'b');
        key.extend_from_slice(&seq.to_be_bytes());
        key.push(u8::try_from(at).expect("an event has few contents"));
        key
    }

    /// One tile of a tenant's events in order of acceptance, by the position of any of them: see [`list`].
    pub fn listed(tenant: &TenantId, seq: u64) -> Vec<u8> {
        let name = tenant.as_str().as_bytes();
        [b"s".as_slice(), &[name.len() as u8], name, &(seq / TILE).to_be_bytes()].concat()
    }

    pub fn tenant(tenant: &TenantId) -> Vec<u8> {
        [b"t".as_slice(), tenant.as_str().as_bytes()].concat()
    }

    pub fn tenant_range() -> (Vec<u8>, Vec<u8>) {
        (b"t".to_vec(), b"u".to_vec())
    }

    pub fn evidence(id: &Hash) -> Vec<u8> {
        [b"v".as_slice(), &id.0].concat()
    }

    /// A name of a tenant's.
    fn named(table: u8, tenant: &TenantId, name: &str) -> Vec<u8> {
        let of = tenant.as_str().as_bytes();
        [&[table, of.len() as u8], of, name.as_bytes()].concat()
    }

    /// All names of a tenant's.
    fn names(table: u8, tenant: &TenantId) -> (Vec<u8>, Vec<u8>) {
        // Beyond every letter that a name may have.
        (named(table, tenant, ""), named(table, tenant, "~"))
    }

    pub fn agent(tenant: &TenantId, agent: &HolderId) -> Vec<u8> {
        named(b'a', tenant, agent.as_str())
    }

    pub fn agent_range(tenant: &TenantId) -> (Vec<u8>, Vec<u8>) {
        names(b'a', tenant)
    }

    pub fn lease(tenant: &TenantId, lease: &LeaseId) -> Vec<u8> {
        named(b'k', tenant, lease.as_str())
    }

    pub fn lease_range(tenant: &TenantId) -> (Vec<u8>, Vec<u8>) {
        names(b'k', tenant)
    }

    /// One row of a lease's history.
    pub fn lease_change(tenant: &TenantId, lease: &LeaseId, number: u64) -> Vec<u8> {
        let mut key = named(b'j', tenant, lease.as_str());
        key.push(0);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }
}
