//! Every way in which the configuration of a node can be wrong, and what to do about it.

use super::Identity;
use crate::keys::KeyError;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use tercet_core::epochs::{MAX_NODES_PER_CLOUD, OpeningError};
use tercet_core::genesis::GenesisError;
use tercet_core::ids::{CloudId, NodeId};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub path: PathBuf,
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: no such file; run `tercetd up` to make a cluster, or say where it is with --config", path = path.display())]
    Missing { path: PathBuf },
    #[error("{path}: cannot read the file: {error}; check that this user may read it", path = path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{at}: {message}; correct the line (the commented example is cluster.toml in the repository)")]
    Syntax { at: At, message: String },
    #[error("{at}: the {what} {name:?} is used twice; every cloud and every node needs its own name")]
    DuplicateName { at: At, what: &'static str, name: String },
    #[error("{at}: the address {address} is used twice; every listener needs its own address and port")]
    DuplicateAddress { at: At, address: SocketAddr },
    #[error("{at}: the address {address} has port 0; other nodes must know the port, so write one")]
    PortZero { at: At, address: SocketAddr },
    #[error("{path}: {count} clouds; version 1 needs exactly three [[clouds]], each with its nodes", path = path.display())]
    NotThreeClouds { path: PathBuf, count: usize },
    #[error("{at}: cloud {cloud} has {count} nodes; give it 1 to {MAX_NODES_PER_CLOUD} [[clouds.nodes]]")]
    NodeCount { at: At, cloud: CloudId, count: usize },
    #[error("{path}: the weights and the quorum do not fit: {error}", path = path.display())]
    Weights { path: PathBuf, error: GenesisError },
    #[error("{path}: [raft] {problem}", path = path.display())]
    Timers { path: PathBuf, problem: &'static str },
    #[error("{path}: node {node} is not in the file; its nodes are {known}", path = path.display())]
    UnknownNode { path: PathBuf, node: NodeId, known: String },
    #[error(
        "{at}: {difference}; a genesis never changes, so put the value back, or make a new cluster in another data folder"
    )]
    DiffersFromGenesis { at: At, difference: String },
    #[error("{path}: the file is not {what}: {error}; restore it from where the cluster was made", path = path.display())]
    Malformed { path: PathBuf, what: &'static str, error: serde_json::Error },
    #[error("{path}: an epoch is not valid: {error}; restore the file from where the cluster was made", path = path.display())]
    BadOpening { path: PathBuf, error: OpeningError },
    #[error("no epoch of cloud {cloud} is in the openings file; restore it from where the cluster was made")]
    NoOpening { cloud: CloudId },
    #[error(
        "{path}: this is not the key that epoch {number} certifies for {node}; restore the node's own key (a key never moves between nodes)",
        path = path.display()
    )]
    WrongKey { path: PathBuf, node: NodeId, number: u32 },
    #[error("{folder}: nothing was prepared here for {node}; run `tercetd up`, or copy the folder from where the cluster was made", folder = folder.display())]
    Unprepared { folder: PathBuf, node: NodeId },
    #[error(
        "{folder}: this data folder belongs to node {found_node} of federation {found_fed}, not to {expected_node} of {expected_fed}; correct data_dir (nothing was touched)",
        folder = folder.display(),
        found_node = found.node,
        found_fed = found.fed_id,
        expected_node = expected.node,
        expected_fed = expected.fed_id
    )]
    Foreign { folder: PathBuf, found: Box<Identity>, expected: Box<Identity> },
    #[error(transparent)]
    Keys(#[from] KeyError),
}
