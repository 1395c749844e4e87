//! Connections: TLS, limits in time and number, and a graceful end. Whoever connects and says
//! nothing, or dribbles, is disconnected; nobody can hold a connection without a request for long.

use super::Stopping;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

/// The most connections of clients at once; more wait in the system's backlog.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head; also how long an HTTP/1 connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// An idle HTTP/2 connection is probed so often, and closed if it does not answer for so long.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// The largest request head, in bytes, and the most header fields.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// How long running requests may take to finish when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long to wait after a failure to accept, which usually means too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API over TLS until `stop` resolves, with header timeouts and connection caps.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: axum::Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let (stopping, stopped) = watch::channel(false);
    let router = router.layer(axum::Extension(Stopping(stopped)));
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        // A finished connection's task leaves nothing to look at.
        while tasks.try_join_next().is_some() {}
        let (stream, permit) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let connection = connection(stream, acceptor.clone(), router.clone(), graceful.watcher(), permit);
        tasks.spawn(connection);
    }
    drop(listener);
    let _ = stopping.send(true);
    if timeout(STOP_GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace = ?STOP_GRACE, "requests were still running when the API stopped");
    }
    tasks.shutdown().await;
    Ok(())
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = connections.clone().acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: axum::Router,
    graceful: Watcher,
    _permit: OwnedSemaphorePermit,
) {
    // Answers are small and complete; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        // A router is always ready.
        router.clone().call(request)
    });
    let builder = builder(is_http2);
    let served = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// The version comes from the TLS handshake, so that no time goes unlimited into guessing it.
fn builder(is_http2: bool) -> Builder<TokioExecutor> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    builder
}
