//! A cloud's replicas in one process, over the network in memory; their disks outlive them.

use crate::config::EngineKind;
use crate::env::memory::MemoryNetwork;
use crate::peer::{PeerClient, PeerServer};
use crate::raft::{Committed, ProposeError, Replica, ReplicaConfig, Retention};
use crate::storage::wal::{Log, MemoryLog, Wal};
use crate::storage::{Engine, MemoryEngine, open};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::command::Command;
use tercet_core::content::TenantSecret;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, NodeId, TenantId};
use tercet_core::signature::SigningKey;
use tercet_core::tenants::{self, Confirm, Tenant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// Where replicas keep what they have.
pub enum Place {
    Memory(Vec<(MemoryLog, Arc<MemoryEngine>)>),
    Disk(EngineKind, tempfile::TempDir),
}

pub struct Group {
    pub network: MemoryNetwork,
    pub place: Place,
    pub members: Vec<NodeId>,
    pub nodes: Vec<Option<(Replica, PeerServer)>>,
    starts: u64,
}

pub fn memory(size: usize) -> Place {
    Place::Memory((0..size).map(|_| Default::default()).collect())
}

pub fn disk(kind: EngineKind) -> Place {
    Place::Disk(kind, tempfile::tempdir().unwrap())
}

pub fn genesis() -> Genesis {
    let voter = |name: &str, seed: u8| Voter {
        cloud: CloudId::new(name).unwrap(),
        weight: 1,
        root_key: SigningKey::from_seed(&[seed; 32]).public(),
    };
    Genesis { voters: vec![voter("aws", 1), voter("azure", 2), voter("gcp", 3)], quorum: 2, nonce: [9; 32] }
}

pub fn put_tenant(name: &str) -> Command {
    Command::Tenants(tenants::Command::Put(Tenant {
        id: TenantId::new(name).unwrap(),
        secret: TenantSecret([1; 32]),
        confirm: Confirm::Auto,
        keys: Vec::new(),
        unsigned: true,
        max_pending: 10,
    }))
}

/// Waits under simulated or real time.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let looking = async {
        while !done() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    assert!(found.is_ok(), "waited in vain: {what}");
}

impl Group {
    pub fn new(size: usize, place: Place) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Another test of this process may have been first.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let members = (1..=size).map(|n| NodeId::new(format!("gcp-{n}")).unwrap()).collect();
        let network = MemoryNetwork::new();
        Self { network, place, members, nodes: (0..size).map(|_| None).collect(), starts: 0 }
    }

    pub async fn started(size: usize, place: Place) -> Self {
        let mut group = Self::new(size, place);
        group.start_all().await;
        group.leader().await;
        // Until a member has caught up once it cannot tell a new group from a disk that it lost.
        until("all take part", || (0..size).all(|node| group.takes_part(node))).await;
        group
    }

    pub fn takes_part(&self, node: usize) -> bool {
        self.replica(node).takes_part()
    }

    fn folder(&self, node: usize) -> Option<PathBuf> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Disk(_, dir) => Some(dir.path().join(self.members[node].as_str())),
        }
    }

    pub fn engine(&self, node: usize) -> anyhow::Result<Arc<dyn Engine>> {
        match &self.place {
            Place::Memory(disks) => Ok(disks[node].1.clone()),
            Place::Disk(kind, _) => open(*kind, &self.folder(node).unwrap().join("state")),
        }
    }

    /// The log of a node in memory, which outlives the node.
    pub fn log(&self, node: usize) -> MemoryLog {
        match &self.place {
            Place::Memory(disks) => disks[node].0.clone(),
            Place::Disk(..) => panic!("only logs in memory are at hand"),
        }
    }

    pub async fn try_start(&mut self, node: usize) -> anyhow::Result<()> {
        self.starts += 1;
        let env = self.network.env(self.members[node].clone(), self.starts);
        let peers = PeerClient::new(env.clone());
        let folder = self.folder(node).map(|dir| dir.join("raft"));
        let config = ReplicaConfig {
            genesis: genesis(),
            cloud: CloudId::new("gcp").unwrap(),
            region: "europe".into(),
            node: self.members[node].clone(),
            members: self.members.clone(),
            log_dir: folder.clone(),
            engine: self.engine(node)?,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            retention: Retention::default(),
        };
        let log: Arc<dyn Log> = match (&self.place, folder) {
            (Place::Memory(disks), _) => Arc::new(disks[node].0.clone()),
            (_, folder) => Arc::new(Wal::open(&folder.unwrap().join("wal"))?),
        };
        let replica = Replica::start_on(config, log, env.clone(), peers).await?;
        let members = self.members.clone();
        let same_cloud = Arc::new(move |peer: &NodeId| members.contains(peer));
        let server = PeerServer::start(env, same_cloud, replica.methods(), Arc::new(|_| Box::pin(async {})));
        self.nodes[node] = Some((replica, server));
        Ok(())
    }

    pub async fn start(&mut self, node: usize) {
        self.try_start(node).await.unwrap();
    }

    pub async fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node).await;
        }
    }

    pub async fn stop(&mut self, node: usize) {
        let (replica, server) = self.nodes[node].take().unwrap();
        self.network.crash(&self.members[node]);
        replica.stop().await;
        drop((replica, server));
        self.gone(node).await;
    }

    /// As `kill -9`: nothing is flushed, nobody is told.
    pub async fn kill(&mut self, node: usize) {
        self.network.crash(&self.members[node]);
        drop(self.nodes[node].take().unwrap());
        self.gone(node).await;
    }

    pub async fn kill_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node).await;
        }
    }

    /// A node in memory that does not run loses log and state.
    pub fn wipe(&mut self, node: usize) {
        match &mut self.place {
            Place::Memory(disks) => disks[node] = Default::default(),
            Place::Disk(..) => panic!("only disks in memory are at hand"),
        }
    }

    /// Tasks end in their own time; a folder is free when its lock is.
    async fn gone(&self, node: usize) {
        if let Place::Disk(..) = self.place {
            let dir = self.folder(node).unwrap();
            let free = |path: PathBuf| match std::fs::File::options().write(true).open(path) {
                Ok(file) => file.try_lock().is_ok(),
                Err(_) => true,
            };
            until("the folder is free", || free(dir.join("state.lock")) && free(dir.join("raft/wal/LOCK"))).await;
        }
        // Whatever the runtime still runs of it ends within this simulated moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub fn replica(&self, node: usize) -> &Replica {
        &self.nodes[node].as_ref().unwrap().0
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some()).collect()
    }

    /// The node that leads, known to itself and to a majority.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        until("a leader", || {
            let running = self.running();
            let latest =
                running.iter().map(|node| self.replica(*node).leadership().borrow().clone()).max_by_key(|l| l.term);
            let leader = latest.and_then(|latest| latest.leader);
            found = leader.and_then(|leader| self.members.iter().position(|member| *member == leader));
            found = found.filter(|node| running.contains(node) && self.replica(*node).leadership().borrow().is_leader);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub async fn put(&self, node: usize, tenant: &str) -> Committed {
        let committed = self.try_put(node, tenant).await.unwrap();
        committed.reply.clone().unwrap();
        committed
    }

    pub async fn try_put(&self, node: usize, tenant: &str) -> Result<Committed, ProposeError> {
        self.replica(node).propose_anywhere(None, put_tenant(tenant)).await
    }

    pub fn knows(&self, node: usize, tenant: &str) -> bool {
        let id = TenantId::new(tenant).unwrap();
        self.replica(node).read(|view| Ok(view.state.tenant(&id).is_some())).unwrap_or(false)
    }

    pub async fn until_known(&self, node: usize, tenant: &str) {
        until(&format!("{} knows {tenant}", self.members[node]), || self.knows(node, tenant)).await;
    }

    /// Makes a snapshot on a node, and purges its log up to it.
    pub async fn purge(&self, node: usize) {
        let raft = self.replica(node).inner.shared.raft.get().unwrap();
        let applied = *self.replica(node).applied().borrow();
        raft.trigger().snapshot().await.unwrap();
        let wait = raft.wait(Some(PATIENCE));
        wait.metrics(|now| now.snapshot.is_some_and(|id| id.index >= applied), "snapshot").await.unwrap();
        raft.trigger().purge_log(applied).await.unwrap();
        wait.metrics(|now| now.purged.is_some_and(|id| id.index >= applied), "purge").await.unwrap();
    }
}

/// Runs one case on every place that a group of this size can live in.
pub async fn on_disk<F: Future<Output = ()>>(case: impl Fn(Place) -> F) {
    for kind in [EngineKind::Sled, EngineKind::Fjall] {
        case(disk(kind)).await;
    }
}
