//! Identifiers, validated when they are built and again when they are decoded.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an identifier: what it is called, and the rule that it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidId {
    pub what: &'static str,
    pub value: String,
    pub rule: &'static str,
}

fn shorten(value: &str) -> String {
    value.chars().take(80).collect()
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        // In place, since ids are copied and compared all the time. The rest is zero, which is below every letter, so the
        // derived order is that of the texts.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            bytes: [u8; $max],
            len: u8,
        }

        impl $name {
            /// The longest accepted text, in bytes.
            pub const MAX_BYTES: usize = $max;

            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidId> {
                let value = value.as_ref();
                let ok = !value.is_empty()
                    && value.len() <= Self::MAX_BYTES
                    && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !value.starts_with('-')
                    && !value.ends_with('-');
                if ok {
                    let mut bytes = [0; $max];
                    bytes[..value.len()].copy_from_slice(value.as_bytes());
                    return Ok(Self { bytes, len: value.len() as u8 });
                }
                Err(InvalidId {
                    what: $what,
                    value: shorten(value),
                    rule: concat!(
                        "use 1 to ", stringify!($max),
                        " of a-z, 0-9 and '-', not starting or ending with '-'"
                    ),
                })
            }

            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is let in")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("the name of a ", $what))
                    }

                    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<$name, E> {
                        $name::new(value).map_err(E::custom)
                    }
                }
                d.deserialize_str(Text)
            }
        }
    };
}

name_id!(
    /// A voter: `gcp`, `aws`, `azure`. Inside, a Raft group of nodes.
    CloudId, "cloud", 32
);
name_id!(
    /// One process, a replica of its cloud's Raft group: `gcp-1`.
    NodeId, "node", 48
);
name_id!(
    /// A namespace with its own policy and signing keys.
    TenantId, "tenant", 64
);
name_id!(
    /// A lease of a tenant: what one holder has at a time.
    LeaseId, "lease", 64
);
name_id!(
    /// Who holds a lease, or wants it: an agent, a process, a person.
    HolderId, "holder", 64
);

/// What names an event inside its tenant: the CloudEvents pair (source, id). The plain JSON form
/// has an empty source.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawKey", into = "RawKey")]
pub struct EventKey {
    source: String,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct RawKey {
    source: String,
    id: String,
}

impl EventKey {
    /// The longest id and the longest source, in bytes each.
    pub const MAX_BYTES: usize = 256;

    pub fn new(source: impl Into<String>, id: impl Into<String>) -> Result<Self, InvalidId> {
        let (source, id) = (source.into(), id.into());
        let printable = |s: &str| s.len() <= Self::MAX_BYTES && !s.chars().any(char::is_control);
        if id.is_empty() || !printable(&id) {
            return Err(InvalidId {
                what: "event id",
                value: shorten(&id),
                rule: "use 1 to 256 bytes of UTF-8 without control characters",
            });
        }
        if !printable(&source) {
            return Err(InvalidId {
                what: "event source",
                value: shorten(&source),
                rule: "use at most 256 bytes of UTF-8 without control characters",
            });
        }
        Ok(Self { source, id })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<RawKey> for EventKey {
    type Error = InvalidId;
    fn try_from(raw: RawKey) -> Result<Self, InvalidId> {
        Self::new(raw.source, raw.id)
    }
}

impl From<EventKey> for RawKey {
    fn from(key: EventKey) -> RawKey {
        RawKey { source: key.source, id: key.id }
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_empty() {
            return f.write_str(&self.id);
        }
        write!(f, "{} {}", self.source, self.id)
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                let mut out = [0; $len];
                // Only lower case, so that an id has exactly one text.
                let lower = !value.bytes().any(|b| b.is_ascii_uppercase());
                if lower && hex::decode_to_slice(value, &mut out).is_ok() {
                    return Ok(Self(out));
                }
                Err(InvalidId {
                    what: stringify!($name),
                    value: shorten(value),
                    rule: concat!("use ", $len, " bytes in lower-case hexadecimal"),
                })
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    crate::codec::array(d).map(Self)
                }
            }
        }
    };
}

hash_id!(
    /// A SHA-256 digest.
    Hash, 32
);
hash_id!(
    /// Names a federation: the hash of its genesis.
    FedId, 32
);
hash_id!(
    /// Names an epoch of a cloud's log: the first half of a hash over its fresh keys.
    EpochId, 16
);
hash_id!(
    /// What a leaf names an event by: a salted hash of tenant and key.
    Tag, 32
);
hash_id!(
    /// A client's name for one command, so that a retry is answered and not repeated.
    RequestId, 16
);
