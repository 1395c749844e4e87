//! What an agent answers on its own address: who leads, and requests that only the leader may take. Such a
//! request is never passed on: whoever sends it is told who leads.

use super::config::check_image;
use super::{Deployment, Shared, patience};
use crate::error::Error;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tercet_core::agents::Standing;
use tercet_core::ids::LeaseId;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The largest request body, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

struct Serving {
    shared: Arc<Shared>,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deploy {
    role: LeaseId,
    image: String,
}

/// Listens at once, so that a busy port is told; what is returned serves.
pub async fn bind(
    shared: Arc<Shared>,
    address: SocketAddr,
    token: String,
) -> Result<impl Future<Output = ()> + Send, Error> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| Error::Invalid(format!("cannot listen on {address}: {error}")))?;
    let local = listener.local_addr().map_or(address, |local| local);
    eprintln!("answers leader-only requests on http://{local}");
    let serving = Arc::new(Serving { shared, token });
    let router = Router::new()
        .route("/roles", get(roles))
        .route("/leader/{role}", get(leader))
        .route("/deploy", post(deploy))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(serving.clone(), require_token))
        .with_state(serving);
    Ok(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("no longer answers leader-only requests: {error}");
        }
    })
}

async fn require_token(State(serving): State<Arc<Serving>>, request: Request, next: Next) -> Response {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if !bool::from(sent.as_bytes().ct_eq(serving.token.as_bytes())) {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "send the context's token as Authorization: Bearer",
        );
    }
    next.run(request).await
}

async fn roles(State(serving): State<Arc<Serving>>) -> Json<serde_json::Value> {
    let standing: Vec<Standing> = serving.shared.standing().values().cloned().collect();
    Json(json!({ "agent": serving.shared.id, "roles": standing }))
}

/// 200 with the token if this agent leads, else 421 with who does.
async fn leader(State(serving): State<Arc<Serving>>, Path(role): Path<LeaseId>) -> Response {
    let owned = serving.shared.standing().get(&role).map(|standing| standing.owns.clone());
    match owned {
        None => refuse(StatusCode::NOT_FOUND, "unknown_lease", "this agent does not stand for that role"),
        Some(None) => not_leader(&serving.shared, &role).await,
        Some(Some(owned)) => Json(json!({ "leader": serving.shared.id, "role": role, "owns": owned })).into_response(),
    }
}

/// Runs another image under the role, on the leader only.
async fn deploy(State(serving): State<Arc<Serving>>, Json(Deploy { role, image }): Json<Deploy>) -> Response {
    if let Err(why) = check_image(&image) {
        return refuse(StatusCode::BAD_REQUEST, "invalid_request", &why);
    }
    let Some(deployments) = serving.shared.deployments.get(&role) else {
        return refuse(StatusCode::NOT_FOUND, "unknown_lease", "this agent does not stand for that role");
    };
    let (done, outcome) = oneshot::channel();
    if deployments.try_send(Deployment { image, done }).is_err() {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "overloaded", "deployments wait already; retry shortly");
    }
    match outcome.await {
        Ok(Ok(container)) => Json(json!({ "role": role, "container": container })).into_response(),
        Ok(Err(why)) if why == "not-leader" => not_leader(&serving.shared, &role).await,
        Ok(Err(why)) => refuse(StatusCode::BAD_GATEWAY, "engine_failed", &why),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this agent is stopping"),
    }
}

async fn not_leader(shared: &Shared, role: &LeaseId) -> Response {
    let known = shared.client.leader_within(&shared.tenant, role, patience()).await.ok();
    let leader = known.and_then(|known| known.leader);
    let text =
        leader.as_ref().map_or_else(|| format!("nobody holds {role}"), |leader| format!("{leader} holds {role}"));
    let body = json!({ "code": "not_leader", "detail": text, "leader": leader });
    (StatusCode::MISDIRECTED_REQUEST, Json(body)).into_response()
}

fn refuse(status: StatusCode, code: &str, detail: &str) -> Response {
    (status, Json(json!({ "code": code, "detail": detail }))).into_response()
}
