//! Every state of a cloud that was ever reached, once, and where each delivery leads from it. What a
//! cloud becomes depends only on what it is and on what is brought to it, so each such step is
//! applied by the product's code once and then remembered: exploring the product of all clouds is
//! looking up. Each remembered step is applied twice, the second time to the cloud as it would be
//! after a restart, and must lead to the same state.

use super::federation::{Federation, NAMES, event_key, tenant_id};
use super::rows::{Digest, SharedRows};
use crate::invariants::{self, CloudView};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tercet_core::codec;
use tercet_core::command::{Command, Entry};
use tercet_core::ids::{CloudId, EventKey, TenantId};
use tercet_core::state::State;
use tercet_core::time::Millis;
use tercet_core::transparency::SignedNote;

/// A state of a cloud, by the order in which it was first seen.
pub type Id = u32;

const SHARDS: usize = 64;

pub struct Cloud {
    pub state: State,
    pub rows: SharedRows,
    pub view: CloudView,
    note: OnceLock<Option<SignedNote>>,
}

/// What a step led to: the cloud after it, or why an invariant broke on the way.
pub type Step = Result<Id, Arc<str>>;

pub struct Clouds {
    pub federation: Federation,
    events: Vec<(TenantId, EventKey)>,
    clouds: RwLock<Vec<Arc<Cloud>>>,
    by_digest: Sharded<Digest, Id>,
    steps: Sharded<(Id, Id, u16), Step>,
    /// Steps by what was really brought: many senders bring the same.
    brought: Sharded<(Id, Digest), Step>,
    /// How many steps the product's code really applied.
    pub applied: AtomicUsize,
    /// Steps that were applied again after a restart, with the same result.
    pub restarts: AtomicUsize,
}

impl Clouds {
    pub fn new(federation: Federation, events: usize) -> Self {
        Self {
            federation,
            events: (0..events).map(|event| (tenant_id(), event_key(event))).collect(),
            clouds: RwLock::default(),
            by_digest: Sharded::default(),
            steps: Sharded::default(),
            brought: Sharded::default(),
            applied: AtomicUsize::default(),
            restarts: AtomicUsize::default(),
        }
    }

    pub fn get(&self, id: Id) -> Arc<Cloud> {
        self.clouds.read().unwrap_or_else(PoisonError::into_inner)[id as usize].clone()
    }

    pub fn count(&self) -> usize {
        self.clouds.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The note that the cloud's nodes sign in this state.
    pub fn note<'a>(&self, cloud: &'a Cloud) -> Option<&'a SignedNote> {
        cloud.note.get_or_init(|| cloud.state.note_body().map(|body| self.federation.sign(body))).as_ref()
    }

    /// A cloud without any state, after these commands.
    pub fn create(&self, cloud: usize, commands: &[Command]) -> Step {
        let state =
            State::new(self.federation.genesis.clone(), CloudId::new(NAMES[cloud]).expect("a name"), "r".into());
        self.run(state, SharedRows::default(), None, commands)
    }

    /// What becomes of a cloud when the commands that `make` gives are applied. `key` names them.
    pub fn step(&self, to: Id, key: (Id, u16), make: impl FnOnce(&Cloud) -> Vec<Command>) -> Step {
        let key = (to, key.0, key.1);
        if let Some(known) = self.steps.get(&key) {
            return known;
        }
        let cloud = self.get(to);
        let commands = make(&cloud);
        let step = if commands.is_empty() { Ok(to) } else { self.bring(to, &cloud, &commands) };
        self.steps.insert(key, step.clone());
        step
    }

    /// The same for commands that are named by what they are.
    pub fn apply(&self, to: Id, commands: &[Command]) -> Step {
        self.bring(to, &self.get(to), commands)
    }

    fn bring(&self, to: Id, cloud: &Cloud, commands: &[Command]) -> Step {
        let key = (to, Digest::of(b"", &codec::encode(&commands)));
        if let Some(known) = self.brought.get(&key) {
            return known;
        }
        let after = self.run(cloud.state.clone(), cloud.rows.clone(), Some(&cloud.view), commands);
        let after = after.and_then(|after| self.judge(cloud, after));
        let step = after.and_then(|after| self.restart(cloud, after, commands));
        self.brought.insert(key, step.clone());
        step
    }

    fn judge(&self, before: &Cloud, after: Id) -> Step {
        match invariants::broken_by(&before.view, &self.get(after).view).first() {
            None => Ok(after),
            Some((name, why)) => Err(format!("{name}: {why}").into()),
        }
    }

    /// The same commands replayed on what a restart finds on disk.
    fn restart(&self, before: &Cloud, after: Id, commands: &[Command]) -> Step {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let (genesis, me) = (self.federation.genesis.clone(), before.state.me().clone());
        let loaded = State::load(genesis, me, "r".into(), &before.rows).map_err(|broken| broken.0)?;
        if loaded.note_body() != before.state.note_body() {
            return Err("a restarted cloud would sign another note".into());
        }
        let replayed = self.run(loaded, before.rows.clone(), Some(&before.view), commands)?;
        if replayed == after {
            Ok(after)
        } else {
            Err("a restarted cloud applies the same command to another end".into())
        }
    }

    fn run(&self, mut state: State, mut rows: SharedRows, before: Option<&CloudView>, commands: &[Command]) -> Step {
        for command in commands {
            // Time stands still: no command of the core so far asks for it, and equal states stay equal.
            let entry = Entry { at: Millis(0), request_id: None, command: command.clone() };
            let _rejections_are_answers = state.apply(1, &entry, &mut rows).map_err(|broken| broken.0)?.reply;
        }
        self.applied.fetch_add(commands.len(), Ordering::Relaxed);
        rows.extend(state.hot_rows());
        let digest = rows.digest();
        if let Some(known) = self.by_digest.get(&digest) {
            return Ok(known);
        }
        let view = CloudView::read(&state, &rows, &self.events, before).map_err(|broken| broken.0)?;
        let cloud = Arc::new(Cloud { state, rows, view, note: OnceLock::new() });
        Ok(self.by_digest.get_or_insert_with(digest, || {
            let mut clouds = self.clouds.write().unwrap_or_else(PoisonError::into_inner);
            clouds.push(cloud);
            (clouds.len() - 1) as Id
        }))
    }
}

/// A map in shards, so that threads seldom wait for each other.
pub struct Sharded<K, V>(Vec<Mutex<HashMap<K, V>>>);

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl<K: Hash + Eq, V: Clone> Sharded<K, V> {
    fn shard(&self, key: &K) -> std::sync::MutexGuard<'_, HashMap<K, V>> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        self.0[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.shard(key).get(key).cloned()
    }

    pub fn insert(&self, key: K, value: V) {
        self.shard(&key).insert(key, value);
    }

    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V {
        self.shard(&key).entry(key).or_insert_with(make).clone()
    }
}
