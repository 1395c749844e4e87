//! What a cloud knows of an event: its votes by cloud, and its bodies by content.

use super::level::{Level, Marks};
use crate::codec::CodecError;
use crate::content::{Content, Envelope};
use crate::ids::{CloudId, EpochId, EventKey, Hash, Tag, TenantId};
use crate::tenants::TenantSignature;
use crate::transparency::{Verdict, Vote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A vote as found in a cloud's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedVote {
    pub cloud: CloudId,
    pub epoch: EpochId,
    /// Index of the leaf in that epoch's log.
    pub index: u64,
    pub vote: Vote,
    /// Set for a vote known only from what another cloud showed: the forked branch that holds it.
    pub branch: Option<Branch>,
}

/// The head of a branch that this cloud does not mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub size: u64,
    pub root: Hash,
    /// Who said that it audited exactly this head. It stays said when that cloud audits more.
    pub audited_by: BTreeSet<CloudId>,
}

impl RecordedVote {
    /// Two votes say the same when verdict and content agree; envelopes may differ.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.vote.verdict == other.vote.verdict && self.vote.content == other.vote.content
    }

    pub fn verdict(&self) -> Verdict {
        self.vote.verdict
    }

    /// Whether it is known under the same head, at the same place.
    fn stands_with(&self, other: &Self) -> bool {
        let head = |vote: &Self| vote.branch.as_ref().map(|branch| (branch.size, branch.root));
        (&self.cloud, self.epoch, self.index, head(self)) == (&other.cloud, other.epoch, other.index, head(other))
    }
}

/// A lying cloud can vote as often as it likes. Two different votes in the log mirrored here convict
/// it; of other branches, as many are kept, those that somebody audited before others.
const MAX_MIRRORED: usize = 2;
const MAX_BRANCHED: usize = 2;

/// Everything known about one tag. It may exist before any body: then `key` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl EventRecord {
    /// Adds a vote that stands in the log of its cloud as mirrored here.
    pub(crate) fn add_vote(&mut self, found: RecordedVote) {
        let mirrored = |vote: &&RecordedVote| vote.cloud == found.cloud && vote.branch.is_none();
        if self.votes.iter().filter(mirrored).count() < MAX_MIRRORED {
            self.votes.push(found);
        }
    }

    /// Adds a vote that stands in another branch. One that nobody audited counts for nothing and
    /// makes room: the same may be shown again under a head that somebody did audit.
    pub(crate) fn add_branch_vote(&mut self, found: RecordedVote) {
        if self.votes.iter().any(|vote| vote.stands_with(&found)) {
            return;
        }
        let branched = |vote: &RecordedVote| vote.cloud == found.cloud && vote.branch.is_some();
        if self.votes.iter().filter(|vote| branched(vote)).count() >= MAX_BRANCHED {
            let audited = |vote: &RecordedVote| vote.branch.iter().any(|branch| !branch.audited_by.is_empty());
            let Some(at) = self.votes.iter().position(|vote| branched(vote) && !audited(vote)) else { return };
            self.votes.remove(at);
        }
        self.votes.push(found);
    }
}

/// One content of a key, with the first envelope seen for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// First, so that the origin is found without decoding the rest.
    pub envelope: Envelope,
    pub content: Content,
    pub signature: Option<TenantSignature>,
}

/// A [`Body`] in the bytes in which it is stored: clouds send these to each other, and whoever passes one on need not
/// decode it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedBody(Vec<u8>);

impl PackedBody {
    pub fn of(body: &Body) -> Self {
        Self(crate::codec::encode(body))
    }

    pub(crate) fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    pub fn unpack(&self) -> Result<Body, CodecError> {
        crate::codec::decode(&self.0)
    }

    /// The cloud where it was submitted.
    pub(crate) fn origin(&self) -> Result<CloudId, CodecError> {
        crate::codec::decode_first(&self.0)
    }
}

impl Serialize for PackedBody {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PackedBody {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::codec::bytes(d).map(Self)
    }
}

/// A [`Body`] to be written: the same bytes, without a copy of what the command holds.
#[derive(Serialize)]
pub(crate) struct BodyRef<'a> {
    pub envelope: &'a Envelope,
    pub content: &'a Content,
    pub signature: &'a Option<TenantSignature>,
}
