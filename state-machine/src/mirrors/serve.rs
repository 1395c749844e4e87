//! Reading logs for other clouds and outside auditors: chunks, bodies, leaves, roots and proofs.

use super::{LogChunk, MAX_CHUNK_BYTES, MAX_CHUNK_LEAVES};
use crate::events::{PackedBody, RecordedVote};
use crate::evidence::Statement;
use crate::ids::{CloudId, EpochId, Hash, Tag};
use crate::ledger::{Log, StoredNodes};
use crate::records::{Broken, Records};
use crate::state::State;
use crate::transparency::{Leaf, SignedNote, consistency_proof, inclusion_proof};

/// What a vote's leaf costs on the wire, about.
const LEAF_BYTES: usize = 160;

/// Another cloud said that it audited a head which the leaves held here contradict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub by: CloudId,
    pub size: u64,
    pub root: Hash,
}

impl State {
    /// A run of a log from `from` on, to be served under `note` (this cloud's latest signed note
    /// for the own log, the received one for a mirror). `None` if the log does not reach so far.
    pub fn log_chunk(
        &self,
        records: &dyn Records,
        cloud: &CloudId,
        from: u64,
        note: &SignedNote,
    ) -> Result<Option<LogChunk>, Broken> {
        let (epoch, size) = (note.body.origin.epoch, note.body.size);
        let log = self.hot.logs.get(&(cloud.clone(), epoch)).filter(|log| log.size() >= size && from <= size);
        if note.body.origin.cloud != *cloud || log.is_none() {
            return Ok(None);
        }
        let nodes = StoredNodes { records, cloud, epoch: &epoch };
        let (mut leaves, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut run = nodes.leaves(from, size.min(from + MAX_CHUNK_LEAVES as u64))?.into_iter();
        while from + (leaves.len() as u64) < size && leaves.len() < MAX_CHUNK_LEAVES && bytes < MAX_CHUNK_BYTES {
            let index = from + leaves.len() as u64;
            let leaf = run.next().ok_or_else(|| Broken(format!("log {cloud}/{epoch} lacks leaf {index}")))?;
            if let Some(tag) = leaf.tag() {
                for body in self.held(records, &tag)? {
                    if body.origin()? == *cloud {
                        bytes += body.size();
                        bodies.push(body);
                    }
                }
            }
            bytes += LEAF_BYTES;
            leaves.push(leaf);
        }
        let end = from + leaves.len() as u64;
        let consistency = consistency_proof(&nodes, end, size)?;
        let cloud = cloud.clone();
        Ok(Some(LogChunk { cloud, epoch, first_index: from, leaves, note: note.clone(), consistency, bodies }))
    }

    /// Every epoch of every cloud whose log is held here, with its size and whether it is closed.
    pub fn logs(&self) -> Vec<(CloudId, EpochId, u64, bool)> {
        let row = |((cloud, epoch), log): (&(CloudId, EpochId), &Log)| (cloud.clone(), *epoch, log.size(), log.closed);
        self.hot.logs.iter().map(row).collect()
    }

    /// A closed epoch of another cloud of which a later epoch adopted more than is held here.
    pub fn unfinished_past(&self, records: &dyn Records, cloud: &CloudId) -> Result<Option<EpochId>, Broken> {
        let past = self.hot.logs.iter().filter(|((of, _), log)| of == cloud && log.closed);
        for ((_, epoch), log) in past.filter(|_| *cloud != self.me) {
            let adopted = crate::epochs::adopted(self, records, cloud, epoch)?;
            if adopted.is_some_and(|head| head.size > log.size()) {
                return Ok(Some(*epoch));
            }
        }
        Ok(None)
    }

    /// The latest note that the mirror of one epoch's log has reached.
    pub fn note_in(&self, cloud: &CloudId, epoch: &EpochId) -> Option<&SignedNote> {
        self.hot.logs.get(&(cloud.clone(), *epoch))?.note.as_ref()
    }

    /// Notes of a convicted cloud: the one that the mirror held here reached, and those that do not fit
    /// it. Another honest cloud takes them as chunks without leaves.
    pub fn stray_notes(&self) -> Vec<LogChunk> {
        let convicted = self.hot.logs.iter().filter(|(at, _)| self.hot.frozen.contains(at));
        let chunk = |(cloud, epoch): &(CloudId, EpochId), note: &SignedNote| LogChunk {
            cloud: cloud.clone(),
            epoch: *epoch,
            first_index: 0,
            leaves: Vec::new(),
            note: note.clone(),
            consistency: Vec::new(),
            bodies: Vec::new(),
        };
        convicted.flat_map(|(at, log)| log.strays.iter().chain(&log.note).map(move |note| chunk(at, note))).collect()
    }

    /// Events of a forked cloud on which honest clouds may disagree until they show each other what
    /// it told each of them, at most `limit`.
    pub fn wanted_testimony(&self, limit: usize) -> Vec<Tag> {
        self.hot.testimony.iter().take(limit).copied().collect()
    }

    /// What flagged clouds answered for these tags in the logs held here, with proofs.
    pub fn testimony(&self, records: &dyn Records, tags: &[Tag]) -> Result<Vec<Statement>, Broken> {
        let mut statements = Vec::new();
        for tag in tags {
            let Some(record) = self.record(records, tag)? else { continue };
            let flagged = record.votes.iter().filter(|vote| self.is_flagged(&vote.cloud) && vote.branch.is_none());
            for vote in flagged {
                statements.extend(self.statement(records, vote)?);
            }
        }
        Ok(statements)
    }

    /// How many leaves of one epoch's log are held here; `None` if that epoch is unknown.
    pub fn log_size(&self, cloud: &CloudId, epoch: &EpochId) -> Option<u64> {
        self.hot.logs.get(&(cloud.clone(), *epoch)).map(Log::size)
    }

    /// Tags that clouds voted on and whose bodies are not here, at most `limit`.
    pub fn missing_bodies(&self, limit: usize) -> Vec<Tag> {
        self.hot.missing.iter().take(limit).copied().collect()
    }

    /// The bodies of these tags, as far as held.
    pub fn bodies(&self, records: &dyn Records, tags: &[Tag]) -> Result<Vec<PackedBody>, Broken> {
        let mut bodies = Vec::new();
        for tag in tags {
            bodies.extend(self.held(records, tag)?);
        }
        Ok(bodies)
    }

    fn held(&self, records: &dyn Records, tag: &Tag) -> Result<Vec<PackedBody>, Broken> {
        let Some(record) = self.seen(records, tag)? else { return Ok(Vec::new()) };
        (0..record.contents.len()).map(|at| self.packed(records, &record, at)).collect()
    }

    /// Audits said by others that contradict this cloud's mirrors: somebody lied.
    pub fn disputes(&self) -> Vec<Dispute> {
        let mut disputes = Vec::new();
        for ((cloud, epoch), log) in &self.hot.logs {
            for (by, &(size, root)) in log.claims.iter().filter(|(_, (size, _))| *size <= log.size()) {
                disputes.push(Dispute { cloud: cloud.clone(), epoch: *epoch, by: by.clone(), size, root });
            }
        }
        disputes
    }

    /// The root of a cloud's current log at an earlier size; `None` beyond its end.
    pub fn root_at(&self, records: &dyn Records, cloud: &CloudId, size: u64) -> Result<Option<Hash>, Broken> {
        let Some((epoch, log)) = self.current_log(cloud).filter(|(_, log)| size <= log.size()) else { return Ok(None) };
        StoredNodes { records, cloud, epoch: &epoch }.root(&log.frontier, size).map(Some)
    }

    pub fn leaf(&self, records: &dyn Records, cloud: &CloudId, index: u64) -> Result<Option<Leaf>, Broken> {
        let Some((epoch, _)) = self.current_log(cloud).filter(|(_, log)| index < log.size()) else { return Ok(None) };
        StoredNodes { records, cloud, epoch: &epoch }.leaf(index)
    }

    /// Proof that a leaf is in the current log at a size; `None` if either is beyond its end.
    pub fn proof(
        &self,
        records: &dyn Records,
        cloud: &CloudId,
        index: u64,
        size: u64,
    ) -> Result<Option<Vec<Hash>>, Broken> {
        let fits = |log: &Log| index < size && size <= log.size();
        let Some((epoch, _)) = self.current_log(cloud).filter(|(_, log)| fits(log)) else { return Ok(None) };
        inclusion_proof(&StoredNodes { records, cloud, epoch: &epoch }, index, size).map(Some)
    }

    /// A proof that a cloud's log holds this vote, under the latest note that the mirror reached.
    pub(crate) fn statement(&self, records: &dyn Records, vote: &RecordedVote) -> Result<Option<Statement>, Broken> {
        let note = self.note_in(&vote.cloud, &vote.epoch).filter(|note| note.body.size > vote.index);
        let Some(note) = note.cloned() else { return Ok(None) };
        let nodes = StoredNodes { records, cloud: &vote.cloud, epoch: &vote.epoch };
        let proof = inclusion_proof(&nodes, vote.index, note.body.size)?;
        Ok(Some(Statement { note, index: vote.index, leaf: Leaf::Vote(vote.vote.clone()), proof }))
    }

    fn current_log(&self, cloud: &CloudId) -> Option<(EpochId, &Log)> {
        Some((*self.hot.current.get(cloud)?, self.log(cloud)?))
    }
}
