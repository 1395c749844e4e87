//! Nine real `tercetd` processes on a real kernel, clients over TLS, and a nemesis that harms them
//! in every way that this machine allows: `cluster` runs them, `switch` and `disk` are what they stand
//! on, `nemesis` holds the faults, `schedule` their order, `probe` what is possible.

pub mod cluster;
pub mod disk;
mod kernel;
mod logs;
pub mod namespace;
pub mod nemesis;
pub mod port;
pub mod probe;
mod schedule;
mod strace;
pub mod switch;

use crate::checker::{self, Judged};
use crate::history::{Record, Recorder, What};
use crate::judge::{Judge, Program};
use crate::port::Port;
use crate::random::Random;
use crate::settle::{self, settle};
use crate::workload::{self, Mix, World, leases};
use anyhow::{Context as _, Result, bail, ensure};
pub use cluster::is_abandoned;

use cluster::{Build, CLOUDS, Cluster};
use namespace::{Namespace, hide_mounts};
use nemesis::{Act, Nemesis, Stage};
use nix::sys::signal::Signal;
use port::RealPort;
use probe::{NEEDS, Need};
use schedule::{Schedule, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tercet_tests::programs;
use tokio::runtime::{Builder, Runtime};

/// Between two slots of the schedule.
const CALM: Duration = Duration::from_millis(800);
/// How often leaders are looked for.
const LEADER_POLL: Duration = Duration::from_millis(700);
const WORKERS: usize = 2;

#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    /// How long the nemesis is at work, at least: every chosen one has its turn in any case.
    pub time: Duration,
    /// Names, or `all`.
    pub nemeses: Vec<String>,
    /// Where everything goes that the run leaves.
    pub out: PathBuf,
}

/// What goes on, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    pub now: Mutex<String>,
    pub recorder: Mutex<Option<Arc<Recorder>>>,
    /// Set to end the run early, in good order.
    pub stop: AtomicBool,
}

impl Progress {
    fn say(&self, what: impl Into<String>) {
        *self.now.lock().expect("no thread panics while it writes a line") = what.into();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub struct Report {
    pub history: Vec<Record>,
    /// Nemeses that this machine cannot perform, and why.
    pub skipped: Vec<(&'static str, String)>,
    pub judged: Vec<Judged>,
}

/// Runs on threads of its own, whose mounts and namespaces end with them.
pub fn run(options: &Options, progress: &Arc<Progress>) -> Result<Report> {
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run_hidden(options, progress));
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_hidden(options: &Options, progress: &Arc<Progress>) -> Result<Report> {
    let mut chosen = choose(&options.nemeses)?;
    progress.say("building tercetd and tercet");
    programs::folder();
    progress.say("finding out what this machine can do");
    let able: BTreeMap<Need, Result<String, String>> = NEEDS.map(|need| (need, need.probe())).into();
    let mut skipped = Vec::new();
    chosen.retain(|nemesis| match nemesis.needs.iter().find_map(|need| Some((need, able[need].as_ref().err()?))) {
        None => true,
        Some((need, why)) => {
            skipped.push((nemesis.name, format!("{}: {why}", need.name())));
            false
        }
    });
    ensure!(!chosen.is_empty(), "this machine can perform none of the chosen nemeses: {skipped:?}");
    std::fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    let out = options.out.canonicalize()?;
    let (namespaces, disks) = (able[&Need::Network].is_ok(), able[&Need::Disk].is_ok());
    if disks {
        hide_mounts()?;
    }
    progress.say("making nine nodes");
    let cluster = Cluster::make(&out, Build { namespaces, disks, seed: options.seed })?;
    let recorder = Arc::new(Recorder::default());
    *progress.recorder.lock().expect("no thread panics while it sets the recorder") = Some(recorder.clone());
    perform(cluster, &recorder, chosen, options, progress, &out)?;
    let history = recorder.finish();
    let judged = checker::check(&history);
    if checker::passed(&judged) {
        // Disks are of interest only where something went wrong.
        std::fs::remove_dir_all(out.join("cluster"))?;
    }
    Ok(Report { judged, skipped, history })
}

/// What these names mean, or which of them nothing is called.
pub fn choose(names: &[String]) -> Result<Vec<&'static Nemesis>> {
    if names.iter().any(|name| name == "all") {
        return Ok(nemesis::ALL.iter().collect());
    }
    let known = || nemesis::ALL.iter().map(|nemesis| nemesis.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        nemesis::find(name).with_context(|| format!("no nemesis is called {name}; there are {}", known()))
    };
    names.iter().map(find).collect()
}

/// From the first process to the last word.
fn perform(
    cluster: Cluster,
    recorder: &Arc<Recorder>,
    chosen: Vec<&'static Nemesis>,
    options: &Options,
    progress: &Arc<Progress>,
    out: &Path,
) -> Result<()> {
    let (of_clients, of_operator) = (runtime_in(cluster.clients())?, runtime_in(cluster.operator())?);
    let context = cluster.folder.join("context.toml");
    let (client, operator) = (RealPort::new(&context)?, RealPort::new(&context)?);
    recorder.write(What::Run {
        layer: "real".into(),
        seed: options.seed,
        clouds: operator.clouds(),
        nodes: cluster.names(),
        liars: Vec::new(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    for name in cluster.names() {
        cluster.start(&name)?;
    }
    let clouds = operator.clouds();
    let world = Arc::new(World::new(Arc::new(client), recorder.clone(), Mix::default(), options.seed, clouds));
    let stage = Arc::new(Stage::new(cluster, operator, recorder.clone(), out.to_owned()));
    progress.say("waiting for three whole clouds");
    // What runs on the calling thread would be in none of the namespaces.
    of_operator.block_on(of_operator.spawn(open(stage.clone())))??;
    let mut actors = Vec::new();
    for client in 0..world.mix.clients {
        actors.push(of_clients.spawn(workload::submit(world.clone(), client)));
    }
    for (number, cloud) in (0..).zip(world.clouds.clone()) {
        actors.push(of_clients.spawn(workload::observe(world.clone(), cloud, number)));
    }
    for stand in leases::Stand::all(&world) {
        for number in 0..leases::CANDIDATES {
            actors.push(of_clients.spawn(leases::stand_for(world.clone(), stand.clone(), number)));
        }
    }
    actors.push(of_operator.spawn(watch_leaders(stage.clone(), world.clone())));
    let schedule = Schedule::new(chosen, options.seed);
    let (time, seed) = (options.time, options.seed);
    let harmed = of_operator.block_on(of_operator.spawn(harm(stage.clone(), schedule, seed, time, progress.clone())));
    world.end();
    for actor in actors {
        of_clients.block_on(actor).context("an actor died")?;
    }
    harmed??;
    progress.say("waiting until everything has settled");
    of_operator.block_on(of_operator.spawn(heal(stage.clone())))??;
    let folder = out.join("judged");
    let judge = Judge { product: Box::new(Program::new(folder.clone())), folder, keep: true, most: usize::MAX };
    of_clients.block_on(of_clients.spawn(async move { settle(&world, settle::REAL_LIMIT, &judge).await }))?;
    progress.say("comparing the logs of all nodes");
    compare_logs(&stage)
    // The cluster ends with the stage.
}

fn runtime_in(namespace: Option<Namespace>) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all();
    if let Some(namespace) = namespace {
        builder.on_thread_start(move || namespace.enter().expect("the namespace is held open"));
    }
    Ok(builder.build()?)
}

/// Until every cloud serves both tenants.
async fn open(stage: Arc<Stage>) -> Result<()> {
    for cloud in CLOUDS {
        stage.cluster.settle(cloud).await?;
    }
    for cloud in CLOUDS {
        stage.make_tenants(cloud).await?;
    }
    Ok(())
}

async fn harm(
    stage: Arc<Stage>,
    mut schedule: Schedule,
    seed: u64,
    time: Duration,
    progress: Arc<Progress>,
) -> Result<()> {
    let begun = Instant::now();
    let mut turn = 0;
    tokio::time::sleep(CALM).await;
    while !progress.is_stopped() && (begun.elapsed() < time || !schedule.round_is_over()) {
        let slot = schedule.next();
        let names: Vec<String> = slot.iter().map(|(nemesis, cloud)| format!("{} ({cloud})", nemesis.name)).collect();
        progress.say(names.join(" and "));
        if !play(&stage, slot, seed, &mut turn).await {
            // What follows would only tell the same again.
            return Ok(());
        }
        tokio::time::sleep(CALM).await;
    }
    Ok(())
}

/// Whether all went as it must.
async fn play(stage: &Arc<Stage>, slot: Slot, seed: u64, turn: &mut u64) -> bool {
    let mut acts = Vec::new();
    for (nemesis, cloud) in slot {
        *turn += 1;
        let random = Random::new(seed, 1000 + *turn);
        let mut act = Act { stage: stage.clone(), name: nemesis.name, random, cloud };
        acts.push((nemesis.name, tokio::spawn(async move { (nemesis.run)(&mut act).await })));
    }
    let mut well = true;
    for (name, act) in acts {
        let done = act.await.unwrap_or_else(failed);
        if let Err(error) = done {
            well = false;
            let invariant = "after each fault the clouds become whole again".to_owned();
            stage.recorder.write(What::Violated { invariant, why: format!("{name}: {error:#}") });
        }
    }
    well
}

fn failed(panic: tokio::task::JoinError) -> Result<()> {
    bail!("the nemesis itself failed: {panic}")
}

/// Every node runs and stands still no more. Links heal with the fault that cut them.
async fn heal(stage: Arc<Stage>) -> Result<()> {
    let cluster = &stage.cluster;
    for name in cluster.names() {
        if cluster.is_running(&name)? {
            cluster.signal(&[name], Signal::SIGCONT)?;
        }
    }
    if let Err(error) = cluster.bring_back(&cluster.names()).await {
        let invariant = "after healing every node runs".to_owned();
        stage.recorder.write(What::Violated { invariant, why: format!("{error:#}") });
    }
    Ok(())
}

/// Ends all processes, and looks at what they leave.
fn compare_logs(stage: &Stage) -> Result<()> {
    stage.cluster.kill(&stage.cluster.names())?;
    let why = match logs::compare(&stage.cluster) {
        Ok(0) => "no entry was found at two nodes".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => format!("{error:#}"),
    };
    stage.recorder.write(What::Violated { invariant: "one log id, one payload".into(), why });
    Ok(())
}

/// Writes down who leads, once for each term of a process.
async fn watch_leaders(stage: Arc<Stage>, world: Arc<World>) {
    let mut known: BTreeSet<(String, u64, u64)> = BTreeSet::new();
    while !world.is_over() {
        for cloud in CLOUDS {
            for (node, view) in stage.cluster.views(cloud).await {
                let number = |name: &str| view[name].as_u64().unwrap_or_default();
                let (term, process) = (number("term"), number("pid"));
                if view["role"] == "leader" && known.insert((node.clone(), term, process)) {
                    stage.recorder.write(What::Led { cloud: cloud.to_owned(), node, term, process });
                }
            }
        }
        tokio::time::sleep(LEADER_POLL).await;
    }
}
