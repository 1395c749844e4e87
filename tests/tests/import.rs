//! `tercet event import`: a real file, sealed everywhere, kept over a restart, repeated for nothing.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tercet_tests::events::lines;
use tercet_tests::wait::check;
use tercet_tests::{CLOUDS, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// How many lines of the shared file are imported, unless `TERCET_IMPORT_EVENTS` asks for fewer;
/// this is the whole file.
const DEFAULT_EVENTS: usize = 12_000;

#[test]
fn an_import_is_sealed_everywhere_survives_a_restart_and_repeats_nothing() {
    let wanted = std::env::var("TERCET_IMPORT_EVENTS").map_or(DEFAULT_EVENTS, |count| count.parse().unwrap());
    let events = lines(wanted);
    let count = events.len() as u64;
    let mut cluster = Cluster::small();
    let file = cluster.scratch().join("events.ndjson");
    std::fs::write(&file, events.join("\n")).unwrap();
    let import = ["event", "import", file.to_str().unwrap(), "--wait", "sealed", "--timeout", "4m"];

    let begun = Instant::now();
    let summary = cluster.cli().json(&import);
    eprintln!("{count} events SEALED in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(
        summary,
        json!({ "total": count, "new": count, "existing": 0, "final": count, "sealed": count, "failed": 0 })
    );
    let before = cluster.equal_heads(LIMIT);
    all_sealed(&cluster, count);

    assert!(cluster.stop().success());
    cluster.start();
    let after = cluster.equal_heads(LIMIT);
    for cloud in CLOUDS {
        assert!(after[cloud].0 >= before[cloud].0, "{cloud}: {} then {}", before[cloud].0, after[cloud].0);
        assert!(after[cloud].0 >= count, "{cloud} voted on everything: {}", after[cloud].0);
    }
    all_sealed(&cluster, count);
    let summary = cluster.cli().json(&import);
    assert_eq!(
        summary,
        json!({ "total": count, "new": 0, "existing": count, "final": count, "sealed": count, "failed": 0 })
    );
    assert_eq!(cluster.equal_heads(LIMIT), after, "repeating adds no leaf anywhere");
    bad_lines_are_named_and_the_rest_is_imported(&cluster);
}

/// Every cloud counts every event as SEALED, beside the events of the starts.
fn all_sealed(cluster: &Cluster, count: u64) {
    for cloud in CLOUDS {
        eventually(&format!("all is SEALED at {cloud}"), LIMIT, || {
            let counts = cluster.status(&cluster.leader(cloud))?["counts"].clone();
            let number = |name: &str| counts[name].as_u64().unwrap_or_default();
            let sealed = number("sealed") >= count && number("pending") == 0 && number("quarantined") == 0;
            check(sealed, || counts.to_string())
        });
    }
}

fn bad_lines_are_named_and_the_rest_is_imported(cluster: &Cluster) {
    let good = |id: &str| {
        json!({ "specversion": "1.0", "id": id, "source": "/bad-lines", "type": "test", "data": { "id": id } })
            .to_string()
    };
    let file = cluster.scratch().join("bad.ndjson");
    let lines =
        [good("one"), "{ not json".into(), good("two"), good("one").replace("\"id\":\"one\"}", "\"id\":\"other\"}")];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let done = cluster.cli().run(&["event", "import", file.to_str().unwrap(), "-o", "json", "--timeout", "30s"]);
    let done = done.expect(3);
    let summary: Value = done.json();
    assert_eq!(
        (&summary["total"], &summary["new"], &summary["failed"]),
        (&json!(4), &json!(2), &json!(2)),
        "{summary}"
    );
    assert!(done.stderr.contains("line 2") && done.stderr.contains("line 4"), "{}", done.stderr);
}
