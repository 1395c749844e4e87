//! State is lost or comes back old: of a node, and of a whole cloud.

use super::damage::{forget, take_down};
use super::network::client_links;
use super::{Act, Fault};
use crate::port::Port as _;
use crate::real::cluster::SETTLE_LIMIT;
use crate::real::namespace::command;
use crate::real::switch::Effect;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tercet_core::tenants::Confirm;
use tercet_tests::programs;

/// What a backup of a node holds. Its keys stay where they are, as if the backup had held them too.
const PARTS: [&str; 2] = ["raft", "state"];
/// A restored cloud has to be behind by at least so many leaves.
const LEAST_BEHIND: u64 = 5;

pub async fn wiped_node(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    take_down(act, &node).await?;
    let fault = act.begin(std::slice::from_ref(&node), "its log and state are removed, its keys stay");
    forget(&act.cluster().node(&node)?.folder)?;
    let from = act.cluster().log_length(&node);
    act.cluster().start(&node)?;
    act.cluster().settle(act.cloud).await?;
    let log = act.cluster().log_since(&node, from);
    if let Some(said) = log.lines().find(|line| line.contains("lost its log")) {
        fault.prove(said);
    }
    fault.end();
    Ok(())
}

pub async fn old_backup_node(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    let backup = backup(act, std::slice::from_ref(&node)).await?;
    let before = applied(&act.cluster().status(&node).await?);
    act.hold().await;
    take_down(act, &node).await?;
    let fault = act.begin(std::slice::from_ref(&node), "its log and state are replaced by older copies");
    restore(act, &backup, &node)?;
    let from = act.cluster().log_length(&node);
    act.cluster().start(&node)?;
    if let Err(error) = act.cluster().settle(act.cloud).await {
        if act.cluster().ended(&node)?.is_none() {
            return Err(error);
        }
        fault.prove(format!("refused: {}", act.cluster().last_words(&node)));
        forget(&act.cluster().node(&node)?.folder)?;
    } else {
        let log = act.cluster().log_since(&node, from);
        let said = log.lines().find(|line| line.contains("WARN")).unwrap_or("it fetched the rest from its leader");
        let now = applied(&act.cluster().status(&node).await?);
        if now > before {
            fault.prove(format!("its copy ended near entry {before}, its cloud is at {now}; {said}"));
        }
    }
    fault.end();
    act.cluster().bring_back(&[node]).await
}

/// The keys are the same and the state is older than what others hold: whatever this cloud signs now
/// could contradict what it signed before. It must refuse until it is renewed.
pub async fn old_backup_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    let backup = backup(act, &nodes).await?;
    let before = own_size(act).await?;
    grow(act, before + LEAST_BEHIND).await?;
    let _cut = hand_over(act).await?;
    let fault = act.begin(&nodes, "log and state of all its nodes are replaced by older copies; the keys stay");
    act.cluster().kill(&nodes)?;
    for node in &nodes {
        restore(act, &backup, node)?;
        act.cluster().start(node)?;
    }
    let begun = Instant::now();
    let refusal = loop {
        let views = act.cluster().views(act.cloud).await;
        let refusals = views.values().flat_map(|view| view["refusals"].as_array().cloned().unwrap_or_default());
        if let Some(refusal) = refusals.into_iter().find_map(|refusal| refusal.as_str().map(ToOwned::to_owned)) {
            break Some(refusal);
        }
        if begun.elapsed() > SETTLE_LIMIT {
            break None;
        }
        tokio::time::sleep(super::POLL).await;
    };
    match refusal {
        Some(refusal) => fault.prove(format!("it refuses to sign: {refusal}")),
        None => act.violated("a cloud with old state refuses to sign", format!("{} said no word of it", act.cloud)),
    }
    // It must still be refusing after a while, with everybody in reach.
    act.hold().await;
    act.cluster().kill(&nodes)?;
    for node in &nodes {
        forget(&act.cluster().node(node)?.folder)?;
    }
    renew(act, fault, &nodes).await
}

pub async fn lost_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    let _cut = hand_over(act).await?;
    let fault = act.begin(&nodes, "logs, states and signing keys of all its nodes are removed");
    act.cluster().kill(&nodes)?;
    for node in &nodes {
        let folder = act.cluster().node(node)?.folder.clone();
        forget(&folder)?;
        fs::remove_file(folder.join("signing.key"))?;
    }
    fault.prove(format!("{} has neither state nor keys", nodes.join(", ")));
    act.hold().await;
    renew(act, fault, &nodes).await
}

/// What an operator does for a cloud whose state is gone.
async fn renew(act: &Act, fault: Fault, nodes: &[String]) -> Result<()> {
    let (program, config) = (programs::tercetd(), act.cluster().config());
    let text = |path: &Path| path.to_str().map(ToOwned::to_owned).context("a path in UTF-8");
    command(&text(&program)?, &["renew", "--cloud", act.cloud, "--config", &text(&config)?])?;
    for node in nodes {
        act.cluster().start(node)?;
    }
    fault.end();
    act.cluster().settle(act.cloud).await?;
    // Tenants are not in the logs that it took back.
    act.stage.make_tenants(act.cloud).await
}

/// Keeps clients away from this act's cloud, and waits until both others hold all of its log: what
/// only one cloud has is not promised to outlive it, and nobody shall be told otherwise.
async fn hand_over(act: &Act) -> Result<crate::real::switch::Harm> {
    let cut = act.cluster().switch()?.harm(client_links(act), Effect::Drop);
    let begun = Instant::now();
    loop {
        let own = size_at(act, act.cloud).await;
        let mut held = Vec::new();
        for cloud in act.other_clouds() {
            held.push(size_at(act, cloud).await);
        }
        if let Ok(own) = own
            && held.iter().all(|size| size.as_ref().is_ok_and(|size| *size == own))
            && events_are_held(act).await.is_ok_and(|held| held)
        {
            return Ok(cut);
        }
        if begun.elapsed() > SETTLE_LIMIT {
            bail!("the log of {} is not held by both other clouds after {SETTLE_LIMIT:?}", act.cloud);
        }
        tokio::time::sleep(super::POLL).await;
    }
}

/// Whether the others list every event of this act's cloud, with its content.
async fn events_are_held(act: &Act) -> Result<bool, String> {
    for confirm in [Confirm::Auto, Confirm::Manual] {
        let own = act.stage.port.list(act.cloud, confirm).await?;
        for other in act.other_clouds() {
            let listed = act.stage.port.list(other, confirm).await?;
            let whole = listed.into_iter().filter(|(_, seen)| seen.content.is_some());
            let whole: BTreeSet<String> = whole.map(|(id, _)| id).collect();
            if own.iter().any(|(id, _)| !whole.contains(id)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The size of the act's cloud's log, as the leader of `by` holds it.
async fn size_at(act: &Act, by: &str) -> Result<u64> {
    let leader = act.cluster().leader(by).await?;
    let view = act.cluster().status(&leader).await?;
    let clouds = view["clouds"].as_array().context("no clouds in the status")?;
    let seen = clouds.iter().find(|seen| seen["cloud"] == act.cloud).context("the cloud is not in the status")?;
    seen["size"].as_u64().context("no size in the status")
}

async fn own_size(act: &Act) -> Result<u64> {
    size_at(act, act.cloud).await
}

async fn grow(act: &Act, goal: u64) -> Result<()> {
    let begun = Instant::now();
    while own_size(act).await? < goal {
        ensure!(begun.elapsed() < SETTLE_LIMIT, "the log of {} does not grow to {goal}", act.cloud);
        tokio::time::sleep(super::POLL).await;
    }
    Ok(())
}

fn applied(view: &Value) -> u64 {
    view["applied"].as_u64().unwrap_or_default()
}

/// Copies log and state while the processes stand still, as a snapshot of a volume would.
async fn backup(act: &Act, nodes: &[String]) -> Result<PathBuf> {
    act.cluster().settle(act.cloud).await?;
    let to = act.cluster().folder.join("backup");
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    let pids = act.cluster().signal(nodes, Signal::SIGSTOP)?;
    while !pids.iter().all(|pid| super::process::stands_still(*pid)) {
        tokio::time::sleep(super::POLL).await;
    }
    let copied = nodes.iter().try_for_each(|node| {
        let from = act.cluster().node(node)?.folder.clone();
        PARTS.iter().try_for_each(|part| copy(&from.join(part), &to.join(node)))
    });
    act.cluster().signal(nodes, Signal::SIGCONT)?;
    copied.map(|()| to)
}

fn restore(act: &Act, backup: &Path, node: &str) -> Result<()> {
    let folder = act.cluster().node(node)?.folder.clone();
    forget(&folder)?;
    PARTS.iter().try_for_each(|part| copy(&backup.join(node).join(part), &folder))?;
    sync(&folder)
}

/// What an operator put back is on the disk before the node starts: a later power cut is no matter of his.
pub fn sync(folder: &Path) -> Result<()> {
    command("sync", &["--file-system", folder.to_str().context("a path in UTF-8")?]).map(drop)
}

/// Copies a folder into another one, with owners, modes and holes.
fn copy(from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let text = |path: &Path| path.to_str().map(ToOwned::to_owned).context("a path in UTF-8");
    command("cp", &["-a", "--sparse=always", &text(from)?, &text(into)?]).map(drop)
}
