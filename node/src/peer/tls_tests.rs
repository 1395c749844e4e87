use super::tls::{NodeVerifier, TlsNetwork};
use crate::config::{CloudEntry, Directory, NodeEntry};
use crate::env::{Connection, Os, PeerNetwork};
use crate::keys::{Authority, Pair, Plane, TlsIdentity, make_signing_key};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, FedId, NodeId};
use tokio::net::TcpListener;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn genesis() -> Genesis {
    let voter = |cloud: &str| Voter {
        cloud: CloudId::new(cloud).expect("a valid name"),
        weight: 1,
        root_key: make_signing_key(&Os).public(),
    };
    Genesis { voters: ["aws", "azure", "gcp"].map(voter).to_vec(), quorum: 2, nonce: [7; 32] }
}

fn identity(ca: &Authority, pair: &Pair) -> TlsIdentity {
    TlsIdentity {
        ca: CertificateDer::from_pem_slice(ca.pair.cert_pem.as_bytes()).expect("a certificate"),
        cert: CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).expect("a certificate"),
        key: PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("a key"),
    }
}

/// Two nodes on real sockets, one peer authority, and the federation's id.
struct Pairing {
    directory: Arc<Directory>,
    ca: Authority,
    fed: FedId,
    server: TlsNetwork,
    spare: Option<TcpListener>,
}

impl Pairing {
    async fn new() -> Self {
        let genesis = genesis();
        let fed = genesis.fed_id();
        let ca = Authority::make(Plane::Peer, &fed).expect("an authority");
        let listeners = [free_port().await, free_port().await];
        let entry = |cloud: &str, listener: &TcpListener| {
            let peer_addr = listener.local_addr().expect("bound");
            let nodes = vec![NodeEntry { node: node(&format!("{cloud}-1")), peer_addr, client_addr: peer_addr }];
            CloudEntry { cloud: CloudId::new(cloud).expect("a valid name"), region: "local".into(), nodes }
        };
        let clouds = vec![entry("aws", &listeners[0]), entry("gcp", &listeners[1])];
        let directory = Arc::new(Directory { genesis, openings: vec![], clouds });
        let [server, spare] = listeners;
        let pair = ca.certify_peer(&fed, &node("aws-1")).expect("a certificate");
        let server = TlsNetwork::start(directory.clone(), &identity(&ca, &pair), server).expect("starts");
        Self { directory, ca, fed, server, spare: Some(spare) }
    }

    fn client(&mut self, identity: &TlsIdentity) -> TlsNetwork {
        let listener = self.spare.take().expect("one client a test");
        TlsNetwork::start(self.directory.clone(), identity, listener).expect("starts")
    }

    fn certify(&self, name: &str) -> TlsIdentity {
        identity(&self.ca, &self.ca.certify_peer(&self.fed, &node(name)).expect("a certificate"))
    }
}

async fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port")
}

/// Whether a frame sent by the dialler comes back. With TLS 1.3 a refusal of the client's
/// certificate shows only at its first read.
async fn reaches(client: &TlsNetwork, to: &str, server: &TlsNetwork) -> bool {
    let serve = async {
        let mut accepted = server.accept().await.expect("the listener runs");
        while let Ok(Some(frame)) = accepted.source.recv().await {
            if accepted.sink.send(frame).await.is_err() {
                break;
            }
        }
        std::future::pending::<bool>().await
    };
    let dial = async {
        let Ok(Connection { mut sink, mut source, .. }) = client.dial(node(to)).await else { return false };
        let sent = sink.send(Bytes::from_static(b"hello")).await.is_ok();
        sent && matches!(source.recv().await, Ok(Some(frame)) if frame == "hello")
    };
    tokio::select! { reached = dial => reached, reached = serve => reached }
}

#[tokio::test]
async fn nodes_of_one_federation_reach_each_other() {
    let mut pairing = Pairing::new().await;
    let identity = pairing.certify("gcp-1");
    let client = pairing.client(&identity);
    assert!(reaches(&client, "aws-1", &pairing.server).await);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let mut pairing = Pairing::new().await;
    let other = Authority::make(Plane::Peer, &pairing.fed).expect("an authority");
    let pair = other.certify_peer(&pairing.fed, &node("gcp-1")).expect("a certificate");
    // It believes the right authority, so that only the server can refuse.
    let client = pairing.client(&TlsIdentity { ca: pairing.certify("gcp-1").ca, ..identity(&other, &pair) });
    assert!(!reaches(&client, "aws-1", &pairing.server).await);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let mut pairing = Pairing::new().await;
    let other = Authority::make(Plane::Peer, &pairing.fed).expect("an authority");
    let trusts_other = TlsIdentity { ca: identity(&other, &other.pair).ca, ..pairing.certify("gcp-1") };
    let client = pairing.client(&trusts_other);
    assert!(client.dial(node("aws-1")).await.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pairing = Pairing::new().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pairing.certify("gcp-1").ca).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = NodeVerifier::new(Arc::new(roots), &provider);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let address = pairing.directory.clouds[0].nodes[0].peer_addr;
    let stream = tokio::net::TcpStream::connect(address).await.expect("listens");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(address.ip().into(), stream).await.expect("the client's side is done first");
    let refusal = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await.expect_err("refused");
    assert!(refusal.to_string().contains("CertificateRequired"), "{refusal}");
}

#[tokio::test]
async fn a_node_that_answers_for_another_is_refused() {
    let mut pairing = Pairing::new().await;
    let identity = pairing.certify("gcp-1");
    let client = pairing.client(&identity);
    // The directory now says that azure-1 lives where aws-1 answers.
    let mut directory = (*pairing.directory).clone();
    directory.clouds[0].nodes[0].node = node("azure-1");
    let listener = free_port().await;
    drop(client);
    let client = TlsNetwork::start(Arc::new(directory), &identity, listener).expect("starts");
    assert!(client.dial(node("azure-1")).await.is_err());
}

#[tokio::test]
async fn a_node_outside_the_directory_is_refused() {
    let mut pairing = Pairing::new().await;
    let identity = pairing.certify("gcp-9");
    let client = pairing.client(&identity);
    assert!(!reaches(&client, "aws-1", &pairing.server).await);
    assert!(client.dial(node("gcp-9")).await.is_err());
}

#[tokio::test]
async fn a_node_of_another_federation_is_refused_even_with_the_same_authority() {
    let mut pairing = Pairing::new().await;
    let pair = pairing.ca.certify_peer(&FedId([9; 32]), &node("gcp-1")).expect("a certificate");
    let identity = identity(&pairing.ca, &pair);
    let client = pairing.client(&identity);
    assert!(!reaches(&client, "aws-1", &pairing.server).await);
}
