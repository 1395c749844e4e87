//! etcd beside Tercet: three nodes of one cluster on this machine, as Debian ships it, with its default durability.

use crate::process::{Process, Reaper};
use crate::proxy::Proxy;
use crate::wait::{check, eventually};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Etcd {
    pub nodes: Vec<Process>,
    /// Where clients reach each node.
    pub urls: Vec<String>,
    _links: Vec<Proxy>,
    _folder: TempDir,
    /// Ctrl-C ends whoever measures, and no destructor runs then.
    _reaper: Reaper,
}

/// What `etcd --version` says of itself; `None` if there is no etcd on the path.
pub fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.strip_prefix("etcd Version: ")?.to_owned())
}

impl Etcd {
    /// Until it has a leader. With delays, what a node tells the others arrives so much later.
    pub fn start(delays: Option<[Duration; 3]>) -> Self {
        let folder = tempfile::Builder::new().prefix("tercet-etcd-").tempdir().expect("a writable folder");
        let reaper = Reaper::of(folder.path());
        let port = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (port(), port())).collect();
        let link = |(delay, (peer, _)): (Duration, &(u16, u16))| {
            Proxy::delayed(([127, 0, 0, 1], *peer).into(), Duration::ZERO, delay)
        };
        let links: Vec<Proxy> = delays.into_iter().flatten().zip(&ports).map(link).collect();
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
        let urls: Vec<String> = ports.iter().map(|(_, client)| format!("http://127.0.0.1:{client}")).collect();
        eventually("etcd has a leader", START_LIMIT, || {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["--endpoints", &urls.join(","), "endpoint", "health"]);
            let done = command.output().map_err(|error| error.to_string())?;
            check(done.status.success(), || String::from_utf8_lossy(&done.stderr).into_owned())
        });
        Self { nodes, urls, _links: links, _folder: folder, _reaper: reaper }
    }
}
