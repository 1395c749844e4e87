//! The JSON that clients see. Field names are part of the API's contract.

use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tercet_core::cloudevents::is_json;
use tercet_core::events::{Body, EventRecord, Level, Receipt};
use tercet_core::ids::{CloudId, EventKey, Hash, TenantId};
use tercet_core::read::EventView;
use tercet_core::state::State;
use tercet_core::tenants::{Confirm, Tenant, TenantSignature};
use tercet_core::time::WallMillis;
use tercet_core::transparency::Verdict;
use utoipa::ToSchema;

/// The answer to a submission.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptView {
    #[schema(value_type = String)]
    pub tenant: TenantId,
    pub id: String,
    pub source: String,
    /// False if the same content was there already: then this request changed nothing.
    pub new: bool,
    /// The hash over what the client fixed, which it signs.
    #[schema(value_type = String)]
    pub content_hash: Hash,
    /// The hash over content and envelope.
    #[schema(value_type = String)]
    pub hash: Hash,
    /// What leaves call this event.
    pub tag: String,
    #[schema(value_type = String)]
    pub origin_cloud: CloudId,
    #[schema(value_type = String, example = "FINAL")]
    pub level: Level,
}

impl ReceiptView {
    pub fn new(tenant: &TenantId, key: &EventKey, receipt: Receipt) -> Self {
        Self {
            tenant: tenant.clone(),
            id: key.id().to_owned(),
            source: key.source().to_owned(),
            new: receipt.new,
            content_hash: receipt.content_hash,
            hash: receipt.hash,
            tag: receipt.tag.to_string(),
            origin_cloud: receipt.origin_cloud,
            level: receipt.level,
        }
    }
}

/// Notes on a level that the level itself does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct MarksView {
    /// The level would be lower without a flagged cloud's facts.
    pub review: bool,
    /// Two contents are FINAL; an operator decides.
    pub conflict: bool,
    /// A vote differs from the settled content; the level stands.
    pub dissent: bool,
    /// All votes are known and audited: this quarantine can be acted on.
    pub actionable: bool,
}

impl MarksView {
    pub fn of(record: &EventRecord) -> Self {
        let marks = record.marks;
        Self { review: marks.review, conflict: marks.conflict, dissent: marks.dissent, actionable: marks.actionable }
    }
}

/// One row of a listing.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryView {
    /// The position in this cloud's order of acceptance.
    pub seq: u64,
    pub id: String,
    pub source: String,
    #[schema(value_type = String, example = "SEALED")]
    pub level: Level,
    pub marks: MarksView,
    /// As in the whole event: the settled content, or the first one seen here while none is settled.
    #[schema(value_type = Option<String>)]
    pub content_hash: Option<Hash>,
    pub tag: String,
}

impl SummaryView {
    pub fn new(seq: u64, record: &EventRecord, tenant: &Tenant) -> Option<Self> {
        let (_, key) = record.key.as_ref()?;
        Some(Self {
            seq,
            id: key.id().to_owned(),
            source: key.source().to_owned(),
            level: record.level,
            marks: MarksView::of(record),
            content_hash: content_shown(record, tenant),
            tag: record.tag.to_string(),
        })
    }
}

/// Content and envelope of one body.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvelopeView {
    pub event_id: String,
    pub source: String,
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Lamport clock of the origin cloud.
    pub logical_clock: u64,
    pub region: String,
    /// CloudEvents attributes beside id and source.
    pub attributes: BTreeMap<String, String>,
    pub content_type: String,
    /// A JSON payload; null if there is none or it is not JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// A payload that is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The key of the event that this one appeals.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub supersedes: Option<EventKey>,
    /// When the origin cloud accepted it, by its wall clock.
    pub created_at: String,
    #[schema(value_type = String)]
    pub origin_cloud: CloudId,
    #[schema(value_type = String)]
    pub content_hash: Hash,
    #[schema(value_type = String)]
    pub hash: Hash,
    /// The tenant's signature; null for an unsigned tenant.
    #[schema(value_type = Option<Object>)]
    pub signature: Option<TenantSignature>,
}

impl EnvelopeView {
    fn new(body: Body) -> Self {
        let Body { content, envelope, signature } = body;
        let content_hash = content.hash();
        let (payload, payload_base64) = payload(&content.content_type, content.payload);
        Self {
            event_id: content.key.id().to_owned(),
            source: content.key.source().to_owned(),
            tenant_id: content.tenant,
            logical_clock: envelope.logical_clock,
            attributes: content.attributes.into_iter().collect(),
            content_type: content.content_type,
            payload,
            payload_base64,
            supersedes: content.supersedes,
            created_at: timestamp(envelope.created_at),
            hash: envelope.hash(&content_hash),
            region: envelope.region,
            origin_cloud: envelope.origin_cloud,
            content_hash,
            signature,
        }
    }
}

/// The payload as JSON if it is JSON, else as base64: bytes reach the client unchanged.
fn payload(content_type: &str, bytes: Vec<u8>) -> (Option<Box<RawValue>>, Option<String>) {
    use base64::Engine as _;
    if bytes.is_empty() {
        return (None, None);
    }
    if is_json(content_type)
        && let Some(raw) = std::str::from_utf8(&bytes).ok().and_then(|text| serde_json::from_str(text).ok())
    {
        return (Some(raw), None);
    }
    (None, Some(base64::engine::general_purpose::STANDARD.encode(bytes)))
}

/// A cloud's vote as found in its log.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoteView {
    #[schema(value_type = String)]
    pub cloud: CloudId,
    #[schema(value_type = String, example = "confirm")]
    pub verdict: Verdict,
    /// The content that was answered; absent while its body is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub content_hash: Option<Hash>,
    pub epoch: String,
    /// Index of the vote's leaf in that epoch's log.
    pub index: u64,
    /// The clouds that audited a checkpoint which holds the vote.
    #[schema(value_type = Vec<String>)]
    pub audited_by: Vec<CloudId>,
}

/// One event: its level, what it says, and how every cloud voted.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventJson {
    #[schema(value_type = String)]
    pub tenant: TenantId,
    pub id: String,
    pub source: String,
    pub seq: Option<u64>,
    #[schema(value_type = String, example = "FINAL")]
    pub level: Level,
    pub marks: MarksView,
    /// The content that the level is about, or the first one seen here while none is settled; null
    /// while the settled one is still on its way to this cloud.
    #[schema(value_type = Option<String>)]
    pub content_hash: Option<Hash>,
    pub tag: String,
    pub envelope: Option<EnvelopeView>,
    /// Every content that was submitted under this key.
    pub contents: Vec<EnvelopeView>,
    pub votes: Vec<VoteView>,
}

impl EventJson {
    pub fn new(state: &State, tenant: &Tenant, key: &EventKey, view: EventView) -> Self {
        let EventView { record, bodies } = view;
        let plain = |salted: &Hash| plain_content(&record, tenant, salted);
        let votes = record.votes.iter().map(|vote| VoteView {
            cloud: vote.cloud.clone(),
            verdict: vote.verdict(),
            content_hash: plain(&vote.vote.content),
            epoch: vote.epoch.to_string(),
            index: vote.index,
            audited_by: state.genesis().names(state.audited_by(vote)).cloned().collect(),
        });
        let votes = votes.collect();
        let settled = content_shown(&record, tenant);
        let contents: Vec<_> = bodies.into_iter().map(EnvelopeView::new).collect();
        let envelope = contents.iter().find(|body| Some(body.content_hash) == settled).cloned();
        Self {
            tenant: tenant.id.clone(),
            id: key.id().to_owned(),
            source: key.source().to_owned(),
            seq: record.seq,
            level: record.level,
            marks: MarksView::of(&record),
            content_hash: settled,
            tag: record.tag.to_string(),
            envelope,
            contents,
            votes,
        }
    }
}

/// A level is never shown beside a content that it is not about.
fn content_shown(record: &EventRecord, tenant: &Tenant) -> Option<Hash> {
    match &record.settled {
        Some(salted) => plain_content(record, tenant, salted),
        None => record.contents.first().copied(),
    }
}

/// The content that a leaf names, if its body is here.
fn plain_content(record: &EventRecord, tenant: &Tenant, salted: &Hash) -> Option<Hash> {
    record.contents.iter().find(|content| tenant.secret.salted_content(content) == *salted).copied()
}

/// A tenant without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantView {
    #[schema(value_type = String)]
    pub id: TenantId,
    #[schema(value_type = String, example = "auto")]
    pub confirm: Confirm,
    /// Ed25519 public keys in hexadecimal.
    pub keys: Vec<String>,
    pub unsigned: bool,
    pub max_pending: u64,
}

impl From<&Tenant> for TenantView {
    fn from(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id.clone(),
            confirm: tenant.confirm,
            keys: tenant.keys.iter().map(ToString::to_string).collect(),
            unsigned: tenant.unsigned,
            max_pending: tenant.max_pending,
        }
    }
}

/// RFC 3339 in UTC with milliseconds; a time beyond the year 9999 stays a number of milliseconds.
pub fn timestamp(at: WallMillis) -> String {
    let Ok(time) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000) else {
        return at.0.to_string();
    };
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.millisecond()
    )
}

#[cfg(test)]
#[test]
fn times_are_rfc_3339() {
    assert_eq!(timestamp(WallMillis(1_700_000_000_007)), "2023-11-14T22:13:20.007Z");
    assert_eq!(timestamp(WallMillis(u64::MAX)), u64::MAX.to_string());
}

#[cfg(test)]
#[test]
fn a_settled_content_is_shown_once_it_is_here_and_no_other_in_its_place() {
    let [first, second] = [1, 2].map(|byte| Hash([byte; 32]));
    let tenant = Tenant {
        id: TenantId::new("shop").unwrap(),
        secret: tercet_core::content::TenantSecret([9; 32]),
        confirm: Confirm::Auto,
        keys: Vec::new(),
        unsigned: true,
        max_pending: 1,
    };
    let mut record = EventRecord {
        tag: tercet_core::ids::Tag([3; 32]),
        key: None,
        seq: None,
        votes: Vec::new(),
        contents: vec![first, second],
        level: Level::Pending,
        marks: tercet_core::events::Marks::default(),
        settled: None,
    };
    assert_eq!(content_shown(&record, &tenant), Some(first));
    record.settled = Some(tenant.secret.salted_content(&second));
    assert_eq!(content_shown(&record, &tenant), Some(second));
    record.contents = vec![first];
    assert_eq!(content_shown(&record, &tenant), None, "its body is still on the way");
}
