//! Applying committed entries: one place, under one lock, in order. Answers, facts and the applied
//! index leave only after the lock is free, so whoever hears of an entry can read it.

use super::FactBatch;
use super::flush::FlushControl;
use super::log_store::{IN_PLACE_BYTES, off_worker};
use super::machine::{EngineRecords, Machine, Overlay, Stored};
use super::sessions::Sessions;
use super::snapshot::{Builder, Snapshot, SnapshotData};
use super::types::{LogId, Outcome, SnapshotMeta, StoredMembership, TypeConfig};
use crate::storage::Engine;
use crate::storage::wal::Log;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftStateMachine};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tercet_core::fact::Fact;
use tercet_core::genesis::Genesis;
use tercet_core::ids::CloudId;
use tercet_core::records::Broken;
use tercet_core::state::State;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

/// Entries applied under one lock; readers wait so long at most.
const BATCH_ENTRIES: usize = 256;
/// Entries whose facts wait for a slow receiver before it lags.
const FACT_QUEUE_BATCHES: usize = 128;
/// Facts remembered for receivers that come back.
const RECENT_FACTS: usize = 65_536;

/// The facts of recent entries: all of those with an index beyond `after`.
#[derive(Default)]
struct Recent {
    after: u64,
    batches: VecDeque<Arc<FactBatch>>,
    facts: usize,
}

impl Recent {
    fn push(&mut self, batch: Arc<FactBatch>) {
        self.facts += batch.facts.len();
        self.batches.push_back(batch);
        while self.facts > RECENT_FACTS {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.facts -= oldest.facts.len();
            self.after = oldest.index;
        }
    }
}

/// What apply, flush, snapshots and readers share.
pub struct Store {
    genesis: Genesis,
    cloud: CloudId,
    pub region: String,
    pub engine: Arc<dyn Engine>,
    pub log: Arc<dyn Log>,
    machine: RwLock<Machine>,
    /// What the engine holds.
    stored: Mutex<Stored>,
    pub applied: watch::Sender<u64>,
    pub facts: broadcast::Sender<Arc<FactBatch>>,
    recent: Mutex<Recent>,
    pub failed: watch::Sender<Option<String>>,
    pub flush: FlushControl,
    pub sessions: Sessions,
    /// Told when the engine holds another state.
    pub reloaded: Notify,
}

impl Store {
    /// Loads what the engine holds. An incomplete state is cleared; the caller sees that nothing is
    /// applied.
    pub fn open(
        genesis: Genesis,
        cloud: CloudId,
        region: String,
        engine: Arc<dyn Engine>,
        log: Arc<dyn Log>,
        sessions: Sessions,
    ) -> Result<Self, Broken> {
        let stored = match Stored::read(&*engine)? {
            Some(stored) if stored.complete => stored,
            found => {
                if found.is_some() {
                    tracing::warn!("the stored state is half of a snapshot; it is dropped and fetched again");
                }
                engine.clear()?;
                Stored { complete: true, ..Stored::default() }
            }
        };
        let machine = load(&genesis, &cloud, &region, &engine, &stored)?;
        let (applied, next) = (machine.applied_index(), machine.next_index());
        Ok(Self {
            genesis,
            cloud,
            region,
            engine,
            log,
            machine: RwLock::new(machine),
            stored: Mutex::new(stored),
            applied: watch::Sender::new(applied),
            facts: broadcast::Sender::new(FACT_QUEUE_BATCHES),
            recent: Mutex::new(Recent { after: applied, ..Recent::default() }),
            failed: watch::Sender::new(None),
            flush: FlushControl::new(next),
            sessions,
            reloaded: Notify::new(),
        })
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Machine> {
        self.machine.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Machine> {
        self.machine.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the engine holds.
    pub fn stored(&self) -> Stored {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_stored(&self, stored: Stored) {
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = stored;
    }

    /// Ends this replica: the first reason stands.
    pub fn fail(&self, why: impl std::fmt::Display) {
        self.failed.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                tracing::error!("the replica cannot go on: {why}");
                *reason = Some(why.to_string());
            }
            first
        });
    }

    pub fn recent_facts(&self, after: u64) -> Option<Vec<Arc<FactBatch>>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if after < recent.after {
            return None;
        }
        Some(recent.batches.iter().filter(|batch| batch.index > after).cloned().collect())
    }

    /// Puts the state that the engine now holds in place of the one in memory.
    pub fn reload(&self, stored: Stored) -> Result<(), Broken> {
        let loaded = load(&self.genesis, &self.cloud, &self.region, &self.engine, &stored)?;
        let (applied, next) = (loaded.applied_index(), loaded.next_index());
        *self.write() = loaded;
        self.set_stored(stored);
        // The facts in between are unknown here.
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Recent { after: applied, ..Recent::default() };
        self.flush.flushed.send_replace(next);
        self.applied.send_replace(applied);
        self.reloaded.notify_one();
        Ok(())
    }

    fn publish(&self, applied: u64, batches: Vec<Arc<FactBatch>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in &batches {
            recent.push(batch.clone());
        }
        drop(recent);
        self.applied.send_replace(applied);
        for batch in batches {
            // Nobody listens: nobody misses it.
            let _ = self.facts.send(batch);
        }
    }

    /// Applies a run of entries. After an error the state is unusable, and the replica has failed.
    fn apply(&self, entries: Vec<EntryResponder<TypeConfig>>) -> Result<(), Broken> {
        let mut answers = Vec::new();
        let mut batches = Vec::new();
        let mut machine = self.write();
        machine.check()?;
        for (entry, responder) in entries {
            let applied = catch_unwind(AssertUnwindSafe(|| apply_one(&mut machine, entry.log_id, entry.payload)));
            let applied = applied.unwrap_or_else(|_| Err(Broken("applying panicked".into())));
            let (outcome, facts) = match applied {
                Ok(applied) => applied,
                Err(broken) => {
                    let why = format!("entry {} cannot be applied: {broken}", entry.log_id.index);
                    machine.unusable = Some(why.clone());
                    self.fail(&why);
                    return Err(Broken(why));
                }
            };
            if !facts.is_empty() {
                batches.push(Arc::new(FactBatch { index: entry.log_id.index, facts }));
            }
            answers.extend(responder.map(|responder| (responder, outcome)));
        }
        machine.applied_at = Instant::now();
        let applied = machine.applied_index();
        let since = *machine.dirty_since.get_or_insert_with(Instant::now);
        let bytes = machine.overlay.active_bytes();
        drop(machine);
        self.flush.changed(since, bytes);
        self.publish(applied, batches);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        Ok(())
    }
}

fn load(
    genesis: &Genesis,
    cloud: &CloudId,
    region: &str,
    engine: &Arc<dyn Engine>,
    stored: &Stored,
) -> Result<Machine, Broken> {
    let state = State::load(genesis.clone(), cloud.clone(), region.to_owned(), &EngineRecords(&**engine))?;
    Ok(Machine {
        state,
        overlay: Overlay::new(engine.clone()),
        applied: stored.applied,
        membership: stored.membership.clone(),
        installed: stored.installed,
        dirty_since: None,
        applied_at: Instant::now(),
        unusable: None,
    })
}

type Payload = EntryPayload<super::types::Proposal, u64, String>;

fn apply_one(machine: &mut Machine, id: LogId, payload: Payload) -> Result<(Outcome, Vec<Fact>), Broken> {
    let mut result = (Outcome(None), Vec::new());
    match payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(proposal) => {
            let entry = proposal.decode()?;
            let applied = machine.state.apply(id.index, &entry, &mut machine.overlay)?;
            result = (Outcome(Some(applied.reply)), applied.facts);
        }
        EntryPayload::Membership(membership) => {
            machine.membership = StoredMembership::new(Some(id), membership);
        }
    }
    machine.applied = Some(id);
    Ok(result)
}

fn bytes((entry, _): &EntryResponder<TypeConfig>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.body.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// openraft's view of the state machine.
#[derive(Clone)]
pub struct Applier {
    pub store: Arc<Store>,
}

impl RaftStateMachine<TypeConfig> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let machine = self.store.read();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut entries = entries.ready_chunks(BATCH_ENTRIES);
        while let Some(batch) = entries.next().await {
            self.store.flush.wait_for_room(&self.store).await;
            let batch: Vec<_> = batch.into_iter().collect::<io::Result<_>>()?;
            let blocks = self.store.engine.blocks() && batch.iter().map(bytes).sum::<usize>() > IN_PLACE_BYTES;
            off_worker(blocks, || self.store.apply(batch)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::new(self.store.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        super::snapshot::install(&self.store, meta, snapshot).await.map_err(|broken| {
            self.store.fail(&broken);
            io::Error::other(broken)
        })
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(super::snapshot::current(&self.store))
    }
}
