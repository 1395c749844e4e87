//! The calling side: one connection a peer, dialled when it is needed, with requests pipelined on
//! it. When it breaks, every waiting call fails at once, and the next call dials again; calls that
//! come too soon after a failed dial fail with its reason.

use super::{Method, STATUS_OK, Service, frame, unframe};
use crate::env::{Connection, Env};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::ids::NodeId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// How long a dial may take, handshake included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed dial: doubled each time, up to the second value.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Frames that wait for the connection's writer.
const SEND_QUEUE_FRAMES: usize = 64;

/// Calls other nodes. Clones share their connections.
#[derive(Clone)]
pub struct PeerClient {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    links: Mutex<HashMap<NodeId, Arc<Link>>>,
}

/// What is known about one peer.
#[derive(Default)]
struct Link {
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    stage: Stage,
    failures: u32,
}

#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Dialling(Dial),
    Live(Arc<Live>),
    /// The last dial failed; not before this moment again.
    Waiting(Instant, Broken),
}

type Dial = Shared<BoxFuture<'static, Result<Arc<Live>, Broken>>>;

/// An I/O error that several callers can have.
#[derive(Clone, Debug)]
struct Broken(io::ErrorKind, String);

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Self {
        Self(e.kind(), e.to_string())
    }
}

impl From<Broken> for io::Error {
    fn from(e: Broken) -> Self {
        Self::new(e.0, e.1)
    }
}

/// An open connection.
struct Live {
    outgoing: mpsc::Sender<Bytes>,
    calls: Arc<Mutex<Calls>>,
    proposals: Semaphore,
    requests: Semaphore,
}

#[derive(Default)]
struct Calls {
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, String>>>,
    broken: bool,
}

impl PeerClient {
    pub fn new(env: Env) -> Self {
        Self { inner: Arc::new(Inner { env, links: Mutex::default() }) }
    }

    /// Sends a request and waits for its answer. Cancel-safe. An error says nothing about whether
    /// the peer acted.
    pub async fn call(&self, to: &NodeId, method: Method, request: Bytes) -> io::Result<Bytes> {
        let live = self.live(to).await?;
        live.call(method, request).await
    }

    /// A fresh connection for a federation stream.
    pub async fn open_federation(&self, to: &NodeId) -> io::Result<Connection> {
        dial(&self.inner.env, to, Service::Federation).await
    }

    async fn live(&self, to: &NodeId) -> io::Result<Arc<Live>> {
        let link = lock(&self.inner.links).entry(to.clone()).or_default().clone();
        let dial = {
            let mut state = lock(&link.state);
            match &state.stage {
                Stage::Live(live) if !live.is_broken() => return Ok(live.clone()),
                Stage::Waiting(until, why) if Instant::now() < *until => return Err(why.clone().into()),
                Stage::Dialling(dial) => dial.clone(),
                _ => {
                    let dial = self.start_dial(link.clone(), to.clone());
                    state.stage = Stage::Dialling(dial.clone());
                    dial
                }
            }
        };
        Ok(dial.await?)
    }

    /// Dials in its own task, so that a caller that gives up does not undo the handshake.
    fn start_dial(&self, link: Arc<Link>, to: NodeId) -> Dial {
        let env = self.inner.env.clone();
        let task = tokio::spawn(async move {
            let dialled = dial(&env, &to, Service::Cloud).await.map(Live::start).map_err(Broken::from);
            let mut state = lock(&link.state);
            state.stage = match &dialled {
                Ok(live) => {
                    state.failures = 0;
                    Stage::Live(live.clone())
                }
                Err(why) => {
                    let pause = BACKOFF_MIN.saturating_mul(1 << state.failures.min(10)).min(BACKOFF_MAX);
                    state.failures += 1;
                    Stage::Waiting(Instant::now() + pause, why.clone())
                }
            };
            dialled
        });
        let stopped = |_| Err(Broken(io::ErrorKind::Interrupted, "this node is stopping".into()));
        task.map(move |joined| joined.unwrap_or_else(stopped)).boxed().shared()
    }
}

async fn dial(env: &Env, to: &NodeId, service: Service) -> io::Result<Connection> {
    let open = async {
        let mut connection = env.network.dial(to.clone()).await?;
        connection.sink.send(Bytes::copy_from_slice(&[service as u8])).await?;
        Ok(connection)
    };
    let timed_out = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to} does not answer")));
    tokio::time::timeout(DIAL_TIMEOUT, open).await.unwrap_or_else(timed_out)
}

impl Live {
    fn start(connection: Connection) -> Arc<Self> {
        let (outgoing, queue) = mpsc::channel(SEND_QUEUE_FRAMES);
        let calls = Arc::new(Mutex::new(Calls::default()));
        tokio::spawn(run(connection, queue, calls.clone()));
        let proposals = Semaphore::new(Method::Propose.in_flight_limit());
        let requests = Semaphore::new(Method::RaftAppend.in_flight_limit());
        Arc::new(Self { outgoing, calls, proposals, requests })
    }

    fn is_broken(&self) -> bool {
        lock(&self.calls).broken
    }

    async fn call(&self, method: Method, request: Bytes) -> io::Result<Bytes> {
        let slots = if method == Method::Propose { &self.proposals } else { &self.requests };
        let _slot = slots.acquire().await.map_err(|_| disconnected())?;
        let (answer, answered) = oneshot::channel();
        let call = self.begin(answer).ok_or_else(disconnected)?;
        self.outgoing.send(frame(call.id, method as u8, &request)).await.map_err(|_| disconnected())?;
        match answered.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(io::Error::other(reason)),
            Err(_) => Err(disconnected()),
        }
    }

    fn begin(&self, answer: oneshot::Sender<Result<Bytes, String>>) -> Option<Call<'_>> {
        let mut calls = lock(&self.calls);
        if calls.broken {
            return None;
        }
        let id = calls.next_id;
        calls.next_id += 1;
        calls.waiting.insert(id, answer);
        Some(Call { id, calls: &self.calls })
    }
}

/// A call under way; forgotten when its caller goes.
struct Call<'a> {
    id: u64,
    calls: &'a Mutex<Calls>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        lock(self.calls).waiting.remove(&self.id);
    }
}

/// Moves frames until either direction ends, then fails every waiting call.
async fn run(connection: Connection, mut queue: mpsc::Receiver<Bytes>, calls: Arc<Mutex<Calls>>) {
    let Connection { peer, mut sink, mut source } = connection;
    let write = async {
        while let Some(frame) = queue.recv().await {
            sink.send(frame).await?;
        }
        io::Result::Ok(())
    };
    let read = async {
        while let Some(frame) = source.recv().await? {
            let (id, status, payload) = unframe(frame).ok_or(io::ErrorKind::InvalidData)?;
            let Some(answer) = lock(&calls).waiting.remove(&id) else { continue };
            let failed = || String::from_utf8_lossy(&payload).into_owned();
            // The caller may have gone in the meantime: then nobody wants the answer.
            let _ = answer.send(if status == STATUS_OK { Ok(payload.clone()) } else { Err(failed()) });
        }
        io::Result::Ok(())
    };
    let ended = tokio::select! {
        ended = write => ended,
        ended = read => ended,
    };
    if let Err(e) = ended {
        tracing::debug!(%peer, "connection broke: {e}");
    }
    let mut calls = lock(&calls);
    calls.broken = true;
    calls.waiting.clear();
}

fn disconnected() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection to the peer broke")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
