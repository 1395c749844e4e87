//! Links are cut, or carry late, twice, in another order, or too little.

use super::Act;
use crate::real::cluster::{CLIENTS, CLOUDS};
use crate::real::switch::{Effect, Links};
use anyhow::Result;
use std::slice::from_ref;
use std::time::Duration;

/// How long links of a flapping node stay as they are.
const FLAP_LEAST: Duration = Duration::from_millis(150);
const FLAP_MOST: Duration = Duration::from_millis(900);
const FLAPS: usize = 12;
const THROTTLED_BYTES: u64 = 40_000;
const LOST_PERCENT: usize = 10;
const DOUBLED_PERCENT: usize = 10;

pub async fn isolate_node(act: &mut Act) -> Result<()> {
    let node = act.any_node();
    let mut links = between(act, from_ref(&node), &others(act, from_ref(&node)));
    links.extend(both_ways(&[act.cluster().port_of(&node)], &[CLIENTS]));
    harm(act, vec![node], &[(links, Effect::Drop)], "cut off from all nodes and clients").await
}

pub async fn isolate_leader(act: &mut Act) -> Result<()> {
    let leader = act.leader().await?;
    let links = between(act, from_ref(&leader), &others(act, from_ref(&leader)));
    harm(act, vec![leader], &[(links, Effect::Drop)], "cut off from all other nodes; clients still reach it").await
}

pub async fn isolate_cloud(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    let links = between(act, &nodes, &others(act, &nodes));
    harm(act, nodes, &[(links, Effect::Drop)], "cut off from the other clouds; clients still reach it").await
}

pub async fn ring(act: &mut Act) -> Result<()> {
    let mut left = act.cluster().names();
    let mut order = Vec::new();
    while !left.is_empty() {
        let at = act.random.below(left.len());
        order.push(left.swap_remove(at));
    }
    let mut links = between(act, &order, &order);
    for (at, node) in order.iter().enumerate() {
        let next = &order[(at + 1) % order.len()];
        for kept in between(act, from_ref(node), from_ref(next)) {
            links.remove(&kept);
        }
    }
    let detail = format!("each reaches only its neighbours: {}", order.join(" "));
    harm(act, order, &[(links, Effect::Drop)], &detail).await
}

pub async fn bridge(act: &mut Act) -> Result<()> {
    let middle = act.cloud;
    let sides = act.other_clouds();
    let (a, b) = (act.cluster().nodes_of(sides[0]), act.cluster().nodes_of(sides[1]));
    let links = between(act, &a, &b);
    let nodes = a.into_iter().chain(b).collect();
    let detail = format!("{} and {} reach each other only through {middle}", sides[0], sides[1]);
    harm(act, nodes, &[(links, Effect::Drop)], &detail).await
}

pub async fn one_way(act: &mut Act) -> Result<()> {
    let leader = act.leader().await?;
    let port = act.cluster().port_of(&leader);
    let links = others(act, from_ref(&leader)).iter().map(|other| (port, act.cluster().port_of(other))).collect();
    harm(act, vec![leader], &[(links, Effect::Drop)], "it hears all nodes, none hears it").await
}

pub async fn flapping(act: &mut Act) -> Result<()> {
    let leader = act.leader().await?;
    let links = between(act, from_ref(&leader), &others(act, from_ref(&leader)));
    let fault = act.begin(&[leader], "its links to all nodes come and go");
    let mut proof = None;
    for _ in 0..FLAPS {
        let cut = act.cluster().switch()?.harm(links.clone(), Effect::Drop);
        tokio::time::sleep(act.random.between(FLAP_LEAST, FLAP_MOST)).await;
        proof = cut.counts().proof().or(proof);
        drop(cut);
        tokio::time::sleep(act.random.between(FLAP_LEAST, FLAP_MOST)).await;
    }
    if let Some(proof) = proof {
        fault.prove(format!("{FLAPS} times; the last time that any were sent, {proof}"));
    }
    fault.end();
    act.cluster().settle(act.cloud).await
}

pub async fn client_cut(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    let links = client_links(act);
    harm(act, nodes, &[(links, Effect::Drop)], "clients do not reach it").await
}

/// All links between clients and this act's cloud.
pub fn client_links(act: &Act) -> Links {
    both_ways(&[CLIENTS], &ports(act, &act.nodes()))
}

pub async fn delay(act: &mut Act) -> Result<()> {
    let (mut within, mut across) = (Links::new(), Links::new());
    for cloud in CLOUDS {
        let nodes = act.cluster().nodes_of(cloud);
        within.extend(between(act, &nodes, &nodes));
        across.extend(between(act, &nodes, &others(act, &nodes)));
    }
    let millis = Duration::from_millis;
    let rules = [(within, Effect::Delay(millis(1), millis(20))), (across, Effect::Delay(millis(20), millis(200)))];
    harm(act, act.cluster().names(), &rules, "1 to 20 ms inside a cloud, 20 to 200 ms between clouds").await
}

pub async fn loss(act: &mut Act) -> Result<()> {
    let rules = [(everywhere(act), Effect::Lose(LOST_PERCENT))];
    harm(act, act.cluster().names(), &rules, "one packet in ten is lost").await
}

pub async fn reorder(act: &mut Act) -> Result<()> {
    let late = Effect::Delay(Duration::ZERO, Duration::from_millis(40));
    let rules = [(everywhere(act), late), (everywhere(act), Effect::Double(DOUBLED_PERCENT))];
    harm(act, act.cluster().names(), &rules, "0 to 40 ms each, one in ten twice").await
}

pub async fn rate_limit(act: &mut Act) -> Result<()> {
    let nodes = act.nodes();
    let mut links = between(act, &nodes, &act.cluster().names());
    links.extend(client_links(act));
    let detail = format!("each of its links carries {THROTTLED_BYTES} bytes a second");
    harm(act, nodes, &[(links, Effect::Throttle(THROTTLED_BYTES))], &detail).await
}

/// Puts rules in force for a while. It counts as proven once each of them has met packets.
async fn harm(act: &mut Act, nodes: Vec<String>, rules: &[(Links, Effect)], detail: &str) -> Result<()> {
    let fault = act.begin(&nodes, detail);
    let mut harms = Vec::new();
    for (links, effect) in rules {
        harms.push(act.stage.cluster.switch()?.harm(links.clone(), *effect));
    }
    act.hold().await;
    let proofs: Option<Vec<String>> = harms.iter().map(|harm| harm.counts().proof()).collect();
    if let Some(proofs) = proofs {
        fault.prove(proofs.join("; "));
    }
    drop(harms);
    fault.end();
    for cloud in CLOUDS {
        if nodes.iter().any(|name| act.cluster().nodes_of(cloud).contains(name)) {
            act.cluster().settle(cloud).await?;
        }
    }
    Ok(())
}

fn ports(act: &Act, nodes: &[String]) -> Vec<usize> {
    nodes.iter().map(|node| act.cluster().port_of(node)).collect()
}

fn others(act: &Act, nodes: &[String]) -> Vec<String> {
    act.cluster().names().into_iter().filter(|name| !nodes.contains(name)).collect()
}

fn between(act: &Act, some: &[String], others: &[String]) -> Links {
    both_ways(&ports(act, some), &ports(act, others))
}

fn everywhere(act: &Act) -> Links {
    let nodes = act.cluster().names();
    let mut links = between(act, &nodes, &nodes);
    links.extend(both_ways(&[CLIENTS], &ports(act, &nodes)));
    links
}

fn both_ways(some: &[usize], others: &[usize]) -> Links {
    let pairs = some.iter().flat_map(|a| others.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
    pairs.filter(|(a, b)| a != b).collect()
}
