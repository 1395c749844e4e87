//! Who should hold a lease: a pure function from what is known of the agents. The highest epoch
//! first, then the greatest weight, then the id in alphabetical order; the preferred holder before all.

use super::AgentRecord;
use crate::ids::HolderId;
use crate::leases::Lease;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Whether an agent counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Its latest report is not old.
    Alive,
    Stale,
    /// It never reported.
    Silent,
}

/// An agent that may lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub agent: HolderId,
    pub epoch: u64,
    pub weight: u32,
    pub ready: bool,
    /// How long ago its latest report was applied, by logged time.
    pub heard_ms_ago: u64,
}

/// The candidates of a lease, the best one first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    pub candidates: Vec<Candidate>,
}

impl Election {
    pub fn leader(&self) -> Option<&HolderId> {
        self.candidates.first().map(|first| &first.agent)
    }
}

impl AgentRecord {
    /// By logged time `now`.
    pub fn status(&self, now: Millis) -> Status {
        match &self.heard {
            None => Status::Silent,
            Some(heard) if now.0.saturating_sub(heard.at.0) > self.agent.stale_ms && !mutant!(StaleAgentsLead) => {
                Status::Stale
            }
            Some(_) => Status::Alive,
        }
    }
}

/// Ranks the agents that are alive, stand for the lease and are no witnesses.
pub fn elect(agents: &[AgentRecord], lease: &Lease, now: Millis) -> Election {
    let candidate = |record: &AgentRecord| {
        let stands = record.heard.iter().flat_map(|heard| &heard.standing).find(|s| s.lease == lease.spec.lease)?;
        let eligible = record.status(now) == Status::Alive && !record.agent.witness;
        let (agent, weight) = (record.agent.agent.clone(), record.agent.weight);
        let heard_ms_ago = record.heard.as_ref().map_or(0, |heard| now.0.saturating_sub(heard.at.0));
        eligible.then_some(Candidate { agent, epoch: stands.epoch, weight, ready: stands.ready, heard_ms_ago })
    };
    let mut candidates: Vec<Candidate> = agents.iter().filter_map(candidate).collect();
    candidates.sort_by_key(|candidate| {
        let preferred = lease.spec.preferred.as_ref() == Some(&candidate.agent);
        (Reverse(preferred), Reverse(candidate.epoch), Reverse(candidate.weight), candidate.agent.clone())
    });
    Election { candidates }
}
