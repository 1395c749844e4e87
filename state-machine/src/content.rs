//! Content is what a client fixed; its envelope adds what the origin cloud assigned. Only content
//! decides whether two submissions are the same event.

use crate::ids::{CloudId, EventKey, FedId, Hash, Tag, TenantId};
use crate::time::WallMillis;
use crate::wire::{Writer, domain, hmac_sha256};
use serde::{Deserialize, Serialize};

/// The largest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 10;
/// The most CloudEvents attributes beside id and source, and the longest name and value.
pub const MAX_ATTRIBUTES: usize = 32;
pub const MAX_ATTRIBUTE_NAME_BYTES: usize = 64;
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// What the client fixed, in canonical form (see [`crate::canonical`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub tenant: TenantId,
    pub key: EventKey,
    /// CloudEvents attributes beside id and source (type, subject, time, ...), sorted by name;
    /// empty for the plain form.
    pub attributes: Vec<(String, String)>,
    /// Media type of the payload.
    pub content_type: String,
    #[serde(with = "payload_bytes")]
    pub payload: Vec<u8>,
    /// The key of the event that this one appeals, if it is an appeal.
    pub supersedes: Option<EventKey>,
}

/// What the origin cloud assigned when it accepted the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub origin_cloud: CloudId,
    /// Lamport clock of the origin cloud's log.
    pub logical_clock: u64,
    /// The origin cloud's region, from its configuration.
    pub region: String,
    pub created_at: WallMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error(
        "the payload has {0} bytes, at most {MAX_PAYLOAD_BYTES} are allowed; store it elsewhere and submit its hash"
    )]
    PayloadTooLarge(usize),
    #[error("{0} attributes, at most {MAX_ATTRIBUTES} are allowed")]
    TooManyAttributes(usize),
    #[error(
        "attribute {0:?} is not valid: names are 1 to 64 of a-z and 0-9, values at most 1024 bytes, each name once, in order"
    )]
    BadAttribute(String),
    #[error("the content type is longer than {MAX_ATTRIBUTE_BYTES} bytes")]
    ContentTypeTooLong,
    #[error("an event cannot supersede itself; submit the appeal under a new id")]
    SupersedesItself,
}

impl Content {
    pub fn check(&self) -> Result<(), ContentError> {
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(ContentError::PayloadTooLarge(self.payload.len()));
        }
        if self.attributes.len() > MAX_ATTRIBUTES {
            return Err(ContentError::TooManyAttributes(self.attributes.len()));
        }
        let name_ok = |name: &str| {
            !name.is_empty()
                && name.len() <= MAX_ATTRIBUTE_NAME_BYTES
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        for (at, (name, value)) in self.attributes.iter().enumerate() {
            let ordered = at == 0 || self.attributes[at - 1].0 < *name;
            if !name_ok(name) || value.len() > MAX_ATTRIBUTE_BYTES || !ordered {
                return Err(ContentError::BadAttribute(name.chars().take(80).collect()));
            }
        }
        if self.content_type.len() > MAX_ATTRIBUTE_BYTES {
            return Err(ContentError::ContentTypeTooLong);
        }
        if self.supersedes.as_ref() == Some(&self.key) {
            return Err(ContentError::SupersedesItself);
        }
        Ok(())
    }

    /// The plain content hash: what the client signs.
    pub fn hash(&self) -> Hash {
        let mut out = Writer::new(domain::CONTENT)
            .lp(self.tenant.as_str().as_bytes())
            .lp(self.key.source().as_bytes())
            .lp(self.key.id().as_bytes())
            .u32(self.attributes.len() as u32);
        for (name, value) in &self.attributes {
            out = out.lp(name.as_bytes()).lp(value.as_bytes());
        }
        out = out.lp(self.content_type.as_bytes());
        out = match &self.supersedes {
            None => out.u8(0),
            Some(key) => out.u8(1).lp(key.source().as_bytes()).lp(key.id().as_bytes()),
        };
        out.lp(&self.payload).hash()
    }
}

impl Envelope {
    /// The hash over content and envelope, shown as `hash`.
    pub fn hash(&self, content: &Hash) -> Hash {
        Writer::new(domain::ENVELOPE)
            .raw(&content.0)
            .lp(self.origin_cloud.as_str().as_bytes())
            .u64(self.logical_clock)
            .lp(self.region.as_bytes())
            .u64(self.created_at.0)
            .hash()
    }
}

/// 32 random bytes of a tenant, held by all clouds. Destroying it and the stored salts erases the
/// tenant: no leaf can be linked to a key or a content any more.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSecret(#[serde(with = "hex::serde")] pub [u8; 32]);

impl std::fmt::Debug for TenantSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantSecret(..)")
    }
}

impl TenantSecret {
    pub fn key_salt(&self, key: &EventKey) -> Hash {
        hmac_sha256(&self.0, &Writer::default().lp(b"k").lp(key.source().as_bytes()).lp(key.id().as_bytes()).finish())
    }

    pub fn content_salt(&self, content: &Hash) -> Hash {
        hmac_sha256(&self.0, &Writer::default().lp(b"c").raw(&content.0).finish())
    }

    pub fn envelope_salt(&self, envelope: &Hash) -> Hash {
        hmac_sha256(&self.0, &Writer::default().lp(b"e").raw(&envelope.0).finish())
    }

    pub fn tag(&self, fed: &FedId, tenant: &TenantId, key: &EventKey) -> Tag {
        tag(fed, tenant, key, &self.key_salt(key))
    }

    /// What a vote's leaf holds in place of the plain content hash.
    pub fn salted_content(&self, content: &Hash) -> Hash {
        salted(content, &self.content_salt(content))
    }

    /// What a vote's leaf holds in place of the plain envelope hash.
    pub fn salted_envelope(&self, envelope: &Hash) -> Hash {
        salted(envelope, &self.envelope_salt(envelope))
    }
}

/// The tag of a key, from its disclosed salt: what an outsider recomputes.
pub fn tag(fed: &FedId, tenant: &TenantId, key: &EventKey, salt: &Hash) -> Tag {
    let bytes = Writer::new(domain::TAG)
        .raw(&fed.0)
        .lp(tenant.as_str().as_bytes())
        .lp(key.source().as_bytes())
        .lp(key.id().as_bytes())
        .raw(&salt.0);
    Tag(bytes.hash().0)
}

/// The salted form of a content or envelope hash, from its disclosed salt.
pub fn salted(hash: &Hash, salt: &Hash) -> Hash {
    Writer::new(domain::SALTED).raw(&hash.0).raw(&salt.0).hash()
}

mod payload_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&hex::encode(bytes)) } else { s.serialize_bytes(bytes) }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            return hex::decode(text).map_err(serde::de::Error::custom);
        }
        crate::codec::bytes(d)
    }
}
