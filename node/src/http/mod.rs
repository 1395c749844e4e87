//! The HTTP API under `/v1`: one file a domain, errors mapped to problem+json in `error.rs`.
//!
//! Handlers read applied state locally and propose through `submits.rs`; they decide nothing. Every
//! body, queue, wait and connection has its named limit. `routes.rs` lists all routes, and each is
//! described where it is handled; `openapi.rs` gathers the descriptions.

mod agents;
mod auth;
mod batch;
mod certificates;
mod clouds;
mod decisions;
mod error;
mod events;
mod evidence;
mod health;
mod leases;
mod listing;
mod metrics;
mod openapi;
mod request;
mod routes;
mod serve;
mod status;
mod submits;
mod tenants;
#[cfg(test)]
mod tests;
mod view;
mod waits;
mod watch;

pub use serve::serve;

use crate::config::Directory;
use crate::env::Env;
use crate::federation::Federation;
use crate::raft::{ProposeError, Replica};
use error::Problem;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::{CloudId, FedId, NodeId, TenantId};
use tercet_core::rejection::{Code, Rejection};
use tercet_core::tenants::Tenant;
use tercet_core::wire::sha256;
use tokio::sync::{Semaphore, watch as signal};
use tokio::time::{Instant, timeout, timeout_at};

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

/// The most request bodies, in KiB, that are held in memory at once.
const MAX_BODIES_KIB: usize = 64 << 10;
/// The most watch streams.
pub const MAX_WATCHERS: usize = 256;

/// How long an answer to a write may wait for this node's own state to show it.
const READ_YOUR_WRITES: Duration = Duration::from_secs(2);

/// What one running API shares between its requests.
pub(crate) struct Context {
    pub api: Api,
    pub fed: FedId,
    pub cloud: CloudId,
    pub submits: submits::Submits,
    pub waiters: Arc<waits::Waiters>,
    pub metrics: metrics::Metrics,
    pub watchers: Arc<Semaphore>,
    bodies_kib: Semaphore,
}

/// The whole API as a service, and its OpenAPI document at `/openapi.json`. To be called in a
/// runtime: it starts the tasks that coalesce submissions and wake waiting requests.
pub fn router(api: Api) -> axum::Router {
    routes::routes().into_router(Context::start(api))
}

impl Context {
    fn start(api: Api) -> Arc<Self> {
        let cloud = api.directory.cloud_of(&api.node).map(|entry| entry.cloud.clone());
        let cloud = cloud.expect("a node starts only if its configuration names it");
        Arc::new(Self {
            fed: api.directory.genesis.fed_id(),
            cloud,
            submits: submits::Submits::start(api.replica.clone(), api.env.wall.clone()),
            waiters: waits::Waiters::start(&api.replica),
            metrics: metrics::Metrics::new(),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            bodies_kib: Semaphore::new(MAX_BODIES_KIB),
            api,
        })
    }

    /// Room for a body in memory, given back when the request is answered.
    fn room_for(&self, bytes: usize) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.bodies_kib.try_acquire_many(kib);
        room.map_err(|_| Problem::overloaded("KiB of request bodies", MAX_BODIES_KIB))
    }

    /// A tenant as this node knows it. A follower may not have applied yet what the leader answered
    /// a moment ago, so it waits a little before it says that a tenant is unknown.
    async fn tenant(&self, tenant: &TenantId) -> Result<Tenant, Problem> {
        let replica = &self.api.replica;
        let deadline = Instant::now() + READ_YOUR_WRITES;
        let mut applied = replica.applied();
        loop {
            applied.mark_unchanged();
            if let Some(known) = replica.read(|view| Ok(view.state.tenant(tenant).cloned()))? {
                return Ok(known);
            }
            let lags = !replica.leadership().borrow().is_leader;
            if !lags || !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
                return Err(Rejection::UnknownTenant(tenant.clone()).into());
            }
        }
    }

    /// Only the leader can answer what depends on the latest signed note.
    fn must_lead(&self) -> Result<(), Problem> {
        let leadership = self.api.replica.leadership().borrow().clone();
        if leadership.is_leader { Ok(()) } else { Err(Problem::not_leader(leadership.leader, &self.api.directory)) }
    }

    fn known_cloud(&self, cloud: &CloudId) -> Result<(), Problem> {
        if self.api.directory.genesis.voter(cloud).is_some() {
            return Ok(());
        }
        let detail = format!("{cloud} is no cloud of this federation; GET /v1/status names them");
        Err(Problem::new(Code::NotFound, detail))
    }

    /// Waits until this node shows what was committed at `index`, so that clients read their writes.
    /// A node that lags longer than [`READ_YOUR_WRITES`] says so by its answers, not by an error.
    async fn applied_up_to(&self, index: u64) {
        let mut applied = self.api.replica.applied();
        let _ = timeout(READ_YOUR_WRITES, applied.wait_for(|applied| *applied >= index)).await;
    }

    /// A failed proposal as an answer that names the leader's address.
    fn refused(&self, error: ProposeError) -> Problem {
        match error {
            ProposeError::NotLeader { leader } => Problem::not_leader(leader, &self.api.directory),
            error => error.into(),
        }
    }
}

/// Tells handlers that hold a connection for long that the server is about to stop.
#[derive(Clone)]
pub(crate) struct Stopping(signal::Receiver<bool>);

impl Stopping {
    /// Resolves when the server stops.
    pub async fn wait(&self) {
        let mut signal = self.0.clone();
        if signal.wait_for(|stopping| *stopping).await.is_err() {
            // The server is gone without a word, as in a test that has none.
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Stopping {
    fn default() -> Self {
        Self(signal::channel(false).1)
    }
}
