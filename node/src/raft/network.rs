//! Raft's calls to the other members. Every call has a deadline, since a peer connection by itself
//! waits for ever; nothing is retried here, Raft decides that.

use super::apply::Store;
use super::snapshot::{self, SnapshotData};
use super::types::{TypeConfig, Vote};
use crate::peer::{Method, PeerClient};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, future};
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::codec;
use tercet_core::ids::NodeId;

/// Messages with entries to one follower that wait for their answer.
const PIPELINE_REQUESTS: usize = 32;
/// How long a follower may take to make entries durable.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer to a call without entries may take, at least.
const MIN_CALL_TIMEOUT: Duration = Duration::from_millis(500);

/// Calls one method of a peer.
pub async fn call<Q: Serialize, A: DeserializeOwned>(
    peers: &PeerClient,
    to: &NodeId,
    method: Method,
    request: &Q,
    timeout: Duration,
) -> io::Result<A> {
    let call = peers.call(to, method, codec::encode(request).into());
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{to} did not answer within {timeout:?}"));
    let answer = tokio::time::timeout(timeout, call).await.map_err(|_| late())??;
    codec::decode(&answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

pub struct Network {
    /// The index of a member + 1 is its Raft id.
    pub members: Vec<NodeId>,
    pub peers: PeerClient,
    pub store: Arc<Store>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Member;

    async fn new_client(&mut self, target: u64, _node: &String) -> Member {
        let to = self.members[target as usize - 1].clone();
        Member { peers: self.peers.clone(), store: self.store.clone(), id: target, to }
    }
}

/// One other member.
#[derive(Clone)]
pub struct Member {
    peers: PeerClient,
    store: Arc<Store>,
    id: u64,
    to: NodeId,
}

/// A peer that cannot be reached is left alone for a while; one that is late is asked again.
fn rpc_error(error: io::Error) -> RPCError<TypeConfig> {
    match error.kind() {
        io::ErrorKind::TimedOut => NetworkError::new(&error).into(),
        _ => Unreachable::new(&error).into(),
    }
}

impl Member {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        call(&self.peers, &self.to, method, request, timeout).await.map_err(rpc_error)
    }

    async fn append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
        timeout: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(match self.call(Method::RaftAppend, request, timeout).await? {
            AppendEntriesResponse::HigherVote(vote) => {
                AppendEntriesResponse::HigherVote(self.unremembered(&request.vote, vote))
            }
            answer => answer,
        })
    }

    async fn ask_vote(
        &self,
        method: Method,
        request: &VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = option.hard_ttl().max(MIN_CALL_TIMEOUT);
        let answer: VoteResponse<TypeConfig> = self.call(method, request, timeout).await?;
        Ok(VoteResponse { vote: self.unremembered(&request.vote, answer.vote), ..answer })
    }

    fn unremembered(&self, asked: &Vote, answered: Vote) -> Vote {
        let taken = unremembered(asked, answered, self.id);
        if taken != answered {
            tracing::warn!(
                "{} knows a vote of this node in term {}, of which this node knows nothing; if its disk was put back \
                 from an older copy, stop it, empty its directory and start it again",
                self.to,
                answered.leader_id.term
            );
        }
        taken
    }
}

/// The vote that member `from` answered with, unless it is for the node that asked, in a later term than it asked in:
/// then that node forgot the term, since its disk was put back from an older copy. openraft 0.10.0-alpha.37 would
/// take such a vote up as its own, beside the campaign that it runs, and could lead in the lower term, or without
/// the entries of the higher one. The node learns of the term alone: the vote becomes one for the member.
fn unremembered(asked: &Vote, answered: Vote, from: u64) -> Vote {
    let (ours, theirs) = (asked.leader_id, answered.leader_id);
    match theirs.node_id == ours.node_id && theirs.term > ours.term {
        true => Vote::new(theirs.term, from),
        false => answered,
    }
}

impl RaftNetworkV2<TypeConfig> for Member {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = if request.entries.is_empty() { option.hard_ttl().max(MIN_CALL_TIMEOUT) } else { APPEND_TIMEOUT };
        self.append(&request, timeout).await
    }

    /// Keeps several requests under way. Both ends of a peer connection keep their order, and the
    /// answers are put back in order here.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let member = self.clone();
        let send = move |request: AppendEntriesRequest<TypeConfig>| {
            let member = member.clone();
            async move {
                let previous = request.prev_log_id;
                let last = request.entries.last().map(|entry| entry.log_id).or(previous);
                let answer = match member.append(&request, APPEND_TIMEOUT).await {
                    Ok(answer) => answer,
                    Err(error) => return (Err(error), false),
                };
                let whole = !matches!(&answer, AppendEntriesResponse::PartialSuccess(upto) if *upto != last);
                let result = answer.into_stream_result(previous, last);
                let goes_on = whole && result.is_ok();
                (Ok(result), goes_on)
            }
        };
        // What follows a refusal was sent in vain: the stream ends with the refusal.
        let until_refused = |goes_on: &mut bool, (result, next): (_, bool)| {
            let result = std::mem::replace(goes_on, next).then_some(result);
            future::ready(result)
        };
        let answers = input.map(send).buffered(PIPELINE_REQUESTS).scan(true, until_refused);
        future::ready(Ok(answers.boxed())).boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Method::RaftVote, &request, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.ask_vote(Method::RaftPreVote, &request, option).await?;
        // A refusal tells the candidate of a later term. openraft 0.10.0-alpha.37 takes the vote in it as not
        // committed, but compares it before: the same vote, committed there and not here, would end the round, and
        // with it the grants that arrive later.
        Ok(VoteResponse { vote: Vote { committed: false, ..answer.vote }, ..answer })
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = snapshot::offer(&self.peers, &self.store.sessions, &self.to, vote, option.hard_ttl());
        tokio::select! {
            sent = send => match sent {
                Ok(answer) => Ok(SnapshotResponse { vote: self.unremembered(&vote, answer.vote) }),
                Err(error) => Err(Unreachable::new(&error).into()),
            },
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Method::RaftTransferLeader, &request, option.hard_ttl().max(MIN_CALL_TIMEOUT)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_no_leadership_that_it_forgot_from_an_answer() {
        let asked = Vote::new(4, 1);
        assert_eq!(unremembered(&asked, Vote::new_committed(5, 1), 2), Vote::new(5, 2));
        assert_eq!(unremembered(&asked, Vote::new(5, 1), 3), Vote::new(5, 3));
        for as_it_is in [Vote::new(4, 1), Vote::new_committed(4, 1), Vote::new_committed(9, 3), Vote::new(3, 1)] {
            assert_eq!(unremembered(&asked, as_it_is, 2), as_it_is);
        }
    }
}
