//! What this replica answers to the other members.

use super::snapshot::{self, Answer, Request};
use super::types::{Raft, TypeConfig, Vote, log_id, vote};
use super::{Replica, Shared, propose};
use crate::peer::{Handler, Method};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tercet_core::codec;
use tercet_core::ids::NodeId;
use tokio_util::task::AbortOnDropHandle;

/// What Raft answers to it, and up to which index it goes.
type Fetched = Result<(SnapshotResponse<TypeConfig>, u64), String>;

/// A snapshot that the leader offered and this node fetches.
pub struct Incoming {
    session: u64,
    from: NodeId,
    result: Arc<Mutex<Option<Fetched>>>,
    _task: AbortOnDropHandle<()>,
}

fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, String> {
    codec::decode(bytes).map_err(|error| error.to_string())
}

fn encode<T: Serialize>(value: Result<T, impl ToString>) -> Result<Bytes, String> {
    value.map(|value| codec::encode(&value).into()).map_err(|error| error.to_string())
}

fn handler<F>(replica: &Replica, answer: impl Fn(Replica, NodeId, Bytes) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Result<Bytes, String>> + Send + 'static,
{
    let replica = replica.clone();
    Arc::new(move |from, request| Box::pin(answer(replica.clone(), from, request)))
}

pub fn methods(replica: &Replica) -> Vec<(Method, Handler)> {
    vec![
        (Method::RaftAppend, handler(replica, |replica, _, request| async move { append(&replica, request).await })),
        (
            Method::RaftVote,
            handler(replica, |replica, _, request| async move { answer_vote(&replica, request, false).await }),
        ),
        (
            Method::RaftPreVote,
            handler(replica, |replica, _, request| async move { answer_vote(&replica, request, true).await }),
        ),
        (
            Method::RaftSnapshot,
            handler(replica, |replica, from, request| async move { transfer(&replica, from, request).await }),
        ),
        (
            Method::RaftTransferLeader,
            handler(replica, |replica, _, request| async move { take_lead(&replica, request).await }),
        ),
        (
            Method::Propose,
            handler(replica, |replica, _, request| async move { propose::answer_forwarded(&replica, request).await }),
        ),
    ]
}

fn raft(replica: &Replica) -> Result<&Raft, String> {
    replica.inner.shared.raft.get().ok_or_else(|| "this node does not take part yet; retry".to_owned())
}

/// Its first poll hands the entries to Raft, so they keep the order of the connection.
async fn append(replica: &Replica, request: Bytes) -> Result<Bytes, String> {
    let request: AppendEntriesRequest<TypeConfig> = decode(&request)?;
    encode(raft(replica)?.append_entries(request).await)
}

async fn answer_vote(replica: &Replica, request: Bytes, pre_vote: bool) -> Result<Bytes, String> {
    let request: VoteRequest<TypeConfig> = decode(&request)?;
    let raft = raft(replica)?;
    if !replica.inner.shared.may_vote.load(Ordering::SeqCst) {
        let metrics = raft.server_metrics();
        let current = metrics.borrow_watched().vote;
        let last = replica.inner.shared.store.log.state().last.map(log_id);
        return encode::<VoteResponse<TypeConfig>>(Ok::<_, String>(VoteResponse::new(current, last, false)));
    }
    match pre_vote {
        true => encode(raft.pre_vote(request).await),
        false => encode(raft.vote(request).await),
    }
}

async fn take_lead(replica: &Replica, request: Bytes) -> Result<Bytes, String> {
    let request: TransferLeaderRequest<TypeConfig> = decode(&request)?;
    if !replica.inner.shared.may_vote.load(Ordering::SeqCst) {
        return Err("this node still catches up".into());
    }
    encode(raft(replica)?.handle_transfer_leader(request).await)
}

async fn transfer(replica: &Replica, from: NodeId, request: Bytes) -> Result<Bytes, String> {
    let shared = &replica.inner.shared;
    let answer = match decode(&request)? {
        Request::Offer { vote, session } => take_offer(shared, raft(replica)?, from, vote, session),
        Request::Open => snapshot::open(&shared.store).map_err(|error| error.to_string()),
        Request::Fetch { session, piece } => {
            let read = shared.store.sessions.read(&shared.store, session, piece).await;
            read.map(|(rows, end)| Answer::Rows { rows, end }).map_err(|error| error.to_string())
        }
        Request::Status => {
            let state = shared.store.log.state();
            Ok(Answer::Status { vote: state.vote.map(vote), last: state.last.map(log_id) })
        }
    };
    encode(answer)
}

/// Starts to fetch the snapshot, or tells how far that is.
fn take_offer(shared: &Arc<Shared>, raft: &Raft, from: NodeId, vote: Vote, session: u64) -> Result<Answer, String> {
    let mut incoming = shared.incoming.lock().unwrap_or_else(PoisonError::into_inner);
    let known = incoming.as_ref().filter(|incoming| incoming.session == session && incoming.from == from);
    if let Some(known) = known {
        let mut result = known.result.lock().unwrap_or_else(PoisonError::into_inner);
        return match result.take() {
            None => Ok(Answer::Working),
            Some(Ok((response, upto))) => {
                *result = Some(Ok((response.clone(), upto)));
                Ok(Answer::Installed { response, upto })
            }
            Some(Err(why)) => {
                drop(result);
                *incoming = None;
                Err(why)
            }
        };
    }
    tracing::info!(%from, "fetching a snapshot");
    let result = Arc::new(Mutex::new(None));
    let (slot, fetch) = (result.clone(), fetch_offer(shared.clone(), raft.clone(), from.clone(), vote, session));
    let task = tokio::spawn(async move {
        let outcome = fetch.await;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    });
    *incoming = Some(Incoming { session, from, result, _task: AbortOnDropHandle::new(task) });
    Ok(Answer::Working)
}

async fn fetch_offer(shared: Arc<Shared>, raft: Raft, from: NodeId, vote: Vote, session: u64) -> Fetched {
    let fetched = snapshot::fetch(&shared.peers, &shared.store, &from, session).await;
    let fetched = fetched.map_err(|error| error.to_string())?;
    let upto = fetched.meta.last_log_id.as_ref().map_or(0, |id| id.index);
    let installed = raft.install_full_snapshot(vote, fetched).await;
    installed.map(|response| (response, upto)).map_err(|error| error.to_string())
}
