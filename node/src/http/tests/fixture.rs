//! Clouds in one paused runtime, with real replicas, federation and routers; only the network and
//! the disk are in memory. Requests go through the router as from a socket.

use crate::config::{CloudEntry, Directory, NodeEntry};
use crate::env::memory::MemoryNetwork;
use crate::federation::Federation;
use crate::http::{Api, router};
use crate::peer::{PeerClient, PeerServer};
use crate::raft::{Replica, ReplicaConfig, Retention};
use crate::storage::MemoryEngine;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::cloudevents;
use tercet_core::epochs::Opening;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, NodeId, TenantId};
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::tenants::TenantSignature;
use tercet_core::wire::sha256;
use tower::ServiceExt;

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
pub const TOKEN: &str = "0123456789abcdef";
/// Longer than anything here takes in simulated time.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);

pub struct Node {
    pub router: Router,
    pub api: Api,
    _server: PeerServer,
}

pub struct Clouds {
    pub network: MemoryNetwork,
    pub directory: Arc<Directory>,
    pub nodes: BTreeMap<String, Node>,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

pub fn tenant_id() -> TenantId {
    TenantId::new("default").unwrap()
}

pub fn tenant_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn key_of(name: &str) -> SigningKey {
    SigningKey::from_seed(&sha256(name.as_bytes()).0)
}

fn directory(nodes_per_cloud: usize) -> Directory {
    let clouds: Vec<CloudEntry> = (1..)
        .zip(CLOUDS)
        .map(|(place, name)| CloudEntry {
            cloud: CloudId::new(name).unwrap(),
            region: format!("{name}-region"),
            nodes: (1..=nodes_per_cloud)
                .map(|n| NodeEntry {
                    node: NodeId::new(format!("{name}-{n}")).unwrap(),
                    peer_addr: format!("127.0.{place}.1:{}", 7000 + n).parse().unwrap(),
                    client_addr: format!("127.0.{place}.1:{}", 8000 + n).parse().unwrap(),
                })
                .collect(),
        })
        .collect();
    let voter = |name: &str| Voter {
        cloud: CloudId::new(name).unwrap(),
        weight: 1,
        root_key: key_of(&format!("root {name}")).public(),
    };
    let genesis = Genesis { voters: CLOUDS.map(voter).to_vec(), quorum: 2, nonce: [1; 32] };
    let openings = clouds.iter().map(|entry| opening(&genesis, entry)).collect();
    Directory { genesis, openings, clouds }
}

fn opening(genesis: &Genesis, entry: &CloudEntry) -> Opening {
    let keys: Vec<_> = entry.nodes.iter().map(|n| (n.node.clone(), key_of(n.node.as_str()).public())).collect();
    let threshold = (keys.len() / 2 + 1) as u32;
    let root_signature = Signature([0; 64]);
    let mut opening = Opening { cloud: entry.cloud.clone(), number: 0, keys, threshold, root_signature };
    opening.root_signature = key_of(&format!("root {}", entry.cloud)).sign(&opening.bytes(&genesis.fed_id()));
    opening
}

impl Clouds {
    /// One cloud of one node, ready, with the signed tenant `default`.
    pub async fn one() -> Self {
        let clouds = Self::start(&["gcp"], 1).await;
        clouds.put_tenant("gcp-1", &default_tenant()).await;
        clouds
    }

    /// Three clouds, ready, with the signed tenant `default` everywhere.
    pub async fn three(nodes_per_cloud: usize) -> Self {
        let clouds = Self::start(&CLOUDS, nodes_per_cloud).await;
        for name in CLOUDS {
            clouds.put_tenant(&format!("{name}-1"), &default_tenant()).await;
        }
        clouds
    }

    /// Only the named clouds run; the others exist on paper.
    pub async fn start(names: &[&str], nodes_per_cloud: usize) -> Self {
        let network = MemoryNetwork::new();
        network.set_latency(Duration::from_millis(5));
        let directory = Arc::new(directory(nodes_per_cloud));
        let mut clouds = Self { network, directory, nodes: BTreeMap::new() };
        let directory = clouds.directory.clone();
        for entry in directory.clouds.iter().filter(|entry| names.contains(&entry.cloud.as_str())) {
            for node in &entry.nodes {
                let started = clouds.start_node(entry, &node.node).await;
                clouds.nodes.insert(node.node.to_string(), started);
            }
        }
        for node in clouds.nodes.keys() {
            clouds.until_ready(node).await;
        }
        clouds
    }

    async fn start_node(&self, entry: &CloudEntry, node: &NodeId) -> Node {
        let env = self.network.env(node.clone(), 1);
        let peers = PeerClient::new(env.clone());
        let members: Vec<NodeId> = entry.nodes.iter().map(|entry| entry.node.clone()).collect();
        let config = ReplicaConfig {
            genesis: self.directory.genesis.clone(),
            cloud: entry.cloud.clone(),
            region: entry.region.clone(),
            node: node.clone(),
            members: members.clone(),
            log_dir: None,
            engine: Arc::new(MemoryEngine::default()),
            heartbeat: Duration::from_millis(300),
            election_min: Duration::from_millis(1_500),
            election_max: Duration::from_millis(3_000),
            retention: Retention::default(),
        };
        let replica = Replica::start(config, env.clone(), peers.clone()).await.unwrap();
        let key = key_of(node.as_str());
        let directory = self.directory.clone();
        let federation =
            Federation::start(directory.clone(), node.clone(), key, replica.clone(), env.clone(), peers.clone());
        let methods = replica.methods().into_iter().chain(federation.methods()).collect();
        let same_cloud = Arc::new(move |peer: &NodeId| members.contains(peer));
        let server = PeerServer::start(env.clone(), same_cloud, methods, federation.streams());
        let token_hash = sha256(TOKEN.as_bytes()).0;
        let api = Api { directory, node: node.clone(), replica, federation, env, token_hash };
        Node { router: router(api.clone()), api, _server: server }
    }

    async fn until_ready(&self, node: &str) {
        self.until(node, "GET", "/readyz", |answer| answer.status == StatusCode::OK).await;
    }

    /// Asks again, in simulated time, until the answer is as wanted.
    pub async fn until(&self, node: &str, method: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let started = tokio::time::Instant::now();
        loop {
            let answer = self.call(node, request(method, path).body(Body::empty()).unwrap()).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(started.elapsed() < PATIENCE, "{node} {method} {path}: {answer:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn leader(&self, cloud: &str) -> String {
        let first = format!("{cloud}-1");
        let status = self.until(&first, "GET", "/v1/status", |answer| answer.json()["leader"].is_string()).await;
        status.json()["leader"].as_str().unwrap().to_owned()
    }

    pub async fn call(&self, node: &str, request: Request<Body>) -> Answer {
        let response = self.nodes[node].router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, node: &str, path: &str) -> Answer {
        self.call(node, request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, node: &str, path: &str, body: &Value) -> Answer {
        self.call(node, json_request("POST", path, body)).await
    }

    pub async fn put_tenant(&self, node: &str, tenant: &Value) {
        let path = format!("/v1/tenants/{}", tenant["id"].as_str().unwrap());
        self.call(node, json_request("PUT", &path, tenant)).await.expect(200);
    }

    /// The plain form of an event, signed by the tenant.
    pub fn signed(&self, mut event: Value) -> Value {
        let (content, _) = cloudevents::from_plain(&tenant_id(), event.to_string().as_bytes()).unwrap();
        event["signature"] = self.signature(&content);
        event
    }

    pub fn signature(&self, content: &tercet_core::content::Content) -> Value {
        let fed = self.directory.genesis.fed_id();
        serde_json::to_value(TenantSignature::sign(&fed, &content.hash(), &tenant_key())).unwrap()
    }
}

pub fn default_tenant() -> Value {
    json!({
        "id": "default", "secret": "09".repeat(32), "confirm": "auto",
        "keys": [tenant_key().public().to_string()], "unsigned": false, "max_pending": 100_000,
    })
}

/// A tenant that needs no signatures.
pub fn open_tenant(id: &str, confirm: &str) -> Value {
    json!({ "id": id, "secret": "0a".repeat(32), "confirm": confirm, "keys": [], "unsigned": true, "max_pending": 1000 })
}

pub fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"))
}

pub fn json_request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let body = body.to_string();
    let request = request(method, path).header("content-type", "application/json").header("content-length", body.len());
    request.body(Body::from(body)).unwrap()
}
