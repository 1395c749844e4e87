//! One running node: opens what is on disk in a fixed order, starts Raft, federation and the API,
//! and stops in the opposite order. [`Core`] is the part without sockets and files, which a
//! simulation runs in the same way.

use crate::config::{Config, Directory, NodeEntry, RAFT_DIR, STATE_DIR};
use crate::env::{Env, Os};
use crate::federation::Federation;
use crate::http::{self, Api};
use crate::keys::{NodeKeys, TlsIdentity};
use crate::peer::tls::TlsNetwork;
use crate::peer::{PeerClient, PeerServer};
use crate::raft::{Replica, ReplicaConfig, Retention, open_log};
use crate::storage;
use crate::storage::wal::Log;
use anyhow::{Context, Result, anyhow, bail};
use std::net::SocketAddr;
use std::sync::Arc;
use tercet_core::ids::NodeId;
use tercet_core::signature::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Replica, federation and the server for peers: everything that agrees and signs.
pub struct Core {
    pub replica: Replica,
    pub federation: Arc<Federation>,
    _server: PeerServer,
}

impl Core {
    pub async fn start(directory: Arc<Directory>, key: SigningKey, config: ReplicaConfig, env: Env) -> Result<Self> {
        let log = open_log(config.log_dir.clone()).await?;
        Self::start_on(directory, key, config, log, env).await
    }

    /// The same with a given log: a simulated disk that outlives its node.
    pub async fn start_on(
        directory: Arc<Directory>,
        key: SigningKey,
        config: ReplicaConfig,
        log: Arc<dyn Log>,
        env: Env,
    ) -> Result<Self> {
        let node = config.node.clone();
        let mates = config.members.clone();
        let peers = PeerClient::new(env.clone());
        let replica = Replica::start_on(config, log, env.clone(), peers.clone()).await?;
        let federation = Federation::start(directory, node, key, replica.clone(), env.clone(), peers);
        let mut methods = replica.methods();
        methods.extend(federation.methods());
        let same_cloud = Arc::new(move |peer: &NodeId| mates.contains(peer));
        let server = PeerServer::start(env, same_cloud, methods, federation.streams());
        Ok(Self { replica, federation, _server: server })
    }

    /// Stops signing and pulling, then the replica. Peers are served until the end.
    pub async fn stop(&self) {
        self.federation.stop().await;
        self.replica.stop().await;
    }
}

/// Runs a node until `stop` resolves, or until it cannot go on.
pub async fn run(config: Config, keys: NodeKeys, stop: impl Future<Output = ()>) -> Result<()> {
    let entry = config.entry();
    let peer_listener = listen(entry, entry.peer_addr, "peer_addr").await?;
    let client_listener = listen(entry, entry.client_addr, "client_addr").await?;
    let api_tls = Arc::new(api_tls(&keys.client)?);
    let directory = Arc::new(config.directory.clone());
    let network = TlsNetwork::start(directory.clone(), &keys.peer, peer_listener)?;
    let env = Env { wall: Arc::new(Os), entropy: Arc::new(Os), network: Arc::new(network) };
    let replica_config = replica_config(&config).await?;
    let core = Core::start(directory.clone(), keys.signing, replica_config, env.clone()).await?;
    let api = Api {
        directory,
        node: config.node.clone(),
        replica: core.replica.clone(),
        federation: core.federation.clone(),
        env,
        token_hash: keys.token_hash,
    };
    let (stop_http, mut http_stops) = watch::channel(false);
    let http_stop = async move {
        // An error means that the sender is gone, and that is a reason to stop as well.
        let _ = http_stops.wait_for(|stop| *stop).await;
    };
    let mut serving = tokio::spawn(http::serve(client_listener, api_tls, http::router(api), http_stop));
    tracing::info!(node = %config.node, peer = %entry.peer_addr, client = %entry.client_addr, "serving");
    let outcome = tokio::select! {
        () = stop => {
            tracing::info!("stopping");
            Ok(())
        }
        reason = core.replica.failed() => Err(anyhow!("the replica cannot go on: {reason}")),
        ended = &mut serving => Err(anyhow!("the API stopped serving: {ended:?}")),
    };
    if !serving.is_finished() {
        stop_http.send_replace(true);
        if let Ok(Err(e)) = serving.await {
            tracing::warn!("the API did not stop cleanly: {e}");
        }
    }
    core.stop().await;
    outcome
}

async fn replica_config(config: &Config) -> Result<ReplicaConfig> {
    let cloud = config.cloud();
    let (raft, state) = (config.data_dir.join(RAFT_DIR), config.data_dir.join(STATE_DIR));
    config.mark(&raft)?;
    let marked = state.clone();
    let engine_kind = config.engine;
    // Opening may replay a journal: not on an async worker.
    let engine = tokio::task::spawn_blocking(move || storage::open(engine_kind, &state)).await?;
    let engine = engine.context("cannot open the applied state")?;
    // After opening: a broken state was set aside, and this is a fresh folder.
    config.mark(&marked)?;
    let mut members: Vec<NodeId> = cloud.nodes.iter().map(|entry| entry.node.clone()).collect();
    members.sort();
    Ok(ReplicaConfig {
        genesis: config.directory.genesis.clone(),
        cloud: cloud.cloud.clone(),
        region: cloud.region.clone(),
        node: config.node.clone(),
        members,
        log_dir: Some(raft),
        engine,
        heartbeat: config.heartbeat,
        election_min: config.election_min,
        election_max: config.election_max,
        retention: Retention::default(),
    })
}

async fn listen(entry: &NodeEntry, address: SocketAddr, key: &str) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} on {ip} is in use, so {node} cannot listen ({key} in cluster.toml); is it running already? \
             Stop what holds the port, or write another one",
            port = address.port(),
            ip = address.ip(),
            node = entry.node
        ),
        Err(e) => bail!(
            "{} cannot listen on {address} ({key} in cluster.toml): {e}; write an address of this machine",
            entry.node
        ),
    }
}

fn api_tls(identity: &TlsIdentity) -> Result<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
