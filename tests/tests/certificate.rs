//! Certificates: an outsider with the trust bundle alone believes exactly what they prove.

use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_core::certificate::{Certificate, TrustBundle};
use tercet_core::events::Level;
use tercet_core::ids::{CloudId, NodeId};
use tercet_core::signature::SigningKey;
use tercet_tests::{CLOUDS, Cli, Cluster};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn certificates_verify_offline_and_say_exactly_what_they_prove() {
    let mut cluster = Cluster::small();
    cluster.submit("aws", "sealed-1", &json!({ "amount": 5, "what": "ä" })).ok();
    for cloud in CLOUDS {
        cluster.wait_level(cloud, "sealed-1", "SEALED", LIMIT);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let trust = elsewhere.path().join("trust.json");
    std::fs::copy(cluster.data_dir().join("trust.json"), &trust).unwrap();
    let sealed = fetch(&cluster, "sealed-1", elsewhere.path());

    cluster.kill_cloud("gcp");
    cluster.submit("azure", "final-1", &json!({ "amount": 6 })).ok();
    for cloud in ["aws", "azure"] {
        cluster.wait_level(cloud, "final-1", "FINAL", LIMIT);
    }
    let finalised = fetch(&cluster, "final-1", elsewhere.path());
    let keys = [node_key(&cluster, "aws-1"), node_key(&cluster, "azure-1")];
    // No process and no file of the cluster is left: what follows is truly offline.
    drop(cluster);

    it_verifies(&sealed, &trust, "SEALED", "sealed-1");
    let verified = it_verifies(&finalised, &trust, "FINAL", "final-1");
    assert_eq!(verified["voters"], json!(["aws", "azure"]), "{verified}");
    let bundle: TrustBundle = serde_json::from_slice(&std::fs::read(&trust).unwrap()).unwrap();
    for file in [&sealed, &finalised] {
        every_changed_byte_is_refused(file, &bundle);
        the_command_line_refuses_with_a_reason(file, &trust);
    }
    nothing_is_exaggerated(&finalised, &bundle);
    nodes_of_one_cloud_never_count_as_two(&finalised, &bundle, &keys);
}

/// Fetches a certificate with the command line into another folder.
fn fetch(cluster: &Cluster, id: &str, folder: &Path) -> PathBuf {
    let file = folder.join(format!("{id}.cert"));
    cluster.cli().run(&["event", "certificate", id, "--out", file.to_str().unwrap()]).ok();
    file
}

fn node_key(cluster: &Cluster, node: &str) -> SigningKey {
    let text = std::fs::read_to_string(cluster.data_dir().join("nodes").join(node).join("signing.key")).unwrap();
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).unwrap();
    SigningKey::from_seed(&seed)
}

fn it_verifies(file: &Path, trust: &Path, level: &str, id: &str) -> serde_json::Value {
    let (file, trust) = (file.to_str().unwrap(), trust.to_str().unwrap());
    let verified = Cli::offline().json(&["verify", file, "--trust", trust]);
    assert_eq!((&verified["level"], &verified["id"]), (&json!(level), &json!(id)), "{verified}");
    assert!(verified["trustVersion"].is_u64(), "{verified}");
    let shown = Cli::offline().run(&["verify", file, "--trust", trust]).ok().text();
    let other = if level == "FINAL" { "SEALED" } else { "FINAL" };
    assert!(shown.contains(level) && !shown.contains(other) && shown.contains("REVIEW"), "{shown}");
    verified
}

fn every_changed_byte_is_refused(file: &Path, trust: &TrustBundle) {
    let bytes = std::fs::read(file).unwrap();
    assert!(Certificate::verify(&bytes, trust).is_ok());
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            let refused = Certificate::verify(&changed, trust).expect_err("a changed byte");
            assert!(refused.0.len() > 5, "byte {at}: no reason in {refused:?}");
        }
    }
    for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(Certificate::verify(&bytes[..end], trust).is_err(), "cut at {end}");
    }
    assert!(Certificate::verify(&[&bytes[..], &[0]].concat(), trust).is_err(), "one byte more");
    eprintln!("{}: {} bytes, each was changed twice", file.display(), bytes.len());
}

fn the_command_line_refuses_with_a_reason(file: &Path, trust: &Path) {
    let bytes = std::fs::read(file).unwrap();
    let changed_file = file.with_extension("changed");
    for at in (0..bytes.len()).step_by(bytes.len() / 12) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x04;
        std::fs::write(&changed_file, changed).unwrap();
        let arguments = ["verify", changed_file.to_str().unwrap(), "--trust", trust.to_str().unwrap()];
        let refused = Cli::offline().run(&arguments).expect(3);
        assert!(refused.stdout.is_empty() && refused.stderr.len() > 20, "byte {at}: {refused:?}");
    }
}

fn nothing_is_exaggerated(file: &Path, trust: &TrustBundle) {
    let mut certificate = Certificate::decode(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(certificate.level, Level::Final);
    certificate.level = Level::Sealed;
    let refused = Certificate::verify(&certificate.bytes(), trust).unwrap_err();
    assert!(refused.0.contains("FINAL") && refused.0.contains("SEALED"), "{refused}");
}

/// Whoever holds keys of one cloud's nodes cannot speak for another cloud, in any combination.
fn nodes_of_one_cloud_never_count_as_two(file: &Path, trust: &TrustBundle, keys: &[SigningKey; 2]) {
    let genuine = Certificate::decode(&std::fs::read(file).unwrap()).unwrap();
    let (aws, azure) = (CloudId::new("aws").unwrap(), CloudId::new("azure").unwrap());
    let aws_node = NodeId::new("aws-1").unwrap();
    let forged = |what: &str, change: &dyn Fn(&mut Certificate)| {
        let mut certificate = genuine.clone();
        change(&mut certificate);
        let refused = Certificate::verify(&certificate.bytes(), trust);
        eprintln!("{what}: {refused:?}");
        assert!(refused.is_err(), "{what}");
    };
    forged("aws's vote alone", &|certificate| certificate.votes.retain(|vote| vote.cloud == aws));
    forged("aws's note alone", &|certificate| certificate.notes.retain(|note| note.body.origin.cloud == aws));
    forged("aws's vote twice", &|certificate| certificate.votes[1] = certificate.votes[0].clone());
    forged("aws's vote in azure's name", &|certificate| {
        certificate.votes[1] = certificate.votes[0].clone();
        certificate.votes[1].cloud = azure.clone();
    });
    forged("azure's note signed with aws's key", &|certificate| {
        let note = &mut certificate.notes[1];
        note.signatures = vec![note.body.sign(&note.signatures[0].node, &keys[0])];
    });
    forged("azure's note signed by aws's node", &|certificate| {
        let note = &mut certificate.notes[1];
        note.signatures = vec![note.body.sign(&aws_node, &keys[0])];
    });
    forged("a second node of aws in place of azure", &|certificate| {
        certificate.notes[1] = certificate.notes[0].clone();
        let note = &mut certificate.notes[1];
        note.signatures = vec![note.body.sign(&NodeId::new("aws-2").unwrap(), &keys[1])];
    });
}
