//! Disks that lose power, run full, fail, crawl, or turn read-only. What was synced stays.

use super::Act;
use super::process::{restart, stands_still};
use crate::real::disk::Disk;
use crate::real::strace::Strace;
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

/// By how much each sync of a slow disk is late, in microseconds.
const SLOW_MICROSECONDS: u32 = 200_000;

pub async fn power_cut_node(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    power_cut(act, vec![node]).await
}

pub async fn power_cut_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    power_cut(act, nodes).await
}

pub async fn power_cut_all(act: &mut Act) -> Result<()> {
    let nodes = act.cluster().names();
    power_cut(act, nodes).await
}

/// Processes are stopped first: a sync that overlaps the cut could return without having synced, and
/// a stopped thread is in no system call. So everything acknowledged by now was synced before.
async fn power_cut(act: &mut Act, nodes: Vec<String>) -> Result<()> {
    let fault = act.begin(&nodes, "EXT4_IOC_SHUTDOWN without flushing the journal");
    let pids = act.cluster().signal(&nodes, Signal::SIGSTOP)?;
    while !pids.iter().all(|pid| stands_still(*pid)) {
        tokio::time::sleep(super::POLL).await;
    }
    for node in &nodes {
        disk(act, node)?.cut_power()?;
    }
    act.cluster().kill(&nodes)?;
    act.hold().await;
    let mut lost = 0;
    for node in &nodes {
        lost += usize::from(disk(act, node)?.restore_power()?);
    }
    if lost == nodes.len() {
        fault.prove(format!("on {lost} disks a file that was written but not synced is gone"));
    }
    restart(act, fault, &nodes).await
}

pub async fn full(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    let from = act.cluster().log_length(&node);
    let fault = act.begin(std::slice::from_ref(&node), "a file takes all the space that is left");
    let bytes = disk(act, &node)?.fill()?;
    let words = act.cluster().await_end(&node).await;
    let seen =
        act.cluster().log_since(&node, from).lines().find(|line| line.contains("No space left")).map(ToOwned::to_owned);
    match (words, seen) {
        (Ok(_), Some(seen)) => fault.prove(format!("{bytes} bytes taken; {node} ended: {seen}")),
        (Ok(words), None) => act.violated("a node says why it ends", words),
        // A node that needs no new space runs on; it has to feel the lack to prove the fault.
        (Err(_), Some(seen)) => fault.prove(format!("{bytes} bytes taken; {node} runs on: {seen}")),
        (Err(_), None) => {}
    }
    disk(act, &node)?.empty()?;
    end_and_bring_back(act, fault, node).await
}

pub async fn sync_error(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    let fault = act.begin(std::slice::from_ref(&node), "fsync and fdatasync fail with EIO");
    let pid = act.cluster().pid(&node)?;
    let strace = Strace::attach(pid, "error=EIO", &act.cluster().log_file(&format!("{node}.strace")))?;
    let ended = act.cluster().await_end(&node).await;
    let injected = strace.injected();
    drop(strace);
    match ended {
        Ok(words) if injected > 0 => fault.prove(format!("{injected} syncs failed; {words}")),
        Ok(_) => {}
        Err(error) => act.violated(
            "a node that cannot sync stops, and never tries that sync again",
            format!("{injected} syncs failed; {error:#}"),
        ),
    }
    end_and_bring_back(act, fault, node).await
}

pub async fn slow(act: &mut Act) -> Result<()> {
    let node = act.leader().await?;
    let fault = act.begin(std::slice::from_ref(&node), "each fsync and fdatasync takes 200 ms longer");
    let how = format!("delay_exit={SLOW_MICROSECONDS}");
    let pid = act.cluster().pid(&node)?;
    let strace = Strace::attach(pid, &how, &act.cluster().log_file(&format!("{node}.strace")))?;
    act.hold().await;
    let delayed = strace.injected();
    drop(strace);
    if delayed > 0 {
        fault.prove(format!("{delayed} syncs were late"));
    }
    end_and_bring_back(act, fault, node).await
}

pub async fn read_only(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    let fault = act.begin(std::slice::from_ref(&node), "the kernel finds an error and remounts read-only");
    disk(act, &node)?.turn_read_only()?;
    let refusal = disk(act, &node)?.refuses_writes();
    let words = act.cluster().await_end(&node).await;
    match (refusal, words) {
        (Some(refusal), Ok(words)) => fault.prove(format!("{refusal}; {words}")),
        (Some(refusal), Err(_)) => fault.prove(format!("{refusal}; {node} needs no write and runs on")),
        (None, _) => {}
    }
    if act.cluster().is_running(&node)? {
        act.cluster().kill(std::slice::from_ref(&node))?;
    }
    disk(act, &node)?.repair()?;
    end_and_bring_back(act, fault, node).await
}

async fn end_and_bring_back(act: &Act, fault: super::Fault, node: String) -> Result<()> {
    fault.end();
    act.cluster().bring_back(&[node]).await
}

fn disk<'a>(act: &'a Act, node: &str) -> Result<&'a Disk> {
    act.cluster().node(node)?.disk.as_ref().context("this run has no disks of its own")
}
