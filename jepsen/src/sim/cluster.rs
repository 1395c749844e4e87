//! The nine nodes of a run, as the product runs them: [`tercetd::node::Core`] with its real Raft,
//! federation and router, on a simulated disk, network, clock and random source. A node can be
//! killed at any moment, and started again from what its disk kept.

use super::disk::{Disk, Mount};
use super::network::{Network, Seat};
use super::trace::Trace;
use axum::Router;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::certificate::{TRUST_VERSION, TrustBundle};
use tercet_core::epochs::Opening;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, FedId, NodeId};
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::time::WallMillis;
use tercet_core::wire::sha256;
use tercetd::config::{CloudEntry, Directory, NodeEntry};
use tercetd::env::memory::SeededEntropy;
use tercetd::env::{Env, WallClock};
use tercetd::http::{self, Api};
use tercetd::node::Core;
use tercetd::raft::{ReplicaConfig, Retention};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
pub const NODES_PER_CLOUD: usize = 3;
/// The bearer token of every simulated node.
pub const TOKEN: &str = "simulated";
/// Simulated clocks begin here (November 2023).
const WALL_START_MS: u64 = 1_700_000_000_000;

/// Timers of a run; seeds draw them, since bugs hide at their edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    pub retention: Retention,
    /// How long a sync of a sound disk takes, at least and at most.
    pub sync: (Duration, Duration),
}

/// A node's wall clock: simulated time, plus however wrong it is.
#[derive(Default)]
pub struct Wall {
    off_by_ms: AtomicI64,
    origin: Mutex<Option<Instant>>,
}

impl Wall {
    pub fn step(&self, by_ms: i64) {
        self.off_by_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl WallClock for Wall {
    fn now(&self) -> WallMillis {
        let origin = *lock(&self.origin).get_or_insert_with(Instant::now);
        let honest = WALL_START_MS + origin.elapsed().as_millis() as u64;
        WallMillis(honest.saturating_add_signed(self.off_by_ms.load(Ordering::SeqCst)))
    }
}

/// A process that runs.
pub struct Running {
    pub core: Core,
    pub router: Router,
    pub mount: Mount,
    /// How many processes ran at this place, this one included.
    pub start: u64,
    /// Cancelled when the process is gone.
    pub gone: CancellationToken,
}

/// A place for one process: its disk and clock stay when the process goes.
pub struct Place {
    pub node: NodeId,
    pub cloud: CloudId,
    pub disk: Disk,
    pub wall: Arc<Wall>,
    pub running: Option<Arc<Running>>,
    /// Failures of the disk that were known when the last process started.
    failures: u64,
    directory: Arc<Directory>,
    key: SigningKey,
    starts: u64,
}

/// All places of a run. Clones share them.
#[derive(Clone)]
pub struct Cluster {
    pub network: Network,
    pub trace: Trace,
    pub seed: u64,
    places: Arc<Mutex<BTreeMap<Seat, Place>>>,
    directory: Arc<Mutex<Arc<Directory>>>,
    timers: Timers,
    /// Processes that ended by themselves although their disk was sound.
    exits: Arc<Mutex<Vec<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(&sha256(name.as_bytes()).0)
}

/// The signing key of a node in an epoch.
pub fn node_key(node: &NodeId, epoch: u32) -> SigningKey {
    key_of(&format!("{node} in epoch {epoch}"))
}

/// An epoch of a cloud under fresh keys, certified by the cloud's root key.
fn opening(genesis: &Genesis, entry: &CloudEntry, number: u32) -> Opening {
    let keys: Vec<_> = entry.nodes.iter().map(|n| (n.node.clone(), node_key(&n.node, number).public())).collect();
    let threshold = (keys.len() / 2 + 1) as u32;
    let root_signature = Signature([0; 64]);
    let mut opening = Opening { cloud: entry.cloud.clone(), number, keys, threshold, root_signature };
    opening.root_signature = key_of(&format!("root {}", entry.cloud)).sign(&opening.bytes(&genesis.fed_id()));
    opening
}

fn directory() -> Directory {
    let entry = |(place, name): (u8, &str)| CloudEntry {
        cloud: CloudId::new(name).expect("a cloud's name"),
        region: format!("{name}-region"),
        nodes: (1..=NODES_PER_CLOUD)
            .map(|n| NodeEntry {
                node: NodeId::new(format!("{name}-{n}")).expect("a node's name"),
                // Shown to clients, never dialled: the network goes by node ids.
                peer_addr: ([10, place, 0, n as u8], 7100).into(),
                client_addr: ([10, place, 0, n as u8], 7200).into(),
            })
            .collect(),
    };
    let clouds: Vec<CloudEntry> = (1..).zip(CLOUDS).map(entry).collect();
    let voter = |entry: &CloudEntry| Voter {
        cloud: entry.cloud.clone(),
        weight: 1,
        root_key: key_of(&format!("root {}", entry.cloud)).public(),
    };
    let genesis = Genesis { voters: clouds.iter().map(voter).collect(), quorum: 2, nonce: [7; 32] };
    let openings = clouds.iter().map(|entry| opening(&genesis, entry, 0)).collect();
    Directory { genesis, openings, clouds }
}

impl Cluster {
    /// Nine places, nothing running.
    pub fn new(seed: u64, timers: Timers, trace: Trace) -> Self {
        let directory = Arc::new(directory());
        let network = Network::new(seed, trace.clone());
        let mut places = BTreeMap::new();
        for entry in &directory.clouds {
            for NodeEntry { node, .. } in &entry.nodes {
                let seat = node.to_string();
                let disk = Disk::new(&seat, seed, timers.sync, trace.clone());
                places.insert(seat, place(node, &entry.cloud, disk, &directory, 0));
            }
        }
        Self {
            network,
            trace,
            seed,
            places: Arc::new(Mutex::new(places)),
            directory: Arc::new(Mutex::new(directory)),
            timers,
            exits: Arc::default(),
        }
    }

    /// Processes that ended by themselves, without a failing disk as an excuse, since the last call.
    pub fn take_exits(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.exits))
    }

    pub fn with<R>(&self, seat: &str, f: impl FnOnce(&mut Place) -> R) -> R {
        f(lock(&self.places).get_mut(seat).unwrap_or_else(|| panic!("no seat {seat}")))
    }

    pub fn seats(&self) -> Vec<Seat> {
        lock(&self.places).keys().cloned().collect()
    }

    /// The seats of a cloud; a twin's are not among them.
    pub fn seats_of(&self, cloud: &str) -> Vec<Seat> {
        (1..=NODES_PER_CLOUD).map(|n| format!("{cloud}-{n}")).collect()
    }

    pub fn running(&self, seat: &str) -> Option<Arc<Running>> {
        lock(&self.places).get(seat)?.running.clone()
    }

    pub fn all_running(&self) -> Vec<(Seat, Arc<Running>)> {
        let places = lock(&self.places);
        places.iter().filter_map(|(seat, place)| Some((seat.clone(), place.running.clone()?))).collect()
    }

    /// The seat that leads its cloud by its own word, in the highest term.
    pub fn leader(&self, seats: &[Seat]) -> Option<Seat> {
        let leads = |seat: &Seat| {
            let leadership = self.running(seat)?.core.replica.leadership().borrow().clone();
            leadership.is_leader.then(|| (leadership.term, seat.clone()))
        };
        seats.iter().filter_map(leads).max().map(|(_, seat)| seat)
    }

    pub fn directory(&self) -> Arc<Directory> {
        lock(&self.directory).clone()
    }

    pub fn fed(&self) -> FedId {
        self.directory().genesis.fed_id()
    }

    pub fn trust(&self) -> TrustBundle {
        let directory = self.directory();
        TrustBundle { version: TRUST_VERSION, genesis: directory.genesis.clone(), openings: directory.openings.clone() }
    }

    /// Starts a process from what the disk of its place kept. On a disk that refuses a write it does not
    /// come up, and that is no error: whoever spoiled the disk starts it again.
    pub async fn start(&self, seat: &Seat) -> Result<(), String> {
        let (env, config, mount, directory, key, start) = self.with(seat, |place| {
            place.starts += 1;
            place.failures = place.disk.losses().failures();
            let mount = place.disk.mount();
            let name = format!("{seat} start {}", place.starts);
            let entropy = Arc::new(SeededEntropy::new(self.seed, &name));
            let env = Env { wall: place.wall.clone(), entropy, network: self.network.start(seat, &place.node) };
            let config = self.replica_config(place, mount.clone());
            (env, config, mount, place.directory.clone(), place.key.clone(), place.starts)
        });
        let node = config.node.clone();
        let log = Arc::new(mount.clone());
        let started = Core::start_on(directory.clone(), key, config, log, env.clone()).await;
        let core = match started {
            Ok(core) => core,
            Err(error) => {
                let why = format!("{seat} does not start: {error:#}");
                self.trace.note(|| why.clone());
                let excused = self.is_excused(seat);
                self.end(seat);
                return if excused { Ok(()) } else { Err(why) };
            }
        };
        let api = Api {
            directory,
            node,
            replica: core.replica.clone(),
            federation: core.federation.clone(),
            env,
            token_hash: sha256(TOKEN.as_bytes()).0,
        };
        let (router, gone) = (http::router(api), CancellationToken::new());
        let running = Arc::new(Running { core, router, mount, start, gone: gone.clone() });
        let replica = running.core.replica.clone();
        self.with(seat, |place| place.running = Some(running));
        self.trace.note(|| format!("{seat} starts"));
        let (cluster, seat) = (self.clone(), seat.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = gone.cancelled() => {}
                why = replica.failed() => cluster.exited(&seat, &why),
            }
        });
        Ok(())
    }

    fn replica_config(&self, place: &Place, mount: Mount) -> ReplicaConfig {
        let entry = place.directory.cloud_of(&place.node).expect("the directory names the node");
        ReplicaConfig {
            genesis: place.directory.genesis.clone(),
            cloud: entry.cloud.clone(),
            region: entry.region.clone(),
            node: place.node.clone(),
            members: entry.nodes.iter().map(|entry| entry.node.clone()).collect(),
            log_dir: None,
            engine: Arc::new(mount),
            heartbeat: self.timers.heartbeat,
            election_min: self.timers.election_min,
            election_max: self.timers.election_max,
            retention: self.timers.retention,
        }
    }

    /// The process ended by itself, as `tercetd` does when its replica cannot go on.
    fn exited(&self, seat: &Seat, why: &str) {
        self.trace.note(|| format!("{seat} ends: {why}"));
        if !self.is_excused(seat) {
            lock(&self.exits).push(format!("{seat}: {why}"));
        }
        self.end(seat);
    }

    /// Its disk refused a write since it was started.
    fn is_excused(&self, seat: &Seat) -> bool {
        self.with(seat, |place| place.disk.losses().failures() > place.failures)
    }

    /// `kill -9`: nothing is flushed, nobody is told, and its peers see closed connections.
    pub fn kill(&self, seat: &Seat) {
        self.trace.note(|| format!("{seat} is killed"));
        self.end(seat);
    }

    /// The power goes: as `kill`, and its peers hear nothing.
    pub fn cut_power(&self, seat: &Seat) {
        self.trace.note(|| format!("{seat} loses power"));
        self.network.vanish(seat);
        self.end(seat);
    }

    fn end(&self, seat: &Seat) {
        let running = self.with(seat, |place| {
            place.disk.crash();
            place.running.take()
        });
        if let Some(running) = running {
            running.gone.cancel();
        }
        self.network.crash(seat);
    }

    /// The operator gives a cloud that lost everything a new epoch: fresh keys, certified by its root.
    pub fn renew(&self, cloud: &str) {
        let mut current = lock(&self.directory);
        let mut renewed = Directory::clone(&current);
        let entry = renewed.clouds.iter().find(|entry| entry.cloud.as_str() == cloud).expect("a cloud of this run");
        let number = renewed.openings.iter().filter(|opening| opening.cloud == entry.cloud).count() as u32;
        let fresh = opening(&renewed.genesis, entry, number);
        renewed.openings.push(fresh);
        *current = Arc::new(renewed);
        for seat in self.seats_of(cloud) {
            self.with(&seat, |place| {
                place.directory = current.clone();
                place.key = node_key(&place.node, number);
            });
        }
    }

    /// A second copy of a cloud's places, with its keys and what its disks hold now. Returns the
    /// seats of the twin.
    pub fn twin(&self, cloud: &str) -> Vec<Seat> {
        let mut twins = Vec::new();
        for seat in self.seats_of(cloud) {
            let name = format!("{seat}-twin");
            let twin = self.with(&seat, |place| {
                let disk = Disk::new(&name, self.seed, self.timers.sync, self.trace.clone());
                disk.restore(&place.disk.backup());
                let mut twin = self::place(&place.node, &place.cloud, disk, &place.directory, 0);
                twin.key = place.key.clone();
                twin
            });
            lock(&self.places).insert(name.clone(), twin);
            twins.push(name);
        }
        // Within a twin, nodes talk to each other.
        for (from, node) in twins.iter().flat_map(|from| twins.iter().map(move |to| (from, to))) {
            let id = self.with(node, |place| place.node.clone());
            self.network.route(from, &id, node);
        }
        twins
    }
}

fn place(node: &NodeId, cloud: &CloudId, disk: Disk, directory: &Arc<Directory>, epoch: u32) -> Place {
    Place {
        node: node.clone(),
        cloud: cloud.clone(),
        disk,
        wall: Arc::default(),
        running: None,
        failures: 0,
        directory: directory.clone(),
        key: node_key(node, epoch),
        starts: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::disk::Trouble;

    fn timers() -> Timers {
        let (heartbeat, election_min) = (Duration::from_millis(300), Duration::from_millis(1500));
        let sync = (Duration::from_micros(200), Duration::from_micros(1500));
        Timers { heartbeat, election_min, election_max: election_min * 2, retention: Retention::default(), sync }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_a_killed_node_runs_on() {
        let cluster = Cluster::new(1, timers(), Trace::new(None, false));
        for seat in cluster.seats() {
            cluster.start(&seat).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(tasks() > 100, "nine nodes run: {} tasks", tasks());
        cluster.seats().iter().for_each(|seat| cluster.kill(seat));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(tasks(), 0, "tasks outlive their killed node");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_node_finds_what_its_disk_kept() {
        let cluster = Cluster::new(2, timers(), Trace::new(None, false));
        for seat in cluster.seats() {
            cluster.start(&seat).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let applied = |seat: &str| *cluster.running(seat).unwrap().core.replica.applied().borrow();
        let before = applied("gcp-2");
        assert!(before > 0);
        cluster.kill(&"gcp-2".to_owned());
        cluster.start(&"gcp-2".to_owned()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(applied("gcp-2") >= before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_disk_is_full_stays_down_until_there_is_room_again() {
        let cluster = Cluster::new(3, timers(), Trace::new(None, false));
        let group = cluster.seats_of("aws");
        for seat in &group {
            cluster.start(seat).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        // With an empty disk its first step is to note there how far it has to catch up.
        cluster.kill(&group[0]);
        let disk = cluster.with(&group[0], |place| place.disk.clone());
        disk.wipe();
        disk.add_trouble(1, Trouble { full: true, ..Trouble::default() });
        cluster.start(&group[0]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(cluster.running(&group[0]).is_none(), "it runs on a full disk");
        disk.take_trouble(1);
        cluster.start(&group[0]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(cluster.running(&group[0]).is_some(), "there is room again");
        assert_eq!(cluster.take_exits(), Vec::<String>::new());
        group.iter().for_each(|seat| cluster.kill(seat));
        tokio::time::sleep(Duration::from_secs(120)).await;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 0, "tasks outlive a node that did not start");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_proven_by_what_stands_before_it_and_by_no_other_traffic() {
        let cluster = Cluster::new(4, timers(), Trace::new(None, false));
        let group = cluster.seats_of("aws");
        for seat in &group {
            cluster.start(seat).await.unwrap();
        }
        let between = |one: usize, other: usize| {
            let (one, other) = (group[one].clone(), group[other].clone());
            vec![(one.clone(), other.clone()), (other, one)]
        };
        tokio::time::sleep(Duration::from_secs(10)).await;
        let leader = cluster.leader(&group).expect("three nodes elect a leader");
        let at = group.iter().position(|seat| *seat == leader).expect("it is one of them");
        let (cut, open) = (between(at, (at + 1) % 3), between(at, (at + 2) % 3));
        let (before_cut, before_open) = (cluster.network.count(&cut), cluster.network.count(&open));
        assert!(before_cut.delivered > 0 && before_cut.held == 0, "{before_cut:?}");
        cut.iter().for_each(|(from, to)| cluster.network.cut(from, to));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (cut, open) =
            (cluster.network.count(&cut).since(before_cut), cluster.network.count(&open).since(before_open));
        assert!(cut.held > 0 && open.held == 0 && open.delivered > 0, "{cut:?} {open:?}");
        group.iter().for_each(|seat| cluster.kill(seat));
    }
}
