//! Submitting one event and reading events. A submission is brought into its canonical content, its
//! tenant's signature is verified here (so Raft never carries what nobody signed), and then it is
//! proposed.

use super::error::Problem;
use super::request::{Params, Search, idempotency_key, media_type, read_body, read_json, unsupported};
use super::view::{EventJson, ReceiptView};
use super::waits::{WaitFor, WaitSearch, wait_for_level};
use super::{Context, Stopping};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tercet_core::cloudevents;
use tercet_core::content::{Content, MAX_PAYLOAD_BYTES};
use tercet_core::events::{Level, Submission};
use tercet_core::ids::{EventKey, FedId, Hash, TenantId};
use tercet_core::rejection::{Code, Rejection};
use tercet_core::signature::{PublicKey, Signature};
use tercet_core::tenants::{Tenant, TenantSignature};
use utoipa::{IntoParams, ToSchema};

/// The largest body of a single submission: a payload in base64, or JSON with every character
/// escaped, and everything around it.
pub const MAX_SUBMIT_BODY_BYTES: usize = 2 * MAX_PAYLOAD_BYTES + (64 << 10);
/// The most keys of one question about levels, and its largest body.
pub const MAX_LEVELS: usize = 1000;
pub const MAX_LEVELS_BODY_BYTES: usize = 1 << 20;
/// The tenant's signature of a CloudEvent, as JSON.
pub const SIGNATURE: &str = "tercet-signature";
const PLAIN: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents+json";

/// The plain form of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes what cloudevents::from_plain reads")]
pub struct PlainEvent {
    /// 1 to 256 bytes.
    id: String,
    source: Option<String>,
    /// `application/json` if absent.
    content_type: Option<String>,
    /// Any JSON; a string if the content type is not JSON. At most 262144 bytes.
    payload: Option<serde_json::Value>,
    /// Bytes, in place of `payload`.
    payload_base64: Option<String>,
    supersedes: Option<Key>,
    /// The tenant's signature over the content hash: `{"single":{"key","signature"}}`.
    #[schema(value_type = Option<Object>)]
    signature: Option<serde_json::Value>,
}

/// What names an event inside its tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    #[serde(default)]
    source: String,
    id: String,
}

/// Submits one event: `application/json` in the plain form, `application/cloudevents+json`, or any
/// other content type with `ce-` headers.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/events", tag = "events",
    params(
        ("tenant" = String, Path, description = "the tenant"), WaitSearch,
        ("Tercet-Signature" = Option<String>, Header, description = "the tenant's signature of a CloudEvent, as JSON"),
        ("Idempotency-Key" = Option<String>, Header, description = "32 hexadecimal characters; events need none"),
    ),
    request_body(content((PlainEvent = "application/json"), (Object = "application/cloudevents+json"))),
    responses(
        (status = 201, description = "accepted", body = ReceiptView),
        (status = 200, description = "the same content was there already", body = ReceiptView),
        (status = "default", description = "refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn submit(
    State(context): State<Arc<Context>>,
    stopping: Stopping,
    Params(tenant): Params<TenantId>,
    Search(search): Search<WaitSearch>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request_id = idempotency_key(&headers)?;
    let declared = super::request::declared_length(&headers).unwrap_or(MAX_SUBMIT_BODY_BYTES);
    let _room = context.room_for(declared.min(MAX_SUBMIT_BODY_BYTES))?;
    let bytes = read_body(&headers, body, MAX_SUBMIT_BODY_BYTES).await?;
    let known = context.tenant(&tenant).await?;
    let (content, signature) = read_event(&tenant, &headers, &bytes)?;
    drop(bytes);
    Verifier::new(context.fed, &known).check(&content.hash(), signature.as_ref())?;
    let key = content.key.clone();
    let submission = Submission { content, signature };
    let receipt = match request_id {
        None => context.submits.submit(submission).await.map_err(|error| context.refused(error))?.1,
        Some(_) => {
            let receipts = context.submits.submit_alone(request_id, vec![submission]).await;
            let (_, mut receipts) = receipts.map_err(|error| context.refused(error))?;
            receipts.pop().unwrap_or_else(|| Err(Rejection::TooLarge("no receipt".into())))
        }
    };
    let mut receipt = receipt?;
    if search.wait.is_some() {
        let level = wait_for_level(&context, &stopping, &tenant, &key, search).await?;
        receipt.level = level.unwrap_or(receipt.level);
    }
    let status = if receipt.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ReceiptView::new(&tenant, &key, receipt))).into_response())
}

/// Content and signature from whichever form the headers declare.
fn read_event(
    tenant: &TenantId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Content, Option<TenantSignature>), Problem> {
    let attributes: Vec<(&str, &[u8])> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?, value.as_bytes())))
        .collect();
    let media_type = media_type(headers);
    let header = headers.get(SIGNATURE).map(|value| cloudevents::signature_from_text(value.as_bytes())).transpose()?;
    if media_type == STRUCTURED {
        return Ok((cloudevents::from_structured(tenant, body)?, header));
    }
    if !attributes.is_empty() {
        let content_type = headers.get(axum::http::header::CONTENT_TYPE).map(|value| value.to_str());
        let content_type = content_type.transpose().map_err(|_| Problem::invalid("Content-Type is not ASCII"))?;
        return Ok((cloudevents::from_binary(tenant, attributes, content_type, body)?, header));
    }
    if media_type != PLAIN {
        return Err(unsupported(&media_type, &[PLAIN, STRUCTURED, "any type with ce- headers"]));
    }
    if header.is_some() {
        return Err(Problem::invalid("send the signature inside the plain form, not as a header"));
    }
    Ok(cloudevents::from_plain(tenant, body)?)
}

/// Checks the signatures of one request. A batch signature covers many contents with one message,
/// which is verified once.
pub struct Verifier<'a> {
    fed: FedId,
    tenant: &'a Tenant,
    verified: Option<(PublicKey, Signature, Vec<u8>)>,
}

impl<'a> Verifier<'a> {
    pub fn new(fed: FedId, tenant: &'a Tenant) -> Self {
        Self { fed, tenant, verified: None }
    }

    pub fn check(&mut self, content: &Hash, signature: Option<&TenantSignature>) -> Result<(), Problem> {
        let Some(signature) = signature else {
            if self.tenant.unsigned {
                return Ok(());
            }
            let detail = format!(
                "tenant {} takes signed events only: sign content hash {content} with one of its keys",
                self.tenant.id
            );
            return Err(Problem::new(Code::BadSignature, detail));
        };
        let (key, bytes) = (*signature.key(), *signature.signature());
        self.check_key(&key)?;
        let message = signature.message(&self.fed, content);
        let message = message.ok_or_else(|| bad("the path of the batch signature does not fit its index and size"))?;
        if self.verified.as_ref().is_some_and(|known| (&known.0, &known.1, &known.2) == (&key, &bytes, &message)) {
            return Ok(());
        }
        let wrong = format!("the signature does not cover content hash {content}; compare how the client computes it");
        key.verify(&message, &bytes).map_err(|_| bad(wrong))?;
        if matches!(signature, TenantSignature::Batch { .. }) {
            self.verified = Some((key, bytes, message));
        }
        Ok(())
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), Problem> {
        if self.tenant.keys.contains(key) {
            return Ok(());
        }
        Err(bad(format!("key {key} is none of tenant {}'s keys; sign with one of them, or add it", self.tenant.id)))
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadSignature, detail)
}

/// `?source=&wait=&timeoutMs=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventSearch {
    /// The CloudEvents source; empty for events of the plain form.
    #[serde(default)]
    source: String,
    wait: Option<WaitFor>,
    timeout_ms: Option<u64>,
}

/// One event with its level, its envelope and every cloud's vote, as this node knows it.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/events/{id}", tag = "events",
    params(("tenant" = String, Path), ("id" = String, Path), EventSearch),
    responses(
        (status = 200, body = EventJson),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(context): State<Arc<Context>>,
    stopping: Stopping,
    Params((tenant, id)): Params<(TenantId, String)>,
    Search(search): Search<EventSearch>,
) -> Result<Json<EventJson>, Problem> {
    let key = EventKey::new(search.source, id)?;
    let known = context.tenant(&tenant).await?;
    let wait = WaitSearch { wait: search.wait, timeout_ms: search.timeout_ms };
    if wait.wait.is_some() {
        wait_for_level(&context, &stopping, &tenant, &key, wait).await?;
    }
    let event = context.api.replica.read(|view| {
        let event = view.state.event(view.records, &tenant, &key)?;
        Ok(event.map(|event| EventJson::new(view.state, &known, &key, event)))
    })?;
    event.map(Json).ok_or_else(|| Rejection::UnknownEvent { tenant, key }.into())
}

/// Keys whose levels are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelsRequest {
    /// At most 1000.
    events: Vec<Key>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LevelsView {
    /// In the order of the question; null for an event that is unknown here.
    #[schema(value_type = Vec<Option<String>>)]
    levels: Vec<Option<Level>>,
}

/// The levels of many events at once.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/events/levels", tag = "events",
    params(("tenant" = String, Path)),
    request_body = LevelsRequest,
    responses(
        (status = 200, body = LevelsView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn levels(
    State(context): State<Arc<Context>>,
    Params(tenant): Params<TenantId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LevelsView>, Problem> {
    let request: LevelsRequest = read_json(&headers, body, MAX_LEVELS_BODY_BYTES).await?;
    if request.events.len() > MAX_LEVELS {
        return Err(Problem::invalid(format!("{} events, ask for at most {MAX_LEVELS} at once", request.events.len())));
    }
    context.tenant(&tenant).await?;
    let keys = request.events.into_iter().map(|key| EventKey::new(key.source, key.id));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let mut levels = Vec::with_capacity(keys.len());
    // In runs, so that applying is never held up for long.
    for run in keys.chunks(super::listing::READ_RUN) {
        let found = context.api.replica.read(|view| {
            run.iter().map(|key| view.state.level(view.records, &tenant, key)).collect::<Result<Vec<_>, _>>()
        })?;
        levels.extend(found);
    }
    Ok(Json(LevelsView { levels }))
}
