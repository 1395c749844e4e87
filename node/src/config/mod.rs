//! `cluster.toml`: three clouds, their nodes, timers and limits. Every way in which it can be wrong
//! has its own error (`error.rs`), and nothing is opened or created before all of it is checked.
//! `file.rs` parses; this file compares with the genesis, the epochs and the node's data folder.

mod error;
mod file;
#[cfg(test)]
mod tests;

pub use error::{At, ConfigError};
pub use file::{CloudSection, ClusterFile, EngineKind, NodeSection, RaftSection};

use crate::keys::{self, NodeKeys, SIGNING_KEY};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, FedId, NodeId};

/// Who is where: what every node knows about the whole federation.
#[derive(Debug, Clone)]
pub struct Directory {
    pub genesis: Genesis,
    pub openings: Vec<Opening>,
    pub clouds: Vec<CloudEntry>,
}

#[derive(Debug, Clone)]
pub struct CloudEntry {
    pub cloud: CloudId,
    pub region: String,
    pub nodes: Vec<NodeEntry>,
}

#[derive(Debug, Clone)]
pub struct NodeEntry {
    pub node: NodeId,
    /// Where other nodes reach it (mutual TLS).
    pub peer_addr: SocketAddr,
    /// Where clients reach it (TLS and bearer token).
    pub client_addr: SocketAddr,
}

impl Directory {
    pub fn cloud_of(&self, node: &NodeId) -> Option<&CloudEntry> {
        self.clouds.iter().find(|cloud| cloud.nodes.iter().any(|entry| entry.node == *node))
    }

    pub fn cloud(&self, cloud: &CloudId) -> Option<&CloudEntry> {
        self.clouds.iter().find(|entry| entry.cloud == *cloud)
    }

    pub fn node(&self, node: &NodeId) -> Option<&NodeEntry> {
        self.clouds.iter().flat_map(|cloud| &cloud.nodes).find(|entry| entry.node == *node)
    }
}

/// A node's data folder says in this file whose it is.
pub const IDENTITY_FILE: &str = "node.json";
/// The folders of the Raft log and of the applied state, each marked with the identity as well.
pub const RAFT_DIR: &str = "raft";
pub const STATE_DIR: &str = "state";

/// Whose a data folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Identity {
    pub fed_id: FedId,
    pub node: NodeId,
}

/// Everything from `cluster.toml` that one node needs, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub directory: Directory,
    pub node: NodeId,
    /// The folder of `cluster.toml`.
    pub root: PathBuf,
    pub data_dir: PathBuf,
    pub engine: EngineKind,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Config {
    /// Reads and checks everything that this node needs to start, and changes nothing.
    pub fn load(path: &Path, node: &NodeId) -> Result<(Self, NodeKeys), ConfigError> {
        let file = ClusterFile::read(path)?;
        let (cloud, entry) = file.find(node)?;
        let root = file.root().to_owned();
        let data_dir = file.data_dir(entry);
        let genesis: Genesis = read_json(&root.join(&file.federation.genesis), "the genesis")?;
        file.matches(&genesis)?;
        let openings: Vec<Opening> = read_json(&root.join(&file.federation.openings), "the epochs")?;
        let fed = genesis.fed_id();
        let identity = Identity { fed_id: fed, node: node.clone() };
        check_identity(&data_dir, &identity)?;
        for part in [RAFT_DIR, STATE_DIR] {
            check_part(&data_dir.join(part), &identity)?;
        }
        let keys = NodeKeys::load(&root, &data_dir)?;
        let openings_path = root.join(&file.federation.openings);
        for opening in &openings {
            opening.check(&genesis).map_err(|e| ConfigError::BadOpening { path: openings_path.clone(), error: e })?;
        }
        check_key(&openings, &cloud.name, node, &keys, &data_dir)?;
        let clouds = file.entries();
        let config = Self {
            directory: Directory { genesis, openings, clouds },
            node: node.clone(),
            root,
            data_dir,
            engine: file.storage.engine,
            heartbeat: Duration::from_millis(file.raft.heartbeat_ms),
            election_min: Duration::from_millis(file.raft.election_min_ms),
            election_max: Duration::from_millis(file.raft.election_max_ms),
        };
        Ok((config, keys))
    }

    /// Marks a folder of this node as its own, so that it is refused anywhere else.
    pub fn mark(&self, folder: &Path) -> Result<(), keys::KeyError> {
        let path = folder.join(IDENTITY_FILE);
        if path.exists() {
            return Ok(());
        }
        keys::make_private_dir(folder)?;
        let identity = Identity { fed_id: self.directory.genesis.fed_id(), node: self.node.clone() };
        keys::write_private(&path, &serde_json::to_vec_pretty(&identity).expect("an identity is plain JSON"))
    }

    /// The cloud of this node.
    pub fn cloud(&self) -> &CloudEntry {
        self.directory.cloud_of(&self.node).expect("load found the node in its cloud")
    }

    /// Where this node listens.
    pub fn entry(&self) -> &NodeEntry {
        self.directory.node(&self.node).expect("load found the node")
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, ConfigError> {
    let bytes = keys::files::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| ConfigError::Malformed { path: path.into(), what, error })
}

/// A data folder of another node or federation must never be replayed into this one.
fn check_identity(data_dir: &Path, expected: &Identity) -> Result<(), ConfigError> {
    let path = data_dir.join(IDENTITY_FILE);
    let found: Identity = match read_json(&path, "a node's identity") {
        Err(ConfigError::Keys(keys::KeyError::Missing { .. })) => {
            return Err(ConfigError::Unprepared { folder: data_dir.into(), node: expected.node.clone() });
        }
        found => found?,
    };
    if found == *expected {
        return Ok(());
    }
    Err(ConfigError::Foreign { folder: data_dir.into(), found: Box::new(found), expected: Box::new(expected.clone()) })
}

/// The same of the log and the state, which somebody may have copied here alone. A part that was never
/// opened has no mark yet.
fn check_part(folder: &Path, expected: &Identity) -> Result<(), ConfigError> {
    match check_identity(folder, expected) {
        Err(ConfigError::Unprepared { .. }) => Ok(()),
        checked => checked,
    }
}

/// The node's own key must be the one that its cloud's latest epoch certifies.
fn check_key(
    openings: &[Opening],
    cloud: &CloudId,
    node: &NodeId,
    keys: &NodeKeys,
    data_dir: &Path,
) -> Result<(), ConfigError> {
    let latest = openings.iter().filter(|opening| opening.cloud == *cloud).max_by_key(|opening| opening.number);
    let latest = latest.ok_or_else(|| ConfigError::NoOpening { cloud: cloud.clone() })?;
    if latest.key(node) == Some(&keys.signing.public()) {
        return Ok(());
    }
    Err(ConfigError::WrongKey { path: data_dir.join(SIGNING_KEY), node: node.clone(), number: latest.number })
}
