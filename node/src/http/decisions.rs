//! Decisions of this cloud's operator on events of tenants with manual confirmation.

use super::Context;
use super::error::Problem;
use super::request::{Params, Search, idempotency_key, read_json};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tercet_core::command::Command;
use tercet_core::events;
use tercet_core::ids::{CloudId, EventKey, Hash, TenantId};
use tercet_core::rejection::Rejection;
use tercet_core::transparency::Verdict;
use utoipa::{IntoParams, ToSchema};

pub const MAX_DECISION_BODY_BYTES: usize = 4 << 10;

/// `?source=`: the CloudEvents source; empty for events of the plain form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SourceSearch {
    #[serde(default)]
    pub source: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Confirm,
    Reject,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionRequest {
    verdict: Answer,
    /// Which content is meant; may be left out while only one is known here.
    #[schema(value_type = Option<String>)]
    content_hash: Option<Hash>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionView {
    #[schema(value_type = String)]
    tenant: TenantId,
    id: String,
    source: String,
    #[schema(value_type = String)]
    cloud: CloudId,
    verdict: Answer,
    #[schema(value_type = String)]
    content_hash: Hash,
}

/// This cloud's one and only answer for an event.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/events/{id}/decision", tag = "events",
    params(("tenant" = String, Path), ("id" = String, Path), SourceSearch, ("Idempotency-Key" = Option<String>, Header)),
    request_body = DecisionRequest,
    responses(
        (status = 200, body = DecisionView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn decide(
    State(context): State<Arc<Context>>,
    Params((tenant, id)): Params<(TenantId, String)>,
    Search(search): Search<SourceSearch>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DecisionView>, Problem> {
    let request_id = idempotency_key(&headers)?;
    let key = EventKey::new(search.source, id)?;
    let request: DecisionRequest = read_json(&headers, body, MAX_DECISION_BODY_BYTES).await?;
    context.tenant(&tenant).await?;
    let content = match request.content_hash {
        Some(content) => content,
        None => only_content(&context, &tenant, &key)?,
    };
    let verdict = match request.verdict {
        Answer::Confirm => Verdict::Confirm,
        Answer::Reject => Verdict::RejectOperator,
    };
    let decision = events::Command::Decide { tenant: tenant.clone(), key: key.clone(), content, verdict };
    let committed = context.submits.propose(request_id, Command::Events(decision)).await;
    let committed = committed.map_err(|error| context.refused(error))?;
    committed.reply?;
    context.applied_up_to(committed.index).await;
    Ok(Json(DecisionView {
        tenant,
        id: key.id().to_owned(),
        source: key.source().to_owned(),
        cloud: context.cloud.clone(),
        verdict: request.verdict,
        content_hash: content,
    }))
}

fn only_content(context: &Context, tenant: &TenantId, key: &EventKey) -> Result<Hash, Problem> {
    let event = context.api.replica.read(|view| view.state.event(view.records, tenant, key))?;
    let Some(event) = event else {
        return Err(Rejection::UnknownEvent { tenant: tenant.clone(), key: key.clone() }.into());
    };
    match event.record.contents.as_slice() {
        [only] => Ok(*only),
        several => {
            let hashes: Vec<_> = several.iter().map(Hash::to_string).collect();
            let detail = format!("{key} has several contents; set contentHash to one of {}", hashes.join(", "));
            Err(Problem::invalid(detail))
        }
    }
}
