//! Events: what was submitted, how each cloud voted, and the level that follows from the facts.

mod apply;
mod level;
mod record;
mod stored;

pub use apply::{MAX_CONTENTS, MAX_MISSING};
pub(crate) use apply::{answer_again, apply, receive, vote_on_held};
pub use level::{Level, Marks, Standing, VoteFact, standing};
pub(crate) use record::BodyRef;
pub use record::{Body, Branch, EventRecord, PackedBody, RecordedVote};
pub(crate) use stored::{decode, encode};

use crate::content::Content;
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

/// Events in this cloud's state by level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub events: u64,
    pub pending: u64,
    pub quarantined: u64,
    pub r#final: u64,
    pub sealed: u64,
}

impl Counts {
    fn of(&mut self, level: Level) -> &mut u64 {
        match level {
            Level::Pending => &mut self.pending,
            Level::Quarantined => &mut self.quarantined,
            Level::Final => &mut self.r#final,
            Level::Sealed => &mut self.sealed,
        }
    }

    pub(crate) fn added(&mut self, level: Level) {
        self.events += 1;
        *self.of(level) += 1;
    }

    pub(crate) fn moved(&mut self, from: Level, to: Level) {
        *self.of(from) -= 1;
        *self.of(to) += 1;
    }
}
