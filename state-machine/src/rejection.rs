//! Why a command was refused. A rejection is a value that every replica agrees on; it changed
//! nothing. The same codes name the errors that a node answers without asking Raft.

use crate::ids::{EventKey, Hash, HolderId, LeaseId, TenantId};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("tenant {0} is unknown here; create it on every cloud with `tercet tenant create`")]
    UnknownTenant(TenantId),
    #[error("event {key} of tenant {tenant} is unknown here; submit it first, or wait until this cloud has caught up")]
    UnknownEvent { tenant: TenantId, key: EventKey },
    #[error(
        "id {key} already names other content, first seen with content hash {first}; submit the new content under a new id"
    )]
    IdReuse { key: EventKey, first: Hash },
    #[error("this cloud already voted on {0}, and votes once; appeal with a new event that supersedes it")]
    AlreadyVoted(EventKey),
    #[error("this cloud holds no content with hash {0} for that event")]
    UnknownContent(Hash),
    #[error("tenant {0} confirms automatically; create it with manual confirmation to decide by hand")]
    NotManual(TenantId),
    #[error("tenant {tenant} has {pending} events waiting for FINAL, its limit; retry when some are FINAL")]
    QuotaExceeded { tenant: TenantId, pending: u64 },
    #[error("{0}")]
    InvalidContent(String),
    #[error("a tenant's id, secret and unsigned flag never change; create another tenant")]
    TenantFixed(TenantId),
    #[error("a federation has at most {} tenants", crate::tenants::MAX_TENANTS)]
    TooManyTenants,
    #[error("a tenant has 1 to {} keys, or none if it is unsigned", crate::tenants::MAX_KEYS)]
    BadTenantKeys,
    #[error("the epoch was refused: {0}")]
    BadEpoch(String),
    #[error("the evidence was refused: {0}")]
    BadEvidence(String),
    #[error(
        "this cloud may not vote now: it lost its state, and waits to be renewed or for the closing statements of the other clouds (`tercet status` says which); ask another cloud"
    )]
    EpochNotOpen,
    #[error("the command exceeds a limit: {0}")]
    TooLarge(String),
    #[error("tenant {tenant} has no lease {lease} here; create it on every cloud with `tercet role create`")]
    UnknownLease { tenant: TenantId, lease: LeaseId },
    #[error("scope and duration of lease {lease} of tenant {tenant} never change; create another lease")]
    LeaseFixed { tenant: TenantId, lease: LeaseId },
    #[error("tenant {0} has {max} leases, the most there may be", max = crate::leases::MAX_LEASES)]
    TooManyLeases(TenantId),
    #[error("{0}")]
    BadLease(String),
    #[error("{holder} has lease {lease} with token {token}; ask again when that is out of time")]
    LeaseHeld { lease: LeaseId, holder: HolderId, token: u64 },
    #[error("that token of lease {lease} is over; a new tenure needs {least} or more")]
    StaleToken { lease: LeaseId, least: u64 },
    #[error("lease {0} is frozen: nobody new may hold it until an operator thaws it")]
    LeaseFrozen(LeaseId),
    #[error("the grant was refused: {0}")]
    BadGrant(String),
    #[error("tenant {tenant} has no agent {agent} here; create it on every cloud with `tercet agent create`")]
    UnknownAgent { tenant: TenantId, agent: HolderId },
    #[error("tenant {0} has {max} agents, the most there may be", max = crate::agents::MAX_AGENTS)]
    TooManyAgents(TenantId),
    #[error("{0}")]
    BadAgent(String),
    #[error(
        "the report is not signed with the key of agent {0}; is its key file that of another agent, or an old one?"
    )]
    ForgedReport(HolderId),
    #[error("agent {agent} was heard up to boot {boot}, sequence {sequence}; a report is taken once")]
    ReplayedReport { agent: HolderId, boot: u64, sequence: u64 },
    #[error("{0} is a witness: it reports, and never holds a lease")]
    Witness(HolderId),
    #[error("this cloud may have forgotten a vote on lease {lease}; ask again in {left_ms} ms")]
    LeaseWaits { lease: LeaseId, left_ms: u64 },
    #[error(
        "no other cloud has shown since this node started what it holds of this cloud's log, so it does not vote on leases; are the links to the other clouds cut?"
    )]
    NothingShown,
}

/// Stable names of all errors, also of those that never reach the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    AlreadyVoted,
    BadEpoch,
    BadEvidence,
    BadGrant,
    BadSignature,
    BodyTooLarge,
    CertificateGone,
    EpochNotOpen,
    Forbidden,
    IdReuse,
    Internal,
    InvalidRequest,
    LeaseFixed,
    LeaseFrozen,
    LeaseHeld,
    MethodNotAllowed,
    NoLeader,
    NotFinal,
    NotFound,
    NotLeader,
    NotManual,
    OutcomeUnknown,
    Overloaded,
    QuotaExceeded,
    ReplayedReport,
    StaleReport,
    StaleToken,
    TenantFixed,
    TooLarge,
    Unauthenticated,
    UnknownAgent,
    UnknownContent,
    UnknownEvent,
    UnknownLease,
    UnknownTenant,
    UnsupportedMediaType,
    Witness,
}

impl Code {
    /// Whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::EpochNotOpen
                | Self::LeaseFrozen
                | Self::LeaseHeld
                | Self::NoLeader
                | Self::NotFinal
                | Self::NotLeader
                | Self::OutcomeUnknown
                | Self::Overloaded
                | Self::QuotaExceeded
        )
    }

    /// Whether the request certainly changed nothing. If not, it may still take effect.
    pub fn has_no_side_effects(self) -> bool {
        !matches!(self, Self::OutcomeUnknown | Self::Internal)
    }

    /// The stable text, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyVoted => "already_voted",
            Self::BadEpoch => "bad_epoch",
            Self::BadEvidence => "bad_evidence",
            Self::BadGrant => "bad_grant",
            Self::BadSignature => "bad_signature",
            Self::BodyTooLarge => "body_too_large",
            Self::CertificateGone => "certificate_gone",
            Self::EpochNotOpen => "epoch_not_open",
            Self::Forbidden => "forbidden",
            Self::IdReuse => "id_reuse",
            Self::Internal => "internal",
            Self::InvalidRequest => "invalid_request",
            Self::LeaseFixed => "lease_fixed",
            Self::LeaseFrozen => "lease_frozen",
            Self::LeaseHeld => "lease_held",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NoLeader => "no_leader",
            Self::NotFinal => "not_final",
            Self::NotFound => "not_found",
            Self::NotLeader => "not_leader",
            Self::NotManual => "not_manual",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Overloaded => "overloaded",
            Self::QuotaExceeded => "quota_exceeded",
            Self::ReplayedReport => "replayed_report",
            Self::StaleReport => "stale_report",
            Self::StaleToken => "stale_token",
            Self::TenantFixed => "tenant_fixed",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::UnknownAgent => "unknown_agent",
            Self::UnknownContent => "unknown_content",
            Self::UnknownEvent => "unknown_event",
            Self::UnknownLease => "unknown_lease",
            Self::UnknownTenant => "unknown_tenant",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Witness => "witness",
        }
    }
}

impl Rejection {
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownTenant(_) => Code::UnknownTenant,
            Self::UnknownEvent { .. } => Code::UnknownEvent,
            Self::IdReuse { .. } => Code::IdReuse,
            Self::AlreadyVoted(_) => Code::AlreadyVoted,
            Self::UnknownContent(_) => Code::UnknownContent,
            Self::NotManual(_) => Code::NotManual,
            Self::QuotaExceeded { .. } => Code::QuotaExceeded,
            Self::InvalidContent(_) | Self::BadTenantKeys => Code::InvalidRequest,
            Self::TenantFixed(_) => Code::TenantFixed,
            Self::TooManyTenants | Self::TooLarge(_) => Code::TooLarge,
            Self::BadEpoch(_) => Code::BadEpoch,
            Self::BadEvidence(_) => Code::BadEvidence,
            Self::EpochNotOpen | Self::NothingShown => Code::EpochNotOpen,
            Self::UnknownLease { .. } => Code::UnknownLease,
            Self::LeaseFixed { .. } => Code::LeaseFixed,
            Self::TooManyLeases(_) => Code::TooLarge,
            Self::BadLease(_) => Code::InvalidRequest,
            Self::LeaseHeld { .. } | Self::LeaseWaits { .. } => Code::LeaseHeld,
            Self::StaleToken { .. } => Code::StaleToken,
            Self::LeaseFrozen(_) => Code::LeaseFrozen,
            Self::BadGrant(_) => Code::BadGrant,
            Self::UnknownAgent { .. } => Code::UnknownAgent,
            Self::TooManyAgents(_) => Code::TooLarge,
            Self::BadAgent(_) => Code::InvalidRequest,
            Self::ForgedReport(_) => Code::BadSignature,
            Self::ReplayedReport { .. } => Code::ReplayedReport,
            Self::Witness(_) => Code::Witness,
        }
    }
}
