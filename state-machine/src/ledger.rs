//! The ledger: the clouds' logs as this cloud stores them (leaves, Merkle nodes, audits), and the
//! keys of every record. It knows nothing of votes; `events/` and `mirrors/` give leaves meaning.

use crate::ids::{CloudId, EpochId, Hash, HolderId, LeaseId, Tag, TenantId};
use crate::records::{Broken, Records, RecordsMut};
use crate::transparency::{Audit, Frontier, Leaf, Nodes, SignedNote, leaf_hash, root_at};
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

/// The stored Merkle nodes of one log.
pub(crate) struct StoredNodes<'a> {
    pub records: &'a dyn Records,
    pub cloud: &'a CloudId,
    pub epoch: &'a EpochId,
}

impl Nodes for StoredNodes<'_> {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        let missing = || Broken(format!("log {}/{} lacks node {index} of level {level}", self.cloud, self.epoch));
        if level == 0 {
            let leaf = self.records.get(&keys::leaf(self.cloud, self.epoch, index))?.ok_or_else(missing)?;
            return Ok(leaf_hash(&leaf));
        }
        let bytes = self.records.get(&keys::node(self.cloud, self.epoch, level, index))?.ok_or_else(missing)?;
        Ok(Hash(bytes.try_into().map_err(|_| missing())?))
    }
}

impl StoredNodes<'_> {
    /// The root at an earlier size of a log that has `frontier` now.
    pub fn root(&self, frontier: &Frontier, size: u64) -> Result<Hash, Broken> {
        if size == frontier.size() { Ok(frontier.root()) } else { root_at(self, size) }
    }

    pub fn leaf(&self, index: u64) -> Result<Option<Leaf>, Broken> {
        let Some(bytes) = self.records.get(&keys::leaf(self.cloud, self.epoch, index))? else { return Ok(None) };
        Leaf::decode(&bytes).map(Some).map_err(|error| Broken(error.to_string()))
    }
}

/// Writes a leaf at the end of a log, and the nodes that it completes.
pub(crate) fn append(
    records: &mut dyn RecordsMut,
    cloud: &CloudId,
    epoch: &EpochId,
    frontier: &mut Frontier,
    leaf: &Leaf,
) -> u64 {
    let (index, bytes) = (frontier.size(), leaf.bytes());
    for (level, at, hash) in frontier.append(leaf_hash(&bytes)) {
        if level > 0 {
            records.put(keys::node(cloud, epoch, level, at), hash.0.to_vec());
        }
    }
    records.put(keys::leaf(cloud, epoch, index), bytes);
    index
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

    pub fn leaf(cloud: &CloudId, epoch: &EpochId, index: u64) -> Vec<u8> {
        let mut key = log(b'l', cloud, epoch);
        key.extend_from_slice(&index.to_be_bytes());
        key
    }

    pub fn node(cloud: &CloudId, epoch: &EpochId, level: u8, index: u64) -> Vec<u8> {
        let mut key = log(b'n', cloud, epoch);
        key.push(level);
        key.extend_from_slice(&index.to_be_bytes());
        key
    }

    pub fn event(tag: &Tag) -> Vec<u8> {
        [b"e".as_slice(), &tag.0].concat()
    }

    pub fn body(tag: &Tag, content: &Hash) -> Vec<u8> {
        [b"b".as_slice(), &tag.0, &content.0].concat()
    }

    /// A tenant's events in order of acceptance.
    pub fn listed(tenant: &TenantId, seq: u64) -> Vec<u8> {
        let name = tenant.as_str().as_bytes();
        [b"s".as_slice(), &[name.len() as u8], name, &seq.to_be_bytes()].concat()
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
