//! A cloud that lost its disks and keys for good: it comes back in a new epoch, takes back what the
//! others hold of the old one, and nobody is accused.

use serde_json::json;
use std::process::Command;
use std::time::Duration;
use tercet_tests::{Cluster, programs};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_cloud_that_lost_everything_comes_back_in_a_new_epoch() {
    let mut cluster = Cluster::small();
    for n in 0..20 {
        cluster.submit("gcp", &format!("before-{n}"), &json!({ "n": n }));
    }
    cluster.wait_level("gcp", "before-19", "SEALED", LIMIT);
    let config = cluster.data_dir().join("cluster.toml");
    let renew = || {
        let mut command = Command::new(programs::tercetd());
        command.args(["renew", "--cloud", "gcp", "--config"]).arg(&config).output().expect("tercetd starts")
    };

    // State that is still there is refused, never removed.
    let refused = renew();
    assert!(!refused.status.success());
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("is still there: start gcp-1 instead"), "{reason}");

    assert!(cluster.stop().success());
    let folder = cluster.data_dir().join("nodes/gcp-1");
    for lost in ["raft", "state", "signing.key"] {
        let path = folder.join(lost);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let renewed = renew();
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    cluster.start();

    for cloud in ["aws", "azure", "gcp"] {
        cluster.wait_level(cloud, "before-19", "SEALED", LIMIT);
    }
    cluster.submit("gcp", "after", &json!({ "n": 20 }));
    for cloud in ["aws", "azure", "gcp"] {
        cluster.wait_level(cloud, "after", "SEALED", LIMIT);
        let evidence = cluster.cli().json(&["--cloud", cloud, "evidence", "list"]);
        assert_eq!(evidence["evidence"], json!([]), "an honest cloud was accused at {cloud}");
    }
    cluster.equal_heads(LIMIT);
}

#[test]
fn a_log_of_another_node_is_refused() {
    let mut cluster = Cluster::small();
    assert!(cluster.stop().success());
    let node = |node: &str| cluster.data_dir().join("nodes").join(node).join("raft");
    std::fs::remove_dir_all(node("gcp-1")).expect("gcp-1 has a log");
    let copied = Command::new("cp").arg("-a").args([node("aws-1"), node("gcp-1")]).status();
    assert!(copied.expect("cp starts").success());
    let mut run = Command::new(programs::tercetd());
    run.args(["run", "--node", "gcp-1", "--config"]).arg(cluster.data_dir().join("cluster.toml"));
    let refused = run.output().expect("tercetd starts");
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("aws-1"), "{reason}");
}
