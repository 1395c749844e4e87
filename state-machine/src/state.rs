//! The state machine: the only place where commands change state. Small, hot state is held here;
//! what grows with the ledger is in records. Each domain applies its own commands through `Tx`;
//! the levels that follow are recomputed here, once a command, after every domain had its say.

use crate::command::{Command, Entry, Reply};
use crate::epochs::{Closing, Opening};
use crate::events::{Counts, EventRecord, Level};
use crate::fact::Fact;
use crate::genesis::Genesis;
use crate::ids::{CloudId, EpochId, FedId, Hash, RequestId, Tag, TenantId};
use crate::ledger::{Log, keys};
use crate::records::{Broken, ByTag, Records, RecordsMut, Row};
use crate::rejection::Rejection;
use crate::tenants::Tenant;
use crate::time::Millis;
use crate::transparency::{Audit, NoteBody, Origin};
use crate::{agents, epochs, events, evidence, leases, mirrors, tenants};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How many answers to requests with an id are remembered.
pub const MAX_REPLIES: usize = 1024;
/// The most events of a submission whose answer is remembered.
pub const MAX_REMEMBERED_EVENTS: usize = 8;
/// How many note changes are remembered for followers that sign a little later.
pub const MAX_NOTES: usize = 4096;

/// How many events' records are kept decoded, about 1 KiB each. When there are more, all are dropped and read again.
const MAX_RECENT: usize = 16_384;

/// How many events are asked about at once after a fork.
pub const MAX_TESTIMONY: usize = 1024;

/// What applying one entry brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub reply: Result<Reply, Rejection>,
    pub facts: Vec<Fact>,
}

/// The replicated state of one cloud. A copy of it goes its own way: model checking forks histories.
#[derive(Clone)]
pub struct State {
    pub(crate) genesis: Genesis,
    pub(crate) fed: FedId,
    pub(crate) me: CloudId,
    pub(crate) region: String,
    pub(crate) hot: Hot,
    pub(crate) tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// The epochs of `hot.openings`, in that order: what records name an epoch by.
    pub(crate) epochs: Vec<(CloudId, EpochId)>,
    /// Records of events that are not SEALED, as the store holds them: each changes several times within a second, and
    /// need not be decoded every time.
    recent: ByTag<Box<EventRecord>>,
    /// Notes by the log index that made them; not stored, since a later note covers all before it.
    notes: VecDeque<(u64, NoteBody)>,
}

/// What is written whole with each flush. Its size does not depend on the number of events.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Hot {
    pub now: Millis,
    pub logical_clock: u64,
    pub next_seq: u64,
    pub counts: Counts,
    /// Events of each tenant that wait for FINAL.
    pub pending: BTreeMap<TenantId, u64>,
    pub openings: Vec<Opening>,
    /// The epoch in which each cloud speaks now.
    pub current: BTreeMap<CloudId, EpochId>,
    pub logs: BTreeMap<(CloudId, EpochId), Log>,
    /// This cloud's promises about closed epochs of others.
    pub closings: Vec<Closing>,
    /// The promises of others about this cloud's lost epoch, while it recovers.
    pub recovery: Option<epochs::Recovery>,
    /// Tags with votes and without a body.
    pub missing: BTreeSet<Tag>,
    /// Clouds proven to have lied, and the epochs that are never audited again.
    pub flagged: BTreeSet<CloudId>,
    pub frozen: BTreeSet<(CloudId, EpochId)>,
    pub evidence: Vec<Hash>,
    /// Double votes seen in a run of leaves whose note is not reached yet.
    pub suspected: Vec<(CloudId, Tag)>,
    /// Events whose standing may rest on what a forked cloud told only others.
    pub testimony: BTreeSet<Tag>,
    pub replies: VecDeque<(RequestId, Result<Reply, Rejection>)>,
}

/// One command being applied: the state, the records, and what happened so far.
pub(crate) struct Tx<'a> {
    pub state: &'a mut State,
    pub records: &'a mut dyn RecordsMut,
    pub facts: Vec<Fact>,
    /// Events whose level must be looked at again when the command is done. One may be named several times.
    pub touched: Vec<Tag>,
    /// Events that this command changed: each is written once, at its end.
    pub changed: ByTag<Box<EventRecord>>,
}

/// A batch that comes again finds its events here, each with its key. Its answer is large and written with every flush, so
/// only small ones are remembered.
fn is_remembered(command: &Command) -> bool {
    !matches!(command, Command::Events(events::Command::Submit { items, .. }) if items.len() > MAX_REMEMBERED_EVENTS)
}

impl State {
    /// The state before any entry.
    pub fn new(genesis: Genesis, me: CloudId, region: String) -> Self {
        let fed = genesis.fed_id();
        let (hot, tenants, notes) = (Hot::default(), BTreeMap::new(), VecDeque::new());
        let (epochs, recent) = (Vec::new(), ByTag::default());
        Self { genesis, fed, me, region, hot, tenants, epochs, recent, notes }
    }

    /// The state as flushed: hot rows are read from the records. Empty records give `new`.
    pub fn load(genesis: Genesis, me: CloudId, region: String, records: &dyn Records) -> Result<Self, Broken> {
        let mut state = Self::new(genesis, me, region);
        if let Some(bytes) = records.get(keys::HOT)? {
            state.hot = crate::codec::decode(&bytes)?;
            let name = |opening: &Opening| (opening.cloud.clone(), opening.id(&state.fed));
            state.epochs = state.hot.openings.iter().map(name).collect();
        }
        for (_, bytes) in records.scan(&keys::tenant_range().0, &keys::tenant_range().1, tenants::MAX_TENANTS)? {
            let tenant: Tenant = crate::codec::decode(&bytes)?;
            state.tenants.insert(tenant.id.clone(), Arc::new(tenant));
        }
        // Until the next change, this is the note for whatever index a leader asks for.
        state.remember_note(0);
        Ok(state)
    }

    /// The hot rows, to be written in the same flush as the overlay and the last applied log id.
    pub fn hot_rows(&self) -> Vec<Row> {
        vec![(keys::HOT.to_vec(), crate::codec::encode(&self.hot))]
    }

    /// Applies one committed entry. The same entries in the same order give the same state, facts
    /// and answers on every replica.
    pub fn apply(&mut self, index: u64, entry: &Entry, records: &mut dyn RecordsMut) -> Result<Applied, Broken> {
        if entry.at < self.hot.now {
            return Err(Broken(format!("entry {index} is stamped before the entry before it")));
        }
        self.hot.now = entry.at;
        if let Some(reply) = entry.request_id.and_then(|id| self.remembered(id)) {
            return Ok(Applied { reply, facts: Vec::new() });
        }
        let before = self.note_signature();
        let (facts, touched, changed) = (Vec::new(), Vec::new(), ByTag::default());
        let mut tx = Tx { state: self, records, facts, touched, changed };
        let reply = match &entry.command {
            Command::Tenants(command) => tenants::apply(&mut tx, command)?,
            Command::Events(command) => events::apply(&mut tx, command)?,
            Command::Mirrors(command) => mirrors::apply(&mut tx, command)?,
            Command::Evidence(command) => evidence::apply(&mut tx, command)?,
            Command::Epochs(command) => epochs::apply(&mut tx, command)?,
            Command::Leases(command) => leases::apply(&mut tx, command)?,
            Command::Agents(command) => agents::apply(&mut tx, command)?,
        };
        epochs::finish_recovery(&mut tx)?;
        tx.settle()?;
        tx.write_changed();
        let mut facts = tx.facts;
        if let Some(id) = entry.request_id.filter(|_| is_remembered(&entry.command)) {
            if self.hot.replies.len() == MAX_REPLIES {
                self.hot.replies.pop_front();
            }
            self.hot.replies.push_back((id, reply.clone()));
        }
        if self.note_signature() != before {
            self.remember_note(index);
            facts.push(Fact::NoteDue);
        }
        Ok(Applied { reply, facts })
    }

    fn remembered(&self, id: RequestId) -> Option<Result<Reply, Rejection>> {
        self.hot.replies.iter().rev().find(|(known, _)| *known == id).map(|(_, reply)| reply.clone())
    }

    /// What a note depends on, cheap to compare: sizes only, since logs and audits only grow.
    fn note_signature(&self) -> (u64, u64, usize) {
        let own = self.own_log().map_or(0, Log::size);
        let audits = self.hot.logs.values().filter_map(|log| log.audits.get(&self.me)).map(|(size, _)| size).sum();
        (own, audits, self.hot.closings.len())
    }

    fn remember_note(&mut self, index: u64) {
        let Some(body) = self.note_body() else { return };
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((index, body));
    }

    /// Keeps a record that is as stored.
    fn remember(&mut self, record: Box<EventRecord>) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.clear();
        }
        if record.level == Level::Sealed {
            self.recent.remove(&record.tag);
        } else {
            self.recent.insert(record.tag, record);
        }
    }

    /// What is known about a tag, without a copy where that is possible.
    pub(crate) fn seen(&self, records: &dyn Records, tag: &Tag) -> Result<Option<Cow<'_, EventRecord>>, Broken> {
        if let Some(record) = self.recent.get(tag) {
            return Ok(Some(Cow::Borrowed(record)));
        }
        let Some(bytes) = records.get(&keys::event(tag))? else { return Ok(None) };
        Ok(Some(Cow::Owned(events::decode(*tag, &bytes, &self.epochs)?)))
    }

    pub(crate) fn record(&self, records: &dyn Records, tag: &Tag) -> Result<Option<EventRecord>, Broken> {
        Ok(self.seen(records, tag)?.map(Cow::into_owned))
    }

    pub(crate) fn own_log(&self) -> Option<&Log> {
        self.log(&self.me)
    }

    /// The log of a cloud's current epoch.
    pub(crate) fn log(&self, cloud: &CloudId) -> Option<&Log> {
        let epoch = self.hot.current.get(cloud)?;
        self.hot.logs.get(&(cloud.clone(), *epoch))
    }

    /// Whether this cloud may answer keys: its epoch is open and it is not waiting for closings.
    pub(crate) fn may_vote(&self) -> bool {
        self.hot.recovery.is_none() && self.own_log().is_some_and(|log| log.size() > 0)
    }

    /// What this cloud's nodes would sign now; `None` before its epoch is open.
    pub fn note_body(&self) -> Option<NoteBody> {
        let epoch = *self.hot.current.get(&self.me)?;
        let log = self.own_log()?;
        let mut audits: Vec<Audit> = Vec::new();
        for ((cloud, epoch), log) in &self.hot.logs {
            if let Some(&(size, root)) = log.audits.get(&self.me).filter(|_| *cloud != self.me) {
                audits.push(Audit { cloud: cloud.clone(), epoch: *epoch, size, root });
            }
        }
        Some(NoteBody {
            origin: Origin { fed: self.fed, cloud: self.me.clone(), epoch },
            size: log.size(),
            root: log.frontier.root(),
            audits,
            closings: self.hot.closings.clone(),
        })
    }

    /// The note as it stood after applying that log index, while it is remembered (the last
    /// [`MAX_NOTES`] changes since this process started).
    pub fn note_body_at(&self, index: u64) -> Option<&NoteBody> {
        self.notes.iter().rev().find(|(at, _)| *at <= index).map(|(_, body)| body)
    }
}

impl Tx<'_> {
    /// Recomputes the level of every touched event, and tells what changed.
    fn settle(&mut self) -> Result<(), Broken> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let flagged = self.state.genesis.set(&self.state.hot.flagged);
        for tag in touched {
            let Some((mut record, changed)) = self.take_record(&tag)? else { continue };
            let heard = self.hear_branches(&mut record);
            let standing = events::standing(&self.state.genesis, &self.vote_facts(&record), flagged);
            self.want_testimony(&record, standing.level);
            if (standing.level, standing.marks, standing.settled) == (record.level, record.marks, record.settled) {
                self.give_back(record, heard || changed);
                continue;
            }
            let before = record.level;
            (record.level, record.marks, record.settled) = (standing.level, standing.marks, standing.settled);
            if let Some((tenant, key)) = &record.key {
                let hot = &mut self.state.hot;
                hot.counts.moved(before, record.level);
                let pending = hot.pending.entry(tenant.clone()).or_default();
                match (before == Level::Pending, record.level == Level::Pending) {
                    (true, false) => *pending = pending.saturating_sub(1),
                    (false, true) => *pending += 1,
                    _ => {}
                }
                self.facts.push(Fact::LevelChanged {
                    tenant: tenant.clone(),
                    key: key.clone(),
                    tag,
                    level: record.level,
                    marks: record.marks,
                });
            }
            self.put_record(record);
        }
        Ok(())
    }

    /// Notes by the votes in branches who said that it audited them. It is kept there, since the
    /// register of claims holds only the latest head. Returns whether that was news.
    fn hear_branches(&self, record: &mut EventRecord) -> bool {
        let mut news = false;
        for vote in &mut record.votes {
            let (Some(branch), Some(log)) =
                (&mut vote.branch, self.state.hot.logs.get(&(vote.cloud.clone(), vote.epoch)))
            else {
                continue;
            };
            for (by, _) in log.claims.iter().filter(|(_, head)| **head == (branch.size, branch.root)) {
                news |= branch.audited_by.insert(by.clone());
            }
        }
        news
    }

    /// What a forked cloud answered to others is asked for where it may change the level: another
    /// cloud audited a branch that is not mirrored here, no vote is known under the head that it
    /// audited, and the event is not SEALED, or the honest clouds' own votes differ.
    fn want_testimony(&mut self, record: &EventRecord, level: Level) {
        let hot = &mut self.state.hot;
        let known = |at: &(CloudId, EpochId), by: &CloudId| {
            let mut votes = record.votes.iter().filter(|vote| (&vote.cloud, vote.epoch) == (&at.0, at.1));
            votes.any(|vote| vote.branch.as_ref().is_some_and(|branch| branch.audited_by.contains(by)))
        };
        let unheard = |at| {
            let mut by = hot.logs.get(at).into_iter().flat_map(|log| log.claims.keys());
            by.any(|by| !hot.flagged.contains(by) && !known(at, by))
        };
        let honest: Vec<_> = record.votes.iter().filter(|vote| !hot.flagged.contains(&vote.cloud)).collect();
        let differ = honest.windows(2).any(|pair| !pair[0].says_the_same(pair[1]));
        if !(level < Level::Sealed || differ) || !hot.frozen.iter().any(unheard) {
            hot.testimony.remove(&record.tag);
        } else if hot.testimony.len() < MAX_TESTIMONY {
            hot.testimony.insert(record.tag);
        }
    }

    /// The votes of an event with who audited them, as far as this cloud knows.
    fn vote_facts(&self, record: &EventRecord) -> Vec<events::VoteFact> {
        record.votes.iter().filter_map(|vote| self.state.vote_fact(vote)).collect()
    }

    pub fn record(&self, tag: &Tag) -> Result<Option<EventRecord>, Broken> {
        match self.changed.get(tag) {
            Some(record) => Ok(Some(EventRecord::clone(record))),
            None => self.state.record(self.records, tag),
        }
    }

    /// The same without a copy, and whether this command changed it. It must be given back, or put.
    pub fn take_record(&mut self, tag: &Tag) -> Result<Option<(Box<EventRecord>, bool)>, Broken> {
        if let Some(record) = self.changed.remove(tag) {
            return Ok(Some((record, true)));
        }
        let record = match self.state.recent.remove(tag) {
            Some(record) => Some(record),
            None => self.state.record(self.records, tag)?.map(Box::new),
        };
        Ok(record.map(|record| (record, false)))
    }

    pub fn give_back(&mut self, record: Box<EventRecord>, changed: bool) {
        if changed { self.put_record(record) } else { self.state.remember(record) }
    }

    pub fn put_record(&mut self, record: impl Into<Box<EventRecord>>) {
        let record = record.into();
        self.changed.insert(record.tag, record);
    }

    /// Writes what changed: at the end, and before somebody reads whole lists of events.
    pub fn write_changed(&mut self) {
        for (tag, record) in std::mem::take(&mut self.changed) {
            self.records.put(keys::event(&tag), events::encode(&record, &self.state.epochs));
            self.state.remember(record);
        }
    }
}
