//! The serving side: accepts connections, reads what each is for, and answers requests. Every
//! connection and request belongs to the server's task, so dropping the server ends them all.

use super::{Handler, Method, STATUS_FAILED, STATUS_OK, Service, StreamHandler, frame, unframe};
use crate::env::{Connection, Env, FrameSink};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// Connections served at once; further ones are closed at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a new connection may take to say what it is for.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that wait for a connection's writer.
const ANSWER_QUEUE_FRAMES: usize = 64;
/// Pause after a failed accept (such as: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves peers until it is dropped.
pub struct PeerServer {
    task: JoinHandle<()>,
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Routes {
    same_cloud: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
    methods: HashMap<Method, Handler>,
    federation: StreamHandler,
}

impl PeerServer {
    /// `same_cloud` says which peers may use the `Cloud` service.
    pub fn start(
        env: Env,
        same_cloud: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
        methods: Vec<(Method, Handler)>,
        federation: StreamHandler,
    ) -> Self {
        let routes = Arc::new(Routes { same_cloud, methods: methods.into_iter().collect(), federation });
        Self { task: tokio::spawn(accept_all(env, routes)) }
    }
}

async fn accept_all(env: Env, routes: Arc<Routes>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = env.network.accept() => match accepted {
                Ok(connection) => match slots.clone().try_acquire_owned() {
                    Ok(slot) => { connections.spawn(serve(connection, routes.clone(), slot)); }
                    Err(_) => tracing::warn!(peer = %connection.peer, "closed a connection: {MAX_CONNECTIONS} are open"),
                },
                Err(e) => {
                    tracing::warn!("cannot accept peer connections: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut connection: Connection, routes: Arc<Routes>, _slot: OwnedSemaphorePermit) {
    let peer = connection.peer.clone();
    let Ok(Ok(Some(first))) = tokio::time::timeout(FIRST_FRAME_TIMEOUT, connection.source.recv()).await else {
        return;
    };
    let service = if first.len() == 1 { Service::from_byte(first[0]) } else { None };
    match service {
        Some(Service::Cloud) if (routes.same_cloud)(&peer) => {
            if let Err(e) = answer_all(connection, &routes).await {
                tracing::debug!(%peer, "connection broke: {e}");
            }
        }
        Some(Service::Cloud) => {
            tracing::warn!(%peer, "refused: a node of another cloud asked for this cloud's inner service")
        }
        Some(Service::Federation) => (routes.federation)(connection).await,
        None => tracing::warn!(%peer, "refused: the peer asked for an unknown service; is it of another version?"),
    }
}

async fn answer_all(connection: Connection, routes: &Routes) -> io::Result<()> {
    let Connection { peer, sink, mut source } = connection;
    let (answers, queue) = mpsc::channel(ANSWER_QUEUE_FRAMES);
    let proposals = Arc::new(Semaphore::new(Method::Propose.in_flight_limit()));
    let requests = Arc::new(Semaphore::new(Method::RaftAppend.in_flight_limit()));
    let mut handlers = JoinSet::new();
    let mut writer = AbortOnDropHandle::new(tokio::spawn(write_all(sink, queue)));
    loop {
        let request = tokio::select! {
            request = source.recv() => request?,
            ended = &mut writer => return ended.unwrap_or(Ok(())),
            Some(_) = handlers.join_next() => continue,
        };
        let Some(request) = request else { return Ok(()) };
        let (id, method, payload) = unframe(request).ok_or(io::ErrorKind::InvalidData)?;
        let handler = Method::from_byte(method).and_then(|method| Some((method, routes.methods.get(&method)?)));
        let Some((method, handler)) = handler else {
            refuse(&answers, id, "this node does not know that method; is it of another version?").await;
            continue;
        };
        let slots = if method == Method::Propose { &proposals } else { &requests };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            refuse(&answers, id, "too many requests are under way on this connection").await;
            continue;
        };
        // Requests start in the order in which they came; only then do they go their own ways.
        let mut answer = handler(peer.clone(), payload);
        match futures::poll!(&mut answer) {
            std::task::Poll::Ready(answer) => reply(&answers, id, answer).await,
            std::task::Poll::Pending => {
                let answers = answers.clone();
                handlers.spawn(async move {
                    reply(&answers, id, answer.await).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn write_all(mut sink: Box<dyn FrameSink>, mut queue: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(answer) = queue.recv().await {
        sink.send(answer).await?;
    }
    Ok(())
}

async fn reply(answers: &mpsc::Sender<Bytes>, id: u64, answer: Result<Bytes, String>) {
    match answer {
        // A closed queue means that the connection is gone, and with it who asked.
        Ok(payload) => drop(answers.send(frame(id, STATUS_OK, &payload)).await),
        Err(reason) => refuse(answers, id, &reason).await,
    }
}

async fn refuse(answers: &mpsc::Sender<Bytes>, id: u64, reason: &str) {
    let _ = answers.send(frame(id, STATUS_FAILED, reason.as_bytes())).await;
}
