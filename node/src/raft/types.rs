//! openraft's type parameters for Tercet, and their translation into the log's positions and bytes.

use crate::storage::wal::{Position, Record, SavedVote};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EntryPayload, alias};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use tercet_core::codec;
use tercet_core::command::{self, Command, Reply};
use tercet_core::ids::RequestId;
use tercet_core::rejection::Rejection;
use tercet_core::time::Millis;

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        Node = String,
);

pub type Raft = openraft::Raft<TypeConfig, super::apply::Applier>;
pub type LogId = alias::LogIdOf<TypeConfig>;
pub type LeaderId = alias::CommittedLeaderIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type Entry = alias::EntryOf<TypeConfig>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;

/// A command on its way through Raft: encoded once by whoever proposed it, and passed on as bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub at: u64,
    /// Encoded: the optional request id, and the command.
    pub body: Bytes,
}

impl Proposal {
    pub fn encode_body(request_id: &Option<RequestId>, command: &Command) -> Bytes {
        codec::encode(&(request_id, command)).into()
    }

    pub fn decode(&self) -> Result<command::Entry, codec::CodecError> {
        let (request_id, command) = codec::decode(&self.body)?;
        Ok(command::Entry { at: Millis(self.at), request_id, command })
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} ms", self.body.len(), self.at)
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What applying an entry answered; nothing for Raft's own entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome(pub Option<Result<Reply, Rejection>>);

pub fn position(id: &LogId) -> Position {
    Position { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub fn log_id(position: Position) -> LogId {
    LogId { leader_id: LeaderId { term: position.term, node_id: position.node }, index: position.index }
}

pub fn saved_vote(vote: &Vote) -> SavedVote {
    SavedVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub fn vote(saved: SavedVote) -> Vote {
    match saved.committed {
        true => Vote::new_committed(saved.term, saved.node),
        false => Vote::new(saved.term, saved.node),
    }
}

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;
/// The kind of payload and, for a proposal, its time.
const PROPOSAL_HEADER_BYTES: usize = 9;

pub fn to_record(entry: &Entry) -> Record {
    let bytes = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Normal(proposal) => {
            let mut out = BytesMut::with_capacity(PROPOSAL_HEADER_BYTES + proposal.body.len());
            out.put_u8(NORMAL);
            out.put_u64(proposal.at);
            out.put_slice(&proposal.body);
            out.freeze()
        }
        EntryPayload::Membership(membership) => {
            let mut out = BytesMut::new();
            out.put_u8(MEMBERSHIP);
            out.put_slice(&codec::encode(membership));
            out.freeze()
        }
    };
    (position(&entry.log_id), bytes)
}

pub fn to_entry((position, bytes): Record) -> io::Result<Entry> {
    let damaged = |what: String| {
        let text = format!("log entry {} is undecodable: {what}", position.index);
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let payload = match bytes.first() {
        Some(&BLANK) => EntryPayload::Blank,
        Some(&NORMAL) => {
            let header: Option<[u8; 8]> = bytes.get(1..PROPOSAL_HEADER_BYTES).and_then(|at| at.try_into().ok());
            let at = u64::from_be_bytes(header.ok_or_else(|| damaged("too short".into()))?);
            EntryPayload::Normal(Proposal { at, body: bytes.slice(PROPOSAL_HEADER_BYTES..) })
        }
        Some(&MEMBERSHIP) => {
            let membership = codec::decode(&bytes[1..]).map_err(|error| damaged(error.to_string()))?;
            EntryPayload::Membership(membership)
        }
        kind => return Err(damaged(format!("kind {kind:?}"))),
    };
    Ok(Entry { log_id: log_id(position), payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_survives_the_log() {
        let id = log_id(Position { term: 3, node: 2, index: 9 });
        let members = [(1, "gcp-1".to_owned())].into_iter().collect::<std::collections::BTreeMap<_, _>>();
        let membership = openraft::Membership::new(vec![[1].into()], members).unwrap();
        let proposal = Proposal { at: 7, body: Bytes::from_static(b"body") };
        let payloads = [EntryPayload::Blank, EntryPayload::Normal(proposal), EntryPayload::Membership(membership)];
        for payload in payloads {
            let entry = Entry { log_id: id, payload };
            assert_eq!(to_entry(to_record(&entry)).unwrap(), entry);
        }
        assert!(to_entry((position(&id), Bytes::new())).is_err());
        assert!(to_entry((position(&id), Bytes::from_static(&[1, 2]))).is_err());
        assert!(to_entry((position(&id), Bytes::from_static(&[9]))).is_err());
    }
}
