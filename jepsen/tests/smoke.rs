//! One honest smoke run: a leader dies, a cloud dies, and no acknowledged event is lost.

use jepsen::history::{self, What};
use jepsen::smoke::{Options, run};
use std::time::Duration;

#[test]
fn nothing_acknowledged_is_lost_when_a_leader_and_a_cloud_die() {
    let report = run(Options { seed: 1, time: Duration::from_secs(12) }).unwrap();
    let file = std::env::temp_dir().join(format!("tercet-smoke-{}.jsonl", std::process::id()));
    history::save(&report.history, &file).unwrap();
    assert_eq!(history::load(&file).unwrap(), report.history, "a history can be checked again later");
    let unknown = report.history.iter().filter(|record| matches!(record.what, What::Unknown { .. })).count();
    eprintln!("{} records, {unknown} unknown outcomes", report.history.len());
    assert!(report.broken.is_empty(), "{:#?}\nhistory: {}", report.broken, file.display());
    std::fs::remove_file(file).unwrap();
}
