//! Extending a mirror: recompute the root from the leaves, take the votes that they hold, look for
//! double votes, and move the audits forward. A chunk that does not fit changes nothing.

use super::{ChunkOutcome, Command, LogChunk, MAX_BODIES, MAX_CHUNK_LEAVES, MAX_CHUNKS};
use crate::command::Reply;
use crate::events::{self, EventRecord, MAX_MISSING, RecordedVote};
use crate::evidence::{self, Evidence, Lie};
use crate::fact::Fact;
use crate::ids::{CloudId, EpochId, Hash, Tag};
use crate::ledger::{Run, StoredNodes};
use crate::records::Broken;
use crate::rejection::Rejection;
use crate::state::Tx;
use crate::transparency::{Frontier, Leaf, SignedNote, verify_consistency};

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    let (chunks, bodies) = match command {
        Command::Introduce(opening) => return crate::epochs::introduce(tx, opening),
        Command::Ingest { chunks, bodies } => (chunks, bodies),
    };
    let sent = bodies.len() + chunks.iter().map(|chunk| chunk.bodies.len()).sum::<usize>();
    let oversized = chunks.iter().any(|chunk| chunk.leaves.len() > MAX_CHUNK_LEAVES);
    if chunks.len() > MAX_CHUNKS || sent > MAX_CHUNKS * MAX_BODIES || oversized {
        return Ok(Err(Rejection::TooLarge(format!("{} chunks with {sent} bodies", chunks.len()))));
    }
    let mut outcomes = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let outcome = extend(tx, chunk)?;
        if !matches!(outcome, ChunkOutcome::WrongEpoch | ChunkOutcome::Extended { .. }) {
            keep_misfit(tx, &chunk.note)?;
        }
        outcomes.push(outcome);
    }
    for body in bodies {
        events::receive(tx, body)?;
    }
    Ok(Ok(Reply::Ingested(outcomes)))
}

fn extend(tx: &mut Tx<'_>, chunk: &LogChunk) -> Result<ChunkOutcome, Broken> {
    let origin = &chunk.note.body.origin;
    let at = (chunk.cloud.clone(), chunk.epoch);
    if origin.cloud != chunk.cloud || origin.epoch != chunk.epoch || origin.fed != tx.state.fed {
        return Ok(ChunkOutcome::WrongEpoch);
    }
    let recovering = tx.state.hot.recovery.is_some();
    let Some(log) = tx.state.hot.logs.get(&at) else { return Ok(ChunkOutcome::WrongEpoch) };
    let closed = log.closed && !mutant!(EpochIgnored);
    let shut = closed && !crate::epochs::admits(tx, &chunk.note.body)?;
    if shut || (chunk.cloud == tx.state.me && !recovering) {
        return Ok(ChunkOutcome::WrongEpoch);
    }
    let have = log.size();
    if chunk.first_index > have {
        return Ok(ChunkOutcome::Gap { have });
    }
    if let Some(lie) = log.note.as_ref().and_then(|known| Evidence::of_notes(known, &chunk.note)) {
        let forked = matches!(lie.lie, Lie::ForkAtSize(..));
        evidence::convict(tx, lie)?;
        if forked {
            return Ok(ChunkOutcome::Mismatch);
        }
    }
    let log = &tx.state.hot.logs[&at];
    let skip = usize::try_from(have - chunk.first_index).unwrap_or(usize::MAX);
    let fresh = chunk.leaves.get(skip..).unwrap_or(&[]);
    let end = have + fresh.len() as u64;
    if chunk.note.body.size < end || (fresh.is_empty() && chunk.note.body.size > have) {
        return Ok(if fresh.is_empty() { ChunkOutcome::Known } else { ChunkOutcome::Mismatch });
    }
    let run = Run::new(log.frontier.clone(), fresh);
    let fits = leads_to_note(run.frontier(), chunk) || mutant!(AuditSkipped);
    if !fits || !openings_fit(tx, &at, have, fresh) {
        return Ok(ChunkOutcome::Mismatch);
    }
    let newer =
        log.note.as_ref().is_none_or(|known| chunk.note.body != known.body && chunk.note.body.grew_from(&known.body));
    let news = !fresh.is_empty() || (newer && !tx.state.hot.frozen.contains(&at));
    if news {
        take_leaves(tx, &at, fresh, run)?;
        if end == chunk.note.body.size {
            take_note(tx, &at, &chunk.note)?;
        }
        check_claims(tx, &at)?;
        let log = &tx.state.hot.logs[&at];
        let (size, audited) = (log.size(), log.audited(&tx.state.me));
        tx.facts.push(Fact::MirrorAdvanced { cloud: chunk.cloud.clone(), size, audited });
    }
    for body in &chunk.bodies {
        events::receive(tx, body)?;
    }
    Ok(if news { ChunkOutcome::Extended { size: end } } else { ChunkOutcome::Known })
}

/// Whether the note's root follows from the log with the chunk's leaves.
fn leads_to_note(frontier: &Frontier, chunk: &LogChunk) -> bool {
    let note = &chunk.note.body;
    if frontier.size() == note.size {
        return frontier.root() == note.root;
    }
    verify_consistency(frontier.size(), note.size, &frontier.root(), &note.root, &chunk.consistency)
}

/// Leaf 0, and only leaf 0, opens the epoch, under the keys and rules that everybody knows.
fn openings_fit(tx: &Tx<'_>, (cloud, epoch): &(CloudId, EpochId), have: u64, fresh: &[Leaf]) -> bool {
    fresh.iter().zip(have..).all(|(leaf, index)| match leaf {
        Leaf::Vote(_) | Leaf::Held { .. } => index > 0,
        Leaf::Open(open) => index == 0 && crate::epochs::open_leaf_fits(tx.state, cloud, epoch, open),
    })
}

fn take_leaves(tx: &mut Tx<'_>, at: &(CloudId, EpochId), fresh: &[Leaf], run: Run) -> Result<(), Broken> {
    let log = tx.state.hot.logs.get_mut(at).expect("the caller found it");
    let first = log.size();
    log.frontier = run.store(tx.records, &at.0, &at.1)?;
    for (leaf, index) in fresh.iter().zip(first..) {
        match leaf {
            Leaf::Open(_) => {}
            _ if mutant!(CursorSkipsALeaf) && index == first && fresh.len() > 1 => {}
            Leaf::Held { tag, .. } => {
                if tx.record(tag)?.is_none() {
                    tx.miss(*tag);
                }
            }
            Leaf::Vote(vote) => {
                let vote = vote.clone();
                take_vote(tx, RecordedVote { cloud: at.0.clone(), epoch: at.1, index, vote, branch: None })?;
            }
        }
    }
    Ok(())
}

/// Notes a vote under its tag. A second one that says something else is a lie, to be proven as soon
/// as a note covers both.
fn take_vote(tx: &mut Tx<'_>, found: RecordedVote) -> Result<(), Broken> {
    let tag: Tag = found.vote.tag;
    let (mut record, changed) = tx.take_record(&tag)?.unwrap_or_else(|| (Box::new(EventRecord::new(tag)), false));
    if record.votes.iter().any(|vote| vote.cloud == found.cloud && vote.says_the_same(&found) && vote.branch.is_none())
    {
        tx.give_back(record, changed);
        return Ok(());
    }
    if record.has_vote_of(&found.cloud) && !mutant!(DoubleVoteNotLookedFor) {
        tx.state.hot.suspected.push((found.cloud.clone(), tag));
    }
    record.add_vote(found);
    if tx.lacks_body(&record) {
        tx.miss(tag);
    }
    tx.put_record(record);
    tx.touched.push(tag);
    Ok(())
}

/// The mirror reached this note: audit it unless the cloud lied, and take over what it says of
/// others.
fn take_note(tx: &mut Tx<'_>, at: &(CloudId, EpochId), note: &SignedNote) -> Result<(), Broken> {
    let log = tx.state.hot.logs.get_mut(at).expect("the caller found it");
    let audited = log.note.replace(note.clone());
    prove_double_votes(tx, at)?;
    if tx.state.hot.frozen.contains(at) && !mutant!(FlaggedStillAudited) {
        // The note kept stays the one that was audited, so that proofs to others are about it.
        tx.state.hot.logs.get_mut(at).expect("the caller found it").note = audited;
        return keep_misfit(tx, note);
    }
    let me = tx.state.me.clone();
    advance(tx, at, &me, (note.body.size, note.body.root))?;
    take_audits(tx, &at.0, note)
}

/// A note that does not fit the mirror may be of a fork. It still says what its cloud audited of the
/// others, and once the fork is proven that counts, at every honest cloud alike.
pub(crate) fn keep_misfit(tx: &mut Tx<'_>, note: &SignedNote) -> Result<(), Broken> {
    let at = (note.body.origin.cloud.clone(), note.body.origin.epoch);
    let Some(log) = tx.state.hot.logs.get(&at) else { return Ok(()) };
    let nodes = StoredNodes { records: tx.records, cloud: &at.0, epoch: &at.1 };
    let ahead = note.body.size > log.size();
    let frozen = tx.state.hot.frozen.contains(&at);
    if !ahead && nodes.root(&log.frontier, note.body.size)? == note.body.root && !frozen {
        return Ok(());
    }
    tx.state.hot.logs.get_mut(&at).expect("just read").keep_stray(note);
    if frozen { take_audits(tx, &at.0, note) } else { Ok(()) }
}

/// After a conviction: what the kept notes of that epoch say of other logs counts now.
pub(crate) fn take_strays(tx: &mut Tx<'_>, at: &(CloudId, EpochId)) -> Result<(), Broken> {
    let strays = tx.state.hot.logs.get(at).map_or(Vec::new(), |log| log.strays.clone());
    strays.iter().try_for_each(|note| take_audits(tx, &at.0, note))
}

/// What a note says of other logs. It is a fact also when the note's own log is a fork.
fn take_audits(tx: &mut Tx<'_>, by: &CloudId, note: &SignedNote) -> Result<(), Broken> {
    for audit in &note.body.audits {
        let about = (audit.cloud.clone(), audit.epoch);
        let Some(log) = tx.state.hot.logs.get_mut(&about).filter(|_| audit.cloud != *by) else { continue };
        let said = log.claims.get(by).map_or(0, |(size, _)| *size).max(log.audited(by));
        if said < audit.size {
            let first = log.claims.insert(by.clone(), (audit.size, audit.root)).is_none();
            check_claims(tx, &about)?;
            look_at_branch(tx, &about, by, first)?;
        }
    }
    crate::epochs::take_closings(tx, by, &note.body.closings);
    Ok(())
}

/// Another cloud audited a branch of a convicted cloud's log that is not mirrored here, or more of
/// one. What was told to it there may count for every event that is not settled without.
fn look_at_branch(tx: &mut Tx<'_>, at: &(CloudId, EpochId), by: &CloudId, first: bool) -> Result<(), Broken> {
    if !tx.state.hot.frozen.contains(at) {
        return Ok(());
    }
    if first && tx.state.hot.logs[at].claims.contains_key(by) {
        evidence::touch_unsettled(tx, &at.0)?;
    }
    tx.touched.extend(&tx.state.hot.testimony);
    Ok(())
}

impl Tx<'_> {
    fn miss(&mut self, tag: Tag) {
        if self.state.hot.missing.len() < MAX_MISSING {
            self.state.hot.missing.insert(tag);
        }
    }
}

/// Confirms what others said they audited of a log, as far as the leaves here reach. A claim that
/// contradicts the leaves stays: it is a dispute, and somebody lied.
fn check_claims(tx: &mut Tx<'_>, at: &(CloudId, EpochId)) -> Result<(), Broken> {
    let log = &tx.state.hot.logs[at];
    let nodes = StoredNodes { records: tx.records, cloud: &at.0, epoch: &at.1 };
    let mut confirmed = Vec::new();
    for (by, (size, root)) in log.claims.iter().filter(|(_, (size, _))| *size <= log.size()) {
        if nodes.root(&log.frontier, *size)? == *root {
            confirmed.push((by.clone(), (*size, *root)));
        }
    }
    for (by, head) in confirmed {
        tx.state.hot.logs.get_mut(at).expect("just read").claims.remove(&by);
        advance(tx, at, &by, head)?;
    }
    Ok(())
}

/// Moves an audit register forward. Every event whose leaf it now covers is looked at again.
fn advance(tx: &mut Tx<'_>, at: &(CloudId, EpochId), by: &CloudId, head: (u64, Hash)) -> Result<(), Broken> {
    let log = tx.state.hot.logs.get_mut(at).expect("the caller found it");
    let before = log.audited(by);
    if before >= head.0 {
        return Ok(());
    }
    log.audits.insert(by.clone(), head);
    touch(tx, at, before, head.0)
}

/// Marks the events of a run of leaves for another look.
pub(crate) fn touch(tx: &mut Tx<'_>, at: &(CloudId, EpochId), from: u64, to: u64) -> Result<(), Broken> {
    let leaves = StoredNodes { records: tx.records, cloud: &at.0, epoch: &at.1 }.leaves(from, to)?;
    if leaves.len() as u64 != to - from {
        return Err(Broken(format!("log {}/{} lacks leaves of {from} to {to}", at.0, at.1)));
    }
    tx.touched.extend(leaves.iter().filter_map(Leaf::tag));
    Ok(())
}

/// Turns suspicions into evidence once the mirror stands exactly at a note that covers both votes.
fn prove_double_votes(tx: &mut Tx<'_>, at: &(CloudId, EpochId)) -> Result<(), Broken> {
    let suspected = std::mem::take(&mut tx.state.hot.suspected);
    for (cloud, tag) in suspected {
        if cloud != at.0 {
            tx.state.hot.suspected.push((cloud, tag));
            continue;
        }
        let Some(record) = tx.record(&tag)? else { continue };
        let votes: Vec<&RecordedVote> =
            record.votes.iter().filter(|vote| vote.cloud == cloud && vote.branch.is_none()).collect();
        let Some(second) = votes.iter().skip(1).find(|vote| !vote.says_the_same(votes[0])) else { continue };
        let proof = (tx.state.statement(tx.records, votes[0])?, tx.state.statement(tx.records, second)?);
        if let (Some(first), Some(second)) = proof {
            evidence::convict(tx, Evidence::double_vote(first, second))?;
        }
    }
    Ok(())
}
