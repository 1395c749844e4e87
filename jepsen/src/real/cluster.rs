//! Nine `tercetd` processes, each in a network namespace and on a disk of its own where this machine
//! allows that: starting, ending and asking them. Whoever harms them is elsewhere (`nemesis`).

use super::disk::Disk;
use super::namespace::Namespace;
use super::switch::Switch;
use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tercet::client::{Client, Patience};
use tercet::context::Context;
use tercet::http::Call;
use tercet_core::ids::NodeId;
use tercet_tests::process::{self, Reaper};
use tercet_tests::programs;
use tercetd::env::Os;
use tercetd::up::create::{Template, create};

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
const NODES_PER_CLOUD: usize = 3;
/// A file in a cluster's folder that its run holds locked.
const LOCK: &str = "run.lock";
/// Ports of the switch: clients, whoever watches and repairs, then the nodes.
pub const CLIENTS: usize = 0;
pub const OPERATOR: usize = 1;
const FIRST_NODE: usize = 2;
const PEER_PORT: u16 = 7001;
const CLIENT_PORT: u16 = 7002;
/// How long one node may take to answer when it is asked how it is.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// From its start until a cloud has a leader and all nodes are up to date. Others may be compiling.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(90);
const END_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// What a cluster is built with.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    pub namespaces: bool,
    pub disks: bool,
    pub seed: u64,
}

/// In which surroundings a node runs.
#[derive(Debug, Clone, Default)]
pub enum Dress {
    #[default]
    Plain,
    /// The wall clock that this file tells (libfaketime).
    Clock { library: PathBuf, file: PathBuf },
    /// A machine that has been up for so much longer.
    Uptime(Duration),
}

#[derive(Debug)]
pub struct Cluster {
    /// Dropped first: kills what names the folder, also after this process was killed.
    _reaper: Reaper,
    pub folder: PathBuf,
    /// Tells others that this run goes on.
    _lock: File,
    logs: PathBuf,
    nodes: Vec<Node>,
    network: Option<Network>,
    client: Client,
}

#[derive(Debug)]
struct Network {
    switch: Switch,
    clients: Namespace,
    operator: Namespace,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub cloud: &'static str,
    pub folder: PathBuf,
    pub disk: Option<Disk>,
    namespace: Option<Namespace>,
    child: Mutex<Option<Child>>,
}

impl Cluster {
    /// Makes everything below `folder`, and starts nothing yet.
    pub fn make(folder: &Path, build: Build) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let reaper = Reaper::sparing(&folder.join("cluster"));
        let (logs, folder) = (folder.join("logs"), folder.join("cluster"));
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join(LOCK))?;
        lock.try_lock().with_context(|| format!("another run uses {}", folder.display()))?;
        let mut template = Template::standard(NODES_PER_CLOUD)?;
        let names = template.clouds.iter().flat_map(|cloud| &cloud.nodes);
        let names: Vec<String> = names.map(NodeId::to_string).collect();
        let mut nodes = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let place = folder.join("nodes").join(name);
            let image = folder.join(format!("{name}.ext4"));
            std::fs::create_dir_all(&place)?;
            let disk = build.disks.then(|| Disk::make(&image, &place)).transpose()?;
            let cloud = CLOUDS[at / NODES_PER_CLOUD];
            let namespace = build.namespaces.then(Namespace::new).transpose()?;
            nodes.push(Node { name: name.clone(), cloud, folder: place, disk, namespace, child: Mutex::default() });
        }
        let network = build.namespaces.then(|| Network::make(&nodes, build.seed)).transpose()?;
        if build.namespaces {
            let address = |at: usize, port| SocketAddr::from((address(FIRST_NODE + at), port));
            let given = |(at, name)| Ok((NodeId::new(name)?, [address(at, PEER_PORT), address(at, CLIENT_PORT)]));
            template.addresses = names.into_iter().enumerate().map(given).collect::<Result<_>>()?;
        }
        create(&folder, &template, &Os)?;
        let context = Context::read(&folder.join("context.toml"))?;
        let client = Client::new(&context, None, Patience::through_outages(Some(ASK_TIMEOUT)))?;
        Ok(Self { _reaper: reaper, folder, _lock: lock, logs, nodes, network, client })
    }

    // ---- who and where ----

    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    pub fn nodes_of(&self, cloud: &str) -> Vec<String> {
        self.nodes.iter().filter(|node| node.cloud == cloud).map(|node| node.name.clone()).collect()
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node is called {name}"))
    }

    pub fn port_of(&self, name: &str) -> usize {
        FIRST_NODE + self.nodes.iter().position(|node| node.name == name).expect("names come from this cluster")
    }

    pub fn switch(&self) -> Result<&Switch> {
        Ok(&self.network.as_ref().context("this run has no network of its own")?.switch)
    }

    /// Where clients' threads belong, and those of whoever watches; `None` on loopback.
    pub fn clients(&self) -> Option<Namespace> {
        self.network.as_ref().map(|network| network.clients.clone())
    }

    pub fn operator(&self) -> Option<Namespace> {
        self.network.as_ref().map(|network| network.operator.clone())
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("cluster.toml")
    }

    /// A file beside the nodes' logs.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    // ---- processes ----

    pub fn start(&self, name: &str) -> Result<()> {
        self.start_in(name, &Dress::Plain)
    }

    pub fn start_in(&self, name: &str, dress: &Dress) -> Result<()> {
        let node = self.node(name)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file(&format!("{name}.txt")))?;
        let mut command = dress.command(&programs::tercetd());
        command.arg("run").arg("--config").arg(self.config()).args(["--node", name]);
        command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut spawn = || command.spawn().with_context(|| format!("cannot start {name}"));
        let child = match &node.namespace {
            // A child stays in the namespace of the thread that started it.
            Some(namespace) => namespace.inside(spawn)?,
            None => spawn()?,
        };
        *node.child() = Some(child);
        Ok(())
    }

    /// The process of a node that should be running.
    pub fn pid(&self, name: &str) -> Result<i32> {
        let child = self.node(name)?.child();
        Ok(child.as_ref().with_context(|| format!("{name} does not run"))?.id() as i32)
    }

    /// How it ended, if it did. A node that was never started has not.
    pub fn ended(&self, name: &str) -> Result<Option<ExitStatus>> {
        let mut child = self.node(name)?.child();
        Ok(child.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    pub fn is_running(&self, name: &str) -> Result<bool> {
        let mut child = self.node(name)?.child();
        Ok(match child.as_mut() {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        })
    }

    pub fn signal(&self, names: &[String], signal: Signal) -> Result<Vec<i32>> {
        let pids = names.iter().map(|name| self.pid(name)).collect::<Result<Vec<_>>>()?;
        for pid in &pids {
            process::signal(*pid, signal);
        }
        Ok(pids)
    }

    /// `kill -9` of all of them at once, and their ends awaited.
    pub fn kill(&self, names: &[String]) -> Result<Vec<i32>> {
        let pids = self.signal(names, Signal::SIGKILL)?;
        for name in names {
            if let Some(mut child) = self.node(name)?.child().take() {
                child.wait()?;
            }
        }
        Ok(pids)
    }

    /// Waits until a node has ended by itself, and says how and with which words.
    pub async fn await_end(&self, name: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended(name)? {
                return Ok(format!("{name} ended with {status}: {}", self.last_words(name)));
            }
            ensure!(begun.elapsed() < END_LIMIT, "{name} still runs after {END_LIMIT:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts again whoever does not run, and waits until the clouds of all of them are whole.
    pub async fn bring_back(&self, names: &[String]) -> Result<()> {
        for name in names {
            if !self.is_running(name)? {
                self.start(name)?;
            }
        }
        for cloud in CLOUDS {
            if names.iter().any(|name| self.node(name).is_ok_and(|node| node.cloud == cloud)) {
                self.settle(cloud).await?;
            }
        }
        Ok(())
    }

    // ---- logs ----

    pub fn log_length(&self, name: &str) -> u64 {
        std::fs::metadata(self.log_file(&format!("{name}.txt"))).map_or(0, |found| found.len())
    }

    pub fn log_since(&self, name: &str, from: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.log_file(&format!("{name}.txt"))) {
            let _ = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn last_words(&self, name: &str) -> String {
        let text = self.log_since(name, self.log_length(name).saturating_sub(4096));
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }

    // ---- asking ----

    /// A node's own view.
    pub async fn status(&self, name: &str) -> Result<Value> {
        let node = self.client.clouds().iter().flat_map(|cloud| &cloud.nodes).find(|node| node.id.as_str() == name);
        let node = node.with_context(|| format!("the context names no {name}"))?;
        let call = Call::get(&["v1", "status"]);
        let answer = self.client.transport().attempt(name, &node.url, &call, ASK_TIMEOUT).await;
        match answer {
            Ok(answer) => Ok(answer.json()?),
            Err(failure) => bail!("{name}: {failure:?}"),
        }
    }

    async fn is_ready(&self, name: &str) -> bool {
        let node = self.client.clouds().iter().flat_map(|cloud| &cloud.nodes).find(|node| node.id.as_str() == name);
        let Some(node) = node else { return false };
        self.client.transport().attempt(name, &node.url, &Call::get(&["readyz"]), ASK_TIMEOUT).await.is_ok()
    }

    /// The views of all nodes of a cloud that answer.
    pub async fn views(&self, cloud: &str) -> BTreeMap<String, Value> {
        let names = self.nodes_of(cloud);
        let views = join_all(names.iter().map(|name| self.status(name))).await;
        names.into_iter().zip(views).filter_map(|(name, view)| Some((name, view.ok()?))).collect()
    }

    /// The node that says it leads, in the latest term.
    pub async fn leader(&self, cloud: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            if let Some((name, _)) = leading(&self.views(cloud).await) {
                return Ok(name.clone());
            }
            ensure!(begun.elapsed() < SETTLE_LIMIT, "{cloud} has had no leader for {SETTLE_LIMIT:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a cloud is whole: every node answers and has applied what its ready leader had.
    pub async fn settle(&self, cloud: &str) -> Result<()> {
        self.settle_without(cloud, None).await
    }

    /// The same while one of its nodes is down.
    pub async fn settle_without(&self, cloud: &str, absent: Option<&str>) -> Result<()> {
        let mut names = self.nodes_of(cloud);
        names.retain(|name| Some(name.as_str()) != absent);
        let begun = Instant::now();
        let mut goal = None;
        loop {
            let views = self.views(cloud).await;
            let applied = |view: &Value| view["applied"].as_u64().unwrap_or_default();
            if let Some((leader, view)) = leading(&views)
                && self.is_ready(leader).await
            {
                let goal = *goal.get_or_insert(applied(view));
                if views.len() == names.len() && views.values().all(|view| applied(view) >= goal) {
                    return Ok(());
                }
            }
            for name in &names {
                if let Some(status) = self.ended(name)? {
                    bail!("{name} ended with {status} instead of coming back: {}", self.last_words(name));
                }
            }
            if begun.elapsed() > SETTLE_LIMIT {
                let told: Vec<String> = views.iter().map(|(name, view)| format!("{name}: {view}")).collect();
                bail!("{cloud} is not whole after {SETTLE_LIMIT:?}: {}", told.join("; "));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Some(mut child) = node.child().take() {
                let _ = (child.kill(), child.wait());
            }
        }
        for disk in self.nodes.iter().filter_map(|node| node.disk.as_ref()) {
            // It stays mounted only for these threads, and so until they end.
            let _ = disk.unmount();
        }
    }
}

/// Whether the run whose cluster this was is over, however it ended.
pub fn is_abandoned(folder: &Path) -> Result<bool> {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return Ok(true) };
    Ok(lock.try_lock().is_ok())
}

impl Network {
    fn make(nodes: &[Node], seed: u64) -> Result<Self> {
        let (clients, operator) = (Namespace::new()?, Namespace::new()?);
        let namespaces =
            [&clients, &operator].into_iter().chain(nodes.iter().filter_map(|node| node.namespace.as_ref()));
        let interfaces = namespaces.enumerate().map(|(port, namespace)| {
            let address = address(port);
            Ok((address, namespace.attach(address)?))
        });
        let switch = Switch::start(interfaces.collect::<Result<_>>()?, seed)?;
        Ok(Self { switch, clients, operator })
    }
}

fn address(port: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, port as u8 + 1)
}

impl Node {
    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().expect("no thread panics while it holds a child")
    }
}

impl Dress {
    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Plain => Command::new(program),
            Self::Clock { library, file } => {
                let mut command = Command::new(program);
                command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
                // Only the wall clock is wrong; and a new offset counts at once.
                command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
                command
            }
            Self::Uptime(longer) => {
                let mut command = Command::new("unshare");
                let seconds = longer.as_secs().to_string();
                command.arg("--time").args(["--monotonic", &seconds, "--boottime", &seconds]).arg(program);
                command
            }
        }
    }
}

fn leading(views: &BTreeMap<String, Value>) -> Option<(&String, &Value)> {
    let leaders = views.iter().filter(|(_, view)| view["role"] == "leader");
    leaders.max_by_key(|(_, view)| view["term"].as_u64())
}
