//! Roles with the real command line: one holder at a time, whatever is killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::time::{Duration, Instant};
use tercet_tests::wait::check;
use tercet_tests::{Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(60);

fn show(cluster: &Cluster) -> Value {
    cluster.cli().json(&["role", "show", "primary"])
}

fn wait_for_holder(cluster: &Cluster, holder: &str) -> Value {
    let mut shown = Value::Null;
    eventually(&format!("{holder} holds the role"), LIMIT, || {
        shown = show(cluster);
        check(shown["holderIdentity"] == holder, || shown.to_string())
    });
    shown
}

fn tokens(cluster: &Cluster) -> Vec<u64> {
    let history = cluster.cli().json(&["role", "history", "primary", "--limit", "1000"]);
    let changes = history["changes"].as_array().expect("a list").iter().rev();
    assert!(!history.to_string().contains("split-brain"), "{history}");
    changes.filter_map(|change| change["what"]["acquired"]["token"].as_u64()).collect()
}

#[test]
fn the_history_names_who_asked_when_and_why() {
    let cluster = Cluster::small();
    let cli = cluster.cli();
    cli.json(&["role", "create", "primary", "--by", "alice"]);
    cli.json(&["role", "freeze", "primary", "--by", "bob", "--why", "database upgrade"]);
    cli.json(&["role", "thaw", "primary"]);
    cli.run(&["role", "run", "primary", "--candidate", "ada", "--", "true"]).ok();
    for cloud in ["aws", "azure", "gcp"] {
        let history = cli.json(&["role", "history", "primary", "--cloud", cloud]);
        let changes = history["changes"].as_array().expect("a list");
        let told: Vec<_> = changes.iter().rev().map(|change| (&change["by"], &change["why"])).collect();
        assert_eq!(told[0], (&"alice".into(), &Value::Null));
        assert_eq!(told[1], (&"bob".into(), &"database upgrade".into()));
        assert!(told[2].0.as_str().is_some_and(|by| by.contains('@')), "USER@HOST unless named: {history}");
        assert!(told[3..].iter().all(|(by, _)| **by == "ada"), "{history}");
        let times: Vec<u64> = changes.iter().map(|change| change["time"].as_u64().expect("milliseconds")).collect();
        assert!(
            times.is_sorted_by(|later, earlier| later >= earlier) && times.iter().all(|time| *time > 0),
            "{history}"
        );
    }
    let text = cli.run(&["role", "history", "primary"]).text();
    assert!(text.contains("bob") && text.contains("database upgrade"), "{text}");
    let refused = cli.run(&["role", "freeze", "primary", "--why", "two\nlines"]).expect(2);
    assert!(refused.stderr.contains("without control characters"), "{}", refused.stderr);
}

#[test]
fn a_killed_holder_is_replaced_and_its_command_ends_with_it() {
    let cluster = Cluster::small();
    let cli = cluster.cli();
    cli.json(&["role", "create", "primary", "--scope", "global", "--lease", "2s"]);
    let pids = cluster.scratch().join("pids");
    // The command leaves a child behind in a session of its own, and does not heed SIGTERM.
    let script = format!(
        "trap '' TERM; setsid sleep 600 & echo $TERCET_HOLDER $$ $TERCET_FENCING_TOKEN $! >> {}; sleep 600; exec sleep 600",
        pids.display()
    );
    let run = |who: &str| cli.start(&["role", "run", "primary", "--candidate", who, "--", "sh", "-c", &script]);
    let first = run("ada");
    wait_for_holder(&cluster, "ada");
    let mut second = run("bob");
    let refused = cli.run(&["guard", "primary", "--candidate", "bob", "--", "true"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("not-leader: ada holds primary"), "{}", refused.stderr);
    cli.run(&["guard", "primary", "--candidate", "ada", "--", "true"]).ok();

    let killed = Instant::now();
    kill(Pid::from_raw(first.pid()), Signal::SIGKILL).unwrap();
    wait_for_holder(&cluster, "bob");
    eprintln!("taken over {:.2} s after the kill, with a lease of 2 s", killed.elapsed().as_secs_f64());
    eventually("a cloud was shown who holds the role now", LIMIT, || {
        let shown = show(&cluster);
        check(shown["leaseTransitions"] == 1, || shown.to_string())
    });
    let lines = eventually("both commands have started", LIMIT, || {
        let lines = std::fs::read_to_string(&pids).map_err(|error| error.to_string())?;
        check(lines.lines().count() == 2, || lines.clone()).map(|()| lines)
    });
    let started: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(started.iter().map(|line| line[0]).collect::<Vec<_>>(), ["ada", "bob"]);
    let runs = |line: &[&str]| [1, 3].map(|at| kill(Pid::from_raw(line[at].parse().unwrap()), None).is_ok());
    assert_eq!(runs(&started[0]), [false, false], "the command of the killed holder still runs");
    assert_eq!(runs(&started[1]), [true, true]);
    assert!(started[1][2].parse::<u64>().unwrap() > started[0][2].parse::<u64>().unwrap());

    // The command ends in time also if the one that watches the role is only stopped.
    let third = run("eve");
    kill(Pid::from_raw(second.pid()), Signal::SIGSTOP).unwrap();
    wait_for_holder(&cluster, "eve");
    assert_eq!(runs(&started[1]), [false, false], "the command of the stopped holder still runs");
    kill(Pid::from_raw(second.pid()), Signal::SIGCONT).unwrap();
    eventually("the stopped one knows that it lost the role", LIMIT, || {
        check(second.output().contains("is lost"), || second.output())
    });
    assert!(second.stop().success(), "{}", second.output());
    drop(third);
    let tokens = tokens(&cluster);
    assert!(tokens.len() == 3 && tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
}

#[test]
fn a_grant_is_verified_offline_and_a_changed_one_is_not() {
    let cluster = Cluster::small();
    let cli = cluster.cli();
    cli.json(&["role", "create", "primary", "--lease", "2s"]);
    let ran = cli.run(&["role", "run", "primary", "--candidate", "ada", "--", "sh", "-c", "echo $TERCET_GRANT"]).ok();
    let grant = String::from_utf8(ran.stdout).unwrap().trim().to_owned();
    let trust = cluster.data_dir().join("trust.json");
    let offline = tercet_tests::Cli::offline();
    let verify =
        |grant: &str| offline.run(&["lease", "verify", grant, "--trust", trust.to_str().unwrap(), "-o", "json"]);
    let said = verify(&grant).ok().json();
    assert_eq!((&said["holder"], &said["lease"]), (&"ada".into(), &"primary".into()));
    assert!(said["clouds"].as_array().unwrap().len() >= 2, "{said}");
    let swapped = grant.replacen(&grant[40..41], if &grant[40..41] == "A" { "B" } else { "A" }, 1);
    let refused = verify(&swapped);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("REFUSED"), "{}", refused.stderr);
}

/// Nobody else holds the role for two leases.
fn stays(cluster: &Cluster, before: &Value) {
    let until = Instant::now() + Duration::from_secs(8);
    eventually("two leases have passed", LIMIT, || {
        let shown = show(cluster);
        let held = !shown["holderIdentity"].is_null();
        assert!(!held || shown["fencingToken"] == before["fencingToken"], "{shown}");
        check(Instant::now() > until, || "too early".into())
    });
}

#[test]
fn a_role_is_kept_while_a_cloud_and_leaders_are_killed() {
    let mut cluster = Cluster::large();
    let cli = cluster.cli();
    cli.json(&["role", "create", "primary", "--scope", "global", "--lease", "4s"]);
    let holder = cli.start(&["role", "run", "primary", "--candidate", "ada", "--once", "--", "sleep", "600"]);
    let before = wait_for_holder(&cluster, "ada");
    // One after the other: without two of three clouds that vote there is no lease.
    let leader = cluster.leader("aws");
    cluster.kill(&leader);
    stays(&cluster, &before);
    assert_ne!(cluster.leader("aws"), leader);
    cluster.kill_cloud("azure");
    stays(&cluster, &before);
    wait_for_holder(&cluster, "ada");
    assert_eq!(tokens(&cluster).len(), 1, "{}", holder.output());
}

#[test]
fn a_handover_to_an_agent_that_died_leaves_the_role_where_it_is() {
    let cluster = Cluster::small();
    let cli = cluster.cli();
    cli.json(&["role", "create", "primary", "--lease", "2s"]);
    let start = |who: &str| {
        cli.json(&["agent", "create", who]);
        let config = cluster.scratch().join(format!("{who}.toml"));
        let text =
            format!("id = {who:?}\nstate_dir = \"{who}\"\nreport_every = \"500ms\"\n[[role]]\nname = \"primary\"\n");
        std::fs::write(&config, text).unwrap();
        cli.start(&["agent", "run", config.to_str().unwrap()])
    };
    let ready = || {
        eventually("the successor is ready", LIMIT, || {
            let listed = cli.json(&["agent", "list"]);
            let heard = listed["agents"][1]["heardMsAgo"].as_u64().is_some_and(|ago| ago < 1_000);
            check(heard && listed["agents"][1]["standing"][0]["ready"] == true, || listed.to_string())
        });
    };
    let _first = start("web-1");
    wait_for_holder(&cluster, "web-1");
    let second = start("web-2");
    ready();
    kill(Pid::from_raw(second.pid()), Signal::SIGKILL).unwrap();
    drop(second);
    // What it said last is that it is ready.
    let planned = cli.run(&["role", "handover", "primary", "--to", "web-2", "--timeout", "5s"]);
    assert_eq!(planned.code, 6, "{}", planned.stderr);
    assert!(planned.stderr.contains("the wish is taken back"), "{}", planned.stderr);
    assert_eq!(show(&cluster)["preferredHolder"], Value::Null);
    wait_for_holder(&cluster, "web-1");
    assert_eq!(tokens(&cluster).len(), 1, "the role was given up for nobody");
    let _second = start("web-2");
    ready();
    cli.json(&["role", "handover", "primary", "--to", "web-2"]);
    wait_for_holder(&cluster, "web-2");
}
