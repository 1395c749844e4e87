//! The nodes as child processes. They die with this process even if it is killed, log to their own
//! file, and are started again only if that was asked for.

use super::prepare::Cluster;
use anyhow::{Context, Result};
use futures::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tercet_core::ids::NodeId;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// A child that finds this set dies when the process with this id does.
const PARENT_VARIABLE: &str = "TERCETD_PARENT";
/// How long nodes may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before a node is started again: doubled each time, up to the second value, and back to the
/// first once the node ran for the third.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(30);
const RESTART_CALM: Duration = Duration::from_secs(60);
/// How much of a log's end is searched for the last words of a node, in bytes.
const LAST_WORDS_BYTES: u64 = 4096;

/// What is left after an exit.
pub enum Exit {
    One,
    All,
}

pub struct Children {
    program: PathBuf,
    config: PathBuf,
    log: Option<String>,
    restart: bool,
    nodes: Vec<Node>,
}

struct Node {
    id: NodeId,
    log_path: PathBuf,
    process: Option<Child>,
    started: Instant,
    pause: Duration,
    restart_at: Option<Instant>,
}

enum Event {
    Exited(usize, ExitStatus),
    RestartDue(usize),
}

impl Children {
    pub fn start(cluster: &Cluster, log: Option<String>, restart: bool) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the own program file")?;
        let node = |id: &NodeId| Node {
            id: id.clone(),
            log_path: cluster.dir.join("nodes").join(id.as_str()).join("log.txt"),
            process: None,
            started: Instant::now(),
            pause: RESTART_MIN,
            restart_at: None,
        };
        let nodes = cluster.nodes().map(node).collect();
        let mut children = Self { program, config: cluster.config_path(), log, restart, nodes };
        for at in 0..children.nodes.len() {
            children.spawn(at)?;
        }
        Ok(children)
    }

    fn spawn(&mut self, at: usize) -> Result<()> {
        let node = &mut self.nodes[at];
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&node.log_path);
        let log = log.with_context(|| format!("cannot write {}", node.log_path.display()))?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--config").arg(&self.config).arg("--node").arg(node.id.as_str());
        if let Some(filter) = &self.log {
            command.arg("--log").arg(filter);
        }
        command.env(PARENT_VARIABLE, std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Its own process group: Ctrl-C reaches this process alone, which then stops the nodes.
        command.process_group(0).kill_on_drop(true);
        node.process = Some(command.spawn().with_context(|| format!("cannot start {}", node.id))?);
        node.started = Instant::now();
        node.restart_at = None;
        Ok(())
    }

    /// Waits until a node exits, says so, and starts it again if that was asked for. Cancel-safe.
    pub async fn changed(&mut self) -> Exit {
        match self.next_event().await {
            Event::Exited(at, status) => self.exited(at, status),
            Event::RestartDue(at) => {
                let id = self.nodes[at].id.clone();
                match self.spawn(at) {
                    Ok(()) => say!("  {id} was started again"),
                    Err(e) => {
                        say!("  {id} could not be started again: {e:#}");
                        self.nodes[at].restart_at = Some(Instant::now() + RESTART_MAX);
                    }
                }
            }
        }
        let alive = self.nodes.iter().any(|node| node.process.is_some() || node.restart_at.is_some());
        if alive { Exit::One } else { Exit::All }
    }

    async fn next_event(&mut self) -> Event {
        let waits = self.nodes.iter_mut().enumerate().filter_map(|(at, node)| {
            if let Some(process) = &mut node.process {
                return Some(async move { Event::Exited(at, process.wait().await.unwrap_or_default()) }.boxed());
            }
            let due = node.restart_at?;
            Some(async move { tokio::time::sleep_until(due).map(|()| Event::RestartDue(at)).await }.boxed())
        });
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(waits).await.0
    }

    fn exited(&mut self, at: usize, status: ExitStatus) {
        let config = self.config.display().to_string();
        let node = &mut self.nodes[at];
        node.process = None;
        say!("\n  {} exited: {status}", node.id);
        if let Some(words) = last_words(&node.log_path) {
            say!("    its last words: {words}");
        }
        say!("    its log: {}", node.log_path.display());
        if !self.restart {
            say!("    bring it back with: {} run --config {config} --node {}", super::program("tercetd"), node.id);
            return;
        }
        if node.started.elapsed() > RESTART_CALM {
            node.pause = RESTART_MIN;
        }
        say!("    starting it again in {} s", node.pause.as_secs());
        node.restart_at = Some(Instant::now() + node.pause);
        node.pause = (node.pause * 2).min(RESTART_MAX);
    }

    /// Asks every node to stop, and kills those that do not.
    pub async fn stop(&mut self) {
        for node in &mut self.nodes {
            node.restart_at = None;
            let pid = node.process.as_ref().and_then(Child::id);
            if let Some(pid) = pid {
                // It may just have exited by itself, and that is as good.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            }
        }
        let waits = self.nodes.iter_mut().filter_map(|node| node.process.as_mut()).map(Child::wait);
        if tokio::time::timeout(STOP_TIMEOUT, futures::future::join_all(waits)).await.is_err() {
            say!("Some nodes did not stop within {} s and are killed.", STOP_TIMEOUT.as_secs());
            self.kill();
        }
    }

    pub fn kill(&mut self) {
        for process in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // An error means that it is gone already.
            let _ = process.start_kill();
        }
    }
}

/// Called by a node at its start: if `up` started it, it is to die when `up` does.
pub fn die_with_parent() -> Result<()> {
    let Ok(parent) = std::env::var(PARENT_VARIABLE) else { return Ok(()) };
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("cannot tie this node to its parent")?;
    // The parent may have died before the call; then nobody will send the signal.
    if nix::unistd::getppid().to_string() != parent {
        anyhow::bail!("the `tercetd up` that started this node is gone");
    }
    Ok(())
}

fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(ToOwned::to_owned)
}
