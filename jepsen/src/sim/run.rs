//! One run: the cluster forms, is harmed and lied to under load, heals, and must settle. Everything
//! follows from the seed.

use super::cluster::{CLOUDS, Cluster};
use super::entropy;
use super::liar::Liar;
use super::monitor::Monitor;
use super::nemesis::Nemesis;
use super::port::SimPort;
use super::swarm::{Lie, Swarm};
use super::trace::Trace;
use super::views::Checks;
use crate::history::{Record, Recorder, What};
use crate::judge::{Judge, Library};
use crate::settle;
use crate::workload::{self, World, leases};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long the cluster may take to form.
const FORMING: Duration = Duration::from_secs(60);
/// The most certificates that the separate program verifies after one run, and the most proofs.
const MOST_SEPARATELY: usize = 6;
const LOOK: Duration = Duration::from_millis(50);
/// The part of a run in which faults begin; the rest is for healing.
const STORMY: (u32, u32) = (9, 10);

/// Changes the cluster before it runs.
pub type Prepare = Box<dyn FnOnce(&Cluster) + Send>;

pub struct Options {
    pub seed: u64,
    /// Simulated, from start to the last fault.
    pub sim_time: Duration,
    /// Where a readable trace goes, and whether with every message.
    pub trace: Option<Box<dyn Write + Send>>,
    pub frames: bool,
    /// The lie that is told in any case; else the seed decides whether there is one, and which.
    pub liar: Option<Lie>,
    /// What is done to the cluster before its nodes start.
    pub prepare: Option<Prepare>,
}

/// What a run brought.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub history: Vec<Record>,
    /// Of everything that happened: the same seed gives the same.
    pub digest: u64,
    pub simulated: Duration,
    pub real: Duration,
    pub frames: u64,
    /// Events of which two contents became FINAL, under a liar.
    pub conflicts: usize,
    /// How often the invariants of states were evaluated.
    pub checks: Checks,
    pub swarm: Swarm,
}

/// Runs a seed on a thread of its own. A panic of the harness itself is passed on.
pub fn run(options: Options) -> Report {
    let seed = options.seed;
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        runtime.block_on(simulate(options))
    };
    entropy::seeded(seed, work).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn simulate(options: Options) -> Report {
    let (real, begun) = (std::time::Instant::now(), Instant::now());
    let swarm = Arc::new(Swarm::draw(options.seed, options.liar));
    let trace = Trace::new(options.trace, options.frames);
    let recorder = Arc::new(Recorder::default());
    let cluster = Cluster::new(options.seed, swarm.timers, trace.clone());
    if let Some(prepare) = options.prepare {
        prepare(&cluster);
    }
    let liars: Vec<String> = swarm.liar.iter().map(|(cloud, _)| cloud.clone()).collect();
    let monitor = Monitor::start(cluster.clone(), recorder.clone(), &liars);
    let port = SimPort::new(cluster.clone());
    recorder.write(What::Run {
        layer: "sim".into(),
        seed: options.seed,
        clouds: CLOUDS.map(ToOwned::to_owned).to_vec(),
        nodes: cluster.seats(),
        liars: liars.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    trace.note(|| format!("seed {}: {swarm:?}", options.seed));
    if let Err(why) = form(&cluster, &port).await {
        monitor.violated("the cluster forms", why);
    }
    let honest = CLOUDS.iter().filter(|cloud| !liars.iter().any(|liar| liar == *cloud));
    let honest: Vec<String> = honest.map(|cloud| (*cloud).to_owned()).collect();
    let world = Arc::new(World::new(port.clone(), recorder.clone(), swarm.mix, options.seed, honest.clone()));
    storm(&cluster, &port, &monitor, &recorder, &swarm, &world, begun + options.sim_time * STORMY.0 / STORMY.1).await;
    trace.note(|| "everything is healed".into());
    let folder = std::env::temp_dir().join(format!("jepsen-{}-{}", std::process::id(), options.seed));
    let judge = Judge { product: Box::new(Library), folder, keep: false, most: MOST_SEPARATELY };
    settle::settle(&world, settle::SIM_LIMIT, &judge).await;
    monitor.finish().await;
    monitor.compare_replicas();
    for panic in take_panics() {
        monitor.violated("no task panics", panic);
    }
    let history = recorder.finish();
    trace.note(|| format!("{} records", history.len()));
    let frames = cluster.network.counts().0;
    let (conflicts, checks) = (monitor.conflicts(), monitor.checks());
    cluster.seats().iter().for_each(|seat| cluster.kill(seat));
    let (simulated, real) = (begun.elapsed(), real.elapsed());
    let digest = digest(&trace, &history);
    let swarm = Swarm::clone(&swarm);
    Report { seed: options.seed, history, digest, simulated, real, frames, conflicts, checks, swarm }
}

fn digest(trace: &Trace, history: &[Record]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    trace.digest().hash(&mut hasher);
    for record in history {
        serde_json::to_string(record).expect("a record has string keys").hash(&mut hasher);
    }
    hasher.finish()
}

/// Starts all nodes, waits until every cloud takes part, and makes the tenants.
async fn form(cluster: &Cluster, port: &SimPort) -> Result<(), String> {
    for seat in cluster.seats() {
        cluster.start(&seat).await?;
    }
    let open = |cloud: &&str| {
        let leader = cluster.leader(&cluster.seats_of(cloud)).and_then(|leader| cluster.running(&leader));
        let sizes = leader.map(|leader| {
            leader.core.replica.read(|view| {
                let clouds: Vec<_> = view.state.genesis().clouds().cloned().collect();
                Ok(clouds.iter().all(|of| view.state.head(of).is_some_and(|head| head.size > 0)))
            })
        });
        sizes.is_some_and(|open| open.unwrap_or(false))
    };
    let forming = async {
        while !CLOUDS.iter().all(&open) {
            tokio::time::sleep(LOOK).await;
        }
        for cloud in CLOUDS {
            while let Err(why) = port.put_tenants(cloud).await {
                cluster.trace.note(|| format!("tenants at {cloud}: {why}"));
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::time::timeout(FORMING, forming).await.map_err(|_| format!("not within {} s", FORMING.as_secs()))
}

/// Load, faults and lies until then; afterwards every fault is ended and every node runs.
async fn storm(
    cluster: &Cluster,
    port: &Arc<SimPort>,
    monitor: &Arc<Monitor>,
    recorder: &Arc<Recorder>,
    swarm: &Arc<Swarm>,
    world: &Arc<World>,
    until: Instant,
) {
    let mut actors = JoinSet::new();
    for client in 0..swarm.mix.clients {
        actors.spawn(workload::submit(world.clone(), client));
    }
    for (number, cloud) in (0..).zip(world.clouds.clone()) {
        actors.spawn(workload::observe(world.clone(), cloud, number));
    }
    for stand in leases::Stand::all(world) {
        for number in 0..leases::CANDIDATES {
            actors.spawn(leases::stand_for(world.clone(), stand.clone(), number));
        }
    }
    let nemesis = Nemesis::new(cluster.clone(), port.clone(), monitor.clone(), recorder.clone(), swarm.clone());
    let liar = swarm.liar.clone().map(|(cloud, lie)| {
        let (cluster, port, monitor, recorder) = (cluster.clone(), port.clone(), monitor.clone(), recorder.clone());
        (Liar { cluster, port, monitor, recorder, cloud }, lie)
    });
    let lying = async {
        if let Some((liar, lie)) = &liar {
            liar.run(*lie, until).await;
        }
    };
    tokio::join!(nemesis.run(until), lying);
    nemesis.restart_all().await;
    if let Some((liar, _)) = &liar {
        liar.note_detectable().await;
    }
    world.end();
    while actors.join_next().await.is_some() {}
}

static PANICS: Mutex<Vec<(std::thread::ThreadId, String)>> = Mutex::new(Vec::new());

/// Keeps what panics on simulating threads for their runs; the runtime would swallow it.
pub fn watch_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let simulates = std::thread::current().name().is_some_and(|name| name.starts_with("seed-"));
        if !simulates {
            return usual(info);
        }
        let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        panics.push((std::thread::current().id(), info.to_string()));
    }));
}

fn take_panics() -> Vec<String> {
    let me = std::thread::current().id();
    let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (own, others) = std::mem::take(&mut *panics).into_iter().partition(|(thread, _)| *thread == me);
    *panics = others;
    let own: Vec<_> = own;
    own.into_iter().map(|(_, panic)| panic).collect()
}
