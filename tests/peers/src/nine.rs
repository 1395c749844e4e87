//! Three clouds of three nodes: full load, idle, a leader that is killed, a member that lost its disk.

use crate::table::Row;
use crate::tercet::{self, Bench, Events};
use crate::{BATCHES, CLIENTS, Cli, Peer, progress};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tercet_tests::Cluster;

/// How often a leader is killed with each timers.
const LEADER_KILLS: usize = 8;
/// The fast timers that `cluster.toml` names: heartbeat, and the range in which a node stands for election, ms.
const FAST: [(&str, i64); 3] = [("heartbeat_ms", 100), ("election_min_ms", 400), ("election_max_ms", 700)];
/// Before idle nodes are measured.
const SETTLE: Duration = Duration::from_secs(3);
/// A member has caught up when so few log entries are missing: what its leader applies in a moment of full load.
const CAUGHT_UP: u64 = 500;
const REJOIN_LIMIT: Duration = Duration::from_secs(120);

pub fn measure(cli: &Cli, peer: &Peer, rows: &mut Vec<Row>, raw: &mut BTreeMap<&'static str, Value>) -> Result<()> {
    let mut cluster = Cluster::large();
    let seconds = cli.duration.as_secs().max(4);
    progress("Tercet, nine idle nodes");
    std::thread::sleep(SETTLE);
    let idle = idle_cores(&cluster, cli.duration.min(Duration::from_secs(20)));
    let payload_bytes = cli.payload_bytes;
    let events = Events { clients: BATCHES.0, batch: BATCHES.1, payload_bytes, seconds, rate: None, sealed: false };
    progress("Tercet, nine nodes, full load in batches");
    let batched = tercet::bench(&cluster, events, None)?;
    progress("Tercet, nine nodes, full load of single events");
    let single = tercet::bench(&cluster, Events { clients: CLIENTS, batch: 1, ..events }, None)?;
    rows.push(Row::ratio(
        "final_events_per_s_batched_nine_nodes",
        format!("FINAL events/s in batches of {}, 3 clouds of 3 nodes", BATCHES.1),
        (batched.per_second(), peer.full, "/s"),
        2.0,
    ));
    rows.push(Row::ratio(
        "final_events_per_s_single_nine_nodes",
        format!("FINAL events/s one by one, {CLIENTS} clients, 3 clouds of 3 nodes"),
        (single.per_second(), peer.full, "/s"),
        2.0,
    ));
    rows.push(Row::plain("nine idle nodes", format!("{:.1} % of one core", idle * 100.0), "3 %").judged(idle <= 0.03));
    rejoining(&mut cluster, Events { seconds: seconds.max(20) * 2, ..events }, rows)?;
    let goal = |seconds| format!("{seconds} s");
    let worst = without_final(&mut cluster, events, "default timers")?;
    let what = format!("leader killed: the longest of {LEADER_KILLS} times without FINAL at that cloud");
    rows.push(Row::plain(&what, format!("{worst:.2} s"), &goal(3)).judged(worst <= 3.0));
    cluster.stop();
    let file = cluster.data_dir().join("cluster.toml");
    let mut table: toml::Table = std::fs::read_to_string(&file)?.parse()?;
    table.insert(
        "raft".into(),
        FAST.map(|(key, ms)| (key.to_owned(), toml::Value::from(ms))).into_iter().collect::<toml::Table>().into(),
    );
    std::fs::write(&file, table.to_string())?;
    cluster.start_until("Ready after");
    let worst = without_final(&mut cluster, events, "fast timers")?;
    rows.push(
        Row::plain("the same with the fast timers of cluster.toml", format!("{worst:.2} s"), &goal(1))
            .judged(worst <= 1.0),
    );
    raw.insert("batchedNine", batched.0);
    raw.insert("singleNine", single.0);
    Ok(())
}

/// The longest time without FINAL at a cloud whose leader is killed, in seconds.
fn without_final(cluster: &mut Cluster, events: Events, timers: &str) -> Result<f64> {
    let mut worst: f64 = 0.0;
    for number in 1..=LEADER_KILLS {
        progress(&format!("Tercet, leader killed, {timers} ({number} of {LEADER_KILLS})"));
        // Fifty a second, asked of that cloud alone: the longest latency is how long there was no FINAL.
        let steady = Events { clients: 16, batch: 1, rate: Some(50), seconds: 8, ..events };
        let leader = cluster.leader("gcp");
        let killed = tercet::bench_while(cluster, steady, Some("gcp"), Duration::from_secs(2), |cluster| {
            cluster.kill(&leader);
        })?;
        worst = worst.max(killed.latency("max") / 1000.0);
        cluster.run_cloud("gcp");
    }
    Ok(worst)
}

/// Full load while a member that lost its disk comes back.
fn rejoining(cluster: &mut Cluster, load: Events, rows: &mut Vec<Row>) -> Result<()> {
    progress("Tercet, nine nodes, a member loses its disk");
    let wipe = Duration::from_secs(load.seconds / 2);
    let (mut begun, mut took) = (Duration::ZERO, None);
    let started = Instant::now();
    let measured: Bench = tercet::bench_while(cluster, load, None, wipe, |cluster| {
        begun = started.elapsed();
        let node = cluster.wipe_follower("gcp");
        let leader = cluster.leader("gcp");
        let since = Instant::now();
        cluster.run(&node);
        let applied = |node: &str| cluster.status(node).ok().and_then(|status| status["applied"].as_u64());
        while took.is_none() && since.elapsed() < REJOIN_LIMIT {
            let both = applied(&node).zip(applied(&leader));
            if both.is_some_and(|(own, leaders)| own > 0 && own + CAUGHT_UP >= leaders) {
                took = Some(since.elapsed());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    })?;
    let end = begun + took.unwrap_or(REJOIN_LIMIT);
    let before = measured.mean(begun / 2, begun);
    let meanwhile = measured.mean(begun, end.min(Duration::from_secs(load.seconds)));
    let back =
        took.map_or_else(|| "not back in time".to_owned(), |took| format!("back after {:.0} s", took.as_secs_f64()));
    rows.push(Row {
        key: Some("throughput_while_a_member_rejoins"),
        ratio: Some(meanwhile / before),
        ..Row::plain(
            "full load while a member that lost its disk comes back, against before",
            format!("{:.2}, {back}", meanwhile / before),
            "at least 0.8",
        )
        .judged(took.is_some() && meanwhile >= 0.8 * before)
    });
    Ok(())
}

/// Cores that all nodes of the cluster use while nobody asks for anything.
fn idle_cores(cluster: &Cluster, time: Duration) -> f64 {
    let clouds = tercet_tests::CLOUDS.into_iter();
    let pids: Vec<u32> = clouds.flat_map(|cloud| cluster.nodes(cloud)).map(|node| cluster.pid(&node) as u32).collect();
    let total =
        || pids.iter().filter_map(|pid| ::tercet::usage::Usage::of(*pid)).map(|usage| usage.cpu_ms).sum::<u64>();
    let before = total();
    std::thread::sleep(time);
    (total() - before) as f64 / 1000.0 / time.as_secs_f64()
}
