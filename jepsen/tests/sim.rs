//! The simulation as its users call it.

use serde_json::Value;
use std::process::Command;

fn jepsen(args: &[&str]) -> (bool, String, String) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let output = Command::new(env!("CARGO_BIN_EXE_jepsen")).args(args).current_dir(folder.path()).output();
    let output = output.expect("the program of this package runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn seeds_hold_every_invariant_and_run_twice_alike() {
    let (good, told, errors) = jepsen(&["sim", "--seeds", "0..2", "--sim-time", "4m", "--twice", "-o", "json"]);
    eprintln!("{errors}");
    assert!(good, "{told}\n{errors}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["seeds"], 2);
    assert!(told["acknowledged"].as_u64() > Some(20), "{told}");
}

#[test]
fn a_replay_tells_its_story_and_keeps_history_and_report() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let out = folder.path().join("kept");
    let out = out.to_str().expect("a path of letters");
    let (good, story, errors) = jepsen(&["replay", "--seed", "5", "--sim-time", "1m", "--trace", "--out", out]);
    assert!(good, "{errors}");
    for told in ["gcp-1 starts", "leads in term", "fault 0", "everything is healed"] {
        assert!(story.contains(told), "no {told:?} in the trace:\n{story}");
    }
    for file in ["history.jsonl", "history.edn", "report.html", "repro.sh"] {
        assert!(folder.path().join("kept").join(file).exists(), "no {file}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_an_example() {
    for (args, hint) in [
        (["sim", "--seeds", "5..5"], "0..200"),
        (["sim", "--sim-time", "10d"], "10m"),
        (["replay", "--seed", "x"], "invalid"),
    ] {
        let (good, _, errors) = jepsen(&args);
        assert!(!good && errors.contains(hint), "{args:?}: {errors}");
    }
}
