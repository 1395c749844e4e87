//! The network between simulated nodes. A connection behaves as TLS over TCP does: frames arrive in
//! order or the connection breaks. So loss shows as delay, a cut as silence until the connection is
//! given up, and reordering happens between connections. Every direction of every link has its own
//! condition. A **seat** is a place where a process runs; a cloud's twin sits elsewhere under the
//! same node ids, and `route` says who reaches which of the two.

use super::lane::{Lane, Tamper};
use super::trace::Trace;
use crate::random::Random;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tercet_core::ids::NodeId;
use tercetd::env::{Connection, FrameSink, FrameSource, MAX_FRAME_BYTES, PeerNetwork};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Frames in flight in one direction of a connection before the sender waits.
const WIRE_FRAMES: usize = 64;
/// Connections that wait to be accepted by a node.
const ACCEPT_QUEUE: usize = 64;
/// After so long in silence a connection is given up, as `TCP_USER_TIMEOUT` and keepalive do.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// A lost packet is sent again after about so long.
const RETRANSMIT: Duration = Duration::from_millis(200);

pub type Seat = String;

/// One direction of a link: from there, to there.
pub type Way = (Seat, Seat);

/// How frames travel one way, or what a fault adds to that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    pub delay: Duration,
    pub jitter: Duration,
    /// Of 1000 frames; always less than all.
    pub lost: usize,
}

impl Condition {
    fn with(self, other: Self) -> Self {
        let lost = self.lost + other.lost - self.lost * other.lost / 1000;
        Self { delay: self.delay + other.delay, jitter: self.jitter + other.jitter, lost }
    }
}

/// What became of the frames and dials of some ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames that arrived, and those among them that a fault made late.
    pub delivered: u64,
    pub slowed: u64,
    /// Frames that were lost once or more, and sent again.
    pub lost: u64,
    /// Frames and dials that a cut held up.
    pub held: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.slowed += other.slowed;
        self.lost += other.lost;
        self.held += other.held;
    }

    /// What was counted after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            delivered: self.delivered - before.delivered,
            slowed: self.slowed - before.slowed,
            lost: self.lost - before.lost,
            held: self.held - before.held,
        }
    }
}

#[derive(Clone)]
pub struct Network {
    hub: Arc<Mutex<Hub>>,
    /// Counts changes of conditions, so that held frames look again.
    changed: watch::Sender<u64>,
}

struct Hub {
    seats: BTreeMap<Seat, (NodeId, mpsc::Sender<Connection>)>,
    routes: BTreeMap<(Seat, NodeId), Seat>,
    /// What each fault, by its number, adds to a direction now.
    slowness: BTreeMap<Way, BTreeMap<u64, Condition>>,
    /// How many faults cut each direction now.
    cuts: BTreeMap<Way, u32>,
    counts: BTreeMap<Way, Count>,
    tampers: BTreeMap<Seat, Arc<Mutex<dyn Tamper>>>,
    /// How many connections were opened.
    connections: u64,
    wires: Vec<Wire>,
    random: Random,
    trace: Trace,
}

struct Wire {
    ends: Way,
    broken: Weak<CancellationToken>,
}

impl Network {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let hub = Hub {
            seats: BTreeMap::new(),
            routes: BTreeMap::new(),
            slowness: BTreeMap::new(),
            cuts: BTreeMap::new(),
            counts: BTreeMap::new(),
            tampers: BTreeMap::new(),
            connections: 0,
            wires: Vec::new(),
            random: Random::new(seed, 10),
            trace,
        };
        Self { hub: Arc::new(Mutex::new(hub)), changed: watch::Sender::new(0) }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames that were delivered anywhere, and frames and dials that cuts held up.
    pub fn counts(&self) -> (u64, u64) {
        self.hub().counts.values().fold((0, 0), |sum, count| (sum.0 + count.delivered, sum.1 + count.held))
    }

    /// What was counted so far on these ways, and on no others.
    pub fn count(&self, ways: &[Way]) -> Count {
        let (hub, mut sum) = (self.hub(), Count::default());
        ways.iter().filter_map(|way| hub.counts.get(way)).for_each(|count| sum.add(*count));
        sum
    }

    /// A process starts at a seat under a node's id.
    pub fn start(&self, seat: &Seat, node: &NodeId) -> Arc<dyn PeerNetwork> {
        self.crash(seat);
        let (accepts, queue) = mpsc::channel(ACCEPT_QUEUE);
        self.hub().seats.insert(seat.clone(), (node.clone(), accepts));
        let gone = CancellationToken::new();
        Arc::new(SeatPort { seat: seat.clone(), network: self.clone(), queue: tokio::sync::Mutex::new(queue), gone })
    }

    /// The process at a seat is gone: the kernel closes its connections.
    pub fn crash(&self, seat: &Seat) {
        let mut hub = self.hub();
        hub.seats.remove(seat);
        hub.break_wires(|ends| ends.0 == *seat || ends.1 == *seat);
    }

    /// The machine is gone: its peers hear nothing until they give up.
    pub fn vanish(&self, seat: &Seat) {
        self.hub().seats.remove(seat);
        let (network, seat) = (self.clone(), seat.clone());
        tokio::spawn(async move {
            tokio::time::sleep(USER_TIMEOUT).await;
            let restarted = network.hub().seats.contains_key(&seat);
            if !restarted {
                network.hub().break_wires(|ends| ends.0 == seat || ends.1 == seat);
            }
        });
    }

    /// Whoever dials `node` from this seat reaches that seat.
    pub fn route(&self, from: &Seat, node: &NodeId, to: &Seat) {
        self.hub().routes.insert((from.clone(), node.clone()), to.clone());
    }

    /// From now on all that this seat sends to other clouds, and hears of them, goes through there.
    pub fn tamper(&self, seat: &Seat, tamper: Arc<Mutex<dyn Tamper>>) {
        self.hub().tampers.insert(seat.clone(), tamper);
    }

    fn tamper_at(&self, seat: &Seat, lane: &Lane) -> Option<Arc<Mutex<dyn Tamper>>> {
        self.hub().tampers.get(seat).filter(|_| lane.is_federation()).cloned()
    }

    fn condition(&self, from: &Seat, to: &Seat) -> Condition {
        self.hub().condition(from, to)
    }

    /// A fault makes a way worse than usual. Several may at once: what they add, adds up.
    pub fn slow(&self, fault: u64, way: &Way, more: Condition) {
        self.hub().slowness.entry(way.clone()).or_default().insert(fault, more);
    }

    /// Takes back what this fault added to a way; what others added stays.
    pub fn relieve(&self, fault: u64, way: &Way) {
        if let Some(faults) = self.hub().slowness.get_mut(way) {
            faults.remove(&fault);
        }
    }

    /// From now on nothing arrives in this direction. Several faults may cut it at once; it is open
    /// again when each has healed it. A cut that lasts breaks the connections over it.
    pub fn cut(&self, from: &Seat, to: &Seat) {
        let cuts = {
            let mut hub = self.hub();
            let cuts = hub.cuts.entry((from.clone(), to.clone())).or_default();
            *cuts += 1;
            *cuts
        };
        self.changed.send_modify(|changes| *changes += 1);
        if cuts == 1 {
            let (network, from, to) = (self.clone(), from.clone(), to.clone());
            tokio::spawn(async move { network.give_up(&from, &to).await });
        }
    }

    pub fn heal(&self, from: &Seat, to: &Seat) {
        let way = (from.clone(), to.clone());
        {
            let mut hub = self.hub();
            match hub.cuts.get_mut(&way) {
                Some(cuts) if *cuts > 1 => *cuts -= 1,
                _ => drop(hub.cuts.remove(&way)),
            }
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn is_cut(&self, from: &Seat, to: &Seat) -> bool {
        self.hub().cuts.contains_key(&(from.clone(), to.clone()))
    }

    /// Breaks what goes over a direction that stays cut for too long.
    async fn give_up(&self, from: &Seat, to: &Seat) {
        let mut changes = self.changed.subscribe();
        let healed = async {
            while self.is_cut(from, to) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(USER_TIMEOUT, healed).await.is_err() {
            self.reset(from, to);
        }
    }

    /// Breaks the connections between two seats, and tells how many; they may dial again.
    pub fn reset(&self, one: &Seat, other: &Seat) -> usize {
        self.hub().break_wires(|ends| (&ends.0, &ends.1) == (one, other) || (&ends.0, &ends.1) == (other, one))
    }

    /// Which seats have a connection now, each pair once, in the direction in which it was dialled.
    pub fn connected(&self) -> Vec<Way> {
        let hub = self.hub();
        let open = hub.wires.iter().filter(|wire| wire.broken.strong_count() > 0);
        open.map(|wire| wire.ends.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn open(
        &self,
        from: &Seat,
        me: &NodeId,
        node: &NodeId,
    ) -> io::Result<(Connection, Connection, mpsc::Sender<Connection>)> {
        let mut hub = self.hub();
        let to = hub.routes.get(&(from.clone(), node.clone())).cloned().unwrap_or_else(|| node.to_string());
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{node} does not run"));
        let accepts = hub.seats.get(&to).map(|(_, accepts)| accepts.clone()).ok_or_else(refused)?;
        let broken = Arc::new(CancellationToken::new());
        hub.wires.retain(|wire| wire.broken.strong_count() > 0);
        hub.connections += 1;
        let (there, back) = Lane::pair(from, &to, hub.connections);
        hub.wires.push(Wire { ends: (from.clone(), to.clone()), broken: Arc::downgrade(&broken) });
        drop(hub);
        let (there_tx, there_rx) = mpsc::channel(WIRE_FRAMES);
        let (back_tx, back_rx) = mpsc::channel(WIRE_FRAMES);
        let end = |peer: &NodeId, out: &Lane, back: &Lane, tx, rx| Connection {
            peer: peer.clone(),
            sink: Box::new(Sink {
                network: self.clone(),
                lane: out.clone(),
                last_due: Instant::now(),
                tx,
                broken: broken.clone(),
            }),
            source: Box::new(Source {
                network: self.clone(),
                lane: back.clone(),
                rx,
                head: None,
                broken: broken.clone(),
            }),
        };
        Ok((end(node, &there, &back, there_tx, back_rx), end(me, &back, &there, back_tx, there_rx), accepts))
    }
}

impl Hub {
    fn condition(&self, from: &Seat, to: &Seat) -> Condition {
        self.added(from, to).with(usual(from, to))
    }

    /// What faults add to a direction now.
    fn added(&self, from: &Seat, to: &Seat) -> Condition {
        let faults = self.slowness.get(&(from.clone(), to.clone()));
        faults.into_iter().flat_map(BTreeMap::values).fold(Condition::default(), |sum, more| sum.with(*more))
    }

    fn counted(&mut self, from: &Seat, to: &Seat) -> &mut Count {
        self.counts.entry((from.clone(), to.clone())).or_default()
    }

    /// Returns how many connections were open and are broken now.
    fn break_wires(&mut self, which: impl Fn(&Way) -> bool) -> usize {
        let mut open = 0;
        self.wires.retain(|wire| {
            let hit = which(&wire.ends);
            if let (true, Some(broken)) = (hit, wire.broken.upgrade()) {
                broken.cancel();
                open += 1;
            }
            !hit
        });
        open
    }
}

/// Within a cloud a fraction of a millisecond, between clouds about 15 ms.
fn usual(from: &Seat, to: &Seat) -> Condition {
    let cloud = |seat: &Seat| seat.split('-').next().map(ToOwned::to_owned);
    let (delay, jitter) = if cloud(from) == cloud(to) { (300, 400) } else { (12_000, 6_000) };
    Condition { delay: Duration::from_micros(delay), jitter: Duration::from_micros(jitter), lost: 0 }
}

struct SeatPort {
    seat: Seat,
    network: Network,
    queue: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    gone: CancellationToken,
}

impl PeerNetwork for SeatPort {
    fn dial(&self, node: NodeId) -> BoxFuture<'static, io::Result<Connection>> {
        let (seat, network) = (self.seat.clone(), self.network.clone());
        async move {
            let me = network.hub().seats.get(&seat).map(|(me, _)| me.clone());
            let me = me.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "this process is gone"))?;
            let (near, far, accepts) = network.open(&seat, &me, &node)?;
            let to = {
                let hub = network.hub();
                hub.routes.get(&(seat.clone(), node.clone())).cloned().unwrap_or_else(|| node.to_string())
            };
            // The handshake needs both directions. Whoever dials sets the limit of its patience.
            let mut changes = network.changed.subscribe();
            for (from, to) in [(&seat, &to), (&to, &seat)] {
                if network.is_cut(from, to) {
                    network.hub().counted(from, to).held += 1;
                }
            }
            while network.is_cut(&seat, &to) || network.is_cut(&to, &seat) {
                changes.changed().await.map_err(|_| io::ErrorKind::NotConnected)?;
            }
            let (there, back) = (network.condition(&seat, &to), network.condition(&to, &seat));
            tokio::time::sleep(there.delay + back.delay).await;
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{node} accepts no connection"));
            accepts.try_send(far).map_err(|_| refused())?;
            Ok(near)
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            match self.queue.lock().await.recv().await {
                Some(connection) => Ok(connection),
                None => {
                    // The process was killed; whatever still runs of it waits here for its end.
                    self.gone.cancelled().await;
                    Err(io::ErrorKind::NotConnected.into())
                }
            }
        }
        .boxed()
    }
}

/// A frame on its way.
struct Travelling {
    due: Instant,
    frame: Bytes,
    /// Whether a fault made it late.
    slowed: bool,
    /// Whether it stands before a cut, and was counted there.
    held: bool,
}

struct Sink {
    network: Network,
    lane: Lane,
    last_due: Instant,
    tx: mpsc::Sender<Travelling>,
    broken: Arc<CancellationToken>,
}

impl Sink {
    /// What really goes out, and when it arrives: never before what was sent earlier.
    fn schedule(&mut self, frame: Bytes) -> Vec<Travelling> {
        let opens = self.lane.opens(&frame);
        let tamper = self.network.tamper_at(&self.lane.from, &self.lane).filter(|_| !opens);
        let frames = match tamper {
            Some(tamper) => tamper.lock().unwrap_or_else(PoisonError::into_inner).sends(&self.lane, frame),
            None => vec![(Duration::ZERO, frame)],
        };
        let mut hub = self.network.hub();
        let condition = hub.condition(&self.lane.from, &self.lane.to);
        let slowed = hub.added(&self.lane.from, &self.lane.to).delay > Duration::ZERO;
        frames
            .into_iter()
            .map(|(later, frame)| {
                let jitter = Duration::from_micros(hub.random.below(condition.jitter.as_micros() as usize + 1) as u64);
                let mut delay = condition.delay + jitter + later;
                let mut losses = 0;
                while hub.random.below(1000) < condition.lost {
                    losses += 1;
                    delay += RETRANSMIT;
                }
                hub.counted(&self.lane.from, &self.lane.to).lost += u64::from(losses > 0);
                self.last_due = self.last_due.max(Instant::now() + delay);
                Travelling { due: self.last_due, frame, slowed, held: false }
            })
            .collect()
    }
}

impl FrameSink for Sink {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, io::Result<()>> {
        async move {
            if frame.len() > MAX_FRAME_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"));
            }
            for frame in self.schedule(frame) {
                tokio::select! {
                    biased;
                    () = self.broken.cancelled() => return Err(io::ErrorKind::ConnectionReset.into()),
                    sent = self.tx.send(frame) => sent.map_err(|_| io::ErrorKind::BrokenPipe)?,
                }
            }
            Ok(())
        }
        .boxed()
    }
}

struct Source {
    network: Network,
    lane: Lane,
    rx: mpsc::Receiver<Travelling>,
    /// Taken from the queue, still travelling: kept here so that a cancelled `recv` loses nothing.
    head: Option<Travelling>,
    broken: Arc<CancellationToken>,
}

impl Source {
    async fn next(&mut self) -> Option<Bytes> {
        if self.head.is_none() {
            self.head = self.rx.recv().await;
        }
        let head = self.head.as_mut()?;
        if head.due > Instant::now() {
            tokio::time::sleep_until(head.due).await;
        }
        let mut changes = self.network.changed.subscribe();
        while self.network.is_cut(&self.lane.from, &self.lane.to) {
            if !std::mem::replace(&mut head.held, true) {
                self.network.hub().counted(&self.lane.from, &self.lane.to).held += 1;
            }
            changes.changed().await.ok()?;
        }
        let Travelling { frame, slowed, .. } = self.head.take()?;
        {
            let mut hub = self.network.hub();
            let count = hub.counted(&self.lane.from, &self.lane.to);
            count.delivered += 1;
            count.slowed += u64::from(slowed);
            hub.trace.frame(&self.lane, &frame);
        }
        match self.network.tamper_at(&self.lane.to, &self.lane) {
            Some(tamper) => Some(tamper.lock().unwrap_or_else(PoisonError::into_inner).hears(&self.lane, frame)),
            None => Some(frame),
        }
    }
}

impl FrameSource for Source {
    fn recv(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        async move {
            let broken = self.broken.clone();
            tokio::select! {
                biased;
                frame = self.next() => Ok(frame),
                () = broken.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        .boxed()
    }
}
