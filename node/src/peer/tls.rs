//! The real network between nodes: TCP, mutual TLS 1.3, length-delimited frames. A peer is the node
//! that the URI of its certificate names; whoever is not in the directory is refused. A peer that
//! is gone without a word is noticed by the kernel's timers within a few seconds.

use crate::config::Directory;
use crate::env::{Connection, FrameSink, FrameSource, MAX_FRAME_BYTES, PeerNetwork};
use crate::keys::TlsIdentity;
use crate::keys::certificates::peer_uri;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::task::AbortOnDropHandle;

/// Handshakes under way at once; further connections wait in the kernel.
const MAX_HANDSHAKES: usize = 32;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Authenticated connections that wait to be accepted.
const ACCEPT_QUEUE: usize = 32;
/// Unacknowledged bytes for longer than this break a connection.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is probed after the first, then at the second interval.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;
/// Pause after a failed accept (such as: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The network as one node sees it.
pub struct TlsNetwork {
    directory: Arc<Directory>,
    connector: TlsConnector,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    _acceptor: AbortOnDropHandle<()>,
}

impl TlsNetwork {
    /// Accepts on `listener` from now on.
    pub fn start(directory: Arc<Directory>, identity: &TlsIdentity, listener: TcpListener) -> anyhow::Result<Self> {
        let (client, server) = configs(identity)?;
        let (queue, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let task = tokio::spawn(accept_all(listener, acceptor, directory.clone(), queue));
        Ok(Self {
            directory,
            connector: TlsConnector::from(Arc::new(client)),
            accepted: tokio::sync::Mutex::new(accepted),
            _acceptor: AbortOnDropHandle::new(task),
        })
    }
}

impl PeerNetwork for TlsNetwork {
    fn dial(&self, to: NodeId) -> BoxFuture<'static, io::Result<Connection>> {
        let (connector, directory) = (self.connector.clone(), self.directory.clone());
        async move {
            let entry = directory.node(&to).ok_or_else(|| refused(format!("{to} is not in cluster.toml")))?;
            let stream = TcpStream::connect(entry.peer_addr).await?;
            prepare(&stream)?;
            let name = ServerName::from(entry.peer_addr.ip());
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await;
            let stream = handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let peer = identify(&directory, stream.get_ref().1.peer_certificates())?;
            if peer != to {
                return Err(refused(format!("{} answered as {peer}, not as {to}", entry.peer_addr)));
            }
            Ok(connection(peer, stream))
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async move {
            let accepted = self.accepted.lock().await.recv().await;
            accepted.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the peer listener stopped"))
        }
        .boxed()
    }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    directory: Arc<Directory>,
    queue: mpsc::Sender<Connection>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = handshakes.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("cannot accept peer connections: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, directory, queue) = (acceptor.clone(), directory.clone(), queue.clone());
        tasks.spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(stream, &acceptor, &directory)).await;
            drop(slot);
            match handshake {
                // A closed queue means that this node stops.
                Ok(Ok(connection)) => drop(queue.send(connection).await),
                Ok(Err(e)) => tracing::debug!(%from, "refused a peer connection: {e}"),
                Err(_) => tracing::debug!(%from, "refused a peer connection: the handshake took too long"),
            }
        });
    }
}

async fn shake(stream: TcpStream, acceptor: &TlsAcceptor, directory: &Directory) -> io::Result<Connection> {
    prepare(&stream)?;
    let stream = acceptor.accept(stream).await?;
    let peer = identify(directory, stream.get_ref().1.peer_certificates())?;
    Ok(connection(peer, stream))
}

/// The node that a certificate names, which must be one of this federation's.
fn identify(directory: &Directory, certificates: Option<&[CertificateDer<'_>]>) -> io::Result<NodeId> {
    let first = certificates.and_then(<[_]>::first).ok_or_else(|| refused("the peer has no certificate"))?;
    let parsed = webpki::EndEntityCert::try_from(first).map_err(|e| refused(format!("bad certificate: {e}")))?;
    let mut names = parsed.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(refused("the peer's certificate names not exactly one URI"));
    };
    let node = name.rsplit('/').next().and_then(|node| NodeId::new(node).ok());
    let node = node.filter(|node| directory.node(node).is_some());
    let node = node.ok_or_else(|| refused(format!("{name} is no node of this federation")))?;
    if peer_uri(&directory.genesis.fed_id(), &node) != name {
        return Err(refused(format!("{name} belongs to another federation")));
    }
    Ok(node)
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn connection<S: AsyncRead + AsyncWrite + Send + 'static>(peer: NodeId, stream: S) -> Connection {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME_BYTES).new_codec();
    let (read, write) = tokio::io::split(stream);
    Connection {
        peer,
        sink: Box::new(TlsSink(FramedWrite::new(write, codec.clone()))),
        source: Box::new(TlsSource(FramedRead::new(read, codec))),
    }
}

struct TlsSink<S>(FramedWrite<WriteHalf<S>, LengthDelimitedCodec>);
struct TlsSource<S>(FramedRead<ReadHalf<S>, LengthDelimitedCodec>);

impl<S: AsyncRead + AsyncWrite + Send + 'static> FrameSink for TlsSink<S> {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.send(frame).boxed()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> FrameSource for TlsSource<S> {
    fn recv(&mut self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        async move {
            match self.0.next().await.transpose() {
                Ok(frame) => Ok(frame.map(bytes::BytesMut::freeze)),
                // A peer that dies says no TLS goodbye. Between two frames nothing can be cut off.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && self.0.read_buffer().is_empty() => Ok(None),
                Err(e) => Err(e),
            }
        }
        .boxed()
    }
}

fn configs(identity: &TlsIdentity) -> anyhow::Result<(ClientConfig, ServerConfig)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca.clone())?;
    let roots = Arc::new(roots);
    let chain = vec![identity.cert.clone()];
    let verifier = Arc::new(NodeVerifier::new(roots.clone(), &provider));
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain.clone(), identity.key.clone_key())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, identity.key.clone_key())?;
    // Every connection proves its key anew: a resumed session would outlive a replaced certificate.
    server.send_tls13_tickets = 0;
    Ok((client, server))
}

/// Checks that the server's certificate comes from the peer authority. Which node it names is
/// checked by `identify` before any byte is sent: peers have names, not host names.
#[derive(Debug)]
pub(super) struct NodeVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Self { roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
