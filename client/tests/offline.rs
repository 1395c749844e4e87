//! The command line where no cluster is needed: usage errors, help, and verification of the
//! published vectors.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const OK: i32 = 0;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;

fn tercet(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
    command.args(args).current_dir(folder).env_remove("TERCET_CONTEXT").output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects an exit code; returns stdout and stderr.
fn run(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = tercet(folder, args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors").join(name)
}

fn vector_list(name: &str, list: &str) -> Vec<serde_json::Value> {
    let bytes = std::fs::read(vectors(name)).expect("the vectors are part of the repository");
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    json[list].as_array().unwrap().clone()
}

/// The bytes of a vector as a file, and the folder that holds it.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn trust() -> String {
    vectors("trust.json").to_str().unwrap().to_owned()
}

#[test]
fn without_a_context_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["status"][..],
        &["event", "get", "x"],
        &["event", "import", "nothing.ndjson"],
        &["tenant", "list"],
        &["watch"],
        &["bench", "events"],
    ] {
        let (out, err) = run(folder.path(), args, USAGE);
        assert!(out.is_empty(), "{out}");
        assert!(err.contains("tercetd up") && err.contains("--context"), "{err}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_name_the_argument() {
    let folder = tempfile::tempdir().unwrap();
    for (args, named) in [
        (&["event", "submit"][..], "--id"),
        (&["event", "list", "--limit", "5000"], "5000"),
        (&["event", "list", "--level", "finale"], "finale"),
        (&["status", "--timeout", "soon"], "500ms"),
        (&["status", "--cloud", "GCP!"], "a-z"),
        (&["event", "import"], "FILE"),
        (&["event", "submit", "--id", "", "--payload", "1"], "event id"),
        (&["event", "submit", "--id", "a", "--payload", "{not json"], "not JSON"),
        (&["event", "submit", "--id", "a", "--file", "/does/not/exist"], "/does/not/exist"),
        (&["event", "confirm", "a"], "--cloud"),
        (&["tenant", "create", "Bad_Name"], "a-z"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let (_, err) = run(folder.path(), args, USAGE);
        assert!(err.contains(named), "{args:?}: {err}");
    }
}

#[test]
fn a_broken_context_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "context.toml", b"ca = 5\n");
    let (_, err) = run(folder.path(), &["status", "--context", &path], USAGE);
    assert!(err.contains(&path), "{err}");
}

#[test]
fn every_verb_has_help_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    for verb in [
        "event submit",
        "event get",
        "event list",
        "event import",
        "event confirm",
        "event reject",
        "event certificate",
        "verify",
        "status",
        "watch",
        "evidence list",
        "evidence get",
        "tenant create",
        "tenant list",
        "bench events",
        "completions",
        "man",
    ] {
        let mut args: Vec<&str> = verb.split(' ').collect();
        args.push("--help");
        let (out, _) = run(folder.path(), &args, OK);
        assert!(out.contains("Examples:") && out.contains(&format!("tercet {verb}")), "{verb}: {out}");
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = run(folder.path(), &["completions", "bash"], OK);
    assert!(out.contains("tercet"));
    run(folder.path(), &["man", "pages"], OK);
    assert!(folder.path().join("pages/tercet-event-import.1").exists());
}

#[test]
fn certificates_verify_offline_and_say_their_level() {
    let folder = tempfile::tempdir().unwrap();
    for vector in vector_list("certificates.json", "certificates") {
        let bytes = hex::decode(vector["bytes"].as_str().unwrap()).unwrap();
        let file = write(folder.path(), "event.cert", &bytes);
        let (out, _) = run(folder.path(), &["verify", &file, "--trust", &trust()], OK);
        let level = vector["level"].as_str().unwrap();
        assert!(out.contains("VERIFIED") && out.contains(level), "{out}");
        assert!(out.contains("REVIEW cannot be seen offline") && out.contains("version 1"), "{out}");
        let (out, _) = run(folder.path(), &["verify", &file, "--trust", &trust(), "-o", "json"], OK);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        for field in ["level", "voters", "auditors", "contentHash", "hash"] {
            assert_eq!(json[field], vector[field], "{field}");
        }
    }
}

#[test]
fn a_changed_or_cut_certificate_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let vector = &vector_list("certificates.json", "certificates")[0];
    let bytes = hex::decode(vector["bytes"].as_str().unwrap()).unwrap();
    // One byte of each region; that every single byte counts is tested where it is verified.
    for at in (25..bytes.len()).step_by(bytes.len() / 12) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let file = write(folder.path(), "changed.cert", &changed);
        let (out, err) = run(folder.path(), &["verify", &file, "--trust", &trust()], REFUSED);
        assert!(out.is_empty() && err.contains("REFUSED certificate: "), "byte {at}: {out}{err}");
    }
    let file = write(folder.path(), "cut.cert", &bytes[..bytes.len() - 1]);
    run(folder.path(), &["verify", &file, "--trust", &trust()], REFUSED);
    let file = write(folder.path(), "hello.txt", b"hello");
    let (_, err) = run(folder.path(), &["verify", &file, "--trust", &trust()], REFUSED);
    assert!(err.contains("neither a certificate nor evidence"), "{err}");
}

#[test]
fn evidence_verifies_offline_and_names_the_cloud() {
    let folder = tempfile::tempdir().unwrap();
    for vector in vector_list("evidence.json", "evidence") {
        let bytes = hex::decode(vector["bytes"].as_str().unwrap()).unwrap();
        let file = write(folder.path(), "lie.evidence", &bytes);
        let (out, _) = run(folder.path(), &["verify", &file, "--trust", &trust(), "-o", "json"], OK);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["cloud"], vector["cloud"]);
        assert_eq!(json["lie"], vector["kind"]);
        assert_eq!(json["id"], vector["id"]);
        let (out, _) = run(folder.path(), &["verify", &file, "--trust", &trust()], OK);
        assert!(out.contains("lied"), "{out}");
    }
}

#[test]
fn trust_can_be_pinned_to_a_federation() {
    let folder = tempfile::tempdir().unwrap();
    let vector = &vector_list("certificates.json", "certificates")[0];
    let file = write(folder.path(), "event.cert", &hex::decode(vector["bytes"].as_str().unwrap()).unwrap());
    let other = "00".repeat(32);
    let (_, err) = run(folder.path(), &["verify", &file, "--trust", &trust(), "--fed-id", &other], REFUSED);
    assert!(err.contains("the trust bundle is of federation"), "{err}");
    let (out, _) = run(folder.path(), &["verify", &file, "--trust", &trust(), "-o", "json"], OK);
    let fed = serde_json::from_str::<serde_json::Value>(&out).unwrap()["fedId"].as_str().unwrap().to_owned();
    run(folder.path(), &["verify", &file, "--trust", &trust(), "--fed-id", &fed], OK);
    let bad = write(folder.path(), "trust.json", b"{}");
    run(folder.path(), &["verify", &file, "--trust", &bad], USAGE);
}
