//! Clients of a simulation: requests go through a node's own router, as from a socket, and take some
//! time on the way. A client tries the nodes of the cloud that it was told to ask, and no other.

use super::cluster::{Cluster, TOKEN};
use super::network::Seat;
use crate::history::{Outcome, Seen};
use crate::port::{Answer, CERTIFICATE_GONE, Event, Head, Port, Proof, tenant_of};
use crate::random::Random;
use crate::workload::leases;
use axum::body::Body;
use axum::http::{Method, Request, header};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tercet::http::Call;
use tercet::sign::Signer;
use tercet_core::content::TenantSecret;
use tercet_core::events::{Level, Marks};
use tercet_core::ids::TenantId;
use tercet_core::signature::SigningKey;
use tercet_core::tenants::{Confirm, Tenant};
use tokio::time::Instant;
use tower::ServiceExt;

/// How long a client tries one operation.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one node may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// By then a call that was let in at a node has been answered, or given up.
pub const CALL_LIMIT: Duration = Duration::from_millis(2_100);
/// Between two rounds over a cloud's nodes.
const PAUSE: Duration = Duration::from_millis(200);
/// One way between a client and a node.
const WAY: Duration = Duration::from_micros(500);
const PAGE: usize = 1000;
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Events of the tenants that may wait for FINAL in one cloud.
const MAX_PENDING: u64 = 100_000;

pub struct SimPort {
    cluster: Cluster,
    random: Mutex<Random>,
    /// Seats that clients cannot reach, while nodes can: how many faults keep them away.
    unreachable: Mutex<BTreeMap<Seat, u32>>,
    /// Calls that were kept away from a seat although its process ran.
    refused: Mutex<BTreeMap<Seat, u64>>,
}

/// What one node said.
enum Reply {
    /// Status and body.
    Said(u16, Value, Bytes),
    /// Nothing: it may or may not have acted.
    Lost,
    Unreachable,
}

/// What the nodes of a cloud said in the end.
enum Tried {
    Ok(Value, Bytes),
    /// For good: the problem document.
    Refused(Value),
    Unknown(String),
    Nothing(String),
}

impl Tried {
    fn failure(self, at: &str) -> String {
        match self {
            Self::Ok(value, _) => format!("{at}: {value}"),
            Self::Refused(problem) => format!("{at}: {problem}"),
            Self::Unknown(why) | Self::Nothing(why) => format!("{at}: {why}"),
        }
    }
}

impl SimPort {
    pub fn new(cluster: Cluster) -> Arc<Self> {
        let random = Mutex::new(Random::new(cluster.seed, 20));
        Arc::new(Self { cluster, random, unreachable: Mutex::default(), refused: Mutex::default() })
    }

    /// Keeps clients away from these seats, until `admit` was called as often.
    pub fn keep_out(&self, seats: &[Seat]) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        seats.iter().for_each(|seat| *unreachable.entry(seat.clone()).or_default() += 1);
    }

    pub fn admit(&self, seats: &[Seat]) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        for seat in seats {
            match unreachable.get_mut(seat) {
                Some(faults) if *faults > 1 => *faults -= 1,
                _ => drop(unreachable.remove(seat)),
            }
        }
    }

    /// How many calls were kept away from these seats so far, although their processes ran.
    pub fn refused(&self, seats: &[Seat]) -> u64 {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        seats.iter().filter_map(|seat| refused.get(seat)).sum()
    }

    pub fn tenant_key(confirm: Confirm) -> SigningKey {
        super::cluster::key_of(&format!("tenant {}", tenant_of(confirm)))
    }

    pub fn tenant(confirm: Confirm) -> Tenant {
        Tenant {
            id: TenantId::new(tenant_of(confirm)).expect("a tenant's name of letters"),
            secret: TenantSecret([if confirm == Confirm::Auto { 3 } else { 4 }; 32]),
            confirm,
            keys: vec![Self::tenant_key(confirm).public()],
            unsigned: false,
            max_pending: MAX_PENDING,
        }
    }

    fn signer(&self, confirm: Confirm) -> Signer {
        Signer::new(self.cluster.fed(), Self::tenant(confirm).id, Some(Self::tenant_key(confirm)))
    }

    /// Tells a cloud about both tenants and the leases.
    pub async fn put_tenants(&self, at: &str) -> Result<(), String> {
        for confirm in [Confirm::Auto, Confirm::Manual] {
            let tenant = Self::tenant(confirm);
            let body = serde_json::to_vec(&tenant).expect("a tenant has string keys");
            match self.ask(at, Method::PUT, &format!("/v1/tenants/{}", tenant.id), Some(body)).await {
                Tried::Ok(..) => {}
                Tried::Refused(problem) => return Err(problem.to_string()),
                Tried::Unknown(why) | Tried::Nothing(why) => return Err(why),
            }
        }
        for spec in leases::specs() {
            Port::call(self, at, leases::put(&spec)).await?;
        }
        Ok(())
    }

    async fn call(&self, seat: &Seat, method: &Method, path: &str, body: Option<&[u8]>) -> Reply {
        let Some(running) = self.cluster.running(seat) else { return Reply::Unreachable };
        if self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).contains_key(seat) {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(seat.clone()).or_default() += 1;
            return Reply::Unreachable;
        }
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_vec())))
            .expect("a sound request");
        let exchange = async {
            tokio::time::sleep(WAY).await;
            let answer = running.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let status = answer.status().as_u16();
            let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await.unwrap_or_default();
            tokio::time::sleep(WAY).await;
            (status, bytes)
        };
        tokio::select! {
            biased;
            () = running.gone.cancelled() => Reply::Lost,
            answered = tokio::time::timeout(ATTEMPT, exchange) => match answered {
                Ok((status, bytes)) => Reply::Said(status, serde_json::from_slice(&bytes).unwrap_or_default(), bytes),
                Err(_) => Reply::Lost,
            },
        }
    }

    /// Asks the nodes of one cloud, in a random order, until one answers for good.
    async fn ask(&self, at: &str, method: Method, path: &str, body: Option<Vec<u8>>) -> Tried {
        let seats = self.cluster.seats_of(at);
        let first = self.random.lock().unwrap_or_else(PoisonError::into_inner).below(seats.len());
        self.ask_seats(&seats, first, method, path, body).await.0
    }

    /// Also says whether an earlier try than the one that was answered may have done it.
    async fn ask_seats(
        &self,
        seats: &[Seat],
        first: usize,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> (Tried, bool) {
        let begun = Instant::now();
        let (mut unknown, mut last) = (false, "no node could be reached".to_owned());
        while begun.elapsed() < PATIENCE {
            for step in 0..seats.len() {
                let seat = &seats[(first + step) % seats.len()];
                match self.call(seat, &method, path, body.as_deref()).await {
                    Reply::Said(200..=299, value, bytes) => return (Tried::Ok(value, bytes), unknown),
                    Reply::Said(status, problem, _) => {
                        unknown |= problem["outcome"] == "unknown";
                        last = format!("{seat}: {status} {}", problem["code"]);
                        if problem["retryable"] != true && problem["code"] != "not_leader" {
                            return (Tried::Refused(problem), unknown);
                        }
                    }
                    Reply::Lost => (unknown, last) = (true, format!("{seat}: no answer")),
                    Reply::Unreachable => {}
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        let tried = if unknown { Tried::Unknown(last) } else { Tried::Nothing(last) };
        (tried, unknown)
    }

    /// Submits at these seats: a twin's clients know no others.
    pub async fn submit_at(&self, seats: &[Seat], event: &Event) -> Answer {
        let signature = self.signer(event.confirm).sign(&event.draft().content(&event.tenant()).expect("valid").hash());
        let body = event.draft().json(signature).get().as_bytes().to_vec();
        let path = format!("/v1/tenants/{}/events", event.tenant());
        let first = self.random.lock().unwrap_or_else(PoisonError::into_inner).below(seats.len());
        let (tried, repeated) = self.ask_seats(seats, first, Method::POST, &path, Some(body)).await;
        match tried {
            Tried::Ok(receipt, _) => Answer::Acknowledged {
                cloud: seats[0].split('-').next().unwrap_or_default().to_owned(),
                content: receipt["contentHash"].as_str().unwrap_or_default().to_owned(),
                new: receipt["new"] == true,
                repeated,
            },
            // What the earlier try did is not known.
            Tried::Refused(problem) if repeated => Answer::Unknown(format!("refused when tried again: {problem}")),
            Tried::Refused(problem) => Answer::Refused {
                code: problem["code"].as_str().unwrap_or_default().to_owned(),
                first: problem["firstContentHash"].as_str().map(ToOwned::to_owned),
            },
            Tried::Unknown(why) => Answer::Unknown(why),
            Tried::Nothing(why) => Answer::Refused { code: format!("unreachable ({why})"), first: None },
        }
    }

    async fn get(&self, at: &str, path: &str) -> Result<(Value, Bytes), String> {
        match self.ask(at, Method::GET, path, None).await {
            Tried::Ok(value, bytes) => Ok((value, bytes)),
            other => Err(other.failure(at)),
        }
    }
}

/// A summary or a whole event, as the API shows both.
fn seen(event: &Value) -> Option<Seen> {
    let level: Level = serde_json::from_value(event["level"].clone()).ok()?;
    let marks: Marks = serde_json::from_value(event["marks"].clone()).ok()?;
    Some(Seen::new(level, marks, event["contentHash"].as_str().map(ToOwned::to_owned)))
}

impl Port for SimPort {
    fn clouds(&self) -> Vec<String> {
        super::cluster::CLOUDS.map(ToOwned::to_owned).to_vec()
    }

    fn submit<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Answer> {
        async move { self.submit_at(&self.cluster.seats_of(at), event).await }.boxed()
    }

    fn decide<'a>(&'a self, at: &'a str, event: &'a Event, confirm: bool) -> BoxFuture<'a, Outcome> {
        async move {
            let path = format!("/v1/tenants/{}/events/{}/decision", event.tenant(), event.id);
            let verdict = if confirm { "confirm" } else { "reject" };
            let body = json!({ "verdict": verdict, "contentHash": event.content() }).to_string();
            match self.ask(at, Method::POST, &path, Some(body.into_bytes())).await {
                Tried::Ok(..) => Outcome::Done,
                Tried::Refused(_) | Tried::Nothing(_) => Outcome::Refused,
                Tried::Unknown(_) => Outcome::Unknown,
            }
        }
        .boxed()
    }

    fn look<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Option<Seen>> {
        async move {
            let path = format!("/v1/tenants/{}/events/{}", event.tenant(), event.id);
            seen(&self.get(at, &path).await.ok()?.0)
        }
        .boxed()
    }

    fn list<'a>(&'a self, at: &'a str, tenant: Confirm) -> BoxFuture<'a, Result<Vec<(String, Seen)>, String>> {
        async move {
            let (mut all, mut after) = (Vec::new(), 0);
            loop {
                let path = format!("/v1/tenants/{}/events?after={after}&limit={PAGE}", tenant_of(tenant));
                let page = self.get(at, &path).await?.0;
                for event in page["events"].as_array().into_iter().flatten() {
                    let id = event["id"].as_str().ok_or("an event without an id")?;
                    all.push((id.to_owned(), seen(event).ok_or_else(|| format!("not an event: {event}"))?));
                }
                match page["next"].as_u64() {
                    Some(next) => after = next,
                    None => return Ok(all),
                }
            }
        }
        .boxed()
    }

    fn heads<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Head>, String>> {
        async move {
            let leader = self.cluster.leader(&self.cluster.seats_of(at)).ok_or("no leader")?;
            let running = self.cluster.running(&leader).ok_or("the leader is gone")?;
            let heads = running.core.replica.read(|view| {
                let clouds = view.state.genesis().clouds();
                let head = |of: &tercet_core::ids::CloudId| {
                    let head = view.state.head(of)?;
                    Some(Head { of: of.to_string(), size: head.size, root: head.root.to_string() })
                };
                Ok(clouds.filter_map(head).collect())
            });
            heads.map_err(|broken| broken.to_string())
        }
        .boxed()
    }

    fn proofs<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Proof>, String>> {
        async move {
            let listed = self.get(at, "/v1/evidence").await?.0;
            let mut proofs = Vec::new();
            for row in listed["evidence"].as_array().into_iter().flatten() {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let bytes = self.get(at, &format!("/v1/evidence/{}", text("id"))).await?.1;
                proofs.push(Proof { against: text("cloud"), id: text("id"), bytes: bytes.to_vec() });
            }
            Ok(proofs)
        }
        .boxed()
    }

    fn certificate<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        async move {
            let path = format!("/v1/tenants/{}/events/{}/certificate", event.tenant(), event.id);
            match self.ask(at, Method::GET, &path, None).await {
                Tried::Ok(_, bytes) => Ok(Some(bytes.to_vec())),
                Tried::Refused(problem) if problem["code"] == CERTIFICATE_GONE => Ok(None),
                other => Err(other.failure(at)),
            }
        }
        .boxed()
    }

    fn call<'a>(&'a self, at: &'a str, call: Call) -> BoxFuture<'a, Result<Value, String>> {
        async move {
            // Ids and queries of the workload need no escaping.
            let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            let path = format!("/{}{query}", call.path.join("/"));
            let body = call.body.as_ref().map(|(_, body)| body.as_ref());
            let seats = self.cluster.seats_of(at);
            let first = self.random.lock().unwrap_or_else(PoisonError::into_inner).below(seats.len());
            let mut last = "unreachable".to_owned();
            for step in 0..seats.len() {
                match self.call(&seats[(first + step) % seats.len()], &call.method, &path, body).await {
                    Reply::Said(200..=299, value, _) => return Ok(value),
                    Reply::Said(_, problem, _) => {
                        last = problem["code"].as_str().unwrap_or_default().to_owned();
                        if problem["outcome"] != "unknown" && !matches!(last.as_str(), "no_leader" | "not_leader") {
                            break;
                        }
                    }
                    Reply::Lost => "lost".clone_into(&mut last),
                    Reply::Unreachable => {}
                }
            }
            Err(last)
        }
        .boxed()
    }

    fn trust(&self) -> Vec<u8> {
        serde_json::to_vec(&self.cluster.trust()).expect("a trust bundle has string keys")
    }
}
