//! Events: what was submitted, how each cloud voted, and the level that follows from the facts.

mod level;
mod record;

pub use level::{Level, Marks, Standing, VoteFact, standing};
pub use record::{Body, EventRecord, RecordedVote};

use crate::content::{Content, Envelope};
use crate::ids::{CloudId, EventKey, Hash, Tag, TenantId};
use crate::tenants::TenantSignature;
use crate::time::WallMillis;
use crate::transparency::Verdict;
use serde::{Deserialize, Serialize};

/// The most events of one submit command.
pub const MAX_SUBMIT: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Contents whose tenant signatures the proposing leader has verified.
    Submit { created_at: WallMillis, items: Vec<Submission> },
    /// An operator's decision of this cloud, for tenants with manual confirmation.
    Decide { tenant: TenantId, key: EventKey, content: Hash, verdict: Verdict },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    pub content: Content,
    pub signature: Option<TenantSignature>,
}

/// A body that another cloud holds: sent along with that cloud's leaves, or on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteBody {
    pub content: Content,
    pub envelope: Envelope,
    pub signature: Option<TenantSignature>,
}

/// The answer to one submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub tag: Tag,
    pub content_hash: Hash,
    /// False if the same content was there already: then this retry changed nothing.
    pub new: bool,
    pub origin_cloud: CloudId,
    /// The hash over content and envelope.
    pub hash: Hash,
    pub level: Level,
}
