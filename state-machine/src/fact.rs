//! What happened, in commit order. Watchers, metrics and reconcilers live from facts.

use crate::events::{Level, Marks};
use crate::ids::{CloudId, EpochId, EventKey, Hash, HolderId, LeaseId, Tag, TenantId};
use crate::transparency::Verdict;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    TenantPut {
        tenant: TenantId,
    },
    /// A body was accepted here, from a client or from another cloud.
    EventAccepted {
        tenant: TenantId,
        key: EventKey,
        content_hash: Hash,
        origin_cloud: CloudId,
    },
    /// This cloud voted.
    Voted {
        tenant: TenantId,
        key: EventKey,
        verdict: Verdict,
    },
    LevelChanged {
        tenant: TenantId,
        key: EventKey,
        tag: Tag,
        level: Level,
        marks: Marks,
    },
    /// A mirror grew, or an audit of it did.
    MirrorAdvanced {
        cloud: CloudId,
        size: u64,
        audited: u64,
    },
    /// The own log grew or an audit changed: a new note is due.
    NoteDue,
    /// A cloud is proven to have lied.
    Convicted {
        cloud: CloudId,
        evidence: Hash,
    },
    /// An epoch became known: an own one, which may have to wait before it votes, or another cloud's.
    EpochIntroduced {
        cloud: CloudId,
        epoch: EpochId,
    },
    EpochClosed {
        cloud: CloudId,
        epoch: EpochId,
    },
    /// A lease was created, or its policy changed.
    LeasePut {
        tenant: TenantId,
        lease: LeaseId,
    },
    /// This cloud gave its vote to a new tenure. Renewals are not told.
    LeaseVoted {
        tenant: TenantId,
        lease: LeaseId,
        token: u64,
        holder: HolderId,
    },
    LeaseReleased {
        tenant: TenantId,
        lease: LeaseId,
        token: u64,
        holder: HolderId,
        to: Option<HolderId>,
    },
    /// A grant was shown: this is the new holder.
    LeaseAcquired {
        tenant: TenantId,
        lease: LeaseId,
        token: u64,
        holder: HolderId,
        /// Milliseconds without a holder; absent for the first one.
        vacant_ms: Option<u64>,
    },
    AgentPut {
        tenant: TenantId,
        agent: HolderId,
    },
    /// An agent is alive again, or stands for other leases. Reports without news are not told.
    AgentHeard {
        tenant: TenantId,
        agent: HolderId,
    },
    /// Two holders showed a grant with one token: a cloud voted twice.
    SplitBrain {
        tenant: TenantId,
        lease: LeaseId,
        token: u64,
        holder: HolderId,
        other: HolderId,
    },
}
