//! Processes die and stand still. Nothing that was synced is lost.

use super::{Act, Fault};
use crate::real::cluster::CLOUDS;
use anyhow::Result;
use nix::sys::signal::Signal;

pub async fn kill_one(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    kill(act, vec![node]).await
}

pub async fn kill_leader(act: &mut Act) -> Result<()> {
    let leader = act.leader().await?;
    kill(act, vec![leader]).await
}

pub async fn kill_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    kill(act, nodes).await
}

pub async fn kill_minorities(act: &mut Act) -> Result<()> {
    let pick = |cloud: &&str| {
        let nodes = act.stage.cluster.nodes_of(cloud);
        act.random.choose(&nodes).clone()
    };
    let nodes = CLOUDS.iter().map(pick).collect();
    kill(act, nodes).await
}

pub async fn kill_all(act: &mut Act) -> Result<()> {
    let nodes = act.cluster().names();
    kill(act, nodes).await
}

async fn kill(act: &mut Act, nodes: Vec<String>) -> Result<()> {
    let fault = act.begin(&nodes, "kill -9");
    let pids = act.cluster().kill(&nodes)?;
    let gone = pids.iter().all(|pid| !tercet_tests::process::is_alive(*pid));
    if gone {
        fault.prove(format!("processes {pids:?} are gone"));
    }
    act.hold().await;
    restart(act, fault, &nodes).await
}

/// The fault ends when every process runs again; then the clouds have to become whole.
pub async fn restart(act: &Act, fault: Fault, nodes: &[String]) -> Result<()> {
    for node in nodes {
        act.cluster().start(node)?;
    }
    fault.end();
    act.cluster().bring_back(nodes).await
}

pub async fn pause_one(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    pause(act, vec![node]).await
}

pub async fn pause_leader(act: &mut Act) -> Result<()> {
    let leader = act.leader().await?;
    pause(act, vec![leader]).await
}

pub async fn pause_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    pause(act, nodes).await
}

async fn pause(act: &mut Act, nodes: Vec<String>) -> Result<()> {
    let fault = act.begin(&nodes, "SIGSTOP, later SIGCONT");
    let pids = act.cluster().signal(&nodes, Signal::SIGSTOP)?;
    fault
        .prove_when(|| pids.iter().all(|pid| stands_still(*pid)).then(|| format!("processes {pids:?} are stopped")))
        .await;
    act.hold().await;
    act.cluster().signal(&nodes, Signal::SIGCONT)?;
    fault.end();
    act.cluster().bring_back(&nodes).await
}

/// Whether every thread of a process is stopped: then none of them is inside a system call.
pub fn stands_still(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T') || rest.starts_with('t'))
    })
}
