//! Convicting a cloud: keep the proof, freeze the epochs that it lied in, and look again at every
//! event that relied on it.

use super::{Command, Evidence, Lie, Statement};
use crate::command::Reply;
use crate::events::{Branch, EventRecord, Level, RecordedVote};
use crate::fact::Fact;
use crate::ids::{CloudId, EpochId};
use crate::ledger::{StoredNodes, keys};
use crate::mirrors::{keep_misfit, take_strays, touch};
use crate::records::Broken;
use crate::rejection::Rejection;
use crate::state::Tx;
use crate::transparency::Leaf;
use std::collections::BTreeSet;

/// The most proofs kept. One already convicts; more only widen what is shown about single events.
pub const MAX_EVIDENCE: usize = 256;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    let evidence = match command {
        Command::Accuse(evidence) => evidence,
        Command::Testify(statement) => return testify(tx, statement),
    };
    if tx.state.hot.evidence.contains(&evidence.id()) {
        return Ok(Ok(Reply::Done));
    }
    if let Err(error) = evidence.verify(&tx.state.genesis, &tx.state.hot.openings) {
        return Ok(Err(Rejection::BadEvidence(error.to_string())));
    }
    convict(tx, (**evidence).clone())?;
    Ok(Ok(Reply::Done))
}

/// Takes what a flagged cloud told another one. If it contradicts what it told this one, that is
/// one more proof; if not, the vote counts for whoever audited that branch.
fn testify(tx: &mut Tx<'_>, statement: &Statement) -> Result<Result<Reply, Rejection>, Broken> {
    let origin = &statement.note.body.origin;
    if !tx.state.hot.frozen.contains(&(origin.cloud.clone(), origin.epoch)) {
        return Ok(Err(Rejection::BadEvidence("testimony is taken only about an epoch that was lied in".into())));
    }
    if let Err(error) = statement.verify(&tx.state.genesis, &tx.state.hot.openings) {
        return Ok(Err(Rejection::BadEvidence(error.to_string())));
    }
    let Leaf::Vote(vote) = &statement.leaf else { return Ok(Ok(Reply::Done)) };
    let known = tx.record(&vote.tag)?;
    // Only what the mirror here holds can be proven from here.
    let mirrored = |known: &&RecordedVote| known.cloud == origin.cloud && known.branch.is_none();
    let own = known.iter().flat_map(|record| &record.votes).find(mirrored);
    let contradicts = |own: &&RecordedVote| own.vote.verdict != vote.verdict || own.vote.content != vote.content;
    let own = own.filter(contradicts).map(|own| tx.state.statement(tx.records, own)).transpose()?.flatten();
    if let Some(own) = own {
        convict(tx, Evidence::double_vote(own, statement.clone()))?;
    }
    keep_misfit(tx, &statement.note)?;
    take_branch_vote(tx, statement)?;
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
    let mut news = tx.state.hot.flagged.insert(evidence.cloud.clone());
    for epoch in evidence.epochs() {
        let at = (evidence.cloud.clone(), epoch);
        if tx.state.hot.frozen.insert(at.clone()) {
            news = true;
            take_strays(tx, &at)?;
        }
    }
    // Whoever holds the proof holds its notes, and with them the same facts about the other logs.
    for note in evidence.notes() {
        keep_misfit(tx, note)?;
    }
    if let Lie::DoubleVote(first, second) | Lie::ForkAtIndex(first, second) = &evidence.lie {
        take_branch_vote(tx, first)?;
        take_branch_vote(tx, second)?;
    }
    if news {
        touch_unsettled(tx, &evidence.cloud)?;
    }
    Ok(())
}

/// Looks again at every event whose level may rest on what this lying cloud says, here or elsewhere.
pub(crate) fn touch_unsettled(tx: &mut Tx<'_>, liar: &CloudId) -> Result<(), Broken> {
    let logs: Vec<_> = tx.state.hot.logs.iter().map(|(at, log)| (at.clone(), log.size())).collect();
    for (at, size) in logs.into_iter().filter(|(at, _)| at.0 == *liar) {
        touch(tx, &at, 0, size)?;
    }
    let tenants: Vec<_> = tx.state.tenants.keys().cloned().collect();
    tx.write_changed();
    for tenant in tenants {
        let listed = tx.state.events(tx.records, &tenant, 0, usize::MAX)?;
        tx.touched.extend(listed.into_iter().filter(|(_, r)| r.level < Level::Final).map(|(_, r)| r.tag));
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
    let log = tx.state.hot.logs.get(&(cloud.clone(), *epoch));
    if let Some(log) = log.filter(|log| body.size <= log.size())
        && nodes.root(&log.frontier, body.size)? == body.root
    {
        return Ok(());
    }
    let mut record = tx.record(&vote.tag)?.unwrap_or_else(|| EventRecord::new(vote.tag));
    let branch = Branch { size: body.size, root: body.root, audited_by: BTreeSet::new() };
    let (cloud, vote) = (cloud.clone(), vote.clone());
    record.add_branch_vote(RecordedVote { cloud, epoch: *epoch, index: statement.index, vote, branch: Some(branch) });
    tx.touched.push(record.tag);
    tx.put_record(record);
    Ok(())
}

impl Evidence {
    /// The epochs that the lie was told in.
    pub fn epochs(&self) -> Vec<EpochId> {
        let notes = self.notes().into_iter().map(|note| note.body.origin.epoch);
        notes.chain(self.lease_votes().into_iter().map(|signed| signed.vote.epoch)).collect()
    }
}
