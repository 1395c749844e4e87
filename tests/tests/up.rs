//! `tercetd up` and `tercetd run`: starting, refusing, restarting, bringing back.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tercet_tests::process::{self, Process};
use tercet_tests::wait::check;
use tercet_tests::{CLOUDS, Cluster, eventually, slots};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn three_nodes_seal_their_first_event_and_restart_without_a_loss() {
    let mut cluster = Cluster::small();
    eprintln!("three nodes, from start to the first SEALED event: {:.1} s", cluster.took.as_secs_f64());
    assert!(cluster.took < Duration::from_secs(30), "15 s on a quiet machine are promised: {:?}", cluster.took);
    let output = cluster.output();
    for cloud in CLOUDS {
        assert!(output.contains(cloud), "{output}");
    }
    a_second_up_on_the_same_folder_is_refused(&cluster);
    secrets_are_for_their_owner_alone(&cluster);
    nothing_is_lost_by_a_restart(&mut cluster);
}

fn a_second_up_on_the_same_folder_is_refused(cluster: &Cluster) {
    let pids: Vec<i32> = ["aws-1", "azure-1", "gcp-1"].map(|node| cluster.pid(node)).to_vec();
    let mut second = Process::start(cluster.up_command());
    let status = second.wait(LIMIT);
    assert!(!status.success(), "{}", second.output());
    assert!(second.output().contains(cluster.data_dir().to_str().unwrap()), "{}", second.output());
    let still: Vec<i32> = ["aws-1", "azure-1", "gcp-1"].map(|node| cluster.pid(node)).to_vec();
    assert_eq!(pids, still, "the running nodes are left alone");
}

fn secrets_are_for_their_owner_alone(cluster: &Cluster) {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![cluster.data_dir()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            seen += 1;
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{} is open to others", path.display());
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(seen > 20, "{seen} files");
}

fn nothing_is_lost_by_a_restart(cluster: &mut Cluster) {
    let mut hashes = BTreeMap::new();
    for (number, cloud) in (0..30).zip(CLOUDS.iter().cycle()) {
        let id = format!("kept-{number}");
        let receipt = cluster.submit(cloud, &id, &json!({ "number": number })).ok();
        hashes.insert(id, receipt["contentHash"].clone());
    }
    for id in hashes.keys() {
        cluster.wait_level("aws", id, "SEALED", LIMIT);
    }
    let before = cluster.equal_heads(LIMIT);
    assert!(cluster.stop().success(), "an orderly stop is a success");
    cluster.start();
    let after = cluster.equal_heads(LIMIT);
    for cloud in CLOUDS {
        let (old, new) = (&before[cloud], &after[cloud]);
        // The new start's own event is the only one more.
        assert!(new.0 > old.0 && new.0 <= old.0 + 2, "{cloud}: {} then {}", old.0, new.0);
    }
    for (id, hash) in &hashes {
        for cloud in CLOUDS {
            let event = cluster.event(cloud, id).unwrap();
            assert_eq!((&event["contentHash"], &event["level"]), (hash, &json!("SEALED")), "{cloud}: {event}");
        }
    }
}

#[test]
fn a_killed_node_is_reported_and_run_brings_it_back() {
    let mut cluster = Cluster::small();
    cluster.submit("azure", "before-the-kill", &json!({})).ok();
    cluster.wait_level("gcp", "before-the-kill", "SEALED", LIMIT);
    let already = cluster.output().len();
    cluster.kill("azure-1");
    eventually("up says that azure-1 is gone", LIMIT, || {
        let output = cluster.output().split_off(already);
        check(output.contains("azure-1"), || output.clone())
    });
    assert!(cluster.status("azure-1").is_err(), "it is not restarted unless that is asked for");
    let status = cluster.cli().json(&["status"]);
    let azure = status["clouds"].as_array().unwrap().iter().find(|cloud| cloud["cloud"] == "azure").unwrap();
    assert_eq!((&azure["ready"], &azure["nodes"][0]["reachable"]), (&json!(false), &json!(false)), "{azure}");

    cluster.submit("gcp", "during-the-outage", &json!({})).ok();
    let event = cluster.wait_level("aws", "during-the-outage", "FINAL", LIMIT);
    assert_eq!(event["votes"].as_array().unwrap().len(), 2, "{event}");
    cluster.run("azure-1");
    for id in ["before-the-kill", "during-the-outage"] {
        for cloud in CLOUDS {
            cluster.wait_level(cloud, id, "SEALED", LIMIT);
        }
    }
    cluster.equal_heads(LIMIT);
}

#[test]
fn one_cloud_alone_accepts_and_never_calls_anything_final() {
    let mut cluster = Cluster::prepared(slots::small(), &["--cloud", "gcp"]);
    cluster.start_until("PENDING");
    assert_eq!(cluster.nodes("gcp").len(), 3);
    let roles: Vec<Value> =
        cluster.nodes("gcp").iter().map(|node| cluster.status(node).unwrap()["role"].clone()).collect();
    assert_eq!(roles.iter().filter(|role| **role == "leader").count(), 1, "{roles:?}");
    let url = format!("{}/v1/tenants/default/events?wait=final&timeoutMs=2000", cluster.leader_url("gcp"));
    let receipt = cluster.api().post(&url).json(&cluster.author().plain("alone", &json!({}))).send().ok();
    assert_eq!((&receipt["level"], &receipt["new"]), (&json!("PENDING"), &json!(true)), "{receipt}");
    let event = cluster.event("gcp", "alone").unwrap();
    assert_eq!(event["votes"].as_array().unwrap().len(), 1, "{event}");
    let certificate = cluster.cli().run(&["event", "certificate", "alone", "--cloud", "gcp"]);
    assert_ne!(certificate.code, 0, "there is no certificate of a PENDING event");
    assert!(cluster.stop().success());
}

#[test]
fn nine_nodes_are_three_clouds_with_a_leader_each() {
    let cluster = Cluster::large();
    eprintln!("nine nodes, from start to the first SEALED event: {:.1} s", cluster.took.as_secs_f64());
    let status = cluster.cli().json(&["status"]);
    for cloud in status["clouds"].as_array().unwrap() {
        assert_eq!(cloud["ready"], true, "{cloud}");
        assert!(cloud["epoch"].is_string() && cloud["root"].is_string() && cloud["size"].is_u64(), "{cloud}");
        let nodes = cloud["nodes"].as_array().unwrap();
        let roles: Vec<&str> = nodes.iter().map(|node| node["role"].as_str().unwrap()).collect();
        assert_eq!((roles.len(), roles.iter().filter(|role| **role == "leader").count()), (3, 1), "{cloud}");
        for node in nodes {
            assert!(node["pid"].is_u64() && node["applied"].is_u64() && node["address"].is_string(), "{node}");
        }
    }
    let submitted = cluster.cli().json(&["event", "submit", "--id", "nine", "--payload", "1", "--wait", "sealed"]);
    assert_eq!(submitted["level"], "SEALED");
    // A follower takes a submission too, and hands it on.
    let leader = cluster.leader("aws");
    let follower = cluster.nodes("aws").into_iter().find(|node| *node != leader).unwrap();
    let url = format!("{}/v1/tenants/default/events?wait=final&timeoutMs=10000", cluster.url(&follower));
    let receipt = cluster.api().post(&url).json(&cluster.author().plain("at-a-follower", &json!({}))).send().ok();
    assert!(receipt["level"] == "FINAL" || receipt["level"] == "SEALED", "{receipt}");
}

#[test]
fn up_stops_everything_it_started() {
    let mut cluster = Cluster::small();
    let pids = process::pids_of(&cluster.data_dir());
    assert!(pids.len() >= 4, "up and three nodes: {pids:?}");
    let begun = Instant::now();
    assert!(cluster.stop().success());
    eprintln!("stopped in {:?}", begun.elapsed());
    assert!(pids.iter().all(|pid| !process::is_alive(*pid)));
}
