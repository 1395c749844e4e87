//! `/metrics` in OpenMetrics text. Counters are kept as requests pass; everything about the ledger
//! is read from applied state when somebody scrapes.

use super::Context;
use super::error::Problem;
use crate::raft::View;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tercet_core::records::Broken;
use tercet_core::rejection::Code;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Number = Gauge<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloudLabels {
    cloud: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuditLabels {
    cloud: String,
    by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    tenant: String,
    lease: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HolderLabels {
    tenant: String,
    lease: String,
    holder: String,
}

/// The most leases that are measured; the rest is in `/v1`.
const MAX_LEASES: usize = 1_000;

pub struct Metrics {
    registry: Registry,
    requests: Family<RouteLabels, Counter>,
    problems: Family<CodeLabels, Counter>,
    federation: Family<KindLabels, Counter>,
    seconds: Histogram,
    events: Family<LevelLabels, Number>,
    log_size: Family<CloudLabels, Number>,
    audited_size: Family<AuditLabels, Number>,
    flagged: Family<CloudLabels, Number>,
    connected: Family<CloudLabels, Number>,
    signing_refused: Family<CloudLabels, Number>,
    signed_size: Number,
    missing_bodies: Number,
    evidence: Number,
    lease_holder: Family<HolderLabels, Number>,
    lease_transitions: Family<LeaseLabels, Number>,
    lease_vacant_ms: Family<LeaseLabels, Number>,
    applied: Number,
    term: Number,
    is_leader: Number,
    proposals: Number,
    queued: Number,
    waiters: Number,
    watchers: Number,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tercet"),
            requests: Family::default(),
            problems: Family::default(),
            federation: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            events: Family::default(),
            log_size: Family::default(),
            audited_size: Family::default(),
            flagged: Family::default(),
            connected: Family::default(),
            signing_refused: Family::default(),
            signed_size: Number::default(),
            missing_bodies: Number::default(),
            evidence: Number::default(),
            lease_holder: Family::default(),
            lease_transitions: Family::default(),
            lease_vacant_ms: Family::default(),
            applied: Number::default(),
            term: Number::default(),
            is_leader: Number::default(),
            proposals: Number::default(),
            queued: Number::default(),
            waiters: Number::default(),
            watchers: Number::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests by route and status", self.requests.clone());
        registry.register("http_problems", "Refused requests by code", self.problems.clone());
        let counted = "Signing rounds, chunks, bodies, fork hunts and convictions";
        registry.register("federation", counted, self.federation.clone());
        registry.register("http_request_seconds", "Time to answer a request", self.seconds.clone());
        registry.register("events", "Events of this cloud by level", self.events.clone());
        registry.register("log_size", "Leaves of each cloud's log as held here", self.log_size.clone());
        registry.register("audited_size", "How far a log is audited by another cloud", self.audited_size.clone());
        registry.register("cloud_flagged", "1 if the cloud is proven to have lied", self.flagged.clone());
        registry.register("cloud_connected", "1 while a stream from the cloud is up", self.connected.clone());
        let refused = "1 while this cloud refuses to sign because of the other cloud";
        registry.register("signing_refused", refused, self.signing_refused.clone());
        registry.register("signed_size", "Size in this cloud's latest signed note", self.signed_size.clone());
        registry.register("missing_bodies", "Voted events whose body is not here", self.missing_bodies.clone());
        registry.register("evidence_held", "Pieces of evidence held", self.evidence.clone());
        let holder = "The fencing token of the latest holder that this cloud was shown";
        registry.register("lease_fencing_token", holder, self.lease_holder.clone());
        registry.register("lease_transitions", "How often a lease changed hands", self.lease_transitions.clone());
        let vacant = "Milliseconds without a holder between tenures";
        registry.register("lease_vacant_ms", vacant, self.lease_vacant_ms.clone());
        registry.register("applied_index", "Log index up to which this node has applied", self.applied.clone());
        registry.register("raft_term", "Raft term", self.term.clone());
        registry.register("is_leader", "1 if this node leads its cloud", self.is_leader.clone());
        registry.register("proposals", "Commands that this node's API proposed", self.proposals.clone());
        registry.register("queued_submissions", "Submissions that wait to be proposed", self.queued.clone());
        registry.register("waiting_requests", "Requests that wait for a level", self.waiters.clone());
        registry.register("watchers", "Watch streams", self.watchers.clone());
    }

    fn refresh_leases(&self, view: &View<'_>) -> Result<(), Broken> {
        // Who held a lease before is no longer told.
        self.lease_holder.clear();
        let mut left = MAX_LEASES;
        for tenant in view.state.tenants() {
            for lease in view.state.leases(view.records, &tenant.id)?.into_iter().take(left) {
                left -= 1;
                let (tenant, name) = (tenant.id.to_string(), lease.spec.lease.to_string());
                let labels = LeaseLabels { tenant: tenant.clone(), lease: name.clone() };
                self.lease_transitions.get_or_create(&labels).set(lease.transitions);
                self.lease_vacant_ms.get_or_create(&labels).set(lease.vacant_ms);
                if let Some(tenure) = &lease.tenure {
                    let labels = HolderLabels { tenant, lease: name, holder: tenure.holder.to_string() };
                    self.lease_holder.get_or_create(&labels).set(tenure.token);
                }
            }
        }
        Ok(())
    }

    fn refresh(&self, context: &Context) -> Result<(), Problem> {
        let api = &context.api;
        let leadership = api.replica.leadership().borrow().clone();
        self.term.set(leadership.term);
        self.is_leader.set(leadership.is_leader.into());
        self.proposals.set(context.submits.proposals());
        self.queued.set(context.submits.queued() as u64);
        self.waiters.set(context.waiters.count() as u64);
        self.watchers.set((super::MAX_WATCHERS - context.watchers.available_permits()) as u64);
        let signed = api.federation.signed_note().borrow().as_ref().map(|note| note.body.size);
        self.signed_size.set(signed.unwrap_or(0));
        for (kind, count) in api.federation.stats().counts() {
            self.federation.get_or_create(&KindLabels { kind }).inner().store(count, Ordering::Relaxed);
        }
        for peer in api.federation.peers() {
            let labels = CloudLabels { cloud: peer.cloud.to_string() };
            self.connected.get_or_create(&labels).set(peer.connected.into());
            self.signing_refused.get_or_create(&labels).set(peer.refusal.is_some().into());
        }
        api.replica.read(|view| {
            self.applied.set(view.applied);
            let counts = view.state.counts();
            let levels = [
                ("PENDING", counts.pending),
                ("QUARANTINED", counts.quarantined),
                ("FINAL", counts.r#final),
                ("SEALED", counts.sealed),
            ];
            for (level, count) in levels {
                self.events.get_or_create(&LevelLabels { level }).set(count);
            }
            self.missing_bodies.set(view.state.missing_bodies(usize::MAX).len() as u64);
            self.evidence.set(view.state.evidence_ids().len() as u64);
            self.refresh_leases(&view)?;
            let genesis = view.state.genesis();
            for cloud in genesis.clouds() {
                let labels = CloudLabels { cloud: cloud.to_string() };
                let size = view.state.head(cloud).map_or(0, |head| head.size);
                self.log_size.get_or_create(&labels).set(size);
                self.flagged.get_or_create(&labels).set(view.state.is_flagged(cloud).into());
                for by in genesis.clouds().filter(|by| *by != cloud) {
                    let labels = AuditLabels { cloud: cloud.to_string(), by: by.to_string() };
                    self.audited_size.get_or_create(&labels).set(view.state.audited(cloud, by));
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Counts every request by its route (not its path, which would be unbounded).
pub async fn count(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    // Methods that HTTP does not define share one label.
    let method = request.method();
    let method = if route == "unmatched" { "any".to_owned() } else { method.to_string() };
    let response = next.run(request).await;
    let metrics = &context.metrics;
    metrics.seconds.observe(started.elapsed().as_secs_f64());
    let labels = RouteLabels { method, route, status: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    if let Some(code) = response.extensions().get::<Code>() {
        metrics.problems.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }
    response
}

/// Metrics of this node.
#[utoipa::path(
    get, path = "/metrics", tag = "health", security(()),
    responses((status = 200, content_type = "application/openmetrics-text", body = String)),
)]
pub async fn get(State(context): State<Arc<Context>>) -> Result<Response, Problem> {
    context.metrics.refresh(&context)?;
    let mut text = String::new();
    encode(&mut text, &context.metrics.registry)
        .map_err(|_| Problem::new(Code::Internal, "the metrics could not be written"))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
