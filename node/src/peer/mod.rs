//! Peer connections: mutual TLS 1.3 underneath (`tls.rs`), and on top one request-and-answer
//! protocol that Raft and signing share. Federation streams use the frames directly.
//!
//! A connection's first frame is one byte, its [`Service`]. On `Cloud`, a request is a frame of an
//! 8-byte id, a method byte and the payload; an answer is the id, a status byte and the payload.
//! Answers come in any order. Nothing here retries: whoever called knows whether that is safe.

mod client;
mod server;
#[cfg(test)]
mod tests;
pub mod tls;
#[cfg(test)]
mod tls_tests;

pub use client::PeerClient;
pub use server::PeerServer;

use crate::env::Connection;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use std::sync::Arc;
use tercet_core::ids::NodeId;

/// The first byte of a connection's first frame says what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Requests and answers within a cloud: Raft, signing, forwarding (see [`Method`]).
    Cloud = 1,
    /// A log stream between clouds.
    Federation = 2,
}

impl Service {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Cloud),
            2 => Some(Self::Federation),
            _ => None,
        }
    }
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
    /// A follower forwards a question about a lease to the leader.
    Lease = 8,
    /// A follower signs its cloud's vote on a lease.
    SignLease = 9,
}

impl Method {
    const ALL: [Self; 9] = [
        Self::RaftAppend,
        Self::RaftVote,
        Self::RaftPreVote,
        Self::RaftSnapshot,
        Self::RaftTransferLeader,
        Self::Sign,
        Self::Propose,
        Self::Lease,
        Self::SignLease,
    ];

    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|method| *method as u8 == byte)
    }

    /// Requests of one kind share a bound, so that waiting proposals never hold up heartbeats.
    fn in_flight_limit(self) -> usize {
        match self {
            Self::Propose => MAX_PROPOSALS_IN_FLIGHT,
            _ => MAX_REQUESTS_IN_FLIGHT,
        }
    }
}

/// Forwarded commands on one connection that wait for their answer; the next ones wait or, on the
/// serving side, are refused.
const MAX_PROPOSALS_IN_FLIGHT: usize = 1024;
/// All other requests on one connection that wait for their answer.
const MAX_REQUESTS_IN_FLIGHT: usize = 256;

/// Answers the requests of one method. Its first poll happens in the order of arrival.
pub type Handler = Arc<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;
/// Takes over a federation connection.
pub type StreamHandler = Arc<dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync>;

/// Bytes before the payload: the request's id, and its method or the answer's status.
const HEADER_BYTES: usize = 9;
const STATUS_OK: u8 = 0;
const STATUS_FAILED: u8 = 1;

fn frame(id: u64, kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    out.put_u64(id);
    out.put_u8(kind);
    out.put_slice(payload);
    out.freeze()
}

/// Id, kind and payload; `None` if the frame is too short to have them.
pub fn unframe(mut frame: Bytes) -> Option<(u64, u8, Bytes)> {
    let header = frame.get(..HEADER_BYTES)?;
    let id = u64::from_be_bytes(header[..8].try_into().ok()?);
    let kind = header[8];
    Some((id, kind, frame.split_off(HEADER_BYTES)))
}
