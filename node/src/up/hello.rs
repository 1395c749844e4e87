//! The first event, over the public API: wait until the clouds are ready, give each of them the
//! default tenant, submit one event, and show it become FINAL and SEALED.

use super::lamps::{Lamp, Lamps, level_name};
use super::prepare::Cluster;
use super::program;
use crate::config::{CloudEntry, NodeEntry};
use crate::env::{Os, WallClock};
use crate::keys;
use anyhow::{Context, Result, bail};
use reqwest::Client;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::canonical::canonicalise;
use tercet_core::content::Content;
use tercet_core::events::Level;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, EventKey, TenantId};
use tercet_core::tenants::TenantSignature;
use tokio::time::Instant;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(25);
/// How long one look at the event waits for its next level, so that the lamps keep moving.
const LONG_LOOK: Duration = Duration::from_millis(250);
/// How long clouds may take to become ready, and the event to reach the level that is possible.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LEVEL_TIMEOUT: Duration = Duration::from_secs(60);

const TENANT: &str = "default";

pub async fn show(cluster: &Cluster, begun: Instant) -> Result<()> {
    let api = Api::open(&cluster.dir)?;
    wait_until_ready(cluster, &api).await?;
    let ready_after = begun.elapsed();
    let reachable = reachable(cluster, &api).await;
    say!("Ready after {:.1} s: {}", ready_after.as_secs_f64(), names(&reachable));
    put_tenant(cluster, &api, &reachable).await?;
    let genesis = &cluster.directory.genesis;
    let target = best_level(genesis, &reachable);
    let origin = origin(cluster);
    let level = show_event(cluster, &api, origin, target, begun).await?;
    if level < target {
        say!("The event is still {} after {} s.", level_name(level).0, LEVEL_TIMEOUT.as_secs());
    }
    explain(cluster, &reachable, target);
    print_next(cluster);
    Ok(())
}

/// The cloud that gets the event: gcp if it runs here, else the first that does.
fn origin(cluster: &Cluster) -> &CloudEntry {
    let mut running = cluster.directory.clouds.iter().filter(|entry| cluster.runs(&entry.cloud));
    let first = running.clone().next().expect("at least one cloud runs here");
    running.find(|entry| entry.cloud.as_str() == "gcp").unwrap_or(first)
}

fn best_level(genesis: &Genesis, reachable: &BTreeSet<CloudId>) -> Level {
    let weight: u64 = reachable.iter().map(|cloud| genesis.weight(cloud)).sum();
    if weight < u64::from(genesis.quorum) {
        Level::Pending
    } else if reachable.len() < genesis.voters.len() {
        Level::Final
    } else {
        Level::Sealed
    }
}

fn names<'a>(clouds: impl IntoIterator<Item = &'a CloudId>) -> String {
    clouds.into_iter().map(CloudId::as_str).collect::<Vec<_>>().join(", ")
}

async fn wait_until_ready(cluster: &Cluster, api: &Api) -> Result<()> {
    let begun = Instant::now();
    let mut waiting: Vec<&CloudEntry> =
        cluster.directory.clouds.iter().filter(|entry| cluster.runs(&entry.cloud)).collect();
    loop {
        let mut still = Vec::new();
        for entry in waiting {
            if !api.is_ready(entry).await {
                still.push(entry);
            }
        }
        if still.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > READY_TIMEOUT {
            let clouds = names(still.iter().map(|entry| &entry.cloud));
            bail!("not ready after {} s: {clouds}", READY_TIMEOUT.as_secs());
        }
        waiting = still;
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The clouds started here, and those that run already elsewhere.
async fn reachable(cluster: &Cluster, api: &Api) -> BTreeSet<CloudId> {
    let mut reachable: BTreeSet<CloudId> = cluster.running.iter().cloned().collect();
    for entry in &cluster.directory.clouds {
        if !reachable.contains(&entry.cloud) && api.is_ready(entry).await {
            reachable.insert(entry.cloud.clone());
        }
    }
    reachable
}

async fn put_tenant(cluster: &Cluster, api: &Api, reachable: &BTreeSet<CloudId>) -> Result<()> {
    let body: Value = serde_json::from_slice(&keys::read_private(&cluster.dir.join("tenants/default.json"))?)?;
    let puts = cluster.directory.clouds.iter().filter(|entry| reachable.contains(&entry.cloud)).map(|entry| {
        let request = |url: String| api.client.put(url).json(&body);
        api.until_ok(entry, format!("/v1/tenants/{TENANT}"), request)
    });
    for put in futures::future::join_all(puts).await {
        put.context("the default tenant was not accepted")?;
    }
    Ok(())
}

/// Submits one event and shows its lamps until it reaches `target`. Returns the level reached.
async fn show_event(cluster: &Cluster, api: &Api, origin: &CloudEntry, target: Level, begun: Instant) -> Result<Level> {
    let id = format!("hello-{}", Os.now().0);
    let body = signed_event(cluster, &id)?;
    say!("\nSubmitting event {id} of tenant {TENANT} to {}:", origin.cloud);
    let submitted = Instant::now();
    let request = |url: String| api.client.post(url).json(&body);
    api.until_ok(origin, format!("/v1/tenants/{TENANT}/events"), request)
        .await
        .context("the event was not accepted")?;
    let mut lamps = Lamps::new(&id);
    lamps.legend();
    let mut reached = Level::Pending;
    let path = format!("/v1/tenants/{TENANT}/events/{id}");
    let mut wait = String::new();
    while submitted.elapsed() < LEVEL_TIMEOUT {
        let view = api.until_ok(origin, format!("{path}{wait}"), |url: String| api.client.get(url)).await?;
        let level: Level = serde_json::from_value(view["level"].clone()).context("the event has no level")?;
        lamps.show(lamps_of(cluster, &view), level, submitted.elapsed());
        reached = level;
        if level >= target {
            break;
        }
        // The next level is waited for at the cloud itself: FINAL and SEALED are milliseconds apart.
        let next = if level < Level::Final { "final" } else { "sealed" };
        wait = format!("?wait={next}&timeoutMs={}", LONG_LOOK.as_millis());
    }
    lamps.end();
    if reached >= Level::Final {
        let (took, since) = (submitted.elapsed().as_secs_f64(), begun.elapsed().as_secs_f64());
        say!("{} in {took:.2} s, {since:.1} s after the start.", level_name(reached).0);
    }
    Ok(reached)
}

fn signed_event(cluster: &Cluster, id: &str) -> Result<Value> {
    let payload = json!({ "greeting": "three clouds confirm this event", "id": id });
    let content = Content {
        tenant: TenantId::new(TENANT)?,
        key: EventKey::new("", id)?,
        attributes: Vec::new(),
        content_type: "application/json".into(),
        payload: canonicalise(&serde_json::to_vec(&payload)?).context("the payload is not canonical")?,
        supersedes: None,
    };
    let key = keys::load_signing_key(&cluster.dir.join("tenants/default.key"))?;
    let signature = TenantSignature::sign(&cluster.directory.genesis.fed_id(), &content.hash(), &key);
    Ok(json!({ "id": id, "payload": payload, "signature": signature }))
}

fn lamps_of(cluster: &Cluster, view: &Value) -> Vec<(CloudId, Lamp)> {
    let votes = view["votes"].as_array().cloned().unwrap_or_default();
    let others = cluster.directory.clouds.len() - 1;
    let lamp = |cloud: &CloudId| {
        let Some(vote) = votes.iter().find(|vote| vote["cloud"] == cloud.as_str()) else { return Lamp::Dark };
        let audits = vote["auditedBy"].as_array().map_or(0, Vec::len);
        match vote["verdict"].as_str() {
            Some("reject") => Lamp::Rejected,
            _ if audits >= others => Lamp::Audited,
            _ => Lamp::Voted,
        }
    };
    cluster.directory.clouds.iter().map(|entry| (entry.cloud.clone(), lamp(&entry.cloud))).collect()
}

/// What cannot be reached with the clouds that run, and how to get there.
fn explain(cluster: &Cluster, reachable: &BTreeSet<CloudId>, target: Level) {
    let missing: Vec<&CloudId> =
        cluster.directory.clouds.iter().map(|entry| &entry.cloud).filter(|cloud| !reachable.contains(*cloud)).collect();
    let Some(next) = missing.first() else { return };
    match target {
        Level::Pending => say!("One cloud alone decides nothing: events stay PENDING until a second cloud is up."),
        _ => say!("Events become FINAL now, and SEALED once all three clouds are up."),
    }
    let (tercetd, dir) = (program("tercetd"), cluster.dir.display());
    say!("Start another one in a second terminal: {tercetd} up --data-dir {dir} --cloud {next}");
}

fn print_next(cluster: &Cluster) {
    let dir = cluster.dir.display();
    let mut tercet = program("tercet");
    if !cluster.dir.ends_with(".tercet") {
        tercet = format!("{tercet} --context {dir}/context.toml");
    }
    say!(
        "\nThe cluster stays up until Ctrl-C. Next, in another terminal:\n\
         \x20 {tercet} status\n\
         \x20 {tercet} event submit --id order-1 --payload '{{\"amount\":5}}' --wait sealed\n\
         \x20 {tercet} event certificate order-1 --out order-1.cert\n\
         \x20 {} verify order-1.cert --trust {dir}/trust.json\n\
         Logs of the nodes: {dir}/nodes/<node>/log.txt",
        program("tercet")
    );
}

/// The public API of all nodes, over TLS with the admin token.
struct Api {
    client: Client,
    token: String,
}

impl Api {
    fn open(dir: &Path) -> Result<Self> {
        let ca = keys::files::read(&dir.join(keys::CLIENT_CA))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).context("the client CA is not a certificate")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { client, token: keys::load_token(&dir.join(keys::ADMIN_TOKEN))? })
    }

    /// Whether the cloud has a leader that can take submissions.
    async fn is_ready(&self, entry: &CloudEntry) -> bool {
        self.leader(entry).await.is_some()
    }

    /// The node that leads the cloud. A follower just started may still believe in the leader of its
    /// last run, so only a leader's own word counts.
    async fn leader<'a>(&self, entry: &'a CloudEntry) -> Option<&'a NodeEntry> {
        let asked = entry.nodes.iter().map(|node| self.health(format!("https://{}/health", node.client_addr)));
        let answers = futures::future::join_all(asked).await;
        let leads = |health: &Value| health["role"] == "leader" && health["status"] == "ok";
        let mut nodes = entry.nodes.iter().zip(&answers);
        nodes.find(|(_, health)| health.as_ref().is_some_and(leads)).map(|(node, _)| node)
    }

    async fn health(&self, url: String) -> Option<Value> {
        self.client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Asks the cloud's leader until it accepts, as long as the refusal may pass.
    async fn until_ok(
        &self,
        entry: &CloudEntry,
        path: String,
        request: impl Fn(String) -> reqwest::RequestBuilder,
    ) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let error = match self.leader(entry).await {
                None => anyhow::anyhow!("cloud {} has no leader", entry.cloud),
                Some(node) => match self.try_once(node, request(format!("https://{}{path}", node.client_addr))).await {
                    Ok(answer) => return Ok(answer),
                    Err(Refused { passing: false, error }) => return Err(error),
                    Err(Refused { error, .. }) => error,
                },
            };
            if begun.elapsed() > READY_TIMEOUT {
                return Err(error);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn try_once(&self, node: &NodeEntry, request: reqwest::RequestBuilder) -> Result<Value, Refused> {
        let passing = |e: reqwest::Error| {
            let error = anyhow::Error::new(e).context(format!("{} does not answer", node.node));
            Refused { passing: true, error }
        };
        let answer = request.bearer_auth(&self.token).send().await.map_err(passing)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(passing);
        }
        let problem: Value = answer.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no reason given");
        let passing = problem["retryable"].as_bool().unwrap_or(status.is_server_error());
        Err(Refused { passing, error: anyhow::anyhow!("{} answered {status}: {detail}", node.node) })
    }
}

/// Why a node did not do what it was asked for, and whether asking again may help.
struct Refused {
    passing: bool,
    error: anyhow::Error,
}
