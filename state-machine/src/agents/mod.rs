//! Agents: processes outside the clouds that stand for leases. Each reports with a key of its own,
//! so that everybody sees who lives and who is ready, and a free lease goes to the best of them.
//! A report decides no vote: whoever is elected still has to ask for the lease.

mod apply;
mod election;
mod report;

pub(crate) use apply::apply;
pub use election::{Candidate, Election, Status, elect};
pub use report::{Owned, Report, Standing};

use crate::ids::{HolderId, TenantId};
use crate::time::{Millis, WallMillis};
use serde::{Deserialize, Serialize};

/// The most agents of one tenant.
pub const MAX_AGENTS: usize = 256;
/// The most leases that one agent stands for.
pub const MAX_STANDING: usize = 64;
/// The longest name of a container, in bytes.
pub const MAX_CONTAINER_BYTES: usize = 128;
/// How long an agent without a report still counts, unless it was created with another time.
pub const DEFAULT_STALE_MS: u64 = 300_000;
/// How far the time in a report may be off when it arrives, in either direction.
pub const REPORT_WINDOW_MS: u64 = 300_000;

/// The 32 random bytes that an agent signs its reports with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSecret(#[serde(with = "hex::serde")] pub [u8; 32]);

impl std::fmt::Debug for AgentSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentSecret(..)")
    }
}

/// An agent as an operator puts it on a cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    pub tenant: TenantId,
    pub agent: HolderId,
    pub secret: AgentSecret,
    /// Of two candidates that are equally far, the heavier one leads.
    pub weight: u32,
    /// Reports, and never leads.
    pub witness: bool,
    /// Without a report for so long it is stale, and no candidate.
    pub stale_ms: u64,
}

/// An agent and its latest report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    pub agent: Agent,
    pub heard: Option<Heard>,
}

/// The latest report of an agent. (boot, sequence) is a high-water mark: nothing at or below it is taken again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub boot: u64,
    pub sequence: u64,
    /// By the agent's wall clock.
    pub sent_at: WallMillis,
    /// By this cloud's logged time.
    pub at: Millis,
    pub standing: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates an agent, or changes its key, weight, role and patience.
    Put(Agent),
    /// A report whose time the leader has checked. Apply verifies its MAC.
    Report(Report),
}
