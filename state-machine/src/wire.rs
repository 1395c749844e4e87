//! The bytes that are hashed and signed: a domain string first, every length prefixed, integers
//! big-endian. docs/PROTOCOL.md describes each object in these terms; nothing here ever changes.

use crate::ids::Hash;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// One domain per kind of object, so that bytes of one kind are never valid as another.
pub mod domain {
    pub const GENESIS: &str = "tercet/v1/genesis";
    pub const EPOCH: &str = "tercet/v1/epoch";
    pub const CONTENT: &str = "tercet/v1/content";
    pub const ENVELOPE: &str = "tercet/v1/envelope";
    pub const TAG: &str = "tercet/v1/tag";
    pub const SALTED: &str = "tercet/v1/salted";
    pub const SUBMIT: &str = "tercet/v1/submit";
    pub const SUBMIT_BATCH: &str = "tercet/v1/submit-batch";
    pub const LEAF: &str = "tercet/v1/leaf";
    pub const CERTIFICATE: &str = "tercet/v1/certificate";
    pub const EVIDENCE: &str = "tercet/v1/evidence";
    pub const LEASE_CLAIM: &str = "tercet/v1/lease-claim";
    pub const LEASE_RELEASE: &str = "tercet/v1/lease-release";
    pub const LEASE_VOTE: &str = "tercet/v1/lease-vote";
    pub const AGENT_REPORT: &str = "tercet/v1/agent-report";
    pub const LEASE_GRANT: &str = "tercet/v1/lease-grant";
}

/// Builds an object's bytes. `lp` is a 4-byte big-endian length and then the bytes.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new(domain: &str) -> Self {
        if mutant!(DomainIgnored) {
            return Self::default();
        }
        // Most objects fit, and need not grow.
        Self(Vec::with_capacity(256)).lp(domain.as_bytes())
    }

    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    #[must_use]
    pub fn lp(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("no object reaches 4 GiB");
        self.0.extend_from_slice(&len.to_be_bytes());
        self.raw(bytes)
    }

    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// SHA-256 over the bytes.
    pub fn hash(self) -> Hash {
        sha256(&self.0)
    }
}

/// Why bytes are not the object they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

/// Reads what [`Writer`] wrote. Every method fails on a short input; `finish` on a long one.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the domain that the bytes begin with.
    pub fn new(bytes: &'a [u8], domain: &str) -> Result<Self, WireError> {
        let mut reader = Self(bytes);
        if mutant!(DomainIgnored) {
            return Ok(reader);
        }
        match reader.lp(domain.len()) {
            Ok(found) if found == domain.as_bytes() => Ok(reader),
            _ => Err(WireError(format!("these bytes do not begin with the domain {domain:?}"))),
        }
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        if self.0.len() < len {
            return Err(WireError(format!("{len} bytes expected, {} left", self.0.len())));
        }
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        Ok(self.raw(N)?.try_into().expect("raw returned N bytes"))
    }

    /// A length-prefixed field of at most `max` bytes.
    pub fn lp(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let len = self.u32()? as usize;
        if len > max {
            return Err(WireError(format!("a field of {len} bytes, at most {max} are allowed")));
        }
        self.raw(len)
    }

    /// A length-prefixed field of at most `max` bytes that is UTF-8.
    pub fn text(&mut self, max: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.lp(max)?).map_err(|_| WireError("a text field is not UTF-8".into()))
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(WireError(format!("{} bytes left over", self.0.len())))
    }
}

pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// The hash of these pieces one after the other.
pub fn sha256_of(pieces: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    pieces.iter().for_each(|piece| hasher.update(piece));
    Hash(hasher.finalize().into())
}

pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(bytes);
    Hash(mac.finalize().into_bytes().into())
}

/// Whether this is the HMAC of the bytes; takes as long for every wrong one.
pub fn hmac_sha256_verifies(key: &[u8], bytes: &[u8], expected: &Hash) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(bytes);
    mac.verify_slice(&expected.0).is_ok()
}
