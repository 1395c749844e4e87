//! The finality rule: a pure function from the set of facts about one event to its level. It never
//! sees an order of arrival, so there is none that it could depend on.

use crate::genesis::{CLOUDS, CloudSet, Genesis};
use crate::ids::Hash;
use crate::transparency::Verdict;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteFact {
    /// The position of the voter in the genesis.
    pub cloud: usize,
    pub verdict: Verdict,
    pub content: Hash,
    pub audited_by: CloudSet,
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
pub fn standing(genesis: &Genesis, votes: &[VoteFact], flagged: CloudSet) -> Standing {
    // No honest cloud audits a convicted one any more: what it says from then on is no fact.
    let counts = |vote: &&VoteFact| !flagged.contains(vote.cloud) || !vote.audited_by.is_empty();
    let counted = if mutant!(LevelDependsOnOrder) { 2 } else { usize::MAX };
    let votes: Vec<VoteFact> = votes.iter().filter(counts).take(counted).copied().collect();
    let (level, settled, conflict) = level(genesis, &votes, flagged);
    let review = match settled {
        Some(content) if !flagged.is_empty() => {
            let without: Vec<VoteFact> = votes.iter().filter(|vote| !flagged.contains(vote.cloud)).copied().collect();
            content_level(genesis, &without, content, flagged) < level
        }
        _ => false,
    };
    let dissents = |vote: &VoteFact, content| !vote.confirms(content) && !flagged.contains(vote.cloud);
    let dissent = settled.is_some_and(|content| votes.iter().any(|vote| dissents(vote, content)));
    let everybody = genesis.everybody();
    let all_audited = everybody.iter().all(|cloud| {
        let mut own = votes.iter().filter(|vote| vote.cloud == cloud).peekable();
        own.peek().is_some() && own.all(|vote| vote.audited_by.with(cloud).holds_all(everybody))
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
fn level(genesis: &Genesis, votes: &[VoteFact], flagged: CloudSet) -> (Level, Option<Hash>, bool) {
    let confirmed = votes.iter().filter(|vote| vote.verdict == Verdict::Confirm);
    let mut contents: Vec<Hash> = confirmed.map(|vote| vote.content).collect();
    contents.sort_unstable();
    contents.dedup();
    let (mut best, mut finals): (Option<(Level, Hash)>, usize) = (None, 0);
    for &content in &contents {
        let level = content_level(genesis, votes, content, CloudSet::default());
        if level >= Level::Final {
            finals += 1;
            best = best.filter(|(known, _)| *known >= level).or(Some((level, content)));
        }
    }
    let overwritten = mutant!(FinalOverwritten) && contents.len() > 1;
    if let Some((level, content)) = best.filter(|_| !overwritten) {
        return (level, Some(content), finals > 1);
    }
    let voted: CloudSet = votes.iter().map(|vote| vote.cloud).collect();
    let may_vote = |cloud: &usize| !voted.contains(*cloud) && !flagged.contains(*cloud);
    let silent = genesis.weight_of(genesis.everybody().iter().filter(may_vote).collect());
    let voters_for = |content: Hash| votes.iter().filter(move |vote| vote.confirms(content)).map(|vote| vote.cloud);
    let reachable =
        |content: &Hash| silent + genesis.weight_of(voters_for(*content).collect()) >= u64::from(genesis.quorum);
    let open = silent >= u64::from(genesis.quorum) || contents.iter().any(reachable);
    (if open { Level::Pending } else { Level::Quarantined }, None, false)
}

/// FINAL or SEALED if a set of voters for this content proves it, else PENDING. Clouds in `waived`
/// are not asked for audits.
fn content_level(genesis: &Genesis, votes: &[VoteFact], content: Hash, waived: CloudSet) -> Level {
    // A lying cloud may have several votes for one content (in two branches of its log); together
    // they were audited by whoever audited any of them.
    let (mut audits, mut voters) = ([waived; CLOUDS], CloudSet::default());
    for vote in votes.iter().filter(|vote| vote.confirms(content)) {
        audits[vote.cloud] = audits[vote.cloud].with(vote.cloud).union(vote.audited_by);
        voters = voters.with(vote.cloud);
    }
    let quorum = if mutant!(QuorumOfOne) { 1 } else { u64::from(genesis.quorum) };
    let mut best = Level::Pending;
    for members in voters.subsets() {
        let audited_by = |all: CloudSet| members.iter().all(|of| audits[of].holds_all(all));
        if genesis.weight_of(members) < quorum || !(mutant!(FinalWithoutAudits) || audited_by(members)) {
            continue;
        }
        let asked = if mutant!(SealedWithoutTheThird) { members } else { genesis.everybody() };
        best = best.max(if audited_by(asked) { Level::Sealed } else { Level::Final });
    }
    best
}
