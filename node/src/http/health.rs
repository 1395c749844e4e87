//! Liveness, readiness and a short health line. They need no token and tell no secrets.

use super::Context;
use super::error::Problem;
use super::status::role;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::{CloudId, NodeId};
use tokio::time::timeout;
use utoipa::ToSchema;

/// How long a leader may take to hear from a majority.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, ToSchema)]
pub struct LiveView {
    status: &'static str,
}

/// This process answers.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = LiveView)))]
pub async fn livez() -> Json<LiveView> {
    Json(LiveView { status: "ok" })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyView {
    ready: bool,
    /// With `?verbose`, or if this node is not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckView>,
}

/// The check that concerns the cloud's word, not the node's health.
const SIGNING: &str = "signing";

#[derive(Debug, Serialize, ToSchema)]
pub struct CheckView {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// Whether this node can take submissions now.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    params(("verbose" = Option<bool>, Query, description = "list the checks")),
    responses((status = 200, body = ReadyView), (status = 503, body = ReadyView)),
)]
pub async fn readyz(
    State(context): State<Arc<Context>>,
    RawQuery(query): RawQuery,
) -> Result<(StatusCode, Json<ReadyView>), Problem> {
    let verbose = query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")));
    let checks = checks(&context).await?;
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks = if verbose || !ready { checks } else { Vec::new() };
    Ok((status, Json(ReadyView { ready, checks })))
}

async fn checks(context: &Context) -> Result<Vec<CheckView>, Problem> {
    let replica = &context.api.replica;
    let leadership = replica.leadership().borrow().clone();
    // A leader that is cut off still believes in itself; only its followers can tell.
    let has_quorum = !leadership.is_leader || matches!(timeout(QUORUM_TIMEOUT, replica.linearize()).await, Ok(Ok(_)));
    let leader = leadership.leader.filter(|_| has_quorum);
    let (open, recovering) = replica.read(|view| {
        let open = view.state.head(&context.cloud).is_some_and(|head| head.size > 0);
        Ok((open, view.state.is_recovering()))
    })?;
    let queued = context.submits.queued();
    let leader_detail = match &leader {
        Some(leader) => format!("{leader} leads"),
        None => "no leader: a majority of this cloud's nodes is needed".to_owned(),
    };
    let epoch_detail = match (open, recovering) {
        (_, true) => "this cloud waits for the closing statements of all others",
        (false, _) => "this cloud's log is not open yet",
        (true, false) => "open",
    };
    let refusal = context.api.federation.peers().into_iter().find_map(|peer| peer.refusal);
    let flagged = replica.read(|view| Ok(view.state.is_flagged(&context.cloud)))?;
    let signing_detail = match (&refusal, flagged) {
        (Some(refusal), _) => format!("refusing to sign: {refusal}"),
        (None, true) => "this cloud is proven to have lied: no other cloud counts what it says now".to_owned(),
        (None, false) => "allowed".to_owned(),
    };
    let queue_ok = queued < super::submits::MAX_QUEUED;
    Ok(vec![
        CheckView { name: "leader", ok: leader.is_some(), detail: leader_detail },
        CheckView { name: "epoch", ok: open && !recovering, detail: epoch_detail.to_owned() },
        CheckView { name: SIGNING, ok: refusal.is_none() && !flagged, detail: signing_detail },
        CheckView { name: "queue", ok: queue_ok, detail: format!("{queued} submissions wait") },
    ])
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`, or `degraded` while this node is not ready.
    status: &'static str,
    /// How full the queue of submissions is, 0 to 1.
    load: f64,
    /// Mean time from proposal to apply, recently; 0 before the first.
    latency_ms: f64,
    #[schema(value_type = String)]
    cloud: CloudId,
    #[schema(value_type = String)]
    node: NodeId,
    role: &'static str,
    /// This cloud's current epoch.
    epoch: Option<String>,
}

/// One line about this node.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses((status = 200, body = HealthView)))]
pub async fn health(State(context): State<Arc<Context>>) -> Result<Json<HealthView>, Problem> {
    // A cloud that may not sign still serves: what it holds can be read, and its operator is needed.
    let ready = checks(&context).await?.iter().all(|check| check.ok || check.name == SIGNING);
    let replica = &context.api.replica;
    let epoch = replica.read(|view| Ok(view.state.head(&context.cloud).map(|head| head.epoch.to_string())))?;
    let is_leader = replica.leadership().borrow().is_leader;
    Ok(Json(HealthView {
        status: if ready { "ok" } else { "degraded" },
        load: context.submits.load(),
        latency_ms: context.submits.latency_ms(),
        cloud: context.cloud.clone(),
        node: context.api.node.clone(),
        role: role(is_leader),
        epoch,
    }))
}
