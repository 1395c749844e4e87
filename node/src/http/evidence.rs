//! Evidence that a cloud lied: listing it, handing it out, and taking it from anybody who found it.

use super::Context;
use super::error::Problem;
use super::request::{Params, expect_type, idempotency_key, read_body};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use tercet_core::command::Command;
use tercet_core::evidence::{self, Evidence};
use tercet_core::ids::{CloudId, Hash};
use tercet_core::rejection::{Code, Rejection};
use utoipa::ToSchema;

pub const EVIDENCE_TYPE: &str = "application/vnd.tercet.evidence";
/// The largest evidence: two notes, two leaves and two proofs take a few KiB.
pub const MAX_EVIDENCE_BODY_BYTES: usize = 64 << 10;

#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceView {
    #[schema(value_type = String)]
    id: Hash,
    /// The cloud that lied.
    #[schema(value_type = String)]
    cloud: CloudId,
    /// `double-vote`, `fork-at-size`, `fork-at-index`, `diverging-notes` or `double-lease-vote`.
    kind: &'static str,
}

impl EvidenceView {
    fn of(evidence: &Evidence) -> Self {
        Self { id: evidence.id(), cloud: evidence.cloud.clone(), kind: evidence.kind() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceList {
    evidence: Vec<EvidenceView>,
}

/// All evidence held here, oldest first.
#[utoipa::path(
    get, path = "/v1/evidence", tag = "evidence",
    responses(
        (status = 200, body = EvidenceList),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(context): State<Arc<Context>>) -> Result<Json<EvidenceList>, Problem> {
    let held = context.api.replica.read(|view| view.state.evidence(view.records))?;
    Ok(Json(EvidenceList { evidence: held.iter().map(EvidenceView::of).collect() }))
}

/// One piece of evidence: bytes that a stranger verifies with the trust bundle alone.
#[utoipa::path(
    get, path = "/v1/evidence/{id}", tag = "evidence",
    params(("id" = String, Path, description = "64 hexadecimal characters")),
    responses(
        (status = 200, content_type = "application/vnd.tercet.evidence", body = Vec<u8>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(State(context): State<Arc<Context>>, Params(id): Params<Hash>) -> Result<Response, Problem> {
    let held = context.api.replica.read(|view| view.state.evidence(view.records))?;
    match held.into_iter().find(|evidence| evidence.id() == id) {
        Some(evidence) => Ok(([(header::CONTENT_TYPE, EVIDENCE_TYPE)], evidence.bytes()).into_response()),
        None => Err(Problem::new(Code::NotFound, format!("no evidence {id} is held here; GET /v1/evidence lists it"))),
    }
}

/// Accuses a cloud. Evidence that convicts nobody is refused; known evidence changes nothing.
#[utoipa::path(
    post, path = "/v1/evidence", tag = "evidence",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body(content = Vec<u8>, content_type = "application/vnd.tercet.evidence"),
    responses(
        (status = 200, body = EvidenceView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn accuse(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EvidenceView>, Problem> {
    let request_id = idempotency_key(&headers)?;
    expect_type(&headers, EVIDENCE_TYPE)?;
    let bytes = read_body(&headers, body, MAX_EVIDENCE_BODY_BYTES).await?;
    let refused = |reason: String| Problem::from(Rejection::BadEvidence(reason));
    let accusation = Evidence::decode(&bytes).map_err(|error| refused(error.to_string()))?;
    let openings = context.api.replica.read(|view| Ok(view.state.openings()))?;
    let verified = accusation.verify(&context.api.directory.genesis, &openings);
    verified.map_err(|error| refused(error.to_string()))?;
    let view = EvidenceView::of(&accusation);
    let command = Command::Evidence(evidence::Command::Accuse(Box::new(accusation)));
    let committed = context.submits.propose(request_id, command).await.map_err(|error| context.refused(error))?;
    committed.reply?;
    context.applied_up_to(committed.index).await;
    Ok(Json(view))
}
