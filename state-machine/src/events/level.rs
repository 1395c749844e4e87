//! The finality rule: a pure function from the set of facts about one event to its level. It never
//! sees an order of arrival, so there is none that it could depend on.

use crate::genesis::Genesis;
use crate::ids::{CloudId, Hash};
use crate::transparency::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Pending,
    Quarantined,
    Final,
    Sealed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The level would be lower without a flagged cloud's facts.
    pub review: bool,
    /// Two contents are FINAL; an operator decides.
    pub conflict: bool,
    /// A vote differs from the settled content; the level stands.
    pub dissent: bool,
    /// Every cloud's vote is known and audited by both others: a quarantine that can be acted on.
    pub actionable: bool,
}

/// One vote and who audited a checkpoint that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteFact {
    pub cloud: CloudId,
    pub verdict: Verdict,
    pub content: Hash,
    pub audited_by: BTreeSet<CloudId>,
}

/// What follows from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub level: Level,
    pub marks: Marks,
    /// The content that the level is about.
    pub settled: Option<Hash>,
}

pub fn standing(_genesis: &Genesis, _votes: &[VoteFact], _flagged: &BTreeSet<CloudId>) -> Standing {
    let _: BTreeMap<Hash, ()> = BTreeMap::new();
    unimplemented!()
}
