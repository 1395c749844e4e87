//! Half an hour of full load, for what shows late: openraft #2116 (purging races applying, on 2 cores under load) with snapshots on
//! disk, and a member that loses its disk in the middle of it. Not part of the suite:
//!
//! ```sh
//! cargo test --release -p tercet-tests --test soak -- --ignored --nocapture     # TERCET_SOAK_MINUTES=30
//! ```

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tercet_tests::{CLOUDS, Cluster, process};

/// Until all heads are equal once the load is over.
const SETTLE: Duration = Duration::from_secs(120);
/// Until a member without a disk is up again.
const REJOIN: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(5);

#[test]
#[ignore = "half an hour of full load"]
fn nine_nodes_purge_their_logs_under_full_load_and_none_ends() {
    let minutes = std::env::var("TERCET_SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(30_u64);
    let mut cluster = Cluster::large();
    let nodes: Vec<String> = CLOUDS.into_iter().flat_map(|cloud| cluster.nodes(cloud)).collect();
    let oldest: BTreeMap<String, String> =
        nodes.iter().map(|node| (node.clone(), oldest_chunk(&cluster, node).expect("a log"))).collect();
    let duration = format!("{}s", minutes * 60);
    let options = ["bench", "events", "--clients", "256", "--batch", "1", "--duration", &duration, "-o", "json"];
    let mut load = cluster.cli().start(&options);
    let begun = Instant::now();
    let mut wiped = None;
    let mut pids: BTreeMap<String, i32> = nodes.iter().map(|node| (node.clone(), cluster.pid(node))).collect();
    while load.has_ended().is_none() {
        std::thread::sleep(LOOK);
        for (node, pid) in &pids {
            assert!(process::is_alive(*pid), "{node} ended after {:?}", begun.elapsed());
        }
        if wiped.is_none() && begun.elapsed() > Duration::from_secs(minutes * 20) {
            let node = cluster.wipe_follower("gcp");
            let since = Instant::now();
            cluster.run(&node);
            pids.insert(node.clone(), cluster.pid(&node));
            wiped = Some((node, since, None));
        }
        if let Some((node, since, back @ None)) = &mut wiped {
            let applied = |node: &str| cluster.status(node).ok().and_then(|status| status["applied"].as_u64());
            let leader = cluster.leader("gcp");
            // Within a second of load of its leader.
            if applied(node).zip(applied(&leader)).is_some_and(|(own, leaders)| own + 2_000 >= leaders && own > 0) {
                *back = Some(since.elapsed());
                eprintln!("{node} lost its disk under load, and had caught up after {:?}", since.elapsed());
            }
            assert!(back.is_some() || since.elapsed() < REJOIN, "{node} does not catch up");
        }
    }
    let output = load.output();
    let json = output.find('{').and_then(|at| serde_json::from_str::<Value>(&output[at..]).ok());
    let measured = json.unwrap_or_else(|| panic!("no result: {output}"));
    let (done, failed) = (measured["events"].as_u64().unwrap(), measured["failed"].as_u64().unwrap());
    eprintln!("{done} events FINAL, {failed} failed; p99 {} ms", measured["latencyMs"]["p99"]);
    assert!(done > 100 * minutes * 60 / 10 && failed * 100 <= done, "{done} done, {failed} failed");
    cluster.equal_heads(SETTLE);
    let (wiped, ..) = wiped.expect("a third of the time passed");
    for node in nodes.iter().filter(|node| **node != wiped) {
        let (now, folder) = (oldest_chunk(&cluster, node).expect("a log"), cluster.data_dir().join("nodes").join(node));
        let log = std::fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
        assert!(!log.contains("panicked") && !log.contains("cannot go on"), "{node} says so in its log");
        assert!(now > oldest[node], "{node} never purged its log: {now}");
    }
}

/// The name of the first chunk of a node's Raft log; chunks are named by where they begin.
fn oldest_chunk(cluster: &Cluster, node: &str) -> Option<String> {
    let folder = cluster.data_dir().join("nodes").join(node).join("raft").join("wal");
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "wal")).min()
}
