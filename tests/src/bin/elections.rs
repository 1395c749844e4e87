//! Leases side by side with etcd's election, on this machine and in the same run: how many grants a second, and how
//! long until somebody else leads after a holder was killed. Prints a table of ratios for docs/PERFORMANCE.md.
//!
//! ```sh
//! cargo run --release -p tercet-tests --bin elections          # needs `etcd` on the path
//! ```
//!
//! etcd has three nodes of one cluster. Tercet has three clouds of three nodes (`--small`: of one node), and each grant
//! is voted on by all three, signed by two nodes of each, and verified by the candidate.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tercet::client::{Client, Patience};
use tercet::context::Context;
use tercet::leases::Candidate;
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{HolderId, LeaseId, TenantId};
use tercet_core::leases::{Asked, Scope, Spec};
use tercet_tests::{Cluster, etcd};

/// How long grants are counted for.
const COUNT: Duration = Duration::from_secs(10);
/// How often a holder is killed.
const KILLS: usize = 10;
/// The lease in the takeovers, of both.
const LEASE: Duration = Duration::from_secs(3);
/// Elections that go on at once.
const AT_ONCE: [usize; 3] = [1, 8, 32];

fn main() {
    let small = std::env::args().any(|argument| argument == "--small");
    if etcd::version().is_none() {
        eprintln!("no etcd on the path; install etcd-server (Debian) or put etcd there");
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let etcd = Etcd::start();
    let mut rows = Vec::new();
    for at_once in AT_ONCE {
        rows.push((format!("grants/s, {at_once} at once"), runtime.block_on(etcd.grants(at_once))));
    }
    let mut takeovers = runtime.block_on(etcd.takeovers());
    rows.push(("takeover after a kill, p50, s".to_owned(), median(&mut takeovers)));
    let etcd_max = takeovers.last().copied().unwrap_or_default();
    drop(etcd);
    let cluster = if small { Cluster::small() } else { Cluster::large() };
    let tercet = Tercet::new(&cluster);
    let mut ours = Vec::new();
    for at_once in AT_ONCE {
        ours.push(runtime.block_on(tercet.grants(at_once)));
    }
    let mut takeovers = runtime.block_on(tercet.takeovers());
    ours.push(median(&mut takeovers));
    let nodes = if small { 3 } else { 9 };
    println!("| | etcd, 3 nodes | Tercet, {nodes} nodes | Tercet / etcd |\n|---|---|---|---|");
    for ((name, theirs), ours) in rows.into_iter().zip(ours) {
        println!("| {name} | {theirs:.2} | {ours:.2} | {:.2} |", ours / theirs);
    }
    let max = takeovers.last().copied().unwrap_or_default();
    println!("| the longest of {KILLS} takeovers, s | {etcd_max:.2} | {max:.2} | {:.2} |", max / etcd_max);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// ---- Tercet ----

struct Tercet {
    client: Arc<Client>,
    trust: TrustBundle,
    tenant: TenantId,
}

impl Tercet {
    fn new(cluster: &Cluster) -> Self {
        let context = Context::read(&cluster.data_dir().join("context.toml")).expect("`up` wrote it");
        let patience = Patience::interactive(Duration::from_secs(10));
        let client = Arc::new(Client::new(&context, None, patience).expect("a sound context"));
        let tenant = TenantId::new("default").expect("valid");
        Self { client, trust: context.trust_bundle().expect("`up` wrote it"), tenant }
    }

    async fn lease(&self, name: &str, lasts: Duration) -> LeaseId {
        let lease = LeaseId::new(name).expect("valid");
        let duration_ms = lasts.as_millis() as u32;
        let (tenant, scope) = (self.tenant.clone(), Scope::Global);
        let spec = Spec { tenant, lease: lease.clone(), scope, duration_ms, preferred: None, frozen: false };
        for cloud in self.client.clouds() {
            self.client.put_lease(&cloud.name, &spec, &Asked::default()).await.expect("the cloud takes it");
        }
        lease
    }

    async fn candidate(&self, lease: &LeaseId, holder: &str) -> Candidate {
        let holder = HolderId::new(holder).expect("valid");
        let (client, trust) = (self.client.clone(), self.trust.clone());
        let candidate = Candidate::new(client, trust, self.tenant.clone(), lease.clone(), holder).await;
        candidate.expect("the lease is there")
    }

    /// Each candidate wins its lease and releases it, again and again.
    async fn grants(&self, at_once: usize) -> f64 {
        let mut candidates = Vec::new();
        for number in 0..at_once {
            let lease = self.lease(&format!("g{at_once}-{number}"), Duration::from_secs(1)).await;
            let candidate = self.candidate(&lease, "one").await;
            // The first vote on a lease waits.
            candidate.acquire(None).await.expect("it is free").release(None).await;
            candidates.push(candidate);
        }
        count(candidates, |candidate| async move {
            candidate.acquire(None).await.expect("it is free").release(None).await;
            candidate
        })
        .await
    }

    async fn takeovers(&self) -> Vec<f64> {
        let lease = self.lease("takeover", LEASE).await;
        let mut took = Vec::new();
        let mut held = self.candidate(&lease, "a").await.acquire(None).await.expect("it is free");
        for number in 0..KILLS {
            let next = self.candidate(&lease, if number % 2 == 0 { "b" } else { "a" }).await;
            let waiting = tokio::spawn(async move { next.acquire(None).await });
            // At another point of the renewals each time.
            tokio::time::sleep(LEASE + Duration::from_millis(number as u64 * 137)).await;
            let killed = Instant::now();
            drop(held);
            held = waiting.await.expect("no panic").expect("it becomes free");
            took.push(killed.elapsed().as_secs_f64());
        }
        took
    }
}

/// Runs a round of each again and again, and says how many rounds a second there were.
async fn count<T: Send + 'static, F: Future<Output = T> + Send>(
    all: Vec<T>,
    round: impl Fn(T) -> F + Clone + Send + 'static,
) -> f64 {
    let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for mut one in all {
        let (done, over, round) = (done.clone(), over.clone(), round.clone());
        tasks.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                one = round(one).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(COUNT).await;
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        let _ = task.await;
    }
    rate
}

// ---- etcd ----

struct Etcd {
    peer: etcd::Etcd,
    http: reqwest::Client,
}

impl Etcd {
    fn start() -> Self {
        // Plain HTTP: no certificates are looked at.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
        Self { peer: etcd::Etcd::start(None), http }
    }

    fn caller(&self, number: usize) -> Caller {
        Caller { http: self.http.clone(), url: self.peer.urls[number % self.peer.urls.len()].clone() }
    }

    /// Each candidate wins its election and resigns, again and again, under one lease each.
    async fn grants(&self, at_once: usize) -> f64 {
        let mut sessions = Vec::new();
        for number in 0..at_once {
            let caller = self.caller(number);
            let lease = caller.lease(60).await;
            sessions.push((caller, lease, format!("g{at_once}-{number}")));
        }
        count(sessions, |(caller, lease, name)| async move {
            let leader = caller.campaign(&name, &lease).await;
            caller.call("election/resign", &json!({ "leader": leader })).await;
            (caller, lease, name)
        })
        .await
    }

    async fn takeovers(&self) -> Vec<f64> {
        let mut took = Vec::new();
        let mut keeping = self.hold("takeover", 0).await;
        for number in 1..=KILLS {
            let (caller, name) = (self.caller(number), "takeover");
            let lease = caller.lease(LEASE.as_secs()).await;
            let (alive, id) = (caller.keep_alive(lease.clone()), lease.clone());
            let waiting = tokio::spawn(async move {
                caller.campaign(name, &id).await;
            });
            tokio::time::sleep(LEASE + Duration::from_millis(number as u64 * 137)).await;
            let killed = Instant::now();
            keeping.abort();
            waiting.await.expect("no panic");
            took.push(killed.elapsed().as_secs_f64());
            keeping = alive;
        }
        keeping.abort();
        took
    }

    async fn hold(&self, name: &str, number: usize) -> tokio::task::JoinHandle<()> {
        let caller = self.caller(number);
        let lease = caller.lease(LEASE.as_secs()).await;
        caller.campaign(name, &lease).await;
        caller.keep_alive(lease)
    }
}

#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    url: String,
}

impl Caller {
    async fn call(&self, what: &str, body: &Value) -> Value {
        let sent = self.http.post(format!("{}/v3/{what}", self.url)).body(body.to_string()).send().await;
        let text = sent.expect("etcd answers").text().await.expect("a whole answer");
        // A stream's answer wraps its result.
        serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    async fn lease(&self, ttl: u64) -> String {
        let granted = self.call("lease/grant", &json!({ "TTL": ttl })).await;
        granted["ID"].as_str().unwrap_or_else(|| panic!("no lease: {granted}")).to_owned()
    }

    async fn campaign(&self, name: &str, lease: &str) -> Value {
        let body = json!({ "name": base64(name), "lease": lease, "value": base64("me") });
        let won = self.call("election/campaign", &body).await;
        assert!(won["leader"].is_object(), "{won}");
        won["leader"].clone()
    }

    /// As clients do: three times in a lease.
    fn keep_alive(&self, lease: String) -> tokio::task::JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                this.call("lease/keepalive", &json!({ "ID": lease })).await;
            }
        })
    }
}

/// As the gateway wants texts.
fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
