//! Keys and certificates: how they are made, kept in 0600 files, and loaded again. A key file that
//! others can read is refused, with the command that repairs it. Nothing here is ever logged.

pub mod certificates;
pub mod files;

pub use certificates::{Authority, Pair, Plane};
pub use files::{KeyError, make_private_dir, read_private, write_private};

use crate::env::Entropy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use tercet_core::signature::SigningKey;
use tercet_core::wire::sha256;

/// File names inside a node's data folder.
pub const SIGNING_KEY: &str = "signing.key";
pub const PEER_CERT: &str = "peer.pem";
pub const PEER_KEY: &str = "peer.key";
pub const CLIENT_CERT: &str = "client.pem";
pub const CLIENT_KEY: &str = "client.key";
/// File names beside `cluster.toml`.
pub const PEER_CA: &str = "ca/peer.pem";
pub const CLIENT_CA: &str = "ca/client.pem";
pub const ADMIN_TOKEN: &str = "admin.token";

/// What a node proves itself with, and whom it believes.
pub struct TlsIdentity {
    pub ca: CertificateDer<'static>,
    pub cert: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone_key() }
    }
}

/// All keys of one node.
pub struct NodeKeys {
    pub signing: SigningKey,
    pub peer: TlsIdentity,
    pub client: TlsIdentity,
    /// SHA-256 of the admin bearer token.
    pub token_hash: [u8; 32],
}

impl NodeKeys {
    /// `root` is the folder of `cluster.toml`, `data` the node's own.
    pub fn load(root: &Path, data: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            signing: load_signing_key(&data.join(SIGNING_KEY))?,
            peer: load_identity(&root.join(PEER_CA), &data.join(PEER_CERT), &data.join(PEER_KEY))?,
            client: load_identity(&root.join(CLIENT_CA), &data.join(CLIENT_CERT), &data.join(CLIENT_KEY))?,
            token_hash: sha256(load_token(&root.join(ADMIN_TOKEN))?.as_bytes()).0,
        })
    }
}

/// A fresh Ed25519 key.
pub fn make_signing_key(entropy: &dyn Entropy) -> SigningKey {
    SigningKey::from_seed(&random(entropy))
}

/// 32 fresh random bytes.
pub fn random(entropy: &dyn Entropy) -> [u8; 32] {
    let mut out = [0; 32];
    entropy.fill(&mut out);
    out
}

pub fn write_signing_key(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_private(path, format!("{}\n", hex::encode(key.seed())).as_bytes())
}

/// The text has exactly one form, the one that is written: whatever damage it takes is noticed, and not read over as
/// another way of writing the same.
pub fn load_signing_key(path: &Path) -> Result<SigningKey, KeyError> {
    let bytes = read_private(path)?;
    let mut seed = [0; 32];
    let read = hex::decode_to_slice(bytes.strip_suffix(b"\n").unwrap_or(&bytes), &mut seed);
    if read.is_err() || bytes.iter().any(u8::is_ascii_uppercase) {
        let what = "64 lower-case hexadecimal digits (an Ed25519 seed)".into();
        return Err(KeyError::Malformed { path: path.into(), what });
    }
    Ok(SigningKey::from_seed(&seed))
}

/// A secret text without the white space around it.
pub fn load_token(path: &Path) -> Result<String, KeyError> {
    let bytes = read_private(path)?;
    let text = String::from_utf8(bytes).map(|text| text.trim().to_owned()).unwrap_or_default();
    if text.is_empty() {
        return Err(KeyError::Malformed { path: path.into(), what: "a text that is not empty".into() });
    }
    Ok(text)
}

fn load_identity(ca: &Path, cert: &Path, key: &Path) -> Result<TlsIdentity, KeyError> {
    let malformed = |path: &Path, what: &str| KeyError::Malformed { path: path.into(), what: what.into() };
    let certificate = |path: &Path| {
        let bytes = files::read(path)?;
        CertificateDer::from_pem_slice(&bytes).map_err(|_| malformed(path, "a certificate in PEM form"))
    };
    let key_bytes = read_private(key)?;
    Ok(TlsIdentity {
        ca: certificate(ca)?,
        cert: certificate(cert)?,
        key: PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|_| malformed(key, "a private key in PEM form"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_a_signing_key_is_refused_or_is_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SIGNING_KEY);
        let key = SigningKey::from_seed(&[0xab; 32]);
        write_signing_key(&path, &key).unwrap();
        assert_eq!(load_signing_key(&path).unwrap().seed(), key.seed());
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            // Another key is noticed by its public half, which everybody knows.
            assert!(!load_signing_key(&path).is_ok_and(|read| read.seed() == key.seed()), "bit {bit}");
        }
    }
}
