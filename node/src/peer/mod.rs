//! Peer connections: mutual TLS 1.3 underneath (`tls.rs`), and on top one request-and-answer
//! protocol that Raft and signing share. Federation streams use the frames directly.

use crate::env::Connection;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::io;
use std::sync::Arc;
use tercet_core::ids::NodeId;

/// The first byte of a connection's first frame says what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Requests and answers within a cloud: Raft, signing, forwarding (see [`Methods`]).
    Cloud = 1,
    /// A log stream between clouds.
    Federation = 2,
}

/// Methods of the `Cloud` service: the first byte of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    RaftAppend = 1,
    RaftVote = 2,
    RaftPreVote = 3,
    RaftSnapshot = 4,
    RaftTransferLeader = 5,
    /// A follower signs the note at a log index.
    Sign = 6,
    /// A follower forwards a command to the leader.
    Propose = 7,
}

/// Answers the requests of one method.
pub type Handler = Arc<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;
/// Takes over a federation connection.
pub type StreamHandler = Arc<dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync>;

/// The calling side: one connection a peer, dialled when needed, requests pipelined on it.
#[derive(Clone)]
pub struct PeerClient {}

impl PeerClient {
    pub fn new(_env: crate::env::Env) -> Self {
        unimplemented!()
    }

    /// Sends a request and waits for its answer. Cancel-safe. An error says nothing about whether
    /// the peer acted.
    pub async fn call(&self, _to: &NodeId, _method: Method, _request: Bytes) -> io::Result<Bytes> {
        unimplemented!()
    }

    /// A fresh connection for a federation stream.
    pub async fn open_federation(&self, _to: &NodeId) -> io::Result<Connection> {
        unimplemented!()
    }
}

/// The serving side: accepts connections until it is dropped, and routes them.
pub struct PeerServer {}

impl PeerServer {
    /// `same_cloud` says which peers may use the `Cloud` service.
    pub fn start(
        _env: crate::env::Env,
        _same_cloud: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
        _methods: Vec<(Method, Handler)>,
        _federation: StreamHandler,
    ) -> Self {
        unimplemented!()
    }
}
