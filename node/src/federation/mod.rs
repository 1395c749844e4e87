//! Between clouds: signing this cloud's notes (`sign.rs`), pulling the other clouds' logs
//! (`pull.rs`), serving them (`serve.rs`). Only the leader signs and pulls; every node serves.

use crate::config::Directory;
use crate::env::Env;
use crate::peer::{Handler, Method, PeerClient, StreamHandler};
use crate::raft::Replica;
use std::sync::Arc;
use tercet_core::ids::{CloudId, NodeId};
use tercet_core::signature::SigningKey;
use tercet_core::transparency::SignedNote;
use tokio::sync::watch;

/// How this node stands with another cloud.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerCloud {
    pub cloud: CloudId,
    /// Whether a stream from that cloud is up (always false on a follower).
    pub connected: bool,
    /// The node that serves it.
    pub via: Option<NodeId>,
    /// Why signing is refused because of this peer, if it is.
    pub refusal: Option<String>,
}

pub struct Federation {}

impl Federation {
    pub fn start(_directory: Arc<Directory>, _node: NodeId, _key: SigningKey, _replica: Replica, _env: Env, _peers: PeerClient) -> Arc<Self> {
        unimplemented!()
    }

    /// The peer methods that federation answers (`Method::Sign`).
    pub fn methods(self: &Arc<Self>) -> Vec<(Method, Handler)> {
        unimplemented!()
    }

    /// Serves log streams to the other clouds.
    pub fn streams(self: &Arc<Self>) -> StreamHandler {
        unimplemented!()
    }

    /// This cloud's latest signed note, on its leader.
    pub fn signed_note(&self) -> watch::Receiver<Option<Arc<SignedNote>>> {
        unimplemented!()
    }

    pub fn peers(&self) -> Vec<PeerCloud> {
        unimplemented!()
    }

    pub async fn stop(&self) {
        unimplemented!()
    }
}
