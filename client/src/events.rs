//! Events over HTTP: submit one or a batch, read one, list them, wait for a level, decide by hand.

use crate::client::{Client, Patience, Route};
use crate::error::{Error, Problem};
use crate::http::Call;
use crate::sign::Signer;
use base64::Engine;
use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::time::Duration;
use tercet_core::cloudevents;
use tercet_core::content::Content;
use tercet_core::events::{Level, Marks};
use tercet_core::ids::{CloudId, EventKey, Hash, TenantId};
use tercet_core::tenants::TenantSignature;
use tokio::time::Instant;

/// The most events of one batch and the most bytes of its body, as the server takes them.
pub const MAX_BATCH_EVENTS: usize = tercet_core::events::MAX_SUBMIT;
pub const MAX_BATCH_BYTES: usize = 8 << 20;
/// The most keys of one question about levels, and the longest page of a list.
pub const MAX_LEVELS: usize = 1000;
pub const MAX_PAGE: u32 = 1000;
/// How long one long-poll may take; a longer wait is several.
const POLL: Duration = Duration::from_secs(20);
/// How long one node may take to answer a batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(15);
/// What an answer may take beyond the wait that was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// An event in the plain form, before it is signed.
#[derive(Debug, Clone)]
pub struct Draft {
    pub key: EventKey,
    pub content_type: String,
    pub payload: Payload,
    pub supersedes: Option<EventKey>,
}

#[derive(Debug, Clone)]
pub enum Payload {
    None,
    /// JSON as the user wrote it; both sides canonicalise it.
    Json(Box<RawValue>),
    /// Any other media type, byte for byte.
    Bytes(Vec<u8>),
}

/// What a cloud answers to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub id: String,
    pub source: String,
    pub tenant: TenantId,
    /// False if the same content was there already.
    pub new: bool,
    pub content_hash: Hash,
    pub hash: Hash,
    pub tag: String,
    pub origin_cloud: CloudId,
    pub level: Level,
}

/// One event as one cloud sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    pub tenant: TenantId,
    pub id: String,
    #[serde(default)]
    pub source: String,
    pub seq: Option<u64>,
    pub level: Level,
    pub marks: Marks,
    pub content_hash: Option<Hash>,
    /// What the origin cloud assigned; shown as it came.
    pub envelope: Option<Map<String, Value>>,
    pub votes: Vec<VoteView>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One cloud's vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoteView {
    pub cloud: CloudId,
    pub verdict: String,
    pub content_hash: Option<Hash>,
    pub epoch: String,
    pub index: u64,
    #[serde(default)]
    pub audited_by: Vec<CloudId>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub events: Vec<Value>,
    /// Where the next page begins, if there may be one.
    pub next: Option<u64>,
}

/// What is wanted before a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Final,
    Sealed,
}

impl Wait {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Sealed => "sealed",
        }
    }

    pub fn is_met_by(self, level: Level) -> bool {
        match self {
            Self::Final => is_final(level),
            Self::Sealed => level == Level::Sealed,
        }
    }
}

/// FINAL or better.
pub fn is_final(level: Level) -> bool {
    matches!(level, Level::Final | Level::Sealed)
}

/// One element of a batch: its JSON as it will be sent, and the content hash to sign.
#[derive(Debug, Clone)]
pub struct BatchItem {
    pub json: Box<RawValue>,
    pub content: Hash,
}

/// The answer to one event of a batch.
pub type ItemResult = Result<Receipt, Box<Problem>>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlainForm<'a> {
    id: &'a str,
    source: &'a str,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supersedes: &'a Option<EventKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<TenantSignature>,
}

impl Draft {
    /// The content that this draft fixes, read by the same code as on the server, so both sides
    /// hash the same bytes.
    pub fn content(&self, tenant: &TenantId) -> Result<Content, Error> {
        let read = cloudevents::from_plain(tenant, self.json(None).get().as_bytes());
        read.map(|(content, _)| content).map_err(|error| Error::Invalid(error.to_string()))
    }

    /// The JSON of the plain form.
    pub fn json(&self, signature: Option<TenantSignature>) -> Box<RawValue> {
        let (payload, payload_base64) = match &self.payload {
            Payload::None => (None, None),
            Payload::Json(raw) => (Some(&**raw), None),
            Payload::Bytes(bytes) => (None, Some(base64::engine::general_purpose::STANDARD.encode(bytes))),
        };
        let form = PlainForm {
            id: self.key.id(),
            source: self.key.source(),
            content_type: &self.content_type,
            payload,
            payload_base64,
            supersedes: &self.supersedes,
            signature,
        };
        serde_json::value::to_raw_value(&form).expect("the plain form has string keys and no failing serialisers")
    }
}

impl Client {
    /// Signs and submits one event. Repeating it is safe: the key decides.
    pub async fn submit(&self, route: &Route, signer: &Signer, draft: &Draft) -> Result<Receipt, Error> {
        self.send(route, &submit_call(signer, draft)?).await?.json()
    }

    /// Submits and waits at the same cloud, in one request. At the end of the wait the receipt
    /// tells the level that was reached.
    pub async fn submit_and_wait(
        &self,
        route: &Route,
        signer: &Signer,
        draft: &Draft,
        wait: (Wait, Duration),
    ) -> Result<Receipt, Error> {
        let call = submit_call(signer, draft)?
            .query("wait", wait.0.as_str())
            .query("timeoutMs", wait.1.as_millis())
            .attempt_timeout(wait.1 + GRACE);
        self.send(route, &call).await?.json()
    }

    /// Submits a batch under one signature. Each event has its own result, in order. With a wait the answer comes when
    /// all of them have that level, or at its end, and tells what was reached.
    pub async fn submit_batch(
        &self,
        route: &Route,
        signer: &Signer,
        items: &[BatchItem],
        wait: Option<(Wait, Duration)>,
        patience: Patience,
    ) -> Result<Vec<ItemResult>, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Batch<'a> {
            events: Vec<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            batch_signature: Option<crate::sign::BatchSignature>,
        }
        #[derive(Deserialize)]
        struct Results {
            results: Vec<Answered>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Answered {
            Ok(Receipt),
            Error(Box<Problem>),
        }
        let contents: Vec<Hash> = items.iter().map(|item| item.content).collect();
        let batch = Batch {
            events: items.iter().map(|item| &*item.json).collect(),
            batch_signature: signer.sign_batch(&contents),
        };
        let path = ["v1", "tenants", signer.tenant().as_str(), "events", "batch"];
        // Repeating it is safe: each event's key decides.
        let mut call = Call::new(Method::POST, &path).json(&batch).attempt_timeout(BATCH_TIMEOUT);
        if let Some((wait, limit)) = wait {
            call =
                call.query("wait", wait.as_str()).query("timeoutMs", limit.as_millis()).attempt_timeout(limit + GRACE);
        }
        let answer = self.send_for(route, &call, patience).await?;
        let results = answer.json::<Results>()?.results;
        if results.len() != items.len() {
            let why = format!("{} results for {} events", results.len(), items.len());
            return Err(Error::Protocol { node: answer.node, why });
        }
        let split = |result| match result {
            Answered::Ok(receipt) => Ok(receipt),
            Answered::Error(problem) => Err(problem),
        };
        Ok(results.into_iter().map(split).collect())
    }

    pub async fn event(&self, route: &Route, tenant: &TenantId, key: &EventKey) -> Result<EventView, Error> {
        self.send(route, &event_call(tenant, key, &[])).await?.json()
    }

    /// Waits until the event reaches the level, at whichever cloud answers. When the time is over,
    /// or the event is QUARANTINED and will hardly move again, the view is returned as it is; the
    /// caller looks at its level.
    pub async fn wait_for(
        &self,
        route: &Route,
        tenant: &TenantId,
        key: &EventKey,
        wait: Wait,
        limit: Option<Duration>,
    ) -> Result<EventView, Error> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let remaining = deadline.map_or(POLL, |deadline| deadline - Instant::now()).min(POLL);
            let call = event_call(tenant, key, &[])
                .query("wait", wait.as_str())
                .query("timeoutMs", remaining.as_millis().max(1))
                .attempt_timeout(remaining + GRACE);
            let patience = Patience::through_outages(deadline.map(|_| remaining + GRACE));
            let over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match self.send_for(route, &call, patience).await {
                Ok(answer) => {
                    let view: EventView = answer.json()?;
                    if wait.is_met_by(view.level) || view.level == Level::Quarantined || over() {
                        return Ok(view);
                    }
                }
                // A cloud that lags behind does not know the event yet.
                Err(Error::Refused(problem)) if problem.code == "unknown_event" && !over() => {}
                Err(error) if !error.is_retryable() || over() => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The levels of many events in one question, `None` for those that the cloud does not know.
    pub async fn levels(
        &self,
        route: &Route,
        tenant: &TenantId,
        keys: &[&EventKey],
        patience: Patience,
    ) -> Result<Vec<Option<Level>>, Error> {
        #[derive(Serialize)]
        struct Question<'a> {
            events: &'a [&'a EventKey],
        }
        #[derive(Deserialize)]
        struct Levels {
            levels: Vec<Option<Level>>,
        }
        let call = Call::new(Method::POST, &["v1", "tenants", tenant.as_str(), "events", "levels"])
            .json(&Question { events: keys });
        let answer = self.send_for(route, &call, patience).await?;
        let levels = answer.json::<Levels>()?.levels;
        if levels.len() == keys.len() {
            return Ok(levels);
        }
        Err(Error::Protocol { node: answer.node, why: format!("{} levels for {} events", levels.len(), keys.len()) })
    }

    /// One page of a cloud's list of events, in its order of arrival there.
    pub async fn list(
        &self,
        route: &Route,
        tenant: &TenantId,
        after: Option<u64>,
        limit: u32,
        level: Option<Level>,
    ) -> Result<Page, Error> {
        let mut call = Call::get(&["v1", "tenants", tenant.as_str(), "events"]).query("limit", limit.min(MAX_PAGE));
        if let Some(after) = after {
            call = call.query("after", after);
        }
        if let Some(level) = level {
            call = call.query("level", level_name(level));
        }
        self.send(route, &call).await?.json()
    }

    /// The bytes of the event's certificate; only a leader hands it out.
    pub async fn certificate(&self, route: &Route, tenant: &TenantId, key: &EventKey) -> Result<Bytes, Error> {
        Ok(self.send(route, &event_call(tenant, key, &["certificate"])).await?.body)
    }

    /// This cloud's operator confirms or rejects a content; it counts for that cloud alone.
    pub async fn decide(
        &self,
        cloud: &CloudId,
        tenant: &TenantId,
        key: &EventKey,
        confirm: bool,
        content: Option<Hash>,
    ) -> Result<Value, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Decision {
            verdict: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_hash: Option<Hash>,
        }
        let verdict = if confirm { "confirm" } else { "reject" };
        let mut call = event_call(tenant, key, &["decision"]).json(&Decision { verdict, content_hash: content }).once();
        call.method = Method::POST;
        let answer = self.send(&Route::Only(cloud.clone()), &call).await?;
        if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
    }
}

/// The text of a level, as in JSON.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Pending => "PENDING",
        Level::Quarantined => "QUARANTINED",
        Level::Final => "FINAL",
        Level::Sealed => "SEALED",
    }
}

fn submit_call(signer: &Signer, draft: &Draft) -> Result<Call, Error> {
    let content = draft.content(signer.tenant())?;
    let json = draft.json(signer.sign(&content.hash()));
    Ok(Call::new(Method::POST, &["v1", "tenants", signer.tenant().as_str(), "events"]).json(&json))
}

fn event_call(tenant: &TenantId, key: &EventKey, rest: &[&str]) -> Call {
    let mut path = vec!["v1", "tenants", tenant.as_str(), "events", key.id()];
    path.extend(rest);
    Call::get(&path).query_unless_empty("source", key.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_form_carries_the_payload_as_written() {
        let draft = Draft {
            key: EventKey::new("", "e-1").unwrap(),
            content_type: "application/json".into(),
            payload: Payload::Json(RawValue::from_string(r#"{"b": 1.0, "a":2}"#.into()).unwrap()),
            supersedes: None,
        };
        assert_eq!(
            draft.json(None).get(),
            r#"{"id":"e-1","source":"","contentType":"application/json","payload":{"b": 1.0, "a":2}}"#
        );
    }

    #[test]
    fn other_payloads_travel_as_base64() {
        let draft = Draft {
            key: EventKey::new("/s", "e-1").unwrap(),
            content_type: "text/plain".into(),
            payload: Payload::Bytes(b"hi".to_vec()),
            supersedes: Some(EventKey::new("", "e-0").unwrap()),
        };
        let json = draft.json(None);
        assert!(json.get().contains(r#""payloadBase64":"aGk=""#), "{json}");
        assert!(json.get().contains(r#""supersedes":{"source":"","id":"e-0"}"#), "{json}");
    }

    #[test]
    fn a_wait_is_met_by_its_level_or_a_better_one() {
        assert!(Wait::Final.is_met_by(Level::Sealed));
        assert!(!Wait::Sealed.is_met_by(Level::Final));
        assert!(!Wait::Final.is_met_by(Level::Quarantined));
    }
}
