//! The seams to the outside world. Timers and monotonic time come from tokio (which a paused
//! runtime controls); wall time, random bytes and the peer network come from here; the disk sits
//! behind `storage`. A simulation replaces these and touches nothing else.

pub mod memory;

use bytes::Bytes;
use futures::future::BoxFuture;
use std::io;
use std::sync::Arc;
use tercet_core::ids::NodeId;
use tercet_core::time::WallMillis;

/// Wall-clock time: displayed, and never decisive.
pub trait WallClock: Send + Sync + 'static {
    fn now(&self) -> WallMillis;
}

/// A cryptographic random source.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The network between nodes, of the same cloud and of others. Connections are authenticated in
/// both directions: the peer is who it says it is.
pub trait PeerNetwork: Send + Sync + 'static {
    fn dial(&self, to: NodeId) -> BoxFuture<'static, io::Result<Connection>>;
    /// The next inbound connection, already authenticated. Failed handshakes are not reported.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>>;
}

/// The largest frame in either direction, in bytes.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

/// An ordered, reliable stream of frames between two nodes. Dropping it closes the connection.
pub struct Connection {
    pub peer: NodeId,
    pub sink: Box<dyn FrameSink>,
    pub source: Box<dyn FrameSource>,
}

pub trait FrameSink: Send + 'static {
    /// Resolves once the frame is handed to the transport; waits while the peer does not read.
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

pub trait FrameSource: Send + 'static {
    /// The next frame; `None` once the peer closed.
    fn recv(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>>;
}

/// All seams of one node.
#[derive(Clone)]
pub struct Env {
    pub wall: Arc<dyn WallClock>,
    pub entropy: Arc<dyn Entropy>,
    pub network: Arc<dyn PeerNetwork>,
}

/// The operating system's clock and random source.
pub struct Os;

impl WallClock for Os {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where wall time enters")]
    fn now(&self) -> WallMillis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        WallMillis(since.map_or(0, |d| d.as_millis() as u64))
    }
}

impl Entropy for Os {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random bytes");
    }
}
