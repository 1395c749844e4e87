//! The stored form of an event: its votes by cloud, and its bodies by content.

use super::level::{Level, Marks};
use crate::content::{Content, Envelope};
use crate::ids::{CloudId, EpochId, EventKey, Hash, Tag, TenantId};
use crate::tenants::TenantSignature;
use crate::transparency::{Verdict, Vote};
use serde::{Deserialize, Serialize};

/// A vote as found in a cloud's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedVote {
    pub cloud: CloudId,
    pub epoch: EpochId,
    /// Index of the leaf in that epoch's log.
    pub index: u64,
    pub vote: Vote,
    /// Set for a vote known only from evidence: the head of the forked branch that holds it. Only
    /// who audited exactly that head has audited this vote.
    pub branch: Option<(u64, Hash)>,
}

impl RecordedVote {
    /// Two votes say the same when verdict and content agree; envelopes may differ.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.vote.verdict == other.vote.verdict && self.vote.content == other.vote.content
    }

    pub fn verdict(&self) -> Verdict {
        self.vote.verdict
    }
}

/// Everything known about one tag. It may exist before any body: then `key` is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    pub tag: Tag,
    pub key: Option<(TenantId, EventKey)>,
    /// Position in this cloud's list of events, set when the first body arrived.
    pub seq: Option<u64>,
    /// First votes first; a lying cloud has two.
    pub votes: Vec<RecordedVote>,
    /// Plain content hashes of the bodies held, in order of arrival; each is stored apart.
    pub contents: Vec<Hash>,
    pub level: Level,
    pub marks: Marks,
    /// The content that reached the level, if one did (salted).
    pub settled: Option<Hash>,
}

/// One content of a key, with the first envelope seen for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    pub content: Content,
    pub envelope: Envelope,
    pub signature: Option<TenantSignature>,
}
