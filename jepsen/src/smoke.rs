//! The smoke run: nine nodes, several clients, observers, and the nemesis for a while; then every
//! node runs again, and every cloud tells what it holds.

use crate::checker;
use crate::history::{Record, Recorder, What};
use crate::workload::{self, World};
use crate::{nemesis, observer};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tercet::client::{Client, Route};
use tercet::context::Context;
use tercet::sign::Signer;
use tercet_core::ids::CloudId;
use tercet_tests::{CLOUDS, Cluster};
use tokio::runtime::Runtime;

/// One at each cloud, and as many that go anywhere.
const CLIENTS: u64 = 6;
/// How long everything may take to become SEALED after the last restoration.
const HEALING: Duration = Duration::from_secs(90);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(250);
const PAGE: u32 = 1000;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seed: u64,
    /// How long the nemesis is at work.
    pub time: Duration,
}

/// What a run brought.
#[derive(Debug)]
pub struct Report {
    pub history: Vec<Record>,
    /// Invariants that do not hold, and why.
    pub broken: Vec<(&'static str, String)>,
}

pub fn run(options: Options) -> Result<Report> {
    let mut cluster = Cluster::large();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let world = Arc::new(world(&cluster)?);
    let mut actors = Vec::new();
    for client in 0..CLIENTS {
        let world = world.clone();
        actors.push(runtime.spawn(async move { workload::submit(&world, client, options.seed).await }));
    }
    for (actor, cloud) in (0..).zip(world.clouds()) {
        let world = world.clone();
        actors.push(runtime.spawn(async move { observer::observe(&world, cloud, options.seed, actor).await }));
    }
    nemesis::harm(&mut cluster, &world.recorder, options.seed, options.time);
    let restored = Instant::now();
    world.stop.store(true, Ordering::SeqCst);
    for actor in actors {
        runtime.block_on(actor).context("an actor died")?;
    }
    heal(&runtime, &world, restored);
    tell_heads(&cluster, &world.recorder, HEALING);
    drop(cluster);
    let world = Arc::into_inner(world).context("every actor has ended")?;
    let history = world.recorder.finish();
    let broken = checker::check(&history);
    Ok(Report { history, broken })
}

fn world(cluster: &Cluster) -> Result<World> {
    let context = Context::read(&cluster.data_dir().join("context.toml"))?;
    let client = Client::new(&context, None, workload::patience())?;
    let tenant = context.tenant.clone().context("the context names its tenant")?;
    let key = context.signing_key(&tenant)?;
    Ok(World {
        client,
        signer: Signer::new(context.trust_bundle()?.genesis.fed_id(), tenant, key),
        recorder: Recorder::default(),
        stop: AtomicBool::new(false),
        acknowledged: Mutex::default(),
    })
}

/// Waits until every cloud lists everything that was acknowledged as SEALED, or the time is over;
/// then writes down what they list.
fn heal(runtime: &Runtime, world: &World, restored: Instant) {
    let acknowledged: BTreeSet<String> =
        world.acknowledged.lock().expect("no thread panics while it adds an id").iter().cloned().collect();
    loop {
        let lists: Vec<Option<Vec<What>>> =
            world.clouds().iter().map(|cloud| runtime.block_on(list(world, cloud)).ok()).collect();
        let complete = lists.iter().flatten().count() == CLOUDS.len()
            && lists.iter().flatten().all(|list| sealed(list).is_superset(&acknowledged));
        let took = restored.elapsed();
        if complete || took > HEALING {
            for what in lists.into_iter().flatten().flatten() {
                world.recorder.write(what);
            }
            let (took_ms, within_ms) = (took.as_millis() as u64, HEALING.as_millis() as u64);
            world.recorder.write(What::Healed { took_ms, within_ms, complete });
            return;
        }
        std::thread::sleep(POLL);
    }
}

fn sealed(list: &[What]) -> BTreeSet<String> {
    let is_sealed = |what: &What| match what {
        What::Listed { id, level, .. } if level == "SEALED" => Some(id.clone()),
        _ => None,
    };
    list.iter().filter_map(is_sealed).collect()
}

/// All events that a cloud lists.
async fn list(world: &World, cloud: &CloudId) -> Result<Vec<What>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let route = Route::Only(cloud.clone());
        let page = world.client.list(&route, world.signer.tenant(), after, PAGE, None).await?;
        for event in &page.events {
            let text = |name: &str| event[name].as_str().map(ToOwned::to_owned);
            all.push(What::Listed {
                cloud: cloud.to_string(),
                id: text("id").context("an event has an id")?,
                level: text("level").context("an event has a level")?,
                content: text("contentHash"),
            });
        }
        match page.next {
            None => return Ok(all),
            next => after = next,
        }
    }
}

/// Writes down every cloud's heads, as soon as they agree or when the time is over.
fn tell_heads(cluster: &Cluster, recorder: &Recorder, limit: Duration) {
    let begun = Instant::now();
    let views = loop {
        let views = CLOUDS.map(|cloud| (cloud, cluster.heads(cloud)));
        if views.windows(2).all(|pair| pair[0].1 == pair[1].1) || begun.elapsed() > limit {
            break views;
        }
        std::thread::sleep(POLL);
    };
    for (by, heads) in views {
        for (of, (size, root)) in heads {
            recorder.write(What::Head { by: by.to_owned(), of, size, root });
        }
    }
}
