//! Raft inside one cloud, on openraft. Everything of openraft stays in this folder: the rest of
//! the node knows a [`Replica`], which proposes commands, reads applied state and tells who leads.

use crate::env::Env;
use crate::peer::{Handler, Method, PeerClient};
use crate::storage::Engine;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::fact::Fact;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, NodeId, RequestId};
use tercet_core::records::{Broken, Records};
use tercet_core::rejection::Rejection;
use tercet_core::state::State;
use tokio::sync::{broadcast, watch};

/// Where and how this replica runs.
pub struct ReplicaConfig {
    pub genesis: Genesis,
    pub cloud: CloudId,
    pub region: String,
    pub node: NodeId,
    /// All nodes of this cloud, sorted; the index of a node here + 1 is its Raft id.
    pub members: Vec<NodeId>,
    /// Folder of the Raft log; `None` keeps it in memory (simulation).
    pub log_dir: Option<PathBuf>,
    pub engine: Arc<dyn Engine>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    pub is_leader: bool,
}

/// The facts of one applied entry.
#[derive(Debug, Clone)]
pub struct FactBatch {
    pub index: u64,
    pub facts: Vec<Fact>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead its cloud")]
    NotLeader { leader: Option<NodeId> },
    #[error("no leader: the cloud has no quorum of nodes")]
    NoLeader,
    #[error("too many commands wait for this node")]
    Overloaded,
    #[error("the command was sent, and whether it took effect is unknown; retry with the same key")]
    OutcomeUnknown,
    #[error("this node is stopping")]
    Stopped,
}

/// The outcome of a committed command, and the log index that holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committed {
    pub index: u64,
    pub reply: Result<Reply, Rejection>,
}

/// Local applied state under its lock: the state and the records that it reads.
pub struct View<'a> {
    pub state: &'a State,
    pub records: &'a dyn Records,
    /// Log index up to which this is applied.
    pub applied: u64,
}

#[derive(Clone)]
pub struct Replica {}

impl Replica {
    /// Opens the log and the state, joins the group, and returns before there is a leader.
    pub async fn start(_config: ReplicaConfig, _env: Env, _peers: PeerClient) -> anyhow::Result<Self> {
        unimplemented!()
    }

    /// The peer methods this replica answers: register them with the peer server.
    pub fn methods(&self) -> Vec<(Method, Handler)> {
        unimplemented!()
    }

    /// Proposes on this node, which must lead. Waits for commit and apply.
    pub async fn propose(&self, _request_id: Option<RequestId>, _command: Command) -> Result<Committed, ProposeError> {
        unimplemented!()
    }

    /// Proposes here or, if another node leads, through it.
    pub async fn propose_anywhere(&self, _request_id: Option<RequestId>, _command: Command) -> Result<Committed, ProposeError> {
        unimplemented!()
    }

    /// Reads local applied state, possibly old. Keep `f` short: it holds up applying.
    pub fn read<R>(&self, _f: impl FnOnce(View<'_>) -> Result<R, Broken>) -> Result<R, Broken> {
        unimplemented!()
    }

    /// ReadIndex: once it returns, `read` sees everything committed before the call. Only on a leader.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        unimplemented!()
    }

    /// The applied log index; changes wake the receiver.
    pub fn applied(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        unimplemented!()
    }

    /// Facts from now on, bounded (a slow receiver gets `Lagged`).
    pub fn facts(&self) -> broadcast::Receiver<Arc<FactBatch>> {
        unimplemented!()
    }

    /// Facts of recent entries with index > `after`, oldest first, as long as the bounded memory
    /// still holds all of them; `None` if it does not.
    pub fn recent_facts(&self, _after: u64) -> Option<Vec<Arc<FactBatch>>> {
        unimplemented!()
    }

    /// Resolves with the reason when the replica cannot go on (a fatal Raft or storage error).
    pub async fn failed(&self) -> String {
        unimplemented!()
    }

    /// Flushes applied state and stops. Idempotent.
    pub async fn stop(&self) {
        unimplemented!()
    }
}
