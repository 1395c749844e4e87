//! Reads of the state: what the API shows, what certificates are built from. Nothing here changes
//! anything.

use crate::certificate::{Certificate, Disclosed, InclusionProof, ProvenVote};
use crate::epochs::Opening;
use crate::events::{Body, Counts, EventRecord, Level, PackedBody, RecordedVote, VoteFact};
use crate::evidence::Evidence;
use crate::genesis::{CloudSet, Genesis};
use crate::ids::{CloudId, EpochId, EventKey, Hash, Tag, TenantId};
use crate::ledger::{self, Log, StoredNodes, keys};
use crate::records::{Broken, Records};
use crate::state::State;
use crate::tenants::Tenant;
use crate::time::Millis;
use crate::transparency::{SignedNote, Verdict, inclusion_proof};
use std::collections::{BTreeMap, BTreeSet};

/// A log as this cloud knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

/// An event with its bodies, for display.
#[derive(Debug, Clone)]
pub struct EventView {
    pub record: EventRecord,
    /// In the order of `record.contents`.
    pub bodies: Vec<Body>,
}

impl State {
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub fn me(&self) -> &CloudId {
        &self.me
    }

    /// The latest logged time.
    pub fn now(&self) -> Millis {
        self.hot.now
    }

    /// Every epoch known, own and others'.
    pub fn openings(&self) -> Vec<Opening> {
        self.hot.openings.clone()
    }

    /// The current epoch of a cloud.
    pub fn opening(&self, cloud: &CloudId) -> Option<&Opening> {
        let epoch = self.hot.current.get(cloud)?;
        self.opening_of(epoch)
    }

    /// Any epoch known, by its id.
    pub fn opening_of(&self, epoch: &EpochId) -> Option<&Opening> {
        let at = self.epochs.iter().position(|(_, known)| known == epoch)?;
        self.hot.openings.get(at)
    }

    /// Whether this cloud waits for the others to close its lost epoch.
    pub fn is_recovering(&self) -> bool {
        self.hot.recovery.is_some()
    }

    /// The own log, or the mirror of another cloud's.
    pub fn head(&self, cloud: &CloudId) -> Option<Head> {
        let epoch = *self.hot.current.get(cloud)?;
        let log = self.log(cloud)?;
        Some(Head { cloud: cloud.clone(), epoch, size: log.size(), root: log.frontier.root() })
    }

    /// The latest note of another cloud that this cloud's mirror has reached.
    pub fn note(&self, cloud: &CloudId) -> Option<&SignedNote> {
        self.log(cloud)?.note.as_ref()
    }

    /// How far a cloud's log is audited by another, as confirmed here: the size.
    pub fn audited(&self, cloud: &CloudId, by: &CloudId) -> u64 {
        self.log(cloud).map_or(0, |log| log.audited(by))
    }

    pub fn is_flagged(&self, cloud: &CloudId) -> bool {
        self.hot.flagged.contains(cloud)
    }

    pub fn has_evidence(&self, id: &Hash) -> bool {
        self.hot.evidence.contains(id)
    }

    /// Ids of the evidence held, oldest first.
    pub fn evidence_ids(&self) -> &[Hash] {
        &self.hot.evidence
    }

    /// Evidence held, oldest first.
    pub fn evidence(&self, records: &dyn Records) -> Result<Vec<Evidence>, Broken> {
        let mut held = Vec::new();
        for id in &self.hot.evidence {
            if let Some(bytes) = records.get(&keys::evidence(id))? {
                held.push(crate::codec::decode(&bytes)?);
            }
        }
        Ok(held)
    }

    pub fn tenant(&self, tenant: &TenantId) -> Option<&Tenant> {
        self.tenants.get(tenant).map(|tenant| &**tenant)
    }

    pub fn tenants(&self) -> Vec<&Tenant> {
        self.tenants.values().map(|tenant| &**tenant).collect()
    }

    pub fn counts(&self) -> Counts {
        self.hot.counts
    }

    /// The tag of a key; `None` if the tenant is unknown here.
    pub fn tag(&self, tenant: &TenantId, key: &EventKey) -> Option<Tag> {
        Some(self.tenants.get(tenant)?.secret.tag(&self.fed, tenant, key))
    }

    /// The body of one of a record's contents.
    pub(crate) fn packed(&self, records: &dyn Records, record: &EventRecord, at: usize) -> Result<PackedBody, Broken> {
        let bytes = match record.seq {
            Some(seq) => records.get(&keys::body(seq, at))?,
            None => None,
        };
        let missing = || Broken(format!("event {} lists a body that is not stored", record.tag));
        bytes.map(PackedBody::stored).ok_or_else(missing)
    }

    pub(crate) fn body(&self, records: &dyn Records, record: &EventRecord, at: usize) -> Result<Body, Broken> {
        Ok(self.packed(records, record, at)?.unpack()?)
    }

    /// An event whose body is held here.
    pub fn event(&self, records: &dyn Records, tenant: &TenantId, key: &EventKey) -> Result<Option<EventView>, Broken> {
        let Some(tag) = self.tag(tenant, key) else { return Ok(None) };
        let Some(record) = self.record(records, &tag)?.filter(|record| record.key.is_some()) else { return Ok(None) };
        let bodies = (0..record.contents.len()).map(|at| self.body(records, &record, at)).collect::<Result<_, _>>()?;
        Ok(Some(EventView { record, bodies }))
    }

    /// Only the level, for waiting on many events.
    pub fn level(&self, records: &dyn Records, tenant: &TenantId, key: &EventKey) -> Result<Option<Level>, Broken> {
        let Some(tag) = self.tag(tenant, key) else { return Ok(None) };
        let record = self.seen(records, &tag)?;
        Ok(record.filter(|record| record.key.is_some()).map(|record| record.level))
    }

    /// Events of one tenant in this cloud's order of acceptance: positions after `after`, at most
    /// `limit`. The position of the last row resumes the listing.
    pub fn events(
        &self,
        records: &dyn Records,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, EventRecord)>, Broken> {
        let record = |(seq, tag)| {
            let record = self.record(records, &tag)?;
            Ok((seq, record.ok_or_else(|| Broken(format!("event {tag} is listed and not stored")))?))
        };
        ledger::listed(records, tenant, after.saturating_add(1), limit)?.into_iter().map(record).collect()
    }

    /// Who audited a checkpoint that holds this vote, as confirmed here.
    pub fn audited_by(&self, vote: &RecordedVote) -> CloudSet {
        if let Some(branch) = &vote.branch {
            return self.genesis.set(&branch.audited_by);
        }
        let log = self.hot.logs.get(&(vote.cloud.clone(), vote.epoch));
        let audits = log.into_iter().flat_map(|log| &log.audits);
        self.genesis.set(audits.filter(|(_, (size, _))| *size > vote.index).map(|(by, _)| by))
    }

    /// One vote as the rule of finality sees it. `None` for a cloud that is no voter: there is none.
    pub(crate) fn vote_fact(&self, vote: &RecordedVote) -> Option<VoteFact> {
        let cloud = self.genesis.position(&vote.cloud)?;
        Some(VoteFact { cloud, verdict: vote.verdict(), content: vote.vote.content, audited_by: self.audited_by(vote) })
    }

    /// The certificate of an event that is FINAL or better under this cloud's latest signed note.
    /// `None` while the notes that prove it are not all here.
    pub fn certificate(
        &self,
        records: &dyn Records,
        own: &SignedNote,
        tenant: &TenantId,
        key: &EventKey,
    ) -> Result<Option<Certificate>, Broken> {
        let Some(view) = self.event(records, tenant, key)? else { return Ok(None) };
        let (Some(settled), Some(tenant)) = (view.record.settled, self.tenants.get(tenant)) else { return Ok(None) };
        let find = |body: &&Body| tenant.secret.salted_content(&body.content.hash()) == settled;
        let Some(body) = view.bodies.iter().find(find) else { return Ok(None) };
        let mut notes: BTreeMap<CloudId, SignedNote> = BTreeMap::new();
        notes.insert(self.me.clone(), own.clone());
        for cloud in self.genesis.clouds().filter(|cloud| **cloud != self.me) {
            notes.extend(self.note(cloud).map(|note| (cloud.clone(), note.clone())));
        }
        let mut votes = Vec::new();
        for vote in &view.record.votes {
            if vote.verdict() == Verdict::Confirm && vote.vote.content == settled && vote.branch.is_none() {
                votes.push(self.proven(records, vote, &notes)?);
            }
        }
        let notes: Vec<SignedNote> = notes.into_values().collect();
        let disclosed = Disclosed::new(body.content.clone(), body.envelope.clone(), &tenant.secret);
        Ok(Certificate::build(&self.genesis, &disclosed, &notes, &votes))
    }

    /// Whether clouds that confirmed a FINAL event were renewed since, so that those which still vote in
    /// the same epoch are no quorum: the notes of today prove nothing of what stands in closed logs.
    pub fn certificate_is_gone(
        &self,
        records: &dyn Records,
        tenant: &TenantId,
        key: &EventKey,
    ) -> Result<bool, Broken> {
        let Some(tag) = self.tag(tenant, key) else { return Ok(false) };
        let Some(record) = self.record(records, &tag)?.filter(|record| record.level >= Level::Final) else {
            return Ok(false);
        };
        let confirms =
            |vote: &&RecordedVote| vote.verdict() == Verdict::Confirm && Some(vote.vote.content) == record.settled;
        let is_current = |vote: &&RecordedVote| self.hot.current.get(&vote.cloud) == Some(&vote.epoch);
        let voters: BTreeSet<&CloudId> =
            record.votes.iter().filter(confirms).filter(is_current).map(|vote| &vote.cloud).collect();
        let weight: u64 = voters.into_iter().map(|cloud| self.genesis.weight(cloud)).sum();
        Ok(weight < u64::from(self.genesis.quorum))
    }

    /// A vote with its proofs at every size that the notes name.
    fn proven(
        &self,
        records: &dyn Records,
        vote: &RecordedVote,
        notes: &BTreeMap<CloudId, SignedNote>,
    ) -> Result<ProvenVote, Broken> {
        let mut sizes = BTreeSet::new();
        for note in notes.values() {
            let body = &note.body;
            if (&body.origin.cloud, body.origin.epoch) == (&vote.cloud, vote.epoch) {
                sizes.insert(body.size);
            }
            let audits = body.audits.iter().filter(|audit| (&audit.cloud, audit.epoch) == (&vote.cloud, vote.epoch));
            sizes.extend(audits.map(|audit| audit.size));
        }
        let held = self.hot.logs.get(&(vote.cloud.clone(), vote.epoch)).map_or(0, Log::size);
        let nodes = StoredNodes { records, cloud: &vote.cloud, epoch: &vote.epoch };
        let mut proofs = Vec::new();
        for size in sizes.into_iter().filter(|size| *size > vote.index && *size <= held) {
            proofs.push(InclusionProof { size, path: inclusion_proof(&nodes, vote.index, size)? });
        }
        let (cloud, epoch, index, vote) = (vote.cloud.clone(), vote.epoch, vote.index, vote.vote.clone());
        Ok(ProvenVote { cloud, epoch, index, vote, proofs })
    }
}
