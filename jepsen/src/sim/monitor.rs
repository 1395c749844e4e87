//! Watches the running system from inside, at every applied entry, for what no client can see: the
//! invariants of Raft, and those of levels and convictions. Every few seconds it lets `views.rs` judge
//! whole states. It never touches anything.

mod levels;

use super::cluster::{CLOUDS, Cluster, Running};
use super::network::Seat;
use super::views::{Checks, EVALUATED, HonestViews};
use crate::history::{Recorder, What};
use levels::Levels;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::fact::Fact;
use tercet_core::ids::{CloudId, EventKey, Hash, TenantId};
use tercet_core::records::Row;
use tercetd::raft::FactBatch;
use tercetd::storage::wal::Position;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

const LOOK: Duration = Duration::from_millis(50);
/// How often whole states are compared; it takes its time.
const COMPARE: Duration = Duration::from_secs(30);
/// How often the invariants of states are evaluated.
const EVALUATE: Duration = Duration::from_secs(10);
/// How long after healing the honest clouds may take to know all of each other: what clients see may
/// settle before the last audit is known everywhere.
const QUIET: Duration = Duration::from_secs(60);
/// The most violations that are written down: the first ones tell the story.
const MAX_VIOLATIONS: usize = 20;

/// A group of replicas: a cloud, or its twin.
type Group = String;
type Event = (TenantId, EventKey);

pub struct Monitor {
    cluster: Cluster,
    recorder: Arc<Recorder>,
    liars: BTreeSet<String>,
    begun: Instant,
    views: Mutex<HonestViews>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Which processes led each group in each term: the number of each seat's latest one.
    leaders: BTreeMap<(Group, u64), BTreeMap<Seat, u64>>,
    /// Which entry each group has at each log position, and which was applied at each index.
    entries: BTreeMap<(Group, Position), u64>,
    applied: BTreeMap<(Group, u64), Position>,
    checked: BTreeMap<Seat, u64>,
    /// The levels that each cloud showed of each event since its log began, and its highest standing.
    levels: BTreeMap<(Group, Event), Levels>,
    standings: BTreeMap<(Group, Event), Standing>,
    /// The content that each honest cloud called SEALED, or FINAL.
    settled: BTreeMap<(Event, Level), BTreeMap<Hash, Group>>,
    convicted: BTreeSet<(Group, Hash)>,
    violations: BTreeSet<String>,
    watched: BTreeSet<Seat>,
    conflicts: BTreeSet<Event>,
}

/// What a cloud showed of an event.
#[derive(Clone)]
struct Standing {
    level: Level,
    settled: Option<Hash>,
    conflict: bool,
}

fn group(seat: &str) -> Group {
    let cloud = seat.split('-').next().unwrap_or_default();
    if seat.ends_with("-twin") { format!("{cloud}-twin") } else { cloud.to_owned() }
}

fn cloud(group: &str) -> &str {
    group.split('-').next().unwrap_or_default()
}

fn id(cloud: &str) -> CloudId {
    CloudId::new(cloud).expect("a cloud's name")
}

impl Monitor {
    pub fn start(cluster: Cluster, recorder: Arc<Recorder>, liars: &[String]) -> Arc<Self> {
        let liars: BTreeSet<String> = liars.iter().cloned().collect();
        let views = HonestViews::new(cluster.directory().genesis.clone(), liars.iter().map(|liar| id(liar)).collect());
        let (begun, views, inner) = (Instant::now(), Mutex::new(views), Mutex::default());
        let monitor = Arc::new(Self { cluster, recorder, liars, begun, views, inner });
        monitor.every(LOOK, Self::look);
        monitor.every(COMPARE, |monitor| monitor.compare_replicas());
        monitor.every(EVALUATE, |monitor| monitor.evaluate());
        monitor
    }

    fn every(self: &Arc<Self>, pause: Duration, act: fn(&Arc<Self>)) {
        let monitor = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                act(&monitor);
            }
        });
    }

    fn views(&self) -> MutexGuard<'_, HonestViews> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evaluates the invariants of states on what the honest clouds hold now.
    fn evaluate(&self) {
        let broken = self.views().look(&self.cluster);
        broken.into_iter().for_each(|(invariant, why)| self.violated(invariant, why));
    }

    /// The end of a run. If all has healed, what must hold once all is told has to come true.
    pub async fn finish(&self) {
        let healed = self.recorder.count(|what| matches!(what, What::Healed { complete: true, .. })) > 0;
        let begun = Instant::now();
        let unquiet = loop {
            self.evaluate();
            let unquiet = self.views().unquiet();
            if !healed || unquiet.is_empty() || begun.elapsed() >= QUIET {
                break unquiet;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        // What did not heal is reported by its checker.
        for (invariant, why) in unquiet.into_iter().filter(|_| healed) {
            self.violated(invariant, why);
        }
        let worked = self.views().judge_work(self.begun.elapsed());
        if let Err(why) = worked {
            self.violated(EVALUATED, why);
        }
    }

    /// How often the invariants of states were evaluated.
    pub fn checks(&self) -> Checks {
        self.views().checks
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn violated(&self, invariant: &str, why: String) {
        let mut inner = self.inner();
        if inner.violations.len() < MAX_VIOLATIONS && inner.violations.insert(format!("{invariant}: {why}")) {
            self.cluster.trace.note(|| format!("VIOLATED {invariant}: {why}"));
            self.recorder.write(What::Violated { invariant: invariant.to_owned(), why });
        }
    }

    /// Events of which two contents are FINAL.
    pub fn conflicts(&self) -> usize {
        self.inner().conflicts.len()
    }

    /// A cloud's disks are replaced: its new Raft group has nothing to do with the old one.
    pub fn forget(&self, cloud: &str) {
        let mut inner = self.inner();
        inner.leaders.retain(|(group, _), _| group != cloud);
        inner.entries.retain(|(group, _), _| group != cloud);
        inner.applied.retain(|(group, _), _| group != cloud);
        inner.levels.retain(|(group, _), _| group != cloud);
        drop(inner);
        let directory = self.cluster.directory();
        let epochs = directory.openings.iter().filter(|opening| opening.cloud.as_str() == cloud);
        let epoch = epochs.max_by_key(|opening| opening.number).expect("every cloud has an epoch");
        self.views().forget(&epoch.cloud, epoch.id(&self.cluster.fed()));
    }

    fn is_honest(&self, group: &str) -> bool {
        !self.liars.contains(cloud(group))
    }

    fn look(self: &Arc<Self>) {
        for (seat, running) in self.cluster.all_running() {
            self.look_at_leadership(&seat, &running);
            self.look_at_log(&seat, &running);
            self.follow(&seat, &running);
        }
        for why in self.cluster.take_exits() {
            self.violated("no node ends while its disk is sound", why);
        }
    }

    fn look_at_leadership(&self, seat: &Seat, running: &Running) {
        let leadership = running.core.replica.leadership().borrow().clone();
        if !leadership.is_leader {
            return;
        }
        let group = group(seat);
        let before = {
            let mut inner = self.inner();
            let leaders = inner.leaders.entry((group.clone(), leadership.term)).or_default();
            leaders.insert(seat.clone(), running.start)
        };
        if before == Some(running.start) {
            return;
        }
        self.cluster.trace.note(|| format!("{seat} leads in term {}", leadership.term));
        if !seat.ends_with("-twin") {
            let (cloud, node) = (cloud(&group).to_owned(), seat.clone());
            self.recorder.write(What::Led { cloud, node, term: leadership.term, process: running.start });
        }
        if before.is_some() {
            let why = format!("{seat} led {group} in term {}, and leads it again after a restart", leadership.term);
            self.violated("nobody begins to lead a term twice", why);
        }
    }

    /// Log matching and state machine safety: one log id has one payload, and one index is applied
    /// with one log id, at every replica, for ever. Entries that are not there were not applied one by
    /// one, and nobody heard their facts: a snapshot took their place.
    fn look_at_log(&self, seat: &Seat, running: &Running) {
        let applied = *running.core.replica.applied().borrow();
        let from = self.inner().checked.get(seat).copied().unwrap_or(0);
        let disk = self.cluster.with(seat, |place| place.disk.clone());
        let (group, mut jumped) = (group(seat), false);
        for index in from..=applied {
            let Some((position, bytes)) = disk.entry(index) else {
                jumped = true;
                continue;
            };
            let digest = hash(&bytes);
            let mut inner = self.inner();
            let other = *inner.entries.entry((group.clone(), position)).or_insert(digest);
            let first = *inner.applied.entry((group.clone(), index)).or_insert(position);
            drop(inner);
            if other != digest {
                self.violated("one log id, one payload", format!("{seat} has another payload at {position:?}"));
            }
            if first != position {
                let why = format!("{seat} applied {position:?} at index {index}; {first:?} was applied there");
                self.violated("one index, one applied entry", why);
            }
        }
        self.inner().checked.insert(seat.clone(), applied + 1);
        if jumped && from > 0 {
            self.look_at_all(seat);
        }
    }

    /// A new process: listen to its facts.
    fn follow(self: &Arc<Self>, seat: &Seat, running: &Arc<Running>) {
        if !self.inner().watched.insert(seat.clone()) {
            return;
        }
        // The disk may be another one than before: look at its log from the start.
        self.inner().checked.insert(seat.clone(), 0);
        let (mut facts, gone) = (running.core.replica.facts(), running.gone.clone());
        self.look_at_all(seat);
        let (monitor, seat) = (self.clone(), seat.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = gone.cancelled() => break,
                    heard = facts.recv() => match heard {
                        Ok(batch) => monitor.hear(&seat, &batch),
                        Err(RecvError::Lagged(_)) => monitor.look_at_all(&seat),
                        Err(RecvError::Closed) => break,
                    },
                }
            }
            monitor.inner().watched.remove(&seat);
        });
    }

    fn hear(&self, seat: &Seat, batch: &FactBatch) {
        let group = group(seat);
        if !self.is_honest(&group) {
            return;
        }
        // The last one of each event says how the entry left it.
        let mut levels = BTreeMap::new();
        for fact in &batch.facts {
            match fact {
                Fact::LevelChanged { tenant, key, level, .. } => {
                    levels.insert((tenant.clone(), key.clone()), *level);
                }
                Fact::Convicted { cloud: of, evidence } => {
                    self.look_at_conviction(seat, &group, of.as_str(), evidence);
                }
                _ => {}
            }
        }
        for (event, level) in levels {
            self.look_at_level(seat, &group, &event, level, batch.index);
            self.look_at_event(seat, &group, &event);
        }
    }

    /// Facts of this replica were missed: everything that it holds is looked at.
    fn look_at_all(&self, seat: &Seat) {
        let group = group(seat);
        let Some(running) = self.cluster.running(seat).filter(|_| self.is_honest(&group)) else { return };
        let read = running.core.replica.read(|view| {
            let mut events = Vec::new();
            for tenant in view.state.tenants() {
                let listed = view.state.events(view.records, &tenant.id, 0, usize::MAX)?;
                events.extend(listed.into_iter().filter_map(|(_, record)| record.key));
            }
            let evidence = view.state.evidence(view.records)?;
            Ok((events, evidence.iter().map(|proof| (proof.cloud.clone(), proof.id())).collect::<Vec<_>>()))
        });
        let Ok((events, evidence)) = read else { return };
        events.iter().for_each(|event| self.look_at_event(seat, &group, event));
        evidence.iter().for_each(|(of, id)| self.look_at_conviction(seat, &group, of.as_str(), id));
    }

    fn look_at_level(&self, seat: &Seat, group: &Group, event: &Event, level: Level, index: u64) {
        let shown = self.inner().levels.entry((group.clone(), event.clone())).or_default().show(level, index);
        if let Err(fell) = shown {
            self.violated("FINAL never reverses", format!("{event:?} {fell}, seen at {seat}"));
        }
    }

    fn look_at_event(&self, seat: &Seat, group: &Group, event: &Event) {
        let Some(running) = self.cluster.running(seat) else { return };
        let read = running.core.replica.read(|view| {
            let found = view.state.event(view.records, &event.0, &event.1)?;
            Ok((view.applied, found))
        });
        let Ok((applied, Some(found))) = read else { return };
        let (level, settled) = (found.record.level, found.record.settled);
        self.look_at_level(seat, group, event, level, applied);
        let mut inner = self.inner();
        let before = inner.standings.get(&(group.clone(), event.clone())).cloned();
        let mut wrong = Vec::new();
        let conflict = found.record.marks.conflict;
        if let Some(Standing { level: was, settled: content, conflict: conflicted }) = &before
            && *was >= Level::Final
        {
            // Also of a cloud that lost its log and was renewed: it may know less for a while, but neither
            // does it quarantine what it called FINAL, nor has that another content without a conflict. Under a
            // liar QUARANTINED may end in FINAL, so a replica that lags may show it: `Levels` judges that.
            if level == Level::Quarantined && self.liars.is_empty() {
                wrong.push((
                    "FINAL never reverses",
                    format!("{event:?} was {was:?} at {group} and is {level:?} at {seat}"),
                ));
            }
            if level >= Level::Final && *content != settled && !conflict && !conflicted {
                wrong.push(("FINAL never reverses", format!("{event:?} changed its content at {seat}")));
            }
        }
        if before.is_none_or(|before| (before.level, before.conflict) <= (level, conflict)) {
            inner.standings.insert((group.clone(), event.clone()), Standing { level, settled, conflict });
        }
        let reached = [Level::Final, Level::Sealed].into_iter().filter(|reached| level >= *reached);
        for (reached, content) in reached.filter_map(|reached| Some((reached, settled?))) {
            let contents = inner.settled.entry((event.clone(), reached)).or_default();
            contents.entry(content).or_insert_with(|| group.clone());
            if contents.len() > 1 {
                let who: Vec<&Group> = contents.values().collect();
                let why = format!("{event:?} has {} contents, at {who:?}", contents.len());
                if reached == Level::Sealed {
                    wrong.push(("SEALED never conflicts", why));
                } else if self.liars.is_empty() {
                    wrong.push(("FINAL conflicts only under a liar", why));
                } else {
                    inner.conflicts.insert(event.clone());
                }
            }
        }
        drop(inner);
        wrong.into_iter().for_each(|(invariant, why)| self.violated(invariant, why));
    }

    fn look_at_conviction(&self, seat: &Seat, group: &Group, of: &str, evidence: &Hash) {
        if !self.liars.contains(of) {
            self.violated("no honest cloud is convicted", format!("{seat} convicted {of} by evidence {evidence}"));
        }
        if !self.inner().convicted.insert((group.clone(), *evidence)) {
            return;
        }
        let Some(running) = self.cluster.running(seat) else { return };
        let valid = running.core.replica.read(|view| {
            let held = view.state.evidence(view.records)?;
            let openings = view.state.openings();
            let proof = held.iter().find(|proof| proof.id() == *evidence);
            Ok(proof.is_some_and(|proof| proof.verify(view.state.genesis(), &openings).is_ok()))
        });
        let (by, cloud, evidence) = (group.clone(), of.to_owned(), evidence.to_string());
        self.recorder.write(What::Convicted { by, cloud, evidence, valid: valid.unwrap_or(false) });
    }

    /// Replicas of an honest cloud that applied the same must be the same.
    pub fn compare_replicas(&self) {
        for cloud in CLOUDS.into_iter().filter(|cloud| self.is_honest(cloud)) {
            let mut states: BTreeMap<u64, (Seat, Vec<Row>)> = BTreeMap::new();
            for seat in self.cluster.seats_of(cloud) {
                let Some(running) = self.cluster.running(&seat) else { continue };
                let read = running.core.replica.read(|view| {
                    let mut rows = view.records.scan(&[0], &[0xff], usize::MAX)?;
                    rows.retain(|(key, _)| key.first() != Some(&b'h'));
                    rows.extend(view.state.hot_rows());
                    Ok((view.applied, rows))
                });
                let Ok((applied, rows)) = read else { continue };
                let (other, known) = states.entry(applied).or_insert_with(|| (seat.clone(), rows.clone()));
                if *known != rows {
                    let difference = difference(known, &rows);
                    let why = format!("{other} and {seat} differ at log index {applied}: {difference}");
                    self.violated("replicas agree", why);
                }
            }
        }
    }
}

/// The first rows that differ, with the letter of their table.
fn difference(one: &[Row], other: &[Row]) -> String {
    let only = |some: &[Row], others: &[Row]| {
        let others: BTreeSet<&Row> = others.iter().collect();
        let row = some.iter().find(|row| !others.contains(row));
        row.map_or("nothing".to_owned(), |(key, value)| {
            format!("{}{} = {} bytes", key[0] as char, hex::encode(&key[1..]), value.len())
        })
    };
    format!("{} and {} rows; only there {}, only here {}", one.len(), other.len(), only(one, other), only(other, one))
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests;
