//! A report stays small, tells everything it should, and runs nothing that a history smuggles in.

use super::*;
use crate::history::Seen;

const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];

fn history(events: u64, faults: u64) -> Vec<Record> {
    let nodes: Vec<String> = CLOUDS.iter().flat_map(|cloud| (1..=3).map(move |n| format!("{cloud}-{n}"))).collect();
    let mut all = vec![What::Run {
        layer: "sim".into(),
        seed: 42,
        clouds: CLOUDS.map(String::from).to_vec(),
        nodes: nodes.clone(),
        liars: vec!["gcp".into()],
        version: "0.1.0".into(),
    }];
    for number in 0..events.max(faults) {
        let cloud = CLOUDS[number as usize % 2].to_owned();
        let (id, content) = (format!("c0-{number}"), "c".repeat(64));
        if number < faults {
            let on = vec![nodes[number as usize % 9].clone()];
            all.push(What::FaultBegan { number, fault: "kill <b>".into(), on, detail: "with \"care\"".into() });
            all.push(What::FaultProven { number, how: "gone".into() });
            all.push(What::Led { cloud: cloud.clone(), node: format!("{cloud}-1"), term: number, process: number });
            all.push(What::Lied { cloud: "gcp".into(), lie: "fork".into(), detectable: true });
        }
        if number < events {
            let level = ["PENDING", "FINAL", "SEALED", "QUARANTINED"][number as usize % 4].into();
            let seen = Seen { level, review: false, conflict: false, content: Some(content.clone()) };
            all.push(What::Invoked { client: 0, cloud: cloud.clone(), id: id.clone(), content: content.clone() });
            all.push(match number % 9 {
                8 => What::Unknown { client: 0, cloud: cloud.clone(), id: id.clone(), why: "timeout".into() },
                _ => What::Acknowledged {
                    client: 0,
                    cloud: cloud.clone(),
                    id: id.clone(),
                    content,
                    new: true,
                    repeated: false,
                },
            });
            all.push(What::Observed { cloud, id, seen });
        }
        if number < faults {
            all.push(What::FaultEnded { number });
        }
    }
    all.push(What::Healed { took_ms: 3, within_ms: 9, complete: true, missing: None });
    let record = |(at, what)| Record { time_ns: at as u64 * 2_000_000 + at as u64 % 7, what };
    all.into_iter().enumerate().map(record).collect()
}

fn meta() -> Meta {
    let command = ["cargo", "run", "--", "sim", "--seed", "42", "it's; rm -rf $HOME"].map(String::from).to_vec();
    Meta { command, versions: vec![("rustc".into(), "1.95 <x>".into())] }
}

fn judged() -> Vec<Judged> {
    let verdict = Verdict::Broken("<script>alert(1)</script>".into());
    vec![Judged { invariant: "nothing is lost", verdict }, Judged { invariant: "all is well", verdict: Verdict::Holds }]
}

#[test]
fn a_long_history_makes_a_page_within_the_bound() {
    let page = page(&history(60_000, 3_000), &judged(), &meta());
    assert!(page.len() < MAX_BYTES, "{} bytes", page.len());
    assert!(page.contains("2500 more are in the history"));
    assert!(page.contains("Thinned out"));
}

#[test]
fn a_page_tells_all_and_loads_and_runs_nothing() {
    let page = page(&history(300, 4), &judged(), &meta());
    for told in ["sim run, seed 42", "Broken", "nothing is lost", "kill &lt;b&gt;", "gone", "fork", "rustc", "azure-3"]
    {
        assert!(page.contains(told), "{told} is missing");
    }
    for never in ["<script", "kill <b>", "http://", "https://", "@import", "url(", "src="] {
        assert!(!page.contains(never), "{never} is there");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("NaN") && !page.contains("inf"), "a number is none");
}

#[test]
fn histories_that_tell_nothing_have_a_page_too() {
    assert!(page(&[], &judged(), &meta()).contains("No run"));
    assert!(page(&history(0, 0), &[], &meta()).contains("Unknown"));
}

#[test]
fn repro_is_executable_and_passes_its_words_unchanged() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut meta = meta();
    meta.command[0] = "echo".into();
    write(folder.path(), &history(10, 1), &judged(), &meta).unwrap();
    let script = folder.path().join("repro.sh");
    assert_eq!(std::fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
    let output = std::process::Command::new("sh").arg(&script).arg("--trace").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, "run -- sim --seed 42 it's; rm -rf $HOME --trace\n");
    let text = std::fs::read_to_string(script).unwrap();
    assert!(text.contains("# layer sim, seed 42, version 0.1.0"), "{text}");
    assert!(folder.path().join("report.html").exists());
}
