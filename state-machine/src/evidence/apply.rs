//! Convicting a cloud: keep the proof, freeze the epochs that it lied in, and look again at every
//! event that relied on it.

use super::{Command, Evidence, Lie, Statement};
use crate::command::Reply;
use crate::events::{EventRecord, RecordedVote};
use crate::fact::Fact;
use crate::ids::EpochId;
use crate::ledger::{StoredNodes, keys};
use crate::mirrors::{MAX_VOTES_PER_CLOUD, touch};
use crate::records::Broken;
use crate::rejection::Rejection;
use crate::state::Tx;
use crate::transparency::{Leaf, inclusion_proof};

/// The most proofs kept. One already convicts; more only widen what is shown about single events.
pub const MAX_EVIDENCE: usize = 256;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    let Command::Accuse(evidence) = command;
    if tx.state.hot.evidence.contains(&evidence.id()) {
        return Ok(Ok(Reply::Done));
    }
    if let Err(error) = evidence.verify(&tx.state.genesis, &tx.state.hot.openings) {
        return Ok(Err(Rejection::BadEvidence(error.to_string())));
    }
    convict(tx, (**evidence).clone())?;
    Ok(Ok(Reply::Done))
}

/// Takes a proof that is known to hold.
pub(crate) fn convict(tx: &mut Tx<'_>, evidence: Evidence) -> Result<(), Broken> {
    let id = evidence.id();
    if tx.state.hot.evidence.contains(&id) || tx.state.hot.evidence.len() >= MAX_EVIDENCE {
        return Ok(());
    }
    tx.records.put(keys::evidence(&id), crate::codec::encode(&evidence));
    tx.state.hot.evidence.push(id);
    tx.facts.push(Fact::Convicted { cloud: evidence.cloud.clone(), evidence: id });
    for epoch in evidence.epochs() {
        tx.state.hot.frozen.insert((evidence.cloud.clone(), epoch));
    }
    if let Lie::DoubleVote(first, second) | Lie::ForkAtIndex(first, second) = &evidence.lie {
        take_branch_vote(tx, first)?;
        take_branch_vote(tx, second)?;
    }
    if tx.state.hot.flagged.insert(evidence.cloud.clone()) {
        let logs: Vec<_> = tx.state.hot.logs.iter().map(|(at, log)| (at.clone(), log.size())).collect();
        for (at, size) in logs.into_iter().filter(|(at, _)| at.0 == evidence.cloud) {
            touch(tx, &at, 0, size)?;
        }
    }
    Ok(())
}

/// A vote that only the evidence shows, because it stands in a branch that this cloud does not
/// mirror, counts for whoever audited that branch.
fn take_branch_vote(tx: &mut Tx<'_>, statement: &Statement) -> Result<(), Broken> {
    let Leaf::Vote(vote) = &statement.leaf else { return Ok(()) };
    let body = &statement.note.body;
    let (cloud, epoch) = (&body.origin.cloud, &body.origin.epoch);
    let nodes = StoredNodes { records: tx.records, cloud, epoch };
    if nodes.leaf(statement.index)?.as_ref() == Some(&statement.leaf) {
        return Ok(());
    }
    let mut record = tx.record(&vote.tag)?.unwrap_or_else(|| EventRecord::new(vote.tag));
    let found = RecordedVote {
        cloud: cloud.clone(),
        epoch: *epoch,
        index: statement.index,
        vote: vote.clone(),
        branch: Some((body.size, body.root)),
    };
    let held = record.votes.iter().filter(|vote| vote.cloud == *cloud).count();
    if !record.votes.contains(&found) && held < MAX_VOTES_PER_CLOUD {
        record.votes.push(found);
        tx.touched.insert(record.tag);
        tx.put_record(&record);
    }
    Ok(())
}

impl Tx<'_> {
    /// A proof that a cloud's log holds this vote, under the latest note that the mirror reached.
    pub fn statement(&self, vote: &RecordedVote) -> Result<Option<Statement>, Broken> {
        let at = (vote.cloud.clone(), vote.epoch);
        let note = self.state.hot.logs.get(&at).and_then(|log| log.note.clone());
        let Some(note) = note.filter(|note| note.body.size > vote.index) else { return Ok(None) };
        let nodes = StoredNodes { records: self.records, cloud: &at.0, epoch: &at.1 };
        let proof = inclusion_proof(&nodes, vote.index, note.body.size)?;
        Ok(Some(Statement { note, index: vote.index, leaf: Leaf::Vote(vote.vote.clone()), proof }))
    }
}

impl Evidence {
    /// The epochs that the lie was told in.
    pub fn epochs(&self) -> Vec<EpochId> {
        let (first, second) = match &self.lie {
            Lie::DoubleVote(a, b) | Lie::ForkAtIndex(a, b) => (&a.note, &b.note),
            Lie::ForkAtSize(a, b) => (&**a, &**b),
        };
        vec![first.body.origin.epoch, second.body.origin.epoch]
    }
}
