//! The agent: it runs beside a service (and a container engine, if there is one), reports for it, campaigns
//! for its roles, and makes containers and hooks follow who holds them.
//!
//! A role's way: stand by until it is won (`role.rs`), start what belongs to it (`engine.rs`, `hooks.rs`), keep it
//! running while it is held, and stop it before its time is over. `reporter.rs` tells the clouds how things stand,
//! `serve.rs` answers those who may only act on the leader, `watchdog.rs` stops a container whose agent was killed.

mod config;
mod engine;
mod hooks;
mod reporter;
mod role;
mod serve;
pub mod watchdog;

pub use config::{AgentKey, Config, ContainerConfig, RoleConfig, Standby};
pub use engine::Engine;

use crate::client::{Client, Patience};
use crate::error::Error;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::agents::Standing;
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{FedId, HolderId, LeaseId, TenantId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How long one call to a cloud may take.
const CALL: Duration = Duration::from_secs(5);
/// Deployments that wait for a role.
const MAX_DEPLOYMENTS: usize = 4;

/// What all parts of an agent share.
struct Shared {
    client: Arc<Client>,
    trust: TrustBundle,
    fed: FedId,
    tenant: TenantId,
    id: HolderId,
    key: AgentKey,
    report_every: Duration,
    state_dir: PathBuf,
    engine: Option<Engine>,
    standing: Mutex<BTreeMap<LeaseId, Standing>>,
    /// Something changed that the clouds should hear of at once.
    news: watch::Sender<()>,
    deployments: BTreeMap<LeaseId, mpsc::Sender<Deployment>>,
}

/// Another image for a role's container, from `POST /deploy`.
struct Deployment {
    image: String,
    done: oneshot::Sender<Result<String, String>>,
}

impl Shared {
    fn standing(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is reported of a role, and tells the clouds if that is news.
    fn stand(&self, role: &LeaseId, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing();
        let Some(known) = standing.get_mut(role) else { return };
        let before = known.clone();
        change(known);
        if *known != before {
            self.news.send_replace(());
        }
    }
}

/// Runs until `stop` says so; then every role is given back.
pub async fn run(
    client: Arc<Client>,
    trust: TrustBundle,
    tenant: TenantId,
    key: AgentKey,
    config: Config,
    token: String,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let engine = match &config.engine {
        Some(socket) => Some(Engine::connect(socket).await.map_err(|error| {
            Error::Invalid(format!("the container engine at {} does not answer: {error}", socket.display()))
        })?),
        None => {
            if config.roles.iter().any(|role| role.container.is_some()) {
                let text = "a role has a container and the agent no engine; set engine = \"/var/run/docker.sock\"";
                return Err(Error::Invalid(text.into()));
            }
            tracing::info!("no container engine: only hooks run");
            None
        }
    };
    let (mut deployments, mut receivers) = (BTreeMap::new(), Vec::new());
    for role in &config.roles {
        let (sender, receiver) = mpsc::channel(MAX_DEPLOYMENTS);
        deployments.insert(role.name.clone(), sender);
        receivers.push(receiver);
    }
    let stands = |role: &RoleConfig| Standing { lease: role.name.clone(), epoch: 0, ready: false, owns: None };
    let shared = Arc::new(Shared {
        fed: trust.genesis.fed_id(),
        standing: Mutex::new(config.roles.iter().map(|role| (role.name.clone(), stands(role))).collect()),
        client,
        trust,
        tenant,
        id: config.id.clone(),
        key,
        report_every: config.report_every,
        state_dir: config.state_dir.clone(),
        engine,
        news: watch::Sender::new(()),
        deployments,
    });
    let mut parts = JoinSet::new();
    if let Some(address) = config.listen {
        let serving = serve::bind(shared.clone(), address, token).await?;
        parts.spawn(serving);
    }
    parts.spawn(reporter::run(shared.clone()));
    let mut roles = JoinSet::new();
    for (role, deployments) in config.roles.into_iter().zip(receivers) {
        roles.spawn(role::run(shared.clone(), role, deployments, stop.clone()));
    }
    while roles.join_next().await.is_some() {}
    Ok(())
}

/// For calls that the next tick repeats.
fn patience() -> Patience {
    Patience::once(CALL)
}
