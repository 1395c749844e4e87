//! `tercetd up` and `tercetd run`: starting, refusing, restarting, bringing back.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};
use tercet_tests::process::{self, Process};
use tercet_tests::wait::check;
use tercet_tests::{CLOUDS, Cluster, eventually, programs, slots};

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
fn a_wrong_configuration_is_refused_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let example = include_str!("../../cluster.toml");
    let wrong = [
        ("an unknown key", example.replacen("quorum = 2", "quorum = 2\ncolour = \"red\"", 1), "colour"),
        ("no TOML", example.replacen("[federation]", "[federation", 1), "cluster.toml"),
        ("a doubled node", example.replacen("\"aws-2\"", "\"aws-1\"", 1), "aws-1"),
        ("a doubled cloud", example.replacen("name = \"azure\"", "name = \"aws\"", 1), "aws"),
        ("ambiguous weights", example.replacen("quorum = 2", "quorum = 1", 1), "quorum"),
        (
            "a dictator",
            example.replacen("weight = 1", "weight = 3", 1).replacen("quorum = 2", "quorum = 3", 1),
            "alone",
        ),
        ("a weight of zero", example.replacen("weight = 1", "weight = 0", 1), "weight"),
        ("a bad name", example.replacen("name = \"aws\"", "name = \"AWS\"", 1), "AWS"),
        ("an unknown engine", format!("{example}\n").replace("engine = \"fjall\"", "engine = \"paper\""), "paper"),
    ];
    for (what, text, says) in wrong {
        eprintln!("{what}");
        assert_ne!(text, example, "{what}: the example does not hold what is replaced");
        let config = folder.path().join("cluster.toml");
        std::fs::write(&config, text).unwrap();
        let data = folder.path().join("data");
        let mut command = Command::new(programs::tercetd());
        command.arg("up").arg("--config").arg(&config).arg("--data-dir").arg(&data);
        let mut up = Process::start(command);
        assert!(!up.wait(LIMIT).success(), "{what}: {}", up.output());
        assert!(up.output().contains(says), "{what}: {says:?} is not in {:?}", up.output());
        assert!(!data.exists(), "{what}: {} was created", data.display());
    }
}

/// A node that must not start: how it ends, and that it says why.
fn refused(cluster: &Cluster, node: &str, says: &str) {
    let mut command = Command::new(programs::tercetd());
    command.arg("run").arg("--config").arg(cluster.data_dir().join("cluster.toml")).args(["--node", node]);
    let mut run = Process::start(command);
    assert!(!run.wait(LIMIT).success(), "{}", run.output());
    assert!(run.output().contains(says), "{says:?} is not in {:?}", run.output());
}

#[test]
fn a_node_with_a_wrong_folder_key_or_port_does_not_start() {
    let mut cluster = Cluster::small();
    refused(&cluster, "gcp-7", "gcp-7");
    refused(&cluster, "gcp-1", "gcp-1");
    cluster.kill("aws-1");
    let nodes = cluster.data_dir().join("nodes");
    let (own, other) = (nodes.join("aws-1"), nodes.join("azure-1"));
    let with = |file: &str, bytes: &[u8], mode: u32, says: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = own.join(file);
        let genuine = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        refused(&cluster, "aws-1", says);
        std::fs::write(&path, genuine).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let foreign = |file: &str| std::fs::read(other.join(file)).unwrap();
    with("node.json", &foreign("node.json"), 0o600, "azure-1");
    with("signing.key", &foreign("signing.key"), 0o600, "signing.key");
    with("signing.key", b"nonsense", 0o600, "signing.key");
    let genuine = std::fs::read(own.join("signing.key")).unwrap();
    with("signing.key", &genuine, 0o644, "signing.key");
    with("peer.pem", b"", 0o600, "peer.pem");
    // The peer port is taken by somebody else.
    let config: toml::Table =
        std::fs::read_to_string(cluster.data_dir().join("cluster.toml")).unwrap().parse().unwrap();
    let aws = config["clouds"].as_array().unwrap().iter().find(|cloud| cloud["name"].as_str() == Some("aws")).unwrap();
    let address = aws["nodes"][0]["peer_addr"].as_str().unwrap().to_owned();
    let taken = std::net::TcpListener::bind(&address).unwrap();
    refused(&cluster, "aws-1", address.rsplit(':').next().unwrap());
    drop(taken);
    cluster.run("aws-1");
    cluster.submit("aws", "after-the-refusals", &json!({})).ok();
    cluster.wait_level("azure", "after-the-refusals", "SEALED", LIMIT);
}

#[test]
fn with_restart_a_killed_node_comes_back_by_itself() {
    let mut cluster = Cluster::prepared(slots::small(), &["--nodes-per-cloud", "1", "--restart"]);
    cluster.start();
    let before = cluster.pid("gcp-1");
    process::signal(before, nix::sys::signal::Signal::SIGKILL);
    let after = eventually("gcp-1 is back", LIMIT, || {
        let pid = cluster.status("gcp-1")?["pid"].as_i64().unwrap_or_default() as i32;
        check(pid != 0 && pid != before, || format!("pid {pid}"))?;
        Ok(pid)
    });
    assert!(process::is_alive(after));
    cluster.submit("gcp", "after-the-restart", &json!({})).ok();
    cluster.wait_level("gcp", "after-the-restart", "SEALED", LIMIT);
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
            assert_eq!(node["heardMsAgo"].is_u64(), node["role"] == "follower", "{cloud}");
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
