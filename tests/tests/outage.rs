//! Outages under load: a leader dies, a whole cloud dies, two clouds die; nothing is lost, nothing
//! becomes FINAL that should not, and everything heals without an operator.

use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};
use tercet_tests::events::lines;
use tercet_tests::process;
use tercet_tests::wait::check;
use tercet_tests::{CLOUDS, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: usize = 3000;

fn count(cluster: &Cluster, cloud: &str, name: &str) -> Result<u64, String> {
    cluster.status(&cluster.leader(cloud))?["counts"][name].as_u64().ok_or_else(|| format!("no count of {name}"))
}

fn wait_for_events(cluster: &Cluster, cloud: &str, at_least: u64) {
    eventually(&format!("{cloud} has {at_least} events"), LIMIT, || {
        let events = count(cluster, cloud, "events")?;
        check(events >= at_least, || events.to_string())
    });
}

#[test]
fn an_import_outlives_a_leader_and_a_cloud_and_is_sealed_when_the_cloud_returns() {
    let mut cluster = Cluster::large();
    let file = cluster.scratch().join("events.ndjson");
    let events = lines(EVENTS);
    std::fs::write(&file, events.join("\n")).unwrap();
    let arguments = ["event", "import", file.to_str().unwrap(), "--wait", "final", "--batch", "32", "-o", "json"];
    let begun = Instant::now();
    let mut import = cluster.cli().start(&arguments);

    wait_for_events(&cluster, "gcp", 200);
    let leader = cluster.leader("aws");
    cluster.kill(&leader);
    let after_kill = count(&cluster, "gcp", "events").unwrap();
    wait_for_events(&cluster, "gcp", after_kill + 200);
    assert_ne!(cluster.leader("aws"), leader, "another node leads now");
    assert!(import.has_ended().is_none(), "the leader was killed during the import");
    cluster.kill_cloud("azure");
    assert!(import.has_ended().is_none(), "the cloud was killed during the import: {}", import.output());
    eprintln!("leader killed at {after_kill} events, cloud at {} events", count(&cluster, "gcp", "events").unwrap());

    let status = import.wait(Duration::from_secs(120));
    eprintln!("imported in {:.1} s:\n{}", begun.elapsed().as_secs_f64(), import.output());
    assert!(status.success(), "{}", import.output());
    let total = events.len();
    for member in ["total", "final"] {
        assert!(import.output().contains(&format!("\"{member}\": {total}")), "{}", import.output());
    }
    assert!(import.output().contains("\"failed\": 0"), "{}", import.output());

    let receipt = cluster.submit("gcp", "during-the-outage", &json!({})).ok();
    assert_eq!(receipt["level"], "PENDING");
    for cloud in ["aws", "gcp"] {
        let url = format!("{}/v1/tenants/default/events/during-the-outage", cluster.leader_url(cloud));
        let event = cluster.api().get(&format!("{url}?wait=sealed&timeoutMs=2000")).send().ok();
        assert_eq!(event["level"], "FINAL", "not SEALED without the third cloud: {event}");
    }
    let returned = Instant::now();
    cluster.run_cloud("azure");
    for cloud in CLOUDS {
        cluster.wait_level(cloud, "during-the-outage", "SEALED", LIMIT);
        eventually(&format!("everything is SEALED at {cloud}"), LIMIT, || {
            let (events, sealed) = (count(&cluster, cloud, "events")?, count(&cluster, cloud, "sealed")?);
            check(events == sealed && events > total as u64, || format!("{sealed} of {events}"))
        });
    }
    eprintln!("all SEALED {:.1} s after the cloud's return", returned.elapsed().as_secs_f64());
    cluster.run(&leader);
    cluster.equal_heads(LIMIT);
}

#[test]
fn with_two_clouds_down_events_stay_pending_until_one_returns() {
    let mut cluster = Cluster::small();
    cluster.submit("gcp", "before", &json!({})).ok();
    cluster.wait_level("gcp", "before", "SEALED", LIMIT);
    cluster.kill_cloud("aws");
    cluster.kill_cloud("azure");

    let events = format!("{}/v1/tenants/default/events", cluster.leader_url("gcp"));
    let alone = format!("{events}?wait=final&timeoutMs=3000");
    let receipt = cluster.api().post(&alone).json(&cluster.author().plain("alone", &json!({}))).send().ok();
    assert_eq!(receipt["level"], "PENDING", "no false FINAL: {receipt}");
    cluster.api().get(&format!("{events}/alone/certificate")).send().problem(409, "not_final");
    let old = cluster.event("gcp", "before").unwrap();
    assert_eq!(old["level"], "SEALED", "what was SEALED stays so: {old}");

    // The restarted cloud lost nothing, though it was killed.
    cluster.run_cloud("aws");
    for cloud in ["gcp", "aws"] {
        cluster.wait_level(cloud, "alone", "FINAL", LIMIT);
    }
    assert_eq!(cluster.event("aws", "before").unwrap()["level"], "SEALED");
    cluster.run_cloud("azure");
    for cloud in CLOUDS {
        cluster.wait_level(cloud, "alone", "SEALED", LIMIT);
    }
    cluster.equal_heads(LIMIT);
}

#[test]
fn a_leader_that_hangs_is_replaced_and_does_no_harm_when_it_wakes() {
    let mut cluster = Cluster::large();
    cluster.submit("aws", "before", &json!({})).ok();
    cluster.wait_level("aws", "before", "SEALED", LIMIT);
    let hung = cluster.leader("aws");
    let pid = cluster.pause(&hung);
    let others: Vec<String> = cluster.nodes("aws").into_iter().filter(|node| *node != hung).collect();
    let next = eventually("another node leads", LIMIT, || {
        let leads = |node: &&String| cluster.status(node).is_ok_and(|status| status["role"] == "leader");
        others.iter().find(leads).cloned().ok_or_else(|| "nobody leads".to_owned())
    });
    let event = cluster.author().plain("while-it-hangs", &json!({}));
    let url = format!("{}/v1/tenants/default/events?wait=sealed&timeoutMs=20000", cluster.url(&next));
    let receipt = cluster.api().post(&url).json(&event).send().ok();
    assert_eq!(receipt["level"], "SEALED", "the other two nodes sign for their cloud: {receipt}");

    process::signal(pid, Signal::SIGCONT);
    eventually("the old leader follows", LIMIT, || {
        let status = cluster.status(&hung)?;
        check(status["role"] == "follower" && status["leader"] == next.as_str(), || status.to_string())
    });
    let url = format!("{}/v1/tenants/default/events?wait=sealed&timeoutMs=20000", cluster.url(&hung));
    let event = cluster.author().plain("after-it-woke", &json!({}));
    assert_eq!(cluster.api().post(&url).json(&event).send().ok()["level"], "SEALED");
    cluster.equal_heads(LIMIT);
    let status = cluster.cli().json(&["status"]);
    assert!(status["clouds"].as_array().unwrap().iter().all(|cloud| cloud["flagged"] == false), "{status}");
    assert!(cluster.stop().success());
}
