//! The clouds' logs for outside auditors: checkpoints that standard C2SP tools open, leaves, and
//! inclusion proofs. What is served of another cloud is this cloud's mirror of it.

use super::Context;
use super::error::Problem;
use super::request::{Params, Search};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tercet_core::ids::{CloudId, Hash};
use tercet_core::rejection::Code;
use tercet_core::transparency::{SignedNote, leaf_hash};
use utoipa::{IntoParams, ToSchema};

/// The most leaves of one answer.
pub const MAX_LEAVES: u64 = 1000;

/// The latest signed note of a cloud. The own cloud's is known to its leader only.
#[utoipa::path(
    get, path = "/v1/clouds/{cloud}/checkpoint", tag = "clouds",
    params(("cloud" = String, Path)),
    responses(
        (status = 200, content_type = "text/plain", body = String, description = "a C2SP signed note"),
        (status = 421, description = "ask the leader", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn checkpoint(
    State(context): State<Arc<Context>>,
    Params(cloud): Params<CloudId>,
) -> Result<Response, Problem> {
    context.known_cloud(&cloud)?;
    let text = if cloud == context.cloud {
        context.must_lead()?;
        context.api.federation.signed_note().borrow().as_ref().map(|note| note.text())
    } else {
        context.api.replica.read(|view| Ok(view.state.note(&cloud).map(SignedNote::text)))?
    };
    let none = || Problem::new(Code::NotFound, format!("no signed note of {cloud} is here yet; retry shortly"));
    let text = text.ok_or_else(none)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// `?from=&limit=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeavesSearch {
    /// Index of the first leaf.
    #[serde(default)]
    from: u64,
    /// At most 1000, which is also the default.
    limit: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeavesView {
    /// The leaves' bytes in hexadecimal, from `from` on.
    leaves: Vec<String>,
    /// How many leaves the log has here.
    size: u64,
}

/// Leaves of a cloud's current log.
#[utoipa::path(
    get, path = "/v1/clouds/{cloud}/leaves", tag = "clouds",
    params(("cloud" = String, Path), LeavesSearch),
    responses(
        (status = 200, body = LeavesView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn leaves(
    State(context): State<Arc<Context>>,
    Params(cloud): Params<CloudId>,
    Search(search): Search<LeavesSearch>,
) -> Result<Json<LeavesView>, Problem> {
    context.known_cloud(&cloud)?;
    let limit = search.limit.unwrap_or(MAX_LEAVES);
    if limit == 0 || limit > MAX_LEAVES {
        return Err(Problem::invalid(format!("limit is 1 to {MAX_LEAVES}")));
    }
    let (leaves, size) = context.api.replica.read(|view| {
        let size = view.state.head(&cloud).map_or(0, |head| head.size);
        let mut leaves = Vec::new();
        for index in search.from..search.from.saturating_add(limit).min(size) {
            let Some(leaf) = view.state.leaf(view.records, &cloud, index)? else { break };
            leaves.push(hex::encode(leaf.bytes()));
        }
        Ok((leaves, size))
    })?;
    Ok(Json(LeavesView { leaves, size }))
}

/// `?index=&size=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProofSearch {
    index: u64,
    /// The size of the tree; the whole log as held here if absent.
    size: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProofView {
    index: u64,
    size: u64,
    /// The root of the tree of that size.
    #[schema(value_type = String)]
    root: Hash,
    #[schema(value_type = String)]
    leaf_hash: Hash,
    /// RFC 6962 audit path, from the leaf upwards.
    #[schema(value_type = Vec<String>)]
    path: Vec<Hash>,
}

/// Proof that a leaf is in a cloud's current log.
#[utoipa::path(
    get, path = "/v1/clouds/{cloud}/proof", tag = "clouds",
    params(("cloud" = String, Path), ProofSearch),
    responses(
        (status = 200, body = ProofView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn proof(
    State(context): State<Arc<Context>>,
    Params(cloud): Params<CloudId>,
    Search(search): Search<ProofSearch>,
) -> Result<Json<ProofView>, Problem> {
    context.known_cloud(&cloud)?;
    let index = search.index;
    let (proof, held) = context.api.replica.read(|view| {
        let held = view.state.head(&cloud).map_or(0, |head| head.size);
        let size = search.size.unwrap_or(held);
        let path = view.state.proof(view.records, &cloud, index, size)?;
        let root = view.state.root_at(view.records, &cloud, size)?;
        let leaf = view.state.leaf(view.records, &cloud, index)?;
        let (Some(path), Some(root), Some(leaf)) = (path, root, leaf) else { return Ok((None, held)) };
        Ok((Some(ProofView { index, size, root, leaf_hash: leaf_hash(&leaf.bytes()), path }), held))
    })?;
    let outside = || Problem::invalid(format!("index < size <= {held} is needed; the log has {held} leaves here"));
    proof.map(Json).ok_or_else(outside)
}
