//! `cluster.toml`: three clouds, their nodes, timers and limits. Every way in which it can be wrong
//! has its own error, and nothing starts half.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, NodeId};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Sled,
    Fjall,
}

/// Everything from `cluster.toml` that one node needs, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub directory: Directory,
    pub node: NodeId,
    pub data_dir: PathBuf,
    pub engine: EngineKind,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}
