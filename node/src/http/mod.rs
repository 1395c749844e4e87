//! The HTTP API under `/v1`: one file a domain, errors mapped to problem+json in `error.rs`.

use crate::config::Directory;
use crate::env::Env;
use crate::federation::Federation;
use crate::raft::Replica;
use std::sync::Arc;
use tercet_core::ids::NodeId;
use tercet_core::wire::sha256;

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    pub directory: Arc<Directory>,
    pub node: NodeId,
    pub replica: Replica,
    pub federation: Arc<Federation>,
    pub env: Env,
    /// SHA-256 of the admin bearer token.
    pub token_hash: [u8; 32],
}

impl Api {
    pub fn token_matches(&self, token: &str) -> bool {
        use subtle::ConstantTimeEq;
        sha256(token.as_bytes()).0.ct_eq(&self.token_hash).into()
    }
}

/// The whole API as a service, and its OpenAPI document at `/openapi.json`.
pub fn router(_api: Api) -> axum::Router {
    unimplemented!()
}

/// Serves the API over TLS until `stop` resolves, with header timeouts and connection caps.
pub async fn serve(
    _listener: tokio::net::TcpListener,
    _tls: Arc<rustls::ServerConfig>,
    _router: axum::Router,
    _stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    unimplemented!()
}
