//! `tercetd up` and `tercetd run` as a user meets them when something is in the way.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use tercetd::config::ClusterFile;
use tercetd::env::Os;
use tercetd::up::create::{Template, create};

fn tercetd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tercetd"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn made() -> TempDir {
    let dir = folder();
    create(dir.path(), &Template::standard(1).expect("valid"), &Os).expect("created");
    dir
}

fn run(dir: &Path, node: &str) -> Command {
    let mut command = tercetd();
    command.arg("run").arg("--config").arg(dir.join("cluster.toml")).args(["--node", node]);
    command
}

fn up(dir: &Path, more: &[&str]) -> Command {
    let mut command = tercetd();
    command.arg("up").arg("--data-dir").arg(dir).args(more);
    command
}

#[track_caller]
fn refused(output: &Output, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for text in says {
        assert!(stderr.contains(text), "{text:?} is not in {stderr:?}");
    }
}

/// A running `up`, killed when the test ends.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// Reads until a line contains `text`.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut seen = String::new();
        for line in self.lines.by_ref() {
            let line = line.expect("text");
            if line.contains(text) {
                return;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("{text:?} was never said:\n{seen}");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_busy_port_is_named_and_nothing_is_created() {
    let dir = made();
    let file = ClusterFile::read(&dir.path().join("cluster.toml")).expect("parses");
    for (key, address) in [
        ("peer_addr", *file.clouds[0].nodes[0].peer_addr.get_ref()),
        ("client_addr", *file.clouds[0].nodes[0].client_addr.get_ref()),
    ] {
        let _held = TcpListener::bind(address).expect("free");
        let port = address.port().to_string();
        refused(&run(dir.path(), "aws-1").output().expect("runs"), &["in use", &port, key, "Stop what holds the port"]);
        refused(&up(dir.path(), &[]).output().expect("runs"), &["in use", &port, "aws-1"]);
    }
    assert!(!dir.path().join("nodes/aws-1/raft").exists());
    assert!(!dir.path().join("nodes/aws-1/state").exists());
}

#[test]
fn an_unknown_node_is_refused_with_the_known_ones() {
    let dir = made();
    refused(&run(dir.path(), "gcp-2").output().expect("runs"), &["gcp-2 is not in the file", "aws-1, azure-1, gcp-1"]);
}

#[test]
fn up_refuses_what_does_not_fit_the_cluster_that_is_there() {
    let dir = made();
    refused(&up(dir.path(), &["--nodes-per-cloud", "3"]).output().expect("runs"), &["has 1 nodes", "asks for 3"]);
    refused(&up(dir.path(), &["--cloud", "oracle"]).output().expect("runs"), &["clouds are aws, azure, gcp"]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster.toml");
    refused(&up(dir.path(), &["--config", example]).output().expect("runs"), &["other clouds, weights or nodes"]);
}

#[test]
fn a_wrong_template_makes_no_folder() {
    let dir = folder();
    let template = dir.path().join("template.toml");
    std::fs::write(&template, "[federation]\nquorum = 9\n").expect("written");
    let data = dir.path().join("data");
    let output = up(&data, &["--config", template.to_str().expect("text")]).output().expect("runs");
    refused(&output, &["missing field `clouds`"]);
    assert!(!data.exists());
}

#[test]
fn a_second_up_is_refused_and_the_first_goes_on_until_it_is_interrupted() {
    let dir = folder();
    let mut first = Running::start(up(dir.path(), &["--nodes-per-cloud", "1"]));
    first.until("SEALED in");
    refused(&up(dir.path(), &[]).output().expect("runs"), &["another `tercetd up` already runs cloud aws"]);
    kill(first.pid(), Signal::SIGINT).expect("runs");
    first.until("nothing is lost");
    assert!(first.child.wait().expect("ends").success());
}

#[test]
fn nodes_end_when_up_is_killed_and_the_cluster_starts_again() {
    let dir = folder();
    let mut first = Running::start(up(dir.path(), &["--nodes-per-cloud", "1"]));
    first.until("SEALED in");
    kill(first.pid(), Signal::SIGKILL).expect("runs");
    first.child.wait().expect("ends");
    // Its nodes hold their ports until they are gone, and the kernel tells them at once.
    let file = ClusterFile::read(&dir.path().join("cluster.toml")).expect("parses");
    let nodes: Vec<_> = file.clouds.iter().flat_map(|cloud| &cloud.nodes).collect();
    let free = |address: &std::net::SocketAddr| TcpListener::bind(address).is_ok();
    while !nodes.iter().all(|node| free(node.peer_addr.get_ref()) && free(node.client_addr.get_ref())) {
        std::thread::yield_now();
    }
    let mut second = Running::start(up(dir.path(), &[]));
    second.until("SEALED in");
}
