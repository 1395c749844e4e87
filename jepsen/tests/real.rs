//! A short run with real processes: a leader dies, a cloud stands still, a leader is cut off, and power
//! fails everywhere, while clients go on. What this machine cannot do is skipped, and said so.

use jepsen::history::What;
use jepsen::real::{Options, Progress, run};
use std::sync::Arc;
use std::time::Duration;
use tercet_tests::slots;

const NEMESES: [&str; 4] = ["kill-leader", "pause-cloud", "isolate-leader", "power-cut-all"];
/// These need neither root nor anything of the system.
const ALWAYS: [&str; 2] = ["kill-leader", "pause-cloud"];

#[test]
fn nothing_acknowledged_is_lost_when_leaders_die_links_break_and_power_fails() {
    let _slot = slots::large();
    let folder = tempfile::Builder::new().prefix("tercet-real-").tempdir().unwrap();
    let nemeses = NEMESES.map(ToOwned::to_owned).to_vec();
    // A new seed each time, so that CI sees more than one run; a failure prints it.
    let seed = u64::from(std::process::id());
    let options = Options { seed, time: Duration::from_secs(1), nemeses, out: folder.path().to_owned() };
    let report = run(&options, &Arc::new(Progress::default())).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    for (name, why) in &report.skipped {
        eprintln!("skipped {name}: {why}");
    }
    let failures: Vec<_> = report.judged.iter().filter(|judged| !judged.verdict.holds()).collect();
    if !failures.is_empty() {
        panic!("seed {seed}: {failures:#?}; logs: {}", folder.keep().display());
    }
    let proven = |name: &str| {
        let began = report.history.iter().find_map(|record| match &record.what {
            What::FaultBegan { number, fault, .. } if fault == name => Some(*number),
            _ => None,
        });
        let is_proof = |what: &What| matches!(what, What::FaultProven { number, .. } if Some(*number) == began);
        report.history.iter().any(|record| is_proof(&record.what))
    };
    for name in NEMESES {
        let skipped = report.skipped.iter().any(|(skipped, _)| *skipped == name);
        assert!(proven(name) || (skipped && !ALWAYS.contains(&name)), "{name} did not happen; seed {seed}");
    }
}
