//! What Raft replicates: an entry is a command, the time its leader gave it, and the client's name
//! for it. Variants are added at the end, never reordered (a test pins the encoding).

use crate::ids::RequestId;
use crate::time::Millis;
use crate::{agents, epochs, events, evidence, leases, mirrors, tenants};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's logged time; never earlier than the entry before.
    pub at: Millis,
    /// A retry carries the same id, and gets the same answer.
    pub request_id: Option<RequestId>,
    pub command: Command,
}

/// One variant per domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Tenants(tenants::Command),
    Events(events::Command),
    Mirrors(mirrors::Command),
    Evidence(evidence::Command),
    Epochs(epochs::Command),
    Leases(Box<leases::Command>),
    Agents(Box<agents::Command>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Submitted(Vec<Result<events::Receipt, crate::rejection::Rejection>>),
    Ingested(Vec<mirrors::ChunkOutcome>),
    LeaseVote(Box<leases::Vote>),
}
