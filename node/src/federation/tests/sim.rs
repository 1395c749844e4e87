//! The simulated federation that the tests drive.

use crate::config::{CloudEntry, Directory, NodeEntry};
use crate::env::memory::MemoryNetwork;
use crate::env::{Connection, FrameSink, PeerNetwork};
use crate::federation::{Federation, PeerCloud};
use crate::peer::{PeerClient, PeerServer};
use crate::raft::{ProposeError, Replica, ReplicaConfig, Retention};
use crate::storage::MemoryEngine;
use crate::storage::wal::LateLog;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::content::{Content, TenantSecret};
use tercet_core::epochs::Opening;
use tercet_core::events::{self, Level, Submission};
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, EventKey, Hash, NodeId, TenantId};
use tercet_core::mirrors::{self, LogChunk};
use tercet_core::rejection::Rejection;
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::tenants::{self, Confirm, Tenant, TenantSignature};
use tercet_core::time::WallMillis;
use tercet_core::transparency::{Frontier, Leaf, NoteBody, Origin, SignedNote, Verdict, Vote, leaf_hash};
use tercet_core::wire::sha256;

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
/// Longer than anything here takes in simulated time.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(2);

pub fn cloud(name: &str) -> CloudId {
    CloudId::new(name).unwrap()
}

fn tenant_id() -> TenantId {
    TenantId::new("default").unwrap()
}

fn key(id: &str) -> EventKey {
    EventKey::new("", id).unwrap()
}

fn node_key(node: &NodeId, epoch: u32) -> SigningKey {
    SigningKey::from_seed(&sha256(format!("{node} in epoch {epoch}").as_bytes()).0)
}

fn root_key(name: &str) -> SigningKey {
    SigningKey::from_seed(&sha256(format!("root {name}").as_bytes()).0)
}

/// An epoch of a cloud, with fresh keys and its root key's signature.
fn opening(genesis: &Genesis, entry: &CloudEntry, number: u32) -> Opening {
    let keys: Vec<_> = entry.nodes.iter().map(|n| (n.node.clone(), node_key(&n.node, number).public())).collect();
    let threshold = (keys.len() / 2 + 1) as u32;
    let root_signature = Signature([0; 64]);
    let mut opening = Opening { cloud: entry.cloud.clone(), number, keys, threshold, root_signature };
    opening.root_signature = root_key(entry.cloud.as_str()).sign(&opening.bytes(&genesis.fed_id()));
    opening
}

fn tenant_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

struct Node {
    log: LateLog,
    replica: Replica,
    federation: Arc<Federation>,
    _server: PeerServer,
}

pub struct Sim {
    network: MemoryNetwork,
    directory: Arc<Directory>,
    nodes: BTreeMap<NodeId, Node>,
    wires: Arc<Wires>,
    starts: u64,
}

impl Sim {
    /// All clouds with that many nodes each, ready, and knowing the tenant.
    pub async fn start(nodes_per_cloud: usize) -> Self {
        let sim = Self::start_without_tenant(nodes_per_cloud).await;
        for name in CLOUDS {
            sim.put_tenant(name).await;
        }
        sim
    }

    pub async fn start_without_tenant(nodes_per_cloud: usize) -> Self {
        let directory = Arc::new(directory(nodes_per_cloud));
        let network = MemoryNetwork::new();
        network.set_latency(Duration::from_millis(5));
        let (nodes, wires) = (BTreeMap::new(), Arc::default());
        let mut sim = Self { network, directory, nodes, wires, starts: 0 };
        let all: Vec<NodeId> =
            sim.directory.clouds.iter().flat_map(|cloud| cloud.nodes.iter().map(|n| n.node.clone())).collect();
        for node in all {
            sim.start_node(&node).await;
        }
        for name in CLOUDS {
            sim.leader(name).await;
        }
        let open = || CLOUDS.iter().all(|of| CLOUDS.iter().all(|at| sim.size(at, of) > 0));
        sim.until(open, "every cloud mirrors every opened log").await;
        sim
    }

    /// An event as a cloud sees it: for telling why clouds differ.
    pub fn event(&self, at: &str, id: &str) -> String {
        let show = |view: &crate::raft::View<'_>| {
            let event = view.state.event(view.records, &tenant_id(), &key(id)).unwrap()?;
            let votes = event.record.votes.iter().map(|vote| {
                let by: Vec<_> = view.state.genesis().names(view.state.audited_by(vote)).collect();
                format!(
                    "{} at {}{} audited by {by:?}",
                    vote.cloud,
                    vote.index,
                    if vote.branch.is_some() { " (branch)" } else { "" }
                )
            });
            Some(format!("{:?} {:?}: {}", event.record.level, event.record.marks, votes.collect::<Vec<_>>().join("; ")))
        };
        format!("{id} in {at}: {:?}", self.read(at, show))
    }

    async fn start_node(&mut self, node: &NodeId) {
        self.starts += 1;
        let mut env = self.network.env(node.clone(), self.starts);
        env.network = Arc::new(Watched { inner: env.network.clone(), me: node.clone(), wires: self.wires.clone() });
        let entry = self.directory.cloud_of(node).unwrap();
        let (cloud, region) = (entry.cloud.clone(), entry.region.clone());
        let members: Vec<NodeId> = entry.nodes.iter().map(|entry| entry.node.clone()).collect();
        let peers = PeerClient::new(env.clone());
        let config = ReplicaConfig {
            genesis: self.directory.genesis.clone(),
            cloud,
            region,
            node: node.clone(),
            members: members.clone(),
            log_dir: None,
            engine: Arc::new(MemoryEngine::default()),
            heartbeat: Duration::from_millis(300),
            election_min: Duration::from_millis(1_500),
            election_max: Duration::from_millis(3_000),
            retention: Retention::default(),
        };
        let log = LateLog::default();
        let replica = Replica::start_on(config, Arc::new(log.clone()), env.clone(), peers.clone()).await.unwrap();
        let directory = self.directory.clone();
        let own = directory.openings.iter().filter(|opening| opening.cloud == entry.cloud);
        let epoch = own.map(|opening| opening.number).max().unwrap();
        let federation =
            Federation::start(directory, node.clone(), node_key(node, epoch), replica.clone(), env.clone(), peers);
        let methods = replica.methods().into_iter().chain(federation.methods()).collect();
        let same_cloud = Arc::new(move |peer: &NodeId| members.contains(peer));
        let server = PeerServer::start(env, same_cloud, methods, federation.streams());
        self.nodes.insert(node.clone(), Node { log, replica, federation, _server: server });
    }

    pub async fn stop(self) {
        for node in self.nodes.values() {
            node.federation.stop().await;
            node.replica.stop().await;
        }
    }

    pub async fn kill(&mut self, node: &NodeId) {
        self.network.crash(node);
        let node = self.nodes.remove(node).unwrap();
        node.federation.stop().await;
        node.replica.stop().await;
    }

    /// Stops a cloud of one node and starts it again with its keys and nothing else.
    pub async fn lose_state(&mut self, name: &str) {
        let node = self.leader(name).await;
        self.kill(&node).await;
        self.start_node(&node).await;
    }

    /// The operator of a cloud that lost its state gives it a new epoch.
    pub async fn recover(&mut self, name: &str) {
        let node = self.leader(name).await;
        self.kill(&node).await;
        let mut directory = Directory::clone(&self.directory);
        let fresh = opening(&directory.genesis, directory.cloud(&cloud(name)).unwrap(), 1);
        directory.openings.push(fresh);
        self.directory = Arc::new(directory);
        self.start_node(&node).await;
    }

    /// The log of the node that leads a cloud.
    pub async fn log(&self, name: &str) -> LateLog {
        self.nodes[&self.leader(name).await].log.clone()
    }

    // ---- the network ----

    fn nodes_of(&self, name: &str) -> Vec<NodeId> {
        self.directory.cloud(&cloud(name)).unwrap().nodes.iter().map(|entry| entry.node.clone()).collect()
    }

    pub fn cut(&self, one: &str, other: &str) {
        self.network.partition(&self.nodes_of(one), &self.nodes_of(other));
    }

    pub fn isolate(&self, name: &str) {
        CLOUDS.iter().filter(|other| **other != name).for_each(|other| self.cut(name, other));
    }

    /// Connections between the two clouds stay up and carry nothing.
    pub fn stall(&self, one: &str, other: &str) {
        let mut stalled = self.wires.stalled.lock().unwrap();
        for (a, b) in self.nodes_of(one).iter().flat_map(|a| self.nodes_of(other).into_iter().map(move |b| (a, b))) {
            stalled.insert((a.clone(), b.clone()));
            stalled.insert((b, a.clone()));
        }
    }

    pub fn heal(&self) {
        self.network.heal_all();
        self.wires.stalled.lock().unwrap().clear();
    }

    pub fn set_latency(&self, latency: Duration) {
        self.network.set_latency(latency);
    }

    pub fn federation_frames(&self) -> u64 {
        self.wires.frames.load(Ordering::Relaxed)
    }

    // ---- commands ----

    pub async fn leader(&self, name: &str) -> NodeId {
        let find = || {
            let nodes = self.nodes.iter().filter(|(id, _)| self.nodes_of(name).contains(id));
            nodes.into_iter().find(|(_, node)| node.replica.leadership().borrow().is_leader).map(|(id, _)| id.clone())
        };
        self.until(|| find().is_some(), &format!("{name} has a leader")).await;
        find().unwrap()
    }

    async fn propose(&self, name: &str, command: Command) -> Reply {
        let started = tokio::time::Instant::now();
        loop {
            assert!(started.elapsed() < PATIENCE, "{name} takes no commands\n{}", self.describe());
            let leader = self.leader(name).await;
            match self.nodes[&leader].replica.propose(None, command.clone()).await {
                Ok(committed) if committed.reply == Err(Rejection::EpochNotOpen) => tokio::time::sleep(LOOK).await,
                Ok(committed) => return committed.reply.expect("the command is accepted"),
                Err(ProposeError::NotLeader { .. } | ProposeError::NoLeader | ProposeError::OutcomeUnknown) => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn put_tenant(&self, name: &str) {
        let tenant = Tenant {
            id: tenant_id(),
            secret: TenantSecret([9; 32]),
            confirm: Confirm::Auto,
            keys: vec![tenant_key().public()],
            unsigned: false,
            max_pending: 100_000,
        };
        self.propose(name, Command::Tenants(tenants::Command::Put(tenant))).await;
    }

    pub async fn submit(&self, name: &str, id: &str) {
        self.submit_all(name, &[id.to_owned()], 7).await;
    }

    /// Submits events with a payload of that many bytes in one command.
    pub async fn submit_all(&self, name: &str, ids: &[String], bytes: usize) {
        let items = ids.iter().map(|id| self.submission(id, bytes)).collect();
        self.propose(name, Command::Events(events::Command::Submit { created_at: WallMillis(1), items })).await;
    }

    /// What the leader answers to one attempt to submit an event.
    pub async fn attempt(&self, name: &str, id: &str) -> Result<Reply, Rejection> {
        let (created_at, items) = (WallMillis(1), vec![self.submission(id, 7)]);
        let command = Command::Events(events::Command::Submit { created_at, items });
        let leader = self.leader(name).await;
        self.nodes[&leader].replica.propose(None, command).await.expect("the cloud has a leader").reply
    }

    fn submission(&self, id: &str, bytes: usize) -> Submission {
        let content = Content {
            tenant: tenant_id(),
            key: key(id),
            attributes: Vec::new(),
            content_type: "application/json".into(),
            payload: vec![b'1'; bytes],
            supersedes: None,
        };
        let fed = self.directory.genesis.fed_id();
        let signature = Some(TenantSignature::sign(&fed, &content.hash(), &tenant_key()));
        Submission { content, signature }
    }

    /// `liar` signs a continuation of its log that only `victim` gets to see.
    pub async fn forge(&self, liar: &str, victim: &str, tags: &[&str]) {
        let reader = &self.nodes[&self.leader(victim).await].replica;
        let liar = cloud(liar);
        let (leaves, mut body) = reader
            .read(|view| {
                let head = view.state.head(&liar).unwrap();
                let leaves: Result<Vec<_>, _> =
                    (0..head.size).map(|index| view.state.leaf(view.records, &liar, index)).collect();
                Ok((leaves?, view.state.note(&liar).unwrap().body.clone()))
            })
            .unwrap();
        let mut frontier = Frontier::default();
        for leaf in &leaves {
            frontier.append(leaf_hash(&leaf.as_ref().unwrap().bytes()));
        }
        let first_index = frontier.size();
        let forged: Vec<Leaf> = tags.iter().map(|tag| forged_vote(tag)).collect();
        for leaf in &forged {
            frontier.append(leaf_hash(&leaf.bytes()));
        }
        (body.size, body.root) = (frontier.size(), frontier.root());
        let chunk = LogChunk {
            cloud: liar.clone(),
            epoch: body.origin.epoch,
            first_index,
            leaves: forged,
            note: self.sign(&liar, body),
            consistency: Vec::new(),
            bodies: Vec::new(),
        };
        let command = mirrors::Command::Ingest { chunks: vec![chunk], bodies: Vec::new() };
        let reply = self.propose(victim, Command::Mirrors(command)).await;
        let tercet_core::command::Reply::Ingested(outcomes) = reply else { panic!("{reply:?}") };
        assert!(matches!(outcomes[..], [mirrors::ChunkOutcome::Extended { .. }]), "{outcomes:?}");
    }

    fn sign(&self, cloud: &CloudId, body: NoteBody) -> SignedNote {
        let _: &Origin = &body.origin;
        let opening = self.directory.openings.iter().find(|opening| opening.cloud == *cloud).unwrap();
        let signers = opening.keys.iter().take(opening.threshold as usize);
        let signatures = signers.map(|(node, _)| body.sign(node, &node_key(node, 0))).collect();
        SignedNote { body, signatures }
    }

    /// A node of another cloud, badly written: it says these frames to a node and leaves.
    pub async fn babble(&mut self, as_node: &str, to: &str, frames: Vec<Vec<u8>>) {
        let (me, to) = (NodeId::new(as_node).unwrap(), NodeId::new(to).unwrap());
        let env = self.network.env(me, 99);
        let mut connection = PeerClient::new(env).open_federation(&to).await.unwrap();
        for frame in frames {
            if connection.sink.send(Bytes::from(frame)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    // ---- what the clouds know ----

    /// Reads at the node of a cloud that has applied most.
    pub fn read<R>(&self, name: &str, f: impl Fn(&crate::raft::View<'_>) -> R) -> R {
        let nodes = self.nodes_of(name);
        let running = self.nodes.iter().filter(|(id, _)| nodes.contains(id)).map(|(_, node)| node);
        let node = running.max_by_key(|node| *node.replica.applied().borrow()).expect("a node of it runs");
        node.replica.read(|view| Ok(f(&view))).unwrap()
    }

    pub fn level(&self, name: &str, id: &str) -> Option<Level> {
        self.read(name, |view| view.state.level(view.records, &tenant_id(), &key(id)).unwrap())
    }

    pub fn votes(&self, name: &str, id: &str) -> usize {
        let event = self.read(name, |view| view.state.event(view.records, &tenant_id(), &key(id)).unwrap());
        event.map_or(0, |event| event.record.votes.len())
    }

    pub fn flagged(&self, at: &str, of: &str) -> bool {
        self.read(at, |view| view.state.is_flagged(&cloud(of)))
    }

    pub fn evidence(&self, at: &str) -> usize {
        self.read(at, |view| view.state.evidence_ids().len())
    }

    pub fn size(&self, at: &str, of: &str) -> u64 {
        self.read(at, |view| view.state.head(&cloud(of)).map_or(0, |head| head.size))
    }

    pub async fn peers(&self, name: &str) -> Vec<PeerCloud> {
        self.federation(name).await.peers()
    }

    pub async fn signed(&self, name: &str) -> Option<Arc<SignedNote>> {
        self.federation(name).await.signed_note().borrow().clone()
    }

    /// The federation of a cloud's leader.
    pub async fn federation(&self, name: &str) -> &Federation {
        &self.nodes[&self.leader(name).await].federation
    }

    // ---- waiting ----

    pub async fn until(&self, done: impl Fn() -> bool, what: &str) {
        let started = tokio::time::Instant::now();
        while !done() {
            assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}\n{}", self.describe());
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn until_level(&self, names: &[&str], id: &str, level: Level) {
        for name in names {
            let what = format!("{id} is {level:?} in {name}");
            self.until(|| self.level(name, id).is_some_and(|reached| reached >= level), &what).await;
        }
    }

    /// Every cloud mirrors the others' logs to their ends, and everybody audited everybody.
    pub async fn until_heads_agree(&self) {
        let agree = || {
            CLOUDS.iter().all(|of| {
                let own = self.read(of, |view| view.state.head(&cloud(of)));
                CLOUDS.iter().all(|at| {
                    let theirs = self.read(at, |view| view.state.head(&cloud(of)));
                    let size = own.as_ref().map_or(0, |head| head.size);
                    let by = |by: &str| self.read(at, |view| view.state.audited(&cloud(of), &cloud(by))) == size;
                    own == theirs && CLOUDS.iter().filter(|by| *by != of).all(|name| by(name))
                })
            })
        };
        self.until(agree, "all heads agree").await;
    }

    fn describe(&self) -> String {
        let mut out = String::new();
        for at in CLOUDS {
            let sizes: Vec<_> = CLOUDS.iter().map(|of| format!("{of} {}", self.size(at, of))).collect();
            let nodes = self.nodes_of(at);
            let leader =
                self.nodes.iter().find(|(id, n)| nodes.contains(id) && n.replica.leadership().borrow().is_leader);
            let peers = leader.map(|(_, node)| (node.federation.peers(), format!("{:?}", node.federation.stats())));
            let disputes =
                self.read(at, |view| (view.state.disputes(), view.state.missing_bodies(9), view.state.counts()));
            out.push_str(&format!("{at}: {} {peers:?} {disputes:?}\n", sizes.join(", ")));
        }
        out
    }
}

fn forged_vote(tag: &str) -> Leaf {
    let hash = |part: &str| sha256(format!("{part} {tag}").as_bytes());
    Leaf::Vote(Vote {
        config: 0,
        tag: tercet_core::ids::Tag(hash("tag").0),
        verdict: Verdict::Confirm,
        content: hash("content"),
        envelope: Hash(hash("envelope").0),
    })
}

fn directory(nodes_per_cloud: usize) -> Directory {
    let voters = CLOUDS.map(|name| Voter { cloud: cloud(name), weight: 1, root_key: root_key(name).public() });
    let genesis = Genesis { voters: voters.to_vec(), quorum: 2, nonce: [1; 32] };
    let addr = "127.0.0.1:1".parse().unwrap();
    let clouds = CLOUDS.map(|name| CloudEntry {
        cloud: cloud(name),
        region: format!("{name}-region"),
        nodes: (1..=nodes_per_cloud)
            .map(|n| NodeId::new(format!("{name}-{n}")).unwrap())
            .map(|node| NodeEntry { node, peer_addr: addr, client_addr: addr })
            .collect(),
    });
    let openings = clouds.iter().map(|entry| opening(&genesis, entry, 0)).collect();
    Directory { genesis, openings, clouds: clouds.to_vec() }
}

/// What the tests see and do on the wires: count federation frames, hold frames up.
#[derive(Default)]
struct Wires {
    frames: AtomicU64,
    stalled: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

struct Watched {
    inner: Arc<dyn PeerNetwork>,
    me: NodeId,
    wires: Arc<Wires>,
}

struct WatchedSink {
    inner: Box<dyn FrameSink>,
    ends: (NodeId, NodeId),
    wires: Arc<Wires>,
    federation: bool,
}

impl Watched {
    fn watch(connection: Connection, me: NodeId, wires: Arc<Wires>) -> Connection {
        let Connection { peer, sink, source } = connection;
        let federation = peer.as_str().split('-').next() != me.as_str().split('-').next();
        let ends = (me, peer.clone());
        Connection { peer, sink: Box::new(WatchedSink { inner: sink, ends, wires, federation }), source }
    }
}

impl PeerNetwork for Watched {
    fn dial(&self, to: NodeId) -> BoxFuture<'static, io::Result<Connection>> {
        let (dial, me, wires) = (self.inner.dial(to), self.me.clone(), self.wires.clone());
        Box::pin(async move { Ok(Self::watch(dial.await?, me, wires)) })
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move { Ok(Self::watch(self.inner.accept().await?, self.me.clone(), self.wires.clone())) })
    }
}

impl FrameSink for WatchedSink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            while self.wires.stalled.lock().unwrap().contains(&self.ends) {
                tokio::time::sleep(LOOK).await;
            }
            if self.federation {
                self.wires.frames.fetch_add(1, Ordering::Relaxed);
            }
            self.inner.send(frame).await
        })
    }
}
