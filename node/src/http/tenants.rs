//! Tenants of this cloud. A tenant is put on every cloud separately; its secret is never shown.

use super::Context;
use super::error::Problem;
use super::request::{Params, idempotency_key, read_json};
use super::view::TenantView;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use std::sync::Arc;
use tercet_core::command::Command;
use tercet_core::ids::TenantId;
use tercet_core::tenants::{self, Tenant};
use utoipa::ToSchema;

/// The largest body: sixteen keys and everything else take a few KiB.
pub const MAX_TENANT_BODY_BYTES: usize = 16 << 10;

/// What clients send; `core::tenants::Tenant` reads it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the JSON of tercet_core::tenants::Tenant")]
pub struct TenantRequest {
    id: String,
    /// 32 random bytes in hexadecimal, the same on every cloud.
    secret: String,
    /// `auto` or `manual`.
    confirm: String,
    /// Ed25519 public keys in hexadecimal; empty only if `unsigned`.
    keys: Vec<String>,
    unsigned: bool,
    max_pending: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TenantAnswer {
    tenant: TenantView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TenantsView {
    tenants: Vec<TenantView>,
}

/// Creates a tenant on this cloud, or changes its policy, quota and keys.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = TenantRequest,
    responses(
        (status = 200, body = TenantAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(context): State<Arc<Context>>,
    Params(id): Params<TenantId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TenantAnswer>, Problem> {
    let request_id = idempotency_key(&headers)?;
    let tenant: Tenant = read_json(&headers, body, MAX_TENANT_BODY_BYTES).await?;
    if tenant.id != id {
        let detail = format!("the path names tenant {id} and the body {}; make them the same", tenant.id);
        return Err(Problem::invalid(detail));
    }
    let view = TenantView::from(&tenant);
    let command = Command::Tenants(tenants::Command::Put(tenant));
    let committed = context.submits.propose(request_id, command).await.map_err(|error| context.refused(error))?;
    committed.reply?;
    // The client's next request to this node is to find the tenant.
    context.applied_up_to(committed.index).await;
    Ok(Json(TenantAnswer { tenant: view }))
}

/// All tenants of this cloud.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants",
    responses(
        (status = 200, body = TenantsView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(context): State<Arc<Context>>) -> Result<Json<TenantsView>, Problem> {
    let tenants =
        context.api.replica.read(|view| Ok(view.state.tenants().into_iter().map(TenantView::from).collect()))?;
    Ok(Json(TenantsView { tenants }))
}

/// One tenant, without its secret.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}", tag = "tenants",
    params(("tenant" = String, Path)),
    responses(
        (status = 200, body = TenantAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(context): State<Arc<Context>>,
    Params(id): Params<TenantId>,
) -> Result<Json<TenantAnswer>, Problem> {
    let tenant = context.tenant(&id).await?;
    Ok(Json(TenantAnswer { tenant: TenantView::from(&tenant) }))
}
