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
    /// The vote of a cloud not proven to lie differs from the settled content; the level stands.
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

/// The level, marks and settled content that follow from the votes known, by the rules of DESIGN:
/// FINAL when voters of a quorum audited each other's votes, SEALED when every other cloud audited
/// them too, QUARANTINED when no content can reach a quorum any more.
pub fn standing(genesis: &Genesis, votes: &[VoteFact], flagged: &BTreeSet<CloudId>) -> Standing {
    // No honest cloud audits a convicted one any more: what it says from then on is no fact.
    let counts = |vote: &&VoteFact| !flagged.contains(&vote.cloud) || !vote.audited_by.is_empty();
    let counted = if mutant!(LevelDependsOnOrder) { 2 } else { usize::MAX };
    let some: Vec<VoteFact>;
    let votes = if flagged.is_empty() && counted == usize::MAX {
        votes
    } else {
        some = votes.iter().filter(counts).take(counted).cloned().collect();
        some.as_slice()
    };
    let (level, settled, conflict) = level(genesis, votes, flagged);
    let review = match settled {
        Some(content) if !flagged.is_empty() => {
            let without: Vec<VoteFact> = votes.iter().filter(|vote| !flagged.contains(&vote.cloud)).cloned().collect();
            content_level(genesis, &without, content, flagged) < level
        }
        _ => false,
    };
    let dissents = |vote: &VoteFact, content| !vote.confirms(content) && !flagged.contains(&vote.cloud);
    let dissent = settled.is_some_and(|content| votes.iter().any(|vote| dissents(vote, content)));
    let all_audited = genesis.clouds().all(|cloud| {
        let mut own = votes.iter().filter(|vote| vote.cloud == *cloud).peekable();
        own.peek().is_some() && own.all(|vote| genesis.clouds().all(|by| by == cloud || vote.audited_by.contains(by)))
    });
    let actionable = level == Level::Quarantined && all_audited;
    Standing { level, settled, marks: Marks { review, conflict, dissent, actionable } }
}

impl VoteFact {
    fn confirms(&self, content: Hash) -> bool {
        self.verdict == Verdict::Confirm && self.content == content
    }
}

/// The highest level of any content, that content (the smallest hash if two are equal), and whether
/// two contents are FINAL.
fn level(genesis: &Genesis, votes: &[VoteFact], flagged: &BTreeSet<CloudId>) -> (Level, Option<Hash>, bool) {
    let contents: BTreeSet<Hash> =
        votes.iter().filter(|vote| vote.verdict == Verdict::Confirm).map(|vote| vote.content).collect();
    let mut settled: Vec<(Level, Hash)> = contents
        .iter()
        .map(|&content| (content_level(genesis, votes, content, &BTreeSet::new()), content))
        .filter(|(level, _)| *level >= Level::Final)
        .collect();
    settled.sort_by_key(|&(level, content)| (std::cmp::Reverse(level), content));
    let overwritten = mutant!(FinalOverwritten) && contents.len() > 1;
    if let Some(&(level, content)) = settled.first().filter(|_| !overwritten) {
        return (level, Some(content), settled.len() > 1);
    }
    let voted: BTreeSet<&CloudId> = votes.iter().map(|vote| &vote.cloud).collect();
    let may_vote = |cloud: &&CloudId| !voted.contains(cloud) && !flagged.contains(cloud);
    let silent: u64 = genesis.clouds().filter(may_vote).map(|cloud| genesis.weight(cloud)).sum();
    let reachable = |content: &Hash| silent + weight_for(genesis, votes, *content) >= u64::from(genesis.quorum);
    let open = silent >= u64::from(genesis.quorum) || contents.iter().any(reachable);
    (if open { Level::Pending } else { Level::Quarantined }, None, false)
}

fn weight_for(genesis: &Genesis, votes: &[VoteFact], content: Hash) -> u64 {
    let voters: BTreeSet<&CloudId> = votes.iter().filter(|v| v.confirms(content)).map(|v| &v.cloud).collect();
    voters.into_iter().map(|cloud| genesis.weight(cloud)).sum()
}

/// FINAL or SEALED if a set of voters for this content proves it, else PENDING. Clouds in `waived`
/// are not asked for audits.
fn content_level(genesis: &Genesis, votes: &[VoteFact], content: Hash, waived: &BTreeSet<CloudId>) -> Level {
    // A lying cloud may have several votes for one content (in two branches of its log); together
    // they were audited by whoever audited any of them.
    let mut audits: BTreeMap<&CloudId, BTreeSet<&CloudId>> = BTreeMap::new();
    for vote in votes.iter().filter(|vote| vote.confirms(content)) {
        audits.entry(&vote.cloud).or_default().extend(&vote.audited_by);
    }
    let voters: Vec<&CloudId> = audits.keys().copied().collect();
    let quorum = if mutant!(QuorumOfOne) { 1 } else { u64::from(genesis.quorum) };
    let mut best = Level::Pending;
    for set in 1_u32..1 << voters.len() {
        let members: Vec<&CloudId> =
            voters.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, cloud)| *cloud).collect();
        let weight: u64 = members.iter().map(|cloud| genesis.weight(cloud)).sum();
        let audited = |of: &CloudId, by: &CloudId| by == of || waived.contains(by) || audits[of].contains(by);
        let mutual = mutant!(FinalWithoutAudits) || members.iter().all(|of| members.iter().all(|by| audited(of, by)));
        if weight < quorum || !mutual {
            continue;
        }
        let asked = |by: &CloudId| !mutant!(SealedWithoutTheThird) || members.contains(&by);
        let sealed = members.iter().all(|of| genesis.clouds().filter(|by| asked(by)).all(|by| audited(of, by)));
        best = best.max(if sealed { Level::Sealed } else { Level::Final });
    }
    best
}
