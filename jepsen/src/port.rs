//! How clients reach the clouds. Workloads and observers know nothing else of the layer that they
//! run in: the simulation answers through the API's router in memory, the real layer through the
//! client library over TLS.

use crate::history::{Outcome, Seen};
use futures::future::BoxFuture;
use serde_json::Value;
use tercet::events::{Draft, Payload};
use tercet::http::Call;
use tercet_core::ids::{EventKey, TenantId};
use tercet_core::tenants::Confirm;

/// The tenant whose events every cloud confirms by itself, and the one that waits for operators.
pub const AUTO_TENANT: &str = "default";
/// The code of a FINAL event whose voters were renewed since.
pub const CERTIFICATE_GONE: &str = "certificate_gone";
pub const MANUAL_TENANT: &str = "manual";

/// An event as a client means it. Ids are unique across both tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub confirm: Confirm,
    pub id: String,
    pub payload: String,
}

impl Event {
    pub fn tenant(&self) -> TenantId {
        TenantId::new(tenant_of(self.confirm)).expect("a tenant's name of letters")
    }

    pub fn draft(&self) -> Draft {
        Draft {
            key: EventKey::new("", self.id.clone()).expect("an id of letters, digits and '-'"),
            content_type: "text/plain".into(),
            payload: Payload::Bytes(self.payload.clone().into_bytes()),
            supersedes: None,
        }
    }

    /// The content hash, as the cloud computes it.
    pub fn content(&self) -> String {
        self.draft().content(&self.tenant()).expect("a valid draft").hash().to_string()
    }
}

pub fn tenant_of(confirm: Confirm) -> &'static str {
    match confirm {
        Confirm::Auto => AUTO_TENANT,
        Confirm::Manual => MANUAL_TENANT,
    }
}

/// What a client learnt of its submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Acknowledged {
        cloud: String,
        content: String,
        new: bool,
        /// An earlier try of this operation may have done it.
        repeated: bool,
    },
    /// Certainly not done. `first` is the content that the id was used with.
    Refused {
        code: String,
        first: Option<String>,
    },
    Unknown(String),
}

/// The head of a log as a cloud holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub of: String,
    pub size: u64,
    pub root: String,
}

/// Evidence that a cloud holds: against whom, its id, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub against: String,
    pub id: String,
    pub bytes: Vec<u8>,
}

/// One way to three clouds. A call ends within a few seconds, also when nobody answers.
pub trait Port: Send + Sync + 'static {
    /// The clouds by name, sorted.
    fn clouds(&self) -> Vec<String>;
    /// Signs and submits at this cloud, and at no other.
    fn submit<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Answer>;
    /// Confirms or rejects a content by hand at this cloud.
    fn decide<'a>(&'a self, at: &'a str, event: &'a Event, confirm: bool) -> BoxFuture<'a, Outcome>;
    /// What a node of this cloud says of an event; `None` if none answers, or it does not know it. A node
    /// that lags may not know it yet.
    fn look<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Option<Seen>>;
    /// Everything that this cloud lists of a tenant.
    fn list<'a>(&'a self, at: &'a str, tenant: Confirm) -> BoxFuture<'a, Result<Vec<(String, Seen)>, String>>;
    /// What this cloud's leader holds of all logs.
    fn heads<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Head>, String>>;
    /// The evidence that this cloud holds.
    fn proofs<'a>(&'a self, at: &'a str) -> BoxFuture<'a, Result<Vec<Proof>, String>>;
    /// A certificate of a FINAL event, as bytes; `None` if clouds that voted for it were renewed since.
    fn certificate<'a>(&'a self, at: &'a str, event: &'a Event) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>>;
    /// One request to one cloud, tried once at each of its nodes; the answer, or the code of the refusal.
    fn call<'a>(&'a self, at: &'a str, call: Call) -> BoxFuture<'a, Result<Value, String>>;
    /// The trust bundle, as JSON: public keys only.
    fn trust(&self) -> Vec<u8>;
}
