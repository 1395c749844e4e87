//! The commands that judge a history which exists: what they print, write and answer.

use jepsen::history::{self, Record, Seen, What};
use std::path::Path;
use std::process::{Command, Output};

const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];

/// The shortest history that passes: thirty events, a fault, all of them SEALED, a lease that was held.
fn good() -> Vec<What> {
    let clouds = CLOUDS.map(String::from).to_vec();
    let nodes = CLOUDS.map(|cloud| format!("{cloud}-1")).to_vec();
    let (layer, version) = (String::from("sim"), String::from("0"));
    let mut all = vec![What::Run { layer, seed: 11, clouds, nodes, liars: vec![], version }];
    all.push(What::FaultBegan { number: 1, fault: "kill".into(), on: vec!["aws-1".into()], detail: String::new() });
    all.push(What::FaultProven { number: 1, how: "gone".into() });
    all.push(What::FaultEnded { number: 1 });
    let mut listed = Vec::new();
    for number in 0..30 {
        let (id, content) = (format!("c0-{number}"), format!("h{number}"));
        let cloud = CLOUDS[number % 3].to_owned();
        let seen = Seen { level: "SEALED".into(), review: false, conflict: false, content: Some(content.clone()) };
        let (at, of, with) = (cloud.clone(), id.clone(), content.clone());
        all.push(What::Invoked { client: 0, cloud: at.clone(), id: of.clone(), content: with.clone() });
        all.push(What::Acknowledged { client: 0, cloud: at, id: of, content: with, new: true, repeated: false });
        all.push(What::Observed { cloud, id: id.clone(), seen: seen.clone() });
        listed.extend(CLOUDS.map(|cloud| What::Listed { cloud: cloud.into(), id: id.clone(), seen: seen.clone() }));
    }
    let (lease, session) = (String::from("primary"), String::from("s1"));
    all.push(What::Granted { lease: lease.clone(), session: session.clone(), token: 1, until_ns: 1_000_000_000 });
    all.push(What::Wrote { lease, session, token: 1, accepted: true, why: None });
    all.push(What::Healed { took_ms: 1, within_ms: 2, complete: true, missing: None });
    all.append(&mut listed);
    for by in CLOUDS {
        all.extend(CLOUDS.map(|of| What::Head { by: by.into(), of: of.into(), size: 30, root: "r".into() }));
        let (cloud, id, level) = (by.to_owned(), "c0-1".to_owned(), "SEALED".to_owned());
        all.push(What::Certified { cloud, id, level, content: Some("h1".into()), valid: true, why: None });
    }
    all
}

fn save(whats: Vec<What>, path: &Path) {
    let record = |(at, what)| Record { time_ns: at as u64 * 1_000_000, what };
    history::save(&whats.into_iter().enumerate().map(record).collect::<Vec<_>>(), path).unwrap();
}

fn jepsen(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jepsen")).args(arguments).current_dir(folder).output().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn check_prints_verdicts_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    save(good(), &folder.path().join("history.jsonl"));
    let before = files(folder.path());
    let output = jepsen(&["check", "history.jsonl"], folder.path());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("  holds ")).count(), jepsen::checker::INVARIANTS.len());
    let output = jepsen(&["check", "history.jsonl", "-o", "json"], folder.path());
    let verdicts: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "holds"), "{verdicts:?}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn check_fails_when_an_invariant_is_broken_or_the_file_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = good();
    history.retain(|what| !matches!(what, What::Listed { cloud, id, .. } if cloud == "gcp" && id == "c0-3"));
    save(history, &folder.path().join("history.jsonl"));
    let output = jepsen(&["check", "history.jsonl"], folder.path());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("c0-3 was acknowledged by aws"), "{told}");
    let output = jepsen(&["check", "none.jsonl"], folder.path());
    assert_eq!(output.status.code(), Some(2), "it could not judge at all");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read none.jsonl"));
}

#[test]
fn report_writes_a_page_and_the_command_to_repeat_the_run() {
    let folder = tempfile::tempdir().unwrap();
    save(good(), &folder.path().join("history.jsonl"));
    let output = jepsen(&["report", "history.jsonl", "--out", "report"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files(&folder.path().join("report")), ["report.html", "repro.sh"]);
    let script = std::fs::read_to_string(folder.path().join("report/repro.sh")).unwrap();
    assert!(script.contains("jepsen -- replay --seed 11"), "{script}");
    let longer = ["report", "history.jsonl", "--out", "report", "--", "jepsen", "replay", "--sim-time", "30s"];
    assert!(jepsen(&longer, folder.path()).status.success());
    let script = std::fs::read_to_string(folder.path().join("report/repro.sh")).unwrap();
    assert!(script.contains("exec jepsen replay --sim-time 30s"), "{script}");
}

#[test]
fn report_tells_programs_where_the_page_is() {
    let folder = tempfile::tempdir().unwrap();
    save(good(), &folder.path().join("history.jsonl"));
    let output = jepsen(&["report", "history.jsonl", "--out", "report", "-o", "json"], folder.path());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["report"], &told["repro"]), (&"report/report.html".into(), &"report/repro.sh".into()));
}

#[test]
fn what_can_be_chosen_is_listed_for_programs_too() {
    let folder = tempfile::tempdir().unwrap();
    for (command, name) in [("model", "lost-state"), ("real", "kill-leader")] {
        let output = jepsen(&[command, "--list", "-o", "json"], folder.path());
        let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(all.iter().any(|one| one["name"] == name && one["about"].is_string()), "{command}: {all:?}");
    }
}

#[test]
fn every_command_shows_examples_or_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["check", "doctor", "model", "mutants", "real", "replay", "report", "sim"] {
        let output = jepsen(&[command, "--help"], folder.path());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}");
        assert!(help.contains("Examples") || help.contains("--features mutants"), "{command}: {help}");
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("used")).unwrap();
    std::fs::write(folder.path().join("used/history.jsonl"), "").unwrap();
    for (arguments, hint) in [
        (&["sim", "--out", "/proc/nope"][..], "another folder with --out"),
        (&["sim", "--seeds", "random:0"], "random:50"),
        (&["sim", "--threads", "0"], "give 1 or more"),
        (&["model", "--threads", "0"], "give 1 or more"),
        (&["replay", "--seed", "1", "--out", "/proc/nope"], "another folder with --out"),
        (&["real", "--nemesis", "nope"], "no nemesis is called nope"),
        (&["real", "--out", "used"], "used is not empty"),
    ] {
        let output = jepsen(arguments, folder.path());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(hint), "{arguments:?}: {told}");
    }
    assert_eq!(files(folder.path()), ["used"]);
}

#[test]
fn programs_that_are_not_where_they_should_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut real = Command::new(env!("CARGO_BIN_EXE_jepsen"));
    real.args(["real", "--nemesis", "kill-leader"]).current_dir(folder.path()).env("TERCET_PROGRAMS", folder.path());
    let output = real.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && told.contains("no tercetd is there"), "{told}");
    assert!(files(folder.path()).is_empty());
}
