//! Ed25519 keys and signatures (RFC 8032). Verification is always strict: no small-order keys, one
//! canonical encoding, so that nobody else can vary a valid signature.

use ed25519_dalek::{Signer, SigningKey as DalekSigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A public key. What a person or the API gives is checked to be a point of the curve; what is decoded from internal
/// bytes is not, since that costs as much as a tenth of a verification: a key that is none verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the public key is not 32 bytes that encode a point of Ed25519")]
    BadKey,
    #[error("the signature does not verify")]
    BadSignature,
}

impl PublicKey {
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignatureError> {
        let key = Self(*bytes);
        key.point().map(|_| key)
    }

    fn point(&self) -> Result<VerifyingKey, SignatureError> {
        let point = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError::BadKey)?;
        if point.is_weak() { Err(SignatureError::BadKey) } else { Ok(point) }
    }

    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.point()?.verify_strict(message, &signature).map_err(|_| SignatureError::BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}
impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        crate::ids::Hash(self.to_bytes()).serialize(s)
    }
}
impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let trusted = !d.is_human_readable();
        let crate::ids::Hash(bytes) = Deserialize::deserialize(d)?;
        if trusted { Ok(Self(bytes)) } else { Self::from_bytes(&bytes).map_err(serde::de::Error::custom) }
    }
}

/// 64 bytes that may or may not be a signature of something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&hex::encode(self.0)) } else { s.serialize_bytes(&self.0) }
    }
}
impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut out = [0; 64];
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            hex::decode_to_slice(text, &mut out).map_err(serde::de::Error::custom)?;
        } else {
            out = crate::codec::array(d)?;
        }
        Ok(Self(out))
    }
}

/// A private key. Its bytes are wiped when it is dropped, and it never prints itself.
#[derive(Clone)]
pub struct SigningKey(DalekSigningKey);

impl SigningKey {
    /// From 32 bytes of a cryptographic random source, which this crate does not have.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(DalekSigningKey::from_bytes(seed))
    }

    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.public())
    }
}
