//! A whole cluster in a folder of its own: started with `tercetd up`, watched, harmed, stopped and
//! started again. Dropping it ends every process of it, and shows the logs if the test failed.

use crate::api::{Api, Reply};
use crate::cli::Cli;
use crate::events::Author;
use crate::process::{self, Process, Reaper};
use crate::slots::{self, Slot};
use crate::wait::{check, eventually, try_eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];

/// From start to the first SEALED event. The product promises 15 s on a quiet machine; a test must
/// not fail because another one compiles beside it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Until a single node answers, and until a cloud has a leader.
const NODE_LIMIT: Duration = Duration::from_secs(30);
/// How many lines of each log a failure shows.
const TAIL_LINES: usize = 25;

/// A running (or stopped) cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Dropped first: it ends what is left and empties the folder.
    _reaper: Reaper,
    folder: TempDir,
    options: Vec<String>,
    up: Option<Process>,
    /// Nodes that were brought back by hand.
    runs: BTreeMap<String, Process>,
    api: Option<Api>,
    /// From the last start to the first SEALED event.
    pub took: Duration,
    _slot: Slot,
}

impl Cluster {
    /// Three clouds of one node each, ready.
    pub fn small() -> Self {
        let mut cluster = Self::prepared(slots::small(), &["--nodes-per-cloud", "1"]);
        cluster.start();
        cluster
    }

    /// Three clouds of three nodes each, ready.
    pub fn large() -> Self {
        let mut cluster = Self::prepared(slots::large(), &[]);
        cluster.start();
        cluster
    }

    /// Not started yet; `options` are those of `tercetd up` beside `--data-dir`.
    pub fn prepared(slot: Slot, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("tercet-").tempdir().expect("the temporary folder is writable");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self {
            _reaper: Reaper::of(folder.path()),
            folder,
            options,
            up: None,
            runs: BTreeMap::new(),
            api: None,
            took: Duration::ZERO,
            _slot: slot,
        }
    }

    // ---- starting and stopping ----

    /// `tercetd up`, until its event is SEALED.
    pub fn start(&mut self) {
        self.start_until("SEALED");
    }

    /// `tercetd up`, until its output holds this text.
    pub fn start_until(&mut self, text: &str) {
        assert!(self.up.is_none(), "the cluster runs already");
        crate::programs::folder();
        let begun = Instant::now();
        let mut up = Process::start(self.up_command());
        let seen = try_eventually(START_LIMIT, &mut || {
            if let Some(status) = up.has_ended() {
                return Ok(Err(format!("`tercetd up` ended with {status}")));
            }
            check(up.output().contains(text), || format!("no {text:?} in the output")).map(Ok)
        });
        self.took = begun.elapsed();
        let output = up.output();
        self.up = Some(up);
        if let Err(why) = seen.and_then(|seen| seen) {
            panic!("{why}, after {:?}:\n{output}\n{}", self.took, self.logs());
        }
        self.api = Some(Api::new(&self.data_dir()));
    }

    /// The command that starts this cluster.
    pub fn up_command(&self) -> Command {
        let mut command = Command::new(crate::programs::tercetd());
        command.current_dir("/").arg("up").arg("--data-dir").arg(self.data_dir()).args(&self.options);
        command
    }

    /// SIGTERM to everything, and an orderly end.
    pub fn stop(&mut self) -> ExitStatus {
        for (_, mut run) in std::mem::take(&mut self.runs) {
            run.stop();
        }
        let mut up = self.up.take().expect("the cluster runs");
        let status = up.stop();
        drop(up);
        eventually("every process of the stopped cluster is gone", NODE_LIMIT, || {
            let left = process::pids_of(&self.data_dir());
            check(left.is_empty(), || format!("{left:?} are left"))
        });
        status
    }

    /// What `tercetd up` wrote since the last start.
    pub fn output(&self) -> String {
        self.up.as_ref().map(Process::output).unwrap_or_default()
    }

    /// `tercetd run` for one node, until it answers.
    pub fn run(&mut self, node: &str) {
        let config = self.data_dir().join("cluster.toml");
        self.run_with(node, &config);
    }

    /// The same with another `cluster.toml`.
    pub fn run_with(&mut self, node: &str, config: &Path) {
        let url = self.url(node);
        self.run_as(node, node, config, &url);
    }

    /// The same for a process that the context does not know: `label` names it here.
    pub fn run_as(&mut self, label: &str, node: &str, config: &Path, url: &str) {
        let mut command = Command::new(crate::programs::tercetd());
        command.current_dir("/").arg("run").arg("--config").arg(config).args(["--node", node]);
        let mut run = Process::start(command);
        let answered = try_eventually(NODE_LIMIT, &mut || match run.has_ended() {
            Some(status) => Ok(Err(format!("it ended with {status}"))),
            None => self.alive(url).map(|()| Ok(())),
        });
        let output = run.output();
        self.runs.insert(label.to_owned(), run);
        if let Err(why) | Ok(Err(why)) = answered {
            panic!("`tercetd run` of {label}: {why}:\n{output}\n{}", self.logs());
        }
    }

    // ---- where things are ----

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder beside the data, for files of the test.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.folder.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("the temporary folder is writable");
        scratch
    }

    pub fn nodes(&self, cloud: &str) -> Vec<String> {
        self.addresses().into_iter().filter(|(of, ..)| of == cloud).map(|(_, node, _)| node).collect()
    }

    pub fn url(&self, node: &str) -> String {
        let found = self.addresses().into_iter().find(|(_, id, _)| id == node);
        found.unwrap_or_else(|| panic!("the context names no node {node}")).2
    }

    /// Cloud, node and address of every node that the context names.
    fn addresses(&self) -> Vec<(String, String, String)> {
        let context = read_context(&self.data_dir());
        let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
        let clouds = context["clouds"].as_array().expect("the context lists clouds");
        let nodes = clouds.iter().flat_map(|cloud| {
            let nodes = cloud["nodes"].as_array().expect("a cloud lists nodes");
            nodes.iter().map(|node| (text(&cloud["name"]), text(&node["id"]), text(&node["url"])))
        });
        nodes.collect()
    }

    // ---- asking ----

    pub fn api(&self) -> &Api {
        self.api.as_ref().expect("the cluster was started")
    }

    pub fn cli(&self) -> Cli {
        Cli::new(&self.data_dir())
    }

    pub fn author(&self) -> Author {
        Author::of(&self.data_dir())
    }

    /// A node's own view, if it answers.
    pub fn status(&self, node: &str) -> Result<Value, String> {
        let reply = self.api().get(&format!("{}/v1/status", self.url(node))).try_send()?;
        check(reply.status == 200, || format!("{node}: {}", reply.text()))?;
        Ok(reply.json())
    }

    /// Whether something answers at this address.
    fn alive(&self, url: &str) -> Result<(), String> {
        self.api().get(&format!("{url}/livez")).try_send().map(|_| ())
    }

    fn is_alive(&self, node: &str) -> bool {
        self.alive(&self.url(node)).is_ok()
    }

    pub fn pid(&self, node: &str) -> i32 {
        let status = eventually(&format!("{node} answers"), NODE_LIMIT, || self.status(node));
        status["pid"].as_i64().expect("a node tells its pid") as i32
    }

    /// The leader of a cloud, as its own nodes agree: it says so itself.
    pub fn leader(&self, cloud: &str) -> String {
        let nodes = self.nodes(cloud);
        eventually(&format!("{cloud} has a leader"), NODE_LIMIT, || {
            let leads = |node: &&String| self.status(node).is_ok_and(|status| status["role"] == "leader");
            nodes.iter().find(leads).cloned().ok_or_else(|| "no node says it leads".to_owned())
        })
    }

    /// Address of a cloud's leader.
    pub fn leader_url(&self, cloud: &str) -> String {
        self.url(&self.leader(cloud))
    }

    /// What a cloud knows about all logs: cloud to (size, root, flagged).
    pub fn heads(&self, cloud: &str) -> BTreeMap<String, (u64, String)> {
        self.try_heads(cloud).unwrap_or_else(|why| panic!("heads of {cloud}: {why}"))
    }

    fn try_heads(&self, cloud: &str) -> Result<BTreeMap<String, (u64, String)>, String> {
        let status = self.status(&self.leader(cloud))?;
        let clouds = status["clouds"].as_array().ok_or("no clouds in the status")?;
        let head = |seen: &Value| {
            let name = seen["cloud"].as_str().unwrap_or_default().to_owned();
            (name, (seen["size"].as_u64().unwrap_or_default(), seen["root"].as_str().unwrap_or_default().to_owned()))
        };
        Ok(clouds.iter().map(head).collect())
    }

    /// Waits until all three clouds hold the same heads of all three logs, and returns them.
    pub fn equal_heads(&self, limit: Duration) -> BTreeMap<String, (u64, String)> {
        eventually("all clouds hold the same heads", limit, || {
            let views = CLOUDS.map(|cloud| self.try_heads(cloud));
            match &views {
                [Ok(a), Ok(b), Ok(c)] if a == b && b == c => Ok(a.clone()),
                _ => Err(format!("{views:?}")),
            }
        })
    }

    // ---- events ----

    fn events_url(&self, cloud: &str) -> String {
        format!("{}/v1/tenants/default/events", self.leader_url(cloud))
    }

    /// Submits a signed event in the plain form at a cloud.
    pub fn submit(&self, cloud: &str, id: &str, payload: &Value) -> Reply {
        self.api().post(&self.events_url(cloud)).json(&self.author().plain(id, payload)).send()
    }

    /// An event as one cloud sees it, if it knows it.
    pub fn event(&self, cloud: &str, id: &str) -> Result<Value, String> {
        let reply = self.api().get(&format!("{}/{id}", self.events_url(cloud))).try_send()?;
        check(reply.status == 200, || format!("{cloud}: {}", reply.text()))?;
        Ok(reply.json())
    }

    /// Waits until a cloud sees an event at this level.
    pub fn wait_level(&self, cloud: &str, id: &str, level: &str, limit: Duration) -> Value {
        eventually(&format!("{id} is {level} at {cloud}"), limit, || {
            let event = self.event(cloud, id)?;
            check(event["level"] == level, || event.to_string())?;
            Ok(event)
        })
    }

    // ---- harming ----

    /// `kill -9` of one node.
    pub fn kill(&mut self, node: &str) {
        let pid = self.pid(node);
        self.kill_pids(&[pid]);
        self.runs.remove(node);
    }

    /// Kills a follower of a cloud and removes what its disk held, but its keys. Returns which one; it does not run.
    pub fn wipe_follower(&mut self, cloud: &str) -> String {
        let leader = self.leader(cloud);
        let node = self.nodes(cloud).into_iter().find(|node| *node != leader).expect("there are followers");
        self.kill(&node);
        for part in ["raft", "state"] {
            std::fs::remove_dir_all(self.data_dir().join("nodes").join(&node).join(part)).expect("it was there");
        }
        node
    }

    /// `kill -9` of all nodes of a cloud, at once.
    pub fn kill_cloud(&mut self, cloud: &str) {
        let nodes: Vec<String> = self.nodes(cloud).into_iter().filter(|node| self.is_alive(node)).collect();
        let pids: Vec<i32> = nodes.iter().map(|node| self.pid(node)).collect();
        self.kill_pids(&pids);
        for node in nodes {
            self.runs.remove(&node);
        }
    }

    /// Brings every node of a cloud back that does not answer.
    pub fn run_cloud(&mut self, cloud: &str) {
        for node in self.nodes(cloud) {
            if !self.is_alive(&node) {
                self.run(&node);
            }
        }
    }

    pub fn pause(&self, node: &str) -> i32 {
        let pid = self.pid(node);
        process::signal(pid, Signal::SIGSTOP);
        pid
    }

    fn kill_pids(&self, pids: &[i32]) {
        for pid in pids {
            process::signal(*pid, Signal::SIGKILL);
        }
        for pid in pids {
            eventually(&format!("process {pid} is dead"), NODE_LIMIT, || {
                check(!process::is_alive(*pid), || "it lives".to_owned())
            });
        }
    }

    /// The last lines of every node's log.
    pub fn logs(&self) -> String {
        let nodes = std::fs::read_dir(self.data_dir().join("nodes")).into_iter().flatten().flatten();
        let mut logs: Vec<String> = nodes.map(|node| tail(&node.path().join("log.txt"))).collect();
        logs.sort();
        let runs = self.runs.iter().map(|(node, run)| format!("--- run {node}\n{}", run.output()));
        logs.into_iter().chain(runs).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- tercetd up\n{}\n{}", self.output(), self.logs());
        }
        self.runs.clear();
        self.up = None;
    }
}

/// The context that `tercetd up` wrote.
pub fn read_context(data_dir: &Path) -> toml::Table {
    let path = data_dir.join("context.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("--- {}\n{}", path.display(), lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
