//! Submitting many events at once. They become one command, so a batch costs one round of Raft; a
//! batch signature costs one verification. Each event is answered by itself.

use super::error::Problem;
use super::events::Verifier;
use super::request::{Params, Search, idempotency_key, media_type, read_body, unsupported};
use super::view::ReceiptView;
use super::waits::{WaitSearch, wait_for_levels};
use super::{Context, Stopping};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tercet_core::canonical::{self, Json as Value};
use tercet_core::cloudevents;
use tercet_core::content::Content;
use tercet_core::events::{MAX_SUBMIT, Submission};
use tercet_core::ids::{Hash, TenantId};
use tercet_core::records::Broken;
use tercet_core::rejection::Rejection;
use tercet_core::signature::{PublicKey, Signature};
use tercet_core::tenants::TenantSignature;
use tercet_core::transparency::{Frontier, Nodes, inclusion_proof, leaf_hash};
use utoipa::ToSchema;

/// The largest body of a batch.
pub const MAX_BATCH_BODY_BYTES: usize = 8 << 20;
/// One signature for a whole batch of CloudEvents, as JSON.
pub const BATCH_SIGNATURE: &str = "tercet-batch-signature";
const PLAIN: &str = "application/json";
const STRUCTURED: &str = "application/cloudevents-batch+json";

/// A signature over the RFC 6962 root of the batch's content hashes, in order.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchSignature {
    #[schema(value_type = String)]
    key: PublicKey,
    #[schema(value_type = String)]
    signature: Signature,
}

/// `{"events": [...], "batchSignature": {...}}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes what read_plain_batch reads")]
pub struct BatchRequest {
    /// 1 to 1024 events in the plain form, or `{"cloudEvent": {...}, "signature": {...}}`.
    #[schema(value_type = Vec<super::events::PlainEvent>)]
    events: Vec<serde_json::Value>,
    batch_signature: Option<BatchSignature>,
}

/// The answer to one event: exactly one of the two.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum BatchResult {
    Ok(ReceiptView),
    Error(Problem),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BatchView {
    /// In the order of the events.
    results: Vec<BatchResult>,
}

type Parsed = Result<(Content, Option<TenantSignature>), Problem>;

/// Submits 1 to 1024 events as one command.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/events/batch", tag = "events",
    params(
        ("tenant" = String, Path), WaitSearch,
        ("Tercet-Batch-Signature" = Option<String>, Header, description = "{\"key\",\"signature\"} for cloudevents-batch+json"),
        ("Idempotency-Key" = Option<String>, Header, description = "32 hexadecimal characters; events need none"),
    ),
    request_body(content((BatchRequest = "application/json"), (Vec<Object> = "application/cloudevents-batch+json"))),
    responses(
        (status = 200, description = "each event was answered, accepted or not", body = BatchView),
        (status = "default", description = "nothing was submitted", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn submit(
    State(context): State<Arc<Context>>,
    stopping: Stopping,
    Params(tenant): Params<TenantId>,
    Search(search): Search<WaitSearch>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BatchView>, Problem> {
    let request_id = idempotency_key(&headers)?;
    let declared = super::request::declared_length(&headers).unwrap_or(MAX_BATCH_BODY_BYTES);
    let _room = context.room_for(declared.min(MAX_BATCH_BODY_BYTES))?;
    let bytes = read_body(&headers, body, MAX_BATCH_BODY_BYTES).await?;
    let known = context.tenant(&tenant).await?;
    let (events, signature) = read_batch(&tenant, &headers, &bytes)?;
    drop(bytes);
    let events = match signature {
        Some(signature) => sign_each(events, &signature)?,
        None => events,
    };
    let mut verifier = Verifier::new(context.fed, &known);
    let (mut items, mut results) = (Vec::new(), Vec::new());
    for event in events {
        let checked = event.and_then(|(content, signature)| {
            verifier.check(&content.hash(), signature.as_ref())?;
            Ok(Submission { content, signature })
        });
        match checked {
            // Filled in from the receipts, in order.
            Ok(submission) => {
                results.push(Ok(submission.content.key.clone()));
                items.push(submission);
            }
            Err(problem) => results.push(Err(problem)),
        }
    }
    let mut receipts = Vec::new().into_iter();
    if !items.is_empty() {
        let submitted = context.submits.submit_alone(request_id, items).await;
        receipts = submitted.map_err(|error| context.refused(error))?.1.into_iter();
    }
    let mut receipts: Vec<_> = receipts.collect();
    if search.wait.is_some() {
        let accepted = results.iter().flatten().zip(&mut receipts);
        let accepted = accepted.filter_map(|(key, receipt)| Some((key, &mut receipt.as_mut().ok()?.level)));
        wait_for_levels(&context, &stopping, &tenant, accepted.collect(), search).await?;
    }
    let mut receipts = receipts.into_iter();
    let results = results.into_iter().map(|result| {
        let receipt = result.and_then(|key| match receipts.next() {
            Some(Ok(receipt)) => Ok(ReceiptView::new(&tenant, &key, receipt)),
            Some(Err(rejection)) => Err(rejection.into()),
            None => Err(Rejection::TooLarge("no receipt".into()).into()),
        });
        receipt.map_or_else(BatchResult::Error, BatchResult::Ok)
    });
    Ok(Json(BatchView { results: results.collect() }))
}

fn read_batch(
    tenant: &TenantId,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Vec<Parsed>, Option<BatchSignature>), Problem> {
    let media_type = media_type(headers);
    let (events, signature) = match media_type.as_str() {
        PLAIN => read_plain_batch(tenant, body)?,
        STRUCTURED => {
            let Value::Array(events) = canonical::parse(body)? else {
                return Err(Problem::invalid("a CloudEvents batch is a JSON array of events"));
            };
            check_count(events.len())?;
            let events = events.into_iter().map(|event| Ok((cloudevents::from_structured_json(tenant, event)?, None)));
            let signature = headers.get(BATCH_SIGNATURE).map(|value| super::request::from_json(value.as_bytes()));
            (events.collect(), signature.transpose()?)
        }
        _ => return Err(unsupported(&media_type, &[PLAIN, STRUCTURED])),
    };
    Ok((events, signature))
}

fn read_plain_batch(tenant: &TenantId, body: &[u8]) -> Result<(Vec<Parsed>, Option<BatchSignature>), Problem> {
    let Value::Object(members) = canonical::parse(body)? else {
        return Err(Problem::invalid("a batch is a JSON object: {\"events\": [...]}"));
    };
    let (mut events, mut signature) = (None, None);
    for (name, value) in members {
        match (name.as_ref(), value) {
            ("events", Value::Array(items)) => events = Some(items),
            ("batchSignature", value) => signature = Some(super::request::from_json(&value.canonical())?),
            ("events", other) => {
                return Err(Problem::invalid(format!("\"events\" must be an array, not {}", other.kind())));
            }
            (other, _) => {
                let name: String = other.chars().take(80).collect();
                return Err(Problem::invalid(format!("{name:?} is not a field of a batch; remove it")));
            }
        }
    }
    let events = events.ok_or_else(|| Problem::invalid("\"events\" is missing"))?;
    check_count(events.len())?;
    Ok((events.into_iter().map(|event| read_item(tenant, event)).collect(), signature))
}

fn check_count(count: usize) -> Result<(), Problem> {
    if (1..=MAX_SUBMIT).contains(&count) {
        return Ok(());
    }
    Err(Problem::invalid(format!("a batch has 1 to {MAX_SUBMIT} events, this one has {count}; split it")))
}

/// A plain event, or `{"cloudEvent": {...}, "signature": {...}}`.
fn read_item(tenant: &TenantId, item: Value<'_>) -> Parsed {
    let wraps_event = matches!(&item, Value::Object(members) if members.iter().any(|(name, _)| name == "cloudEvent"));
    if !wraps_event {
        return Ok(cloudevents::from_plain_json(tenant, item)?);
    }
    let Value::Object(members) = item else { return Err(Problem::invalid("an event is a JSON object")) };
    let (mut content, mut signature) = (None, None);
    for (name, value) in members {
        match name.as_ref() {
            "cloudEvent" => content = Some(cloudevents::from_structured_json(tenant, value)?),
            "signature" => signature = Some(cloudevents::signature_from_json(&value)?),
            _ => return Err(Problem::invalid("beside \"cloudEvent\" only \"signature\" is allowed")),
        }
    }
    let content = content.ok_or_else(|| Problem::invalid("\"cloudEvent\" is missing"))?;
    Ok((content, signature))
}

/// Derives each event's own signature (its path to the root) from the batch's.
fn sign_each(events: Vec<Parsed>, signature: &BatchSignature) -> Result<Vec<Parsed>, Problem> {
    let mut contents = Vec::with_capacity(events.len());
    for (at, event) in events.into_iter().enumerate() {
        let (content, own) = event.map_err(|mut problem| {
            // Without this event the root that was signed cannot be computed.
            problem.detail = format!("event {at} of the signed batch: {}", problem.detail);
            problem
        })?;
        if own.is_some() {
            return Err(Problem::invalid(format!(
                "event {at} has its own signature beside the batch's; send one of them"
            )));
        }
        contents.push(content);
    }
    let (mut frontier, mut tree) = (Frontier::default(), Tree::default());
    for content in &contents {
        frontier.append_to(leaf_hash(&content.hash().0), |level, index, hash| {
            tree.0.insert((level, index), hash);
        });
    }
    let size = contents.len() as u64;
    let signed = contents.into_iter().zip(0..).map(|(content, index)| {
        let path = inclusion_proof(&tree, index, size)?;
        let BatchSignature { key, signature } = signature.clone();
        Ok(Ok((content, Some(TenantSignature::Batch { key, signature, index, size, path }))))
    });
    signed.collect::<Result<_, Broken>>().map_err(Problem::from)
}

/// The complete subtrees of one batch.
#[derive(Default)]
struct Tree(HashMap<(u8, u64), Hash>);

impl Nodes for Tree {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        self.0.get(&(level, index)).copied().ok_or_else(|| Broken(format!("no node {index} of level {level}")))
    }
}
