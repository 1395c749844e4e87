//! One certificate authority for each plane: `peer` for nodes among themselves, `client` for the
//! API. A peer certificate names its node in a URI, `tercet://<fed_id>/<node>`, and nothing else.

use super::files::KeyError;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use tercet_core::ids::{FedId, NodeId};
use time::{Duration, OffsetDateTime};

/// How long certificates are valid.
const VALID_DAYS: i64 = 3650;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    Peer,
    Client,
}

impl Plane {
    fn authority_name(self) -> &'static str {
        match self {
            Self::Peer => "Tercet peer CA",
            Self::Client => "Tercet client CA",
        }
    }
}

/// A certificate and its private key, in PEM form.
pub struct Pair {
    pub cert_pem: String,
    pub key_pem: String,
}

/// Signs the certificates of one plane.
pub struct Authority {
    pub pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn make(plane: Plane, fed: &FedId) -> Result<Self, KeyError> {
        let key = KeyPair::generate()?;
        let params = authority_params(plane, fed);
        let pair = Pair { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// The authority that `make` made for this federation, from its private key.
    pub fn load(plane: Plane, fed: &FedId, pair: Pair) -> Result<Self, KeyError> {
        let key = KeyPair::from_pem(&pair.key_pem)?;
        Ok(Self { pair, issuer: Issuer::new(authority_params(plane, fed), key) })
    }

    /// For a node among nodes: it both dials and accepts.
    pub fn certify_peer(&self, fed: &FedId, node: &NodeId) -> Result<Pair, KeyError> {
        let uri = SanType::URI(peer_uri(fed, node).try_into()?);
        self.certify(node, vec![uri], &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// For a node's API.
    pub fn certify_api(&self, node: &NodeId, addresses: &[IpAddr]) -> Result<Pair, KeyError> {
        let names = addresses.iter().map(|address| SanType::IpAddress(*address)).collect();
        self.certify(node, names, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    fn certify(&self, node: &NodeId, names: Vec<SanType>, uses: &[ExtendedKeyUsagePurpose]) -> Result<Pair, KeyError> {
        let key = KeyPair::generate()?;
        let mut params = base_params(node.as_str());
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// How a peer certificate names its node.
pub fn peer_uri(fed: &FedId, node: &NodeId) -> String {
    format!("tercet://{fed}/{node}")
}

fn authority_params(plane: Plane, fed: &FedId) -> CertificateParams {
    // The federation is part of the name, so that authorities of two clusters are never mixed up.
    let mut params = base_params(&format!("{} {}", plane.authority_name(), &fed.to_string()[..16]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn base_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    // A day back, so that a clock that is a little slow does not refuse a fresh certificate.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(VALID_DAYS);
    params
}
