//! Everything that can be done to a real cluster, in one list: what it is called, what it needs of
//! this machine, and how much of the cluster it may touch. Each nemesis is a story told in order: the
//! fault begins, something shows that it bit, it ends, and the clouds become whole again.

mod budget;
mod clock;
mod damage;
mod disk;
mod network;
mod process;
mod recovery;

pub use budget::Reach;
pub use clock::faketime;

use super::cluster::{CLOUDS, Cluster, SETTLE_LIMIT};
use super::port::RealPort;
use super::probe::Need;
use crate::history::{Recorder, What};
use crate::random::Random;
use anyhow::Result;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a fault lasts, unless its nature says otherwise.
const HOLD_LEAST: Duration = Duration::from_secs(3);
const HOLD_MOST: Duration = Duration::from_secs(6);
/// How long a proof may take to appear.
const PROOF_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

pub struct Nemesis {
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    pub needs: &'static [Need],
    pub reach: Reach,
    pub run: for<'a> fn(&'a mut Act) -> BoxFuture<'a, Result<()>>,
}

macro_rules! nemesis {
    ($name:literal, $needs:expr, $reach:ident, $run:path, $about:literal) => {
        Nemesis { name: $name, about: $about, needs: &$needs, reach: Reach::$reach, run: |act| Box::pin($run(act)) }
    };
}

/// All there are.
pub const ALL: &[Nemesis] = &[
    nemesis!("kill-one", [], OneCloud, process::kill_one, "kill -9 of one node"),
    nemesis!("kill-leader", [], OneCloud, process::kill_leader, "kill -9 of a cloud's leader"),
    nemesis!("kill-minorities", [], Everything, process::kill_minorities, "kill -9 of one node in every cloud at once"),
    nemesis!("kill-cloud", [], OneCloud, process::kill_cloud, "kill -9 of all nodes of a cloud"),
    nemesis!("kill-all", [], Everything, process::kill_all, "kill -9 of all nine nodes"),
    nemesis!("pause-one", [], OneCloud, process::pause_one, "SIGSTOP of one node"),
    nemesis!("pause-leader", [], OneCloud, process::pause_leader, "SIGSTOP of a cloud's leader"),
    nemesis!("pause-cloud", [], OneCloud, process::pause_cloud, "SIGSTOP of all nodes of a cloud"),
    nemesis!("isolate-node", [Need::Network], OneCloud, network::isolate_node, "one node reaches nobody"),
    nemesis!(
        "isolate-leader",
        [Need::Network],
        OneCloud,
        network::isolate_leader,
        "a leader reaches clients, and no other node"
    ),
    nemesis!(
        "isolate-cloud",
        [Need::Network],
        OneCloud,
        network::isolate_cloud,
        "a cloud reaches clients, and no other cloud"
    ),
    nemesis!(
        "ring",
        [Need::Network],
        Everything,
        network::ring,
        "each node reaches only its two neighbours in a random ring"
    ),
    nemesis!(
        "bridge",
        [Need::Network],
        Everything,
        network::bridge,
        "two clouds reach each other only through the third"
    ),
    nemesis!("one-way", [Need::Network], OneCloud, network::one_way, "a leader hears everybody, and nobody hears it"),
    nemesis!(
        "flapping",
        [Need::Network],
        OneCloud,
        network::flapping,
        "a leader's links come and go several times a second"
    ),
    nemesis!(
        "client-cut",
        [Need::Network],
        OneCloud,
        network::client_cut,
        "clients do not reach a cloud; clouds reach each other"
    ),
    nemesis!("delay", [Need::Network], Everything, network::delay, "20 to 200 ms between clouds, up to 20 ms inside"),
    nemesis!("loss", [Need::Network], Everything, network::loss, "one packet in ten is lost, everywhere"),
    nemesis!(
        "reorder",
        [Need::Network],
        Everything,
        network::reorder,
        "packets overtake each other, and some arrive twice"
    ),
    nemesis!("rate-limit", [Need::Network], OneCloud, network::rate_limit, "a cloud's links carry 40 kB a second"),
    nemesis!(
        "clock-forward",
        [Need::FakeTime],
        OneCloud,
        clock::forward,
        "a cloud's wall clocks jump ahead by hours, each differently"
    ),
    nemesis!(
        "clock-backward",
        [Need::FakeTime],
        OneCloud,
        clock::backward,
        "a cloud's wall clocks jump back by hours, each differently"
    ),
    nemesis!(
        "monotonic-offset",
        [Need::TimeNamespace],
        OneCloud,
        clock::monotonic,
        "a node restarts on a machine that has been up for weeks"
    ),
    nemesis!(
        "power-cut-node",
        [Need::PowerCut],
        OneCloud,
        disk::power_cut_node,
        "one node's disk loses power: what was not synced is gone"
    ),
    nemesis!("power-cut-cloud", [Need::PowerCut], OneCloud, disk::power_cut_cloud, "a cloud loses power"),
    nemesis!("power-cut-all", [Need::PowerCut], Everything, disk::power_cut_all, "all nine disks lose power at once"),
    nemesis!("disk-full", [Need::Disk], OneCloud, disk::full, "no space is left on one node's disk"),
    nemesis!("sync-error", [Need::Strace], OneCloud, disk::sync_error, "every fsync of one node fails with EIO"),
    nemesis!("slow-disk", [Need::Strace], OneCloud, disk::slow, "every fsync of a leader takes 200 ms longer"),
    nemesis!(
        "read-only",
        [Need::ReadOnly],
        OneCloud,
        disk::read_only,
        "one node's file system has an error and turns read-only"
    ),
    nemesis!("flip-log", [], Damage, damage::flip_log, "one bit in a node's Raft log flips"),
    nemesis!("flip-state", [], Damage, damage::flip_state, "one bit in a node's applied state flips"),
    nemesis!("flip-identity", [], Damage, damage::flip_identity, "one bit in a node's node.json flips"),
    nemesis!("flip-key", [], Damage, damage::flip_key, "one bit in a node's signing key flips"),
    nemesis!("truncate-log", [], Damage, damage::truncate_log, "a node's Raft log loses its second half"),
    nemesis!(
        "torn-tail",
        [],
        Damage,
        damage::torn_tail,
        "a node's Raft log ends in a record that was only half written"
    ),
    nemesis!(
        "truncate-state",
        [],
        Damage,
        damage::truncate_state,
        "the largest file of a node's applied state loses its second half"
    ),
    nemesis!("wiped-node", [], Damage, recovery::wiped_node, "a node loses its log and its state"),
    nemesis!(
        "old-backup-node",
        [],
        Damage,
        recovery::old_backup_node,
        "a node comes back with an old copy of its log and state"
    ),
    nemesis!(
        "lost-state-old-backup",
        [Need::Network],
        Everything,
        recovery::old_backup_cloud,
        "a cloud comes back with old copies and its keys: it must not sign"
    ),
    nemesis!(
        "lost-state",
        [Need::Network],
        Everything,
        recovery::lost_cloud,
        "a cloud loses everything and is renewed in a new epoch"
    ),
];

pub fn find(name: &str) -> Option<&'static Nemesis> {
    ALL.iter().find(|nemesis| nemesis.name == name)
}

/// What all nemeses of a run share.
#[derive(Debug)]
pub struct Stage {
    pub cluster: Cluster,
    pub port: RealPort,
    pub recorder: std::sync::Arc<Recorder>,
    pub out: PathBuf,
    numbers: AtomicU64,
}

impl Stage {
    pub fn new(cluster: Cluster, port: RealPort, recorder: std::sync::Arc<Recorder>, out: PathBuf) -> Self {
        Self { cluster, port, recorder, out, numbers: AtomicU64::new(1) }
    }

    /// Tells a cloud about the tenants, as soon as it listens.
    pub async fn make_tenants(&self, cloud: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.port.make_tenants(cloud).await {
                Err(_) if begun.elapsed() < SETTLE_LIMIT => tokio::time::sleep(POLL).await,
                told => return told,
            }
        }
    }
}

/// One performance of a nemesis.
pub struct Act {
    pub stage: std::sync::Arc<Stage>,
    pub name: &'static str,
    pub random: Random,
    /// The cloud that it may touch, if its reach is one cloud.
    pub cloud: &'static str,
}

impl Act {
    pub fn cluster(&self) -> &Cluster {
        &self.stage.cluster
    }

    pub fn begin(&self, on: &[String], detail: &str) -> Fault {
        let number = self.stage.numbers.fetch_add(1, Ordering::SeqCst);
        let recorder = self.stage.recorder.clone();
        let (fault, detail) = (self.name.to_owned(), detail.to_owned());
        recorder.write(What::FaultBegan { number, fault, on: on.to_vec(), detail });
        Fault { recorder, number }
    }

    pub async fn hold(&mut self) {
        tokio::time::sleep(self.random.between(HOLD_LEAST, HOLD_MOST)).await;
    }

    /// A node of this act's cloud.
    pub fn any_node(&mut self) -> String {
        let nodes = self.cluster().nodes_of(self.cloud);
        self.random.choose(&nodes).clone()
    }

    pub fn nodes(&self) -> Vec<String> {
        self.cluster().nodes_of(self.cloud)
    }

    pub fn other_clouds(&self) -> Vec<&'static str> {
        CLOUDS.into_iter().filter(|cloud| *cloud != self.cloud).collect()
    }

    pub async fn leader(&self) -> Result<String> {
        self.cluster().leader(self.cloud).await
    }

    /// The product did not do what it promises under this fault.
    pub fn violated(&self, invariant: &str, why: String) {
        self.stage.recorder.write(What::Violated { invariant: invariant.to_owned(), why });
    }
}

/// A fault that has begun. It ends when it is dropped, at the latest.
pub struct Fault {
    recorder: std::sync::Arc<Recorder>,
    number: u64,
}

impl Fault {
    pub fn prove(&self, how: impl Into<String>) {
        self.recorder.write(What::FaultProven { number: self.number, how: how.into() });
    }

    /// Looks for a proof until there is one or the time is over: then there is none, and the run will
    /// be rejected.
    pub async fn prove_when(&self, mut look: impl FnMut() -> Option<String>) {
        let begun = Instant::now();
        while begun.elapsed() < PROOF_LIMIT {
            if let Some(how) = look() {
                return self.prove(how);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn end(self) {}
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.recorder.write(What::FaultEnded { number: self.number });
    }
}
