//! The picture that invariants see: what each cloud holds, read from its state and records.

use std::collections::{BTreeMap, BTreeSet};
use tercet_core::events::{EventRecord, Level, Marks, RecordedVote};
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, EpochId, EventKey, Hash, TenantId};
use tercet_core::records::{Broken, Records};
use tercet_core::state::State;
use tercet_core::tenants::Confirm;
use tercet_core::transparency::Verdict;

/// All clouds at one moment. A lying cloud may be here more than once, or not at all.
pub struct Views<'a> {
    pub genesis: &'a Genesis,
    pub liars: &'a BTreeSet<CloudId>,
    pub clouds: &'a [&'a CloudView],
}

/// What one cloud holds.
#[derive(Debug, Clone)]
pub struct CloudView {
    pub cloud: CloudId,
    pub events: BTreeMap<(TenantId, EventKey), EventView>,
    pub logs: BTreeMap<(CloudId, EpochId), LogView>,
    pub flagged: BTreeSet<CloudId>,
    pub evidence: BTreeMap<Hash, Proof>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    pub level: Level,
    pub marks: Marks,
    /// The content that the level is about, salted as the leaves hold it.
    pub settled: Option<Hash>,
    pub votes: Vec<VoteView>,
    /// Whether its tenant lets operators answer: they may take any time.
    pub by_hand: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteView {
    pub cloud: CloudId,
    pub verdict: Verdict,
    pub content: Hash,
}

/// One epoch of one cloud's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogView {
    pub size: u64,
    /// `None` for an epoch that is not the current one any more.
    pub root: Option<Hash>,
    /// How far each other cloud audited it, as confirmed here; empty for a past epoch.
    pub audits: BTreeMap<CloudId, u64>,
}

/// A proof that a cloud lied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub cloud: CloudId,
    /// What a stranger with public keys only makes of its bytes.
    pub verified: Result<(), String>,
}

impl CloudView {
    /// Reads these events, the logs and what is proven. `before` is an earlier view of the same cloud:
    /// proofs that it knows are not verified again.
    pub fn read(
        state: &State,
        records: &dyn Records,
        events: &[(TenantId, EventKey)],
        before: Option<&CloudView>,
    ) -> Result<Self, Broken> {
        let mut view = Self::without_events(state, records, before)?;
        for (tenant, key) in events {
            if let Some(event) = state.event(records, tenant, key)? {
                view.events.insert((tenant.clone(), key.clone()), EventView::of(state, tenant, &event.record));
            }
        }
        Ok(view)
    }

    /// The same of every event that the cloud lists, of all tenants.
    pub fn read_all(state: &State, records: &dyn Records, before: Option<&CloudView>) -> Result<Self, Broken> {
        let mut view = Self::without_events(state, records, before)?;
        for tenant in state.tenants() {
            for (_, record) in state.events(records, &tenant.id, 0, usize::MAX)? {
                let event = EventView::of(state, &tenant.id, &record);
                view.events.extend(record.key.map(|key| (key, event)));
            }
        }
        Ok(view)
    }

    fn without_events(state: &State, records: &dyn Records, before: Option<&CloudView>) -> Result<Self, Broken> {
        Ok(Self {
            cloud: state.me().clone(),
            events: BTreeMap::new(),
            logs: logs(state),
            flagged: state.genesis().clouds().filter(|cloud| state.is_flagged(cloud)).cloned().collect(),
            evidence: proofs(state, records, before)?,
        })
    }
}

impl EventView {
    fn of(state: &State, tenant: &TenantId, record: &EventRecord) -> Self {
        let vote = |vote: &RecordedVote| VoteView {
            cloud: vote.cloud.clone(),
            verdict: vote.verdict(),
            content: vote.vote.content,
        };
        let votes = record.votes.iter().map(vote).collect();
        let by_hand = state.tenant(tenant).is_some_and(|tenant| tenant.confirm == Confirm::Manual);
        Self { level: record.level, marks: record.marks, settled: record.settled, votes, by_hand }
    }

    pub fn is_final(&self) -> bool {
        self.level >= Level::Final
    }

    pub fn is_sealed(&self) -> bool {
        self.level == Level::Sealed
    }
}

impl VoteView {
    pub fn confirms(&self, content: Hash) -> bool {
        self.verdict == Verdict::Confirm && self.content == content
    }
}

impl Views<'_> {
    pub fn is_honest(&self, cloud: &CloudId) -> bool {
        !self.liars.contains(cloud)
    }

    /// What every cloud here holds of every event.
    pub fn events(&self) -> impl Iterator<Item = (&CloudView, &(TenantId, EventKey), &EventView)> {
        self.clouds.iter().flat_map(|view| view.events.iter().map(|(key, event)| (*view, key, event)))
    }
}

fn logs(state: &State) -> BTreeMap<(CloudId, EpochId), LogView> {
    let mut logs = BTreeMap::new();
    for (cloud, epoch, size, _) in state.logs() {
        let head = state.head(&cloud).filter(|head| head.epoch == epoch);
        let audits = match &head {
            None => BTreeMap::new(),
            Some(_) => state.genesis().clouds().map(|by| (by.clone(), state.audited(&cloud, by))).collect(),
        };
        logs.insert((cloud, epoch), LogView { size, root: head.map(|head| head.root), audits });
    }
    logs
}

fn proofs(state: &State, records: &dyn Records, before: Option<&CloudView>) -> Result<BTreeMap<Hash, Proof>, Broken> {
    let known = before.map(|view| view.evidence.clone()).unwrap_or_default();
    if state.evidence_ids().iter().all(|id| known.contains_key(id)) {
        return Ok(known.into_iter().filter(|(id, _)| state.has_evidence(id)).collect());
    }
    let openings = state.openings();
    let mut proofs = BTreeMap::new();
    for evidence in state.evidence(records)? {
        let id = evidence.id();
        let proof = known.get(&id).cloned().unwrap_or_else(|| {
            let verified = evidence.verify(state.genesis(), &openings).map_err(|error| error.to_string());
            Proof { cloud: evidence.cloud.clone(), verified }
        });
        proofs.insert(id, proof);
    }
    Ok(proofs)
}
