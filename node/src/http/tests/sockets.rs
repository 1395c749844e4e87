//! The server on a real socket, with TLS.

use super::fixture::{Clouds, TOKEN};
use crate::http::serve;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    addr: SocketAddr,
    connector: TlsConnector,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
    _clouds: Clouds,
}

impl Server {
    async fn start() -> Self {
        let clouds = Clouds::one().await;
        let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = clouds.nodes["gcp-1"].router.clone();
        let task = tokio::spawn(serve(listener, Arc::new(tls), router, async {
            let _ = stopped.await;
        }));
        Self { addr, connector: TlsConnector::from(Arc::new(client)), stop, task, _clouds: clouds }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        self.connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap()
    }
}

async fn read_until(stream: &mut TlsStream<TcpStream>, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(wanted) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer in time").unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn it_answers_over_tls_and_ends_watch_streams_when_it_stops() {
    let server = Server::start().await;
    let mut plain = server.connect().await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_until(&mut plain, "{\"status\":\"ok\"}").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let mut watch = server.connect().await;
    let request = format!("GET /v1/watch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    watch.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut watch, "\r\n\r\n").await;
    server.stop.send(()).unwrap();
    timeout(PATIENCE, server.task).await.expect("it stops in time").unwrap().unwrap();
    let mut rest = Vec::new();
    // The stream ends, orderly or not; it does not hang.
    let _ = timeout(PATIENCE, watch.read_to_end(&mut rest)).await.expect("the watch stream ends");
}

#[tokio::test]
async fn a_client_without_tls_is_disconnected_and_others_go_on() {
    let server = Server::start().await;
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it is disconnected");
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
    let mut stream = server.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\"ok\"").await;
}
