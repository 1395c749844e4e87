//! A network, a clock and a random source that exist only in memory: many nodes in one process,
//! with links that can be cut and healed. It uses no real time and no real randomness, so under a
//! paused tokio runtime a run is a function of its seed.

use super::{Connection, Entropy, Env, FrameSink, FrameSource, MAX_FRAME_BYTES, PeerNetwork, WallClock};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tercet_core::ids::NodeId;
use tercet_core::time::WallMillis;
use tercet_core::wire::sha256;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Frames in flight in one direction of a connection before the sender waits.
const WIRE_FRAMES: usize = 64;
/// Connections that wait to be accepted by a node.
const ACCEPT_QUEUE: usize = 64;

/// All links between simulated nodes. Clones share the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    hub: Arc<Mutex<Hub>>,
}

#[derive(Default)]
struct Hub {
    nodes: BTreeMap<NodeId, mpsc::Sender<Connection>>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    wires: Vec<Wire>,
    latency: Duration,
}

struct Wire {
    ends: (NodeId, NodeId),
    broken: Weak<CancellationToken>,
}

impl MemoryNetwork {
    pub fn new() -> Self {
        Self::default()
    }

    /// The network as one node sees it. Asking again for the same node is a restart: its old
    /// connections break.
    pub fn node(&self, node: NodeId) -> Arc<dyn PeerNetwork> {
        self.crash(&node);
        let (accepts, queue) = mpsc::channel(ACCEPT_QUEUE);
        self.hub().nodes.insert(node.clone(), accepts);
        Arc::new(MemoryPort { me: node, network: self.clone(), queue: tokio::sync::Mutex::new(queue) })
    }

    /// A whole environment for one node, with random bytes that follow from `seed` and the node.
    pub fn env(&self, node: NodeId, seed: u64) -> Env {
        let entropy = Arc::new(SeededEntropy::new(seed, node.as_str()));
        Env { wall: Arc::new(SimulatedWall::default()), entropy, network: self.node(node) }
    }

    /// Cuts the link between two nodes: connections break, and new ones are refused.
    pub fn cut(&self, a: &NodeId, b: &NodeId) {
        let link = link(a, b);
        let mut hub = self.hub();
        hub.break_wires(|ends| *ends == link);
        hub.cuts.insert(link);
    }

    pub fn heal(&self, a: &NodeId, b: &NodeId) {
        self.hub().cuts.remove(&link(a, b));
    }

    /// Cuts every link between the two groups.
    pub fn partition(&self, one: &[NodeId], other: &[NodeId]) {
        for a in one {
            other.iter().filter(|b| *b != a).for_each(|b| self.cut(a, b));
        }
    }

    pub fn heal_all(&self) {
        self.hub().cuts.clear();
    }

    /// Breaks all connections of a node and refuses new ones until `node` is called for it again.
    pub fn crash(&self, node: &NodeId) {
        let mut hub = self.hub();
        hub.nodes.remove(node);
        hub.break_wires(|ends| ends.0 == *node || ends.1 == *node);
    }

    /// How long each frame travels from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.hub().latency = latency;
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latency(&self) -> Duration {
        self.hub().latency
    }

    fn connect(&self, from: &NodeId, to: &NodeId) -> io::Result<()> {
        let mut hub = self.hub();
        let link = link(from, to);
        if hub.cuts.contains(&link) {
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, format!("the link to {to} is cut")));
        }
        hub.nodes
            .contains_key(to)
            .then_some(())
            .ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionRefused, format!("{to} does not run")))?;
        hub.wires.retain(|wire| wire.broken.strong_count() > 0);
        Ok(())
    }

    fn open(&self, from: &NodeId, to: &NodeId) -> io::Result<Connection> {
        self.connect(from, to)?;
        let broken = Arc::new(CancellationToken::new());
        let (there_tx, there_rx) = mpsc::channel(WIRE_FRAMES);
        let (back_tx, back_rx) = mpsc::channel(WIRE_FRAMES);
        let end = |peer: &NodeId, tx, rx| Connection {
            peer: peer.clone(),
            sink: Box::new(MemorySink { network: self.clone(), tx, broken: broken.clone() }),
            source: Box::new(MemorySource { rx, head: None, broken: broken.clone() }),
        };
        let (near, far) = (end(to, there_tx, back_rx), end(from, back_tx, there_rx));
        let mut hub = self.hub();
        let accepted = hub.nodes.get(to).is_some_and(|accepts| accepts.try_send(far).is_ok());
        if !accepted {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{to} accepts no connection")));
        }
        hub.wires.push(Wire { ends: link(from, to), broken: Arc::downgrade(&broken) });
        Ok(near)
    }
}

impl Hub {
    fn break_wires(&mut self, which: impl Fn(&(NodeId, NodeId)) -> bool) {
        self.wires.retain(|wire| {
            let hit = which(&wire.ends);
            if let (true, Some(broken)) = (hit, wire.broken.upgrade()) {
                broken.cancel();
            }
            !hit
        });
    }
}

fn link(a: &NodeId, b: &NodeId) -> (NodeId, NodeId) {
    if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

struct MemoryPort {
    me: NodeId,
    network: MemoryNetwork,
    queue: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl PeerNetwork for MemoryPort {
    fn dial(&self, to: NodeId) -> BoxFuture<'static, io::Result<Connection>> {
        let (me, network) = (self.me.clone(), self.network.clone());
        async move {
            let latency = network.latency();
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            network.open(&me, &to)
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            let accepted = self.queue.lock().await.recv().await;
            accepted.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "this node was crashed"))
        }
        .boxed()
    }
}

struct MemorySink {
    network: MemoryNetwork,
    tx: mpsc::Sender<(Instant, Bytes)>,
    broken: Arc<CancellationToken>,
}

impl FrameSink for MemorySink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if frame.len() > MAX_FRAME_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"));
            }
            let due = Instant::now() + self.network.latency();
            tokio::select! {
                biased;
                () = self.broken.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
                sent = self.tx.send((due, frame)) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            }
        }
        .boxed()
    }
}

struct MemorySource {
    rx: mpsc::Receiver<(Instant, Bytes)>,
    /// Taken from the queue, still travelling: kept here so that a cancelled `recv` loses nothing.
    head: Option<(Instant, Bytes)>,
    broken: Arc<CancellationToken>,
}

impl MemorySource {
    async fn next(&mut self) -> Option<Bytes> {
        if self.head.is_none() {
            self.head = self.rx.recv().await;
        }
        let due = self.head.as_ref()?.0;
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        self.head.take().map(|(_, frame)| frame)
    }
}

impl FrameSource for MemorySource {
    fn recv(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        async move {
            let broken = self.broken.clone();
            tokio::select! {
                biased;
                () = broken.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
                frame = self.next() => Ok(frame),
            }
        }
        .boxed()
    }
}

/// Wall time that starts at a fixed moment and follows tokio's clock.
pub struct SimulatedWall {
    origin: Mutex<Option<Instant>>,
}

impl Default for SimulatedWall {
    fn default() -> Self {
        Self { origin: Mutex::new(None) }
    }
}

impl WallClock for SimulatedWall {
    fn now(&self) -> WallMillis {
        const START: u64 = 1_700_000_000_000;
        let mut origin = self.origin.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = *origin.get_or_insert_with(Instant::now);
        WallMillis(START + origin.elapsed().as_millis() as u64)
    }
}

/// Bytes that look random and follow from a seed: SHA-256 in counter mode. Never for real keys.
pub struct SeededEntropy {
    seed: Vec<u8>,
    counter: Mutex<u64>,
}

impl SeededEntropy {
    pub fn new(seed: u64, name: &str) -> Self {
        Self { seed: [&seed.to_be_bytes(), name.as_bytes()].concat(), counter: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(32) {
            let block = sha256(&[&self.seed[..], &counter.to_be_bytes()].concat());
            chunk.copy_from_slice(&block.0[..chunk.len()]);
            *counter += 1;
        }
    }
}
