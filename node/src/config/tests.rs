use super::*;
use crate::env::Os;
use crate::up::create::{Template, create};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// A cluster of one node a cloud, complete on disk.
fn cluster() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    create(dir.path(), &Template::standard(1).expect("valid"), &Os).expect("created");
    dir
}

fn load(dir: &Path, node: &str) -> Result<(Config, NodeKeys), ConfigError> {
    Config::load(&dir.join("cluster.toml"), &NodeId::new(node).expect("a valid name"))
}

fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).expect("exists");
    assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
    fs::write(&path, text.replacen(from, to, 1)).expect("written");
}

/// The value of the n-th line that begins with `key = `.
fn value(dir: &Path, key: &str, n: usize) -> String {
    let text = fs::read_to_string(dir.join("cluster.toml")).expect("exists");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    lines.nth(n).expect("the key is there").to_owned()
}

fn chmod(dir: &Path, file: &str, mode: u32) {
    fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).expect("owned");
}

type Spoil = fn(&Path);

/// What is wrong, how to make it so, and what the error must say.
const WRONGS: &[(&str, Spoil, &[&str])] = &[
    ("no file", |dir| fs::remove_file(dir.join("cluster.toml")).expect("removed"), &["no such file", "tercetd up"]),
    ("not TOML", |dir| replace(dir, "cluster.toml", "quorum = 2", "quorum = = 2"), &["cluster.toml:4:"]),
    (
        "unknown key",
        |dir| replace(dir, "cluster.toml", "quorum", "qourum"),
        &["cluster.toml:4:", "unknown field `qourum`", "expected"],
    ),
    ("unknown section", |dir| replace(dir, "cluster.toml", "[raft]", "[rafft]"), &["unknown field `rafft`"]),
    (
        "wrong type",
        |dir| replace(dir, "cluster.toml", "weight = 1", "weight = \"one\""),
        &["cluster.toml:10:", "invalid type"],
    ),
    (
        "float weight",
        |dir| replace(dir, "cluster.toml", "weight = 1", "weight = 1.5"),
        &["cluster.toml:10:", "floating point"],
    ),
    (
        "bad name",
        |dir| replace(dir, "cluster.toml", "name = \"aws\"", "name = \"AWS\""),
        &["cluster.toml:9:", "use 1 to 32 of a-z"],
    ),
    (
        "bad address",
        |dir| replace(dir, "cluster.toml", "peer_addr = \"127", "peer_addr = \"x127"),
        &["invalid socket address"],
    ),
    ("unknown engine", |dir| replace(dir, "cluster.toml", "fjall", "rocks"), &["unknown variant `rocks`", "sled"]),
    (
        "duplicate cloud",
        |dir| replace(dir, "cluster.toml", "name = \"azure\"", "name = \"aws\""),
        &["cluster.toml:20:", "cloud \"aws\" is used twice"],
    ),
    (
        "duplicate node",
        |dir| replace(dir, "cluster.toml", "id = \"azure-1\"", "id = \"aws-1\""),
        &["node \"aws-1\" is used twice"],
    ),
    (
        "duplicate address",
        |dir| {
            let first = value(dir, "peer_addr", 0);
            let other = value(dir, "client_addr", 1);
            replace(dir, "cluster.toml", &other, &first);
        },
        &["is used twice", "its own address and port"],
    ),
    (
        "port zero",
        |dir| {
            let first = value(dir, "peer_addr", 0);
            replace(dir, "cluster.toml", &first, "\"127.0.0.1:0\"");
        },
        &["port 0"],
    ),
    (
        "two clouds",
        |dir| {
            let text = fs::read_to_string(dir.join("cluster.toml")).expect("exists");
            let at = text.find("\n[[clouds]]\nname = \"gcp\"").expect("the last cloud");
            fs::write(dir.join("cluster.toml"), &text[..at]).expect("written");
        },
        &["2 clouds", "exactly three"],
    ),
    ("zero weight", |dir| replace(dir, "cluster.toml", "weight = 1", "weight = 0"), &["cloud aws has weight 0"]),
    ("ambiguous weights", |dir| replace(dir, "cluster.toml", "quorum = 2", "quorum = 1"), &["ambiguous weights"]),
    (
        "dictator",
        |dir| {
            replace(dir, "cluster.toml", "weight = 1", "weight = 3");
            replace(dir, "cluster.toml", "quorum = 2", "quorum = 3");
        },
        &["cloud aws has weight 3, which alone reaches the quorum 3"],
    ),
    (
        "unreachable quorum",
        |dir| replace(dir, "cluster.toml", "quorum = 2", "quorum = 4"),
        &["nothing could ever be FINAL"],
    ),
    (
        "weights differ from the genesis",
        |dir| {
            replace(dir, "cluster.toml", "weight = 1", "weight = 2");
            replace(dir, "cluster.toml", "quorum = 2", "quorum = 3");
        },
        &["cloud aws has weight 2, and 1 in the genesis", "cluster.toml:10"],
    ),
    (
        "quorum differs from the genesis",
        |dir| replace(dir, "cluster.toml", "quorum = 2", "quorum = 3"),
        &["the quorum is 3, and 2"],
    ),
    (
        "clouds differ from the genesis",
        |dir| replace(dir, "cluster.toml", "name = \"azure\"", "name = \"oracle\""),
        &["cloud oracle is not in the genesis", "aws, azure, gcp"],
    ),
    (
        "heartbeat too slow",
        |dir| replace(dir, "cluster.toml", "heartbeat_ms = 300", "heartbeat_ms = 1000"),
        &["twice heartbeat_ms"],
    ),
    (
        "node not in the file",
        |dir| replace(dir, "cluster.toml", "id = \"gcp-1\"", "id = \"gcp-7\""),
        &["gcp-1 is not in the file", "gcp-7"],
    ),
    ("no genesis", |dir| fs::remove_file(dir.join("genesis.json")).expect("removed"), &["genesis.json", "missing"]),
    ("genesis is not JSON", |dir| fs::write(dir.join("genesis.json"), "{").expect("written"), &["not the genesis"]),
    (
        "openings of another federation",
        |dir| {
            let other = cluster();
            fs::copy(other.path().join("openings.json"), dir.join("openings.json")).expect("copied");
        },
        &["not signed by the root key"],
    ),
    (
        "loose permissions",
        |dir| chmod(dir, "nodes/gcp-1/signing.key", 0o644),
        &["chmod 600", "signing.key", "mode 644"],
    ),
    ("loose TLS key", |dir| chmod(dir, "nodes/gcp-1/peer.key", 0o640), &["chmod 600", "peer.key"]),
    ("loose token", |dir| chmod(dir, "admin.token", 0o604), &["chmod 600", "admin.token"]),
    (
        "missing key",
        |dir| fs::remove_file(dir.join("nodes/gcp-1/signing.key")).expect("removed"),
        &["signing.key", "missing"],
    ),
    (
        "unreadable key",
        |dir| fs::write(dir.join("nodes/gcp-1/signing.key"), "zz").expect("written"),
        &["64 lower-case hexadecimal digits"],
    ),
    (
        "unreadable certificate",
        |dir| fs::write(dir.join("nodes/gcp-1/peer.pem"), "x").expect("written"),
        &["a certificate in PEM form"],
    ),
    (
        "key of another node",
        |dir| {
            fs::copy(dir.join("nodes/aws-1/signing.key"), dir.join("nodes/gcp-1/signing.key")).expect("copied");
        },
        &["not the key that epoch 0 certifies for gcp-1"],
    ),
    (
        "data folder of another node",
        |dir| replace(dir, "cluster.toml", "data_dir = \"nodes/gcp-1\"", "data_dir = \"nodes/aws-1\""),
        &["belongs to node aws-1", "not to gcp-1"],
    ),
    (
        "data folder of another federation",
        |dir| {
            let other = cluster();
            fs::copy(other.path().join("nodes/gcp-1/node.json"), dir.join("nodes/gcp-1/node.json")).expect("copied");
        },
        &["belongs to node gcp-1 of federation", "nothing was touched"],
    ),
    (
        "empty data folder",
        |dir| fs::rename(dir.join("nodes/gcp-1"), dir.join("elsewhere")).expect("moved"),
        &["nothing was prepared here for gcp-1"],
    ),
];

/// Every file below a folder with its content.
fn picture(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() {
            out.extend(picture(&entry));
        } else {
            let bytes = fs::read(&entry).expect("readable");
            out.push((entry, bytes));
        }
    }
    out.sort();
    out
}

#[test]
fn each_wrong_configuration_has_its_own_error_and_changes_nothing() {
    for (name, spoil, says) in WRONGS {
        let dir = cluster();
        spoil(dir.path());
        let before = picture(dir.path());
        let error = load(dir.path(), "gcp-1").map(|_| ()).expect_err(name).to_string();
        for text in *says {
            assert!(error.contains(text), "{name}: {text:?} is not in {error:?}");
        }
        assert_eq!(before, picture(dir.path()), "{name} changed files");
    }
}

#[test]
fn a_fresh_cluster_loads_for_every_node() {
    let dir = cluster();
    for node in ["aws-1", "azure-1", "gcp-1"] {
        let (config, _) = load(dir.path(), node).expect("loads");
        assert_eq!(config.directory.clouds.len(), 3);
        assert_eq!(config.entry().node.as_str(), node);
        assert_eq!(config.data_dir, dir.path().join("nodes").join(node));
    }
}

#[test]
fn a_fresh_cluster_keeps_its_secrets_to_this_user() {
    let dir = cluster();
    let mut folders = vec![dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("readable").path()) {
            let mode = fs::metadata(&entry).expect("exists").permissions().mode() & 0o777;
            assert_eq!(mode, if entry.is_dir() { 0o700 } else { 0o600 }, "{}", entry.display());
            if entry.is_dir() {
                folders.push(entry);
            }
        }
    }
}

#[test]
fn the_commented_example_is_valid_and_names_three_clouds_of_three_nodes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster.toml");
    let file = ClusterFile::read(&path).expect("parses");
    assert_eq!(file.clouds.iter().map(|cloud| cloud.nodes.len()).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(file.raft, RaftSection::default());
}
