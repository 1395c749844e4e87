//! What an agent says of itself, and its MAC (HMAC-SHA256, RFC 2104).

use super::AgentSecret;
use crate::ids::{FedId, Hash, HolderId, LeaseId, TenantId};
use crate::time::WallMillis;
use crate::wire::{Writer, domain, hmac_sha256, hmac_sha256_verifies};
use serde::{Deserialize, Serialize};

/// "I want this lease, and am so far."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standing {
    pub lease: LeaseId,
    /// How far the service behind the agent is, in its own count (a replication term, say): who is behind does not
    /// lead.
    pub epoch: u64,
    /// Whether it could take over now.
    pub ready: bool,
    /// The fencing token that it holds, and the container that it runs under it: ownership is what is written
    /// here, since the labels of a container never change.
    #[serde(default)]
    pub owns: Option<Owned>,
}

/// What an agent runs while it holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owned {
    pub token: u64,
    /// The engine's id of the container; absent if only hooks run.
    pub container: Option<String>,
}

/// A signed report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    pub tenant: TenantId,
    pub agent: HolderId,
    /// Grows with each start of the agent.
    pub boot: u64,
    /// Grows with each report of a start.
    pub sequence: u64,
    pub sent_at: WallMillis,
    /// Sorted by lease, each once.
    pub standing: Vec<Standing>,
    pub mac: Hash,
}

impl Standing {
    fn write(&self, out: Writer) -> Writer {
        let out = out.lp(self.lease.as_str().as_bytes()).u64(self.epoch).u8(u8::from(self.ready));
        match &self.owns {
            None => out.u8(0),
            Some(Owned { token, container: None }) => out.u8(1).u64(*token),
            Some(Owned { token, container: Some(container) }) => out.u8(2).u64(*token).lp(container.as_bytes()),
        }
    }
}

impl Report {
    /// What the MAC covers.
    pub fn message(&self, fed: &FedId) -> Vec<u8> {
        let out = Writer::new(domain::AGENT_REPORT)
            .raw(&fed.0)
            .lp(self.tenant.as_str().as_bytes())
            .lp(self.agent.as_str().as_bytes())
            .u64(self.boot)
            .u64(self.sequence)
            .u64(self.sent_at.0)
            .u32(self.standing.len() as u32);
        self.standing.iter().fold(out, |out, standing| standing.write(out)).finish()
    }

    /// Computes the MAC over everything else.
    #[must_use]
    pub fn sign(mut self, fed: &FedId, secret: &AgentSecret) -> Self {
        self.mac = hmac_sha256(&secret.0, &self.message(fed));
        self
    }

    pub fn verifies(&self, fed: &FedId, secret: &AgentSecret) -> bool {
        hmac_sha256_verifies(&secret.0, &self.message(fed), &self.mac)
    }
}
