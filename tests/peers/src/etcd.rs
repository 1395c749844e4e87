//! etcd: three nodes of one cluster on this machine, as Debian ships it, with its default durability.

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tercet::load::{self, Load, Measured, Progress};
use tercet::usage::Usage;
use tercet_tests::process::Process;
use tercet_tests::proxy::Proxy;
use tercet_tests::wait::{check, eventually};

const START_LIMIT: Duration = Duration::from_secs(60);
/// As many as `tercet bench events` shares a connection among.
const CLIENTS_PER_CONNECTION: u32 = 64;

pub struct Etcd {
    nodes: Vec<Process>,
    _links: Vec<Proxy>,
    _folder: tempfile::TempDir,
    urls: Vec<String>,
}

/// What `etcd --version` says of itself.
pub fn version() -> Result<String> {
    let output = Command::new("etcd").arg("--version").output();
    let output = output.context("no etcd on the path; install Debian's `etcd-server`, or put etcd there")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().and_then(|line| line.strip_prefix("etcd Version: "));
    Ok(line.context("`etcd --version` says no version")?.to_owned())
}

impl Etcd {
    /// With delays, what a node tells the others arrives so much later.
    pub fn start(delays: Option<[Duration; 3]>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = || Ok::<u16, std::io::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let ports: Vec<(u16, u16)> = (0..3).map(|_| Ok((port()?, port()?))).collect::<Result<_>>()?;
        let links: Vec<Proxy> = delays
            .into_iter()
            .flatten()
            .zip(&ports)
            .map(|(delay, (peer, _))| Proxy::delayed(([127, 0, 0, 1], *peer).into(), Duration::ZERO, delay))
            .collect();
        let advertised = |n: usize| links.get(n).map_or(ports[n].0, |link| link.address.port());
        let peers: Vec<String> = (0..3).map(|n| format!("n{n}=http://127.0.0.1:{}", advertised(n))).collect();
        let nodes = ports.iter().enumerate().map(|(n, (peer, client))| {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("n{n}"), "--data-dir"]).arg(folder.path().join(n.to_string()));
            for (option, port) in [
                ("--listen-peer-urls", *peer),
                ("--initial-advertise-peer-urls", advertised(n)),
                ("--listen-client-urls", *client),
                ("--advertise-client-urls", *client),
            ] {
                command.args([option, &format!("http://127.0.0.1:{port}")]);
            }
            command.args(["--initial-cluster", &peers.join(","), "--logger", "zap", "--log-level", "error"]);
            Process::start(command)
        });
        let nodes: Vec<Process> = nodes.collect();
        let urls = ports.iter().map(|(_, client)| format!("http://127.0.0.1:{client}")).collect();
        Ok(Self { nodes, _links: links, _folder: folder, urls })
    }

    pub async fn ready(&self) -> Result<()> {
        let urls = self.urls.clone();
        let asked = tokio::task::spawn_blocking(move || {
            eventually("etcd has a leader", START_LIMIT, || {
                let mut command = Command::new("etcdctl");
                command.env("ETCDCTL_API", "3").args(["--endpoints", &urls.join(","), "endpoint", "health"]);
                let done = command.output().map_err(|error| error.to_string())?;
                check(done.status.success(), || String::from_utf8_lossy(&done.stderr).into_owned())
            })
        });
        asked.await.context("etcd does not start")
    }

    /// Puts of new keys, spread over the nodes as clients of Tercet are over the clouds.
    pub async fn puts(&self, load: Load, value_bytes: usize, run: &'static str) -> Result<Measured> {
        self.puts_at(None, load, value_bytes, run).await
    }

    /// The same, at one node alone if one is named.
    pub async fn puts_at(
        &self,
        node: Option<usize>,
        load: Load,
        value_bytes: usize,
        run: &'static str,
    ) -> Result<Measured> {
        let count = load.clients.div_ceil(CLIENTS_PER_CONNECTION).max(3);
        let mut connections = Vec::new();
        for number in 0..count {
            let url = &self.urls[node.unwrap_or(number as usize % self.urls.len())];
            connections.push(Client::connect([url], Some(ConnectOptions::new())).await?.kv_client());
        }
        let value = Arc::new(vec![b'x'; value_bytes]);
        let put = move |client: u32, round: u32| {
            let mut kv = connections[client as usize % connections.len()].clone();
            let value = value.clone();
            async move {
                let key = format!("bench-{run}-{client}-{round}");
                kv.put(key, value.as_slice(), None).await.map(|_| ()).map_err(|error| error.to_string())
            }
        };
        Ok(load::run(load, &Arc::new(Progress::default()), put).await)
    }

    pub fn usage(&self) -> Vec<Usage> {
        self.nodes.iter().filter_map(|node| Usage::of(node.pid() as u32)).collect()
    }
}
