//! What two clouds say to each other on a federation connection. The subscriber dials, the server
//! streams; questions and answers travel beside the chunks. Everything read here is untrusted: each
//! collection has a bound, and whatever matters is verified by signature afterwards. The messages
//! are public so that the fault injection can read them, and change them on the way.

use crate::env::{Connection, FrameSink, FrameSource};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::time::Duration;
use tercet_core::codec;
use tercet_core::epochs::Opening;
use tercet_core::events::PackedBody;
use tercet_core::evidence::{Evidence, Statement};
use tercet_core::ids::{CloudId, EpochId, FedId, Hash, NodeId, Tag};
use tercet_core::mirrors::LogChunk;
use tercet_core::transparency::{Leaf, SignedNote};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The version of this protocol; a server refuses any other.
pub(super) const PROTOCOL: u32 = 1;
/// The largest message, in bytes: a full chunk with its bodies, leaves and proofs.
pub(super) const MAX_MESSAGE_BYTES: usize = 12 << 20;
/// Messages read ahead of whoever handles them. With the window it bounds a connection's memory.
const READ_AHEAD: usize = 8;
/// How long a peer may leave a message unread before its connection is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Chunks of one subscription that may be sent and not yet acknowledged.
pub(super) const WINDOW_CHUNKS: usize = 4;
/// The most tags of one question for bodies, and the most body bytes of its answer.
pub(super) const MAX_ASKED_TAGS: usize = 512;
pub(super) const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The most evidence and openings of one question and its answer.
pub(super) const MAX_ASKED_EVIDENCE: usize = 16;
pub(super) const MAX_OPENINGS: usize = 256;
/// The most evidence ids that are announced: the latest.
pub(super) const MAX_ANNOUNCED: usize = 1024;

/// From the subscriber, which dialled, to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first message. `notes` are the latest notes that the subscriber holds, one a log: they
    /// show the server how much of its own log is known elsewhere.
    Hello {
        protocol: u32,
        fed: FedId,
        cloud: CloudId,
        node: NodeId,
        notes: Vec<SignedNote>,
    },
    /// Streams a log from an index on. A new serial replaces the subscription of that log.
    Subscribe {
        cloud: CloudId,
        epoch: EpochId,
        from: u64,
        serial: u64,
    },
    Unsubscribe {
        cloud: CloudId,
    },
    /// One chunk of that subscription is durable, or was dropped.
    Ack {
        cloud: CloudId,
        serial: u64,
    },
    Ask {
        id: u64,
        question: Question,
    },
}

/// From the server to the subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Welcome {
        notes: Vec<SignedNote>,
        openings: Vec<EpochId>,
        evidence: Vec<Hash>,
    },
    /// This node does not lead its cloud.
    Redirect {
        leader: Option<NodeId>,
    },
    Chunk {
        serial: u64,
        chunk: Box<LogChunk>,
    },
    /// New evidence or new epochs are held here.
    News {
        openings: Vec<EpochId>,
        evidence: Vec<Hash>,
    },
    Answer {
        id: u64,
        answer: Answer,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    Bodies(Vec<Tag>),
    Evidence(Vec<Hash>),
    Openings,
    /// The latest note held of a cloud.
    Note(CloudId),
    /// The root of a log at a size.
    Root {
        cloud: CloudId,
        size: u64,
    },
    /// A leaf, and the proof that it is in the log of that size.
    Leaf {
        cloud: CloudId,
        index: u64,
        size: u64,
    },
    /// What convicted clouds answered for these tags, and their notes that fit no mirror.
    Testimony(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Bodies(Vec<PackedBody>),
    Evidence(Vec<Evidence>),
    Openings(Vec<Opening>),
    Note(Option<Box<SignedNote>>),
    Root(Option<Hash>),
    Leaf(Option<(Leaf, Vec<Hash>)>),
    Testimony { statements: Vec<Statement>, strays: Vec<SignedNote> },
}

/// The sending half: encodes, and gives up on a peer that does not read.
pub(super) struct Sender(Box<dyn FrameSink>);

impl Sender {
    pub async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let frame = Bytes::from(codec::encode(message));
        match tokio::time::timeout(SEND_TIMEOUT, self.0.send(frame)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")),
        }
    }
}

/// The receiving half: a task reads ahead, so that neither side waits for the other to read.
pub(super) struct Receiver<T> {
    messages: mpsc::Receiver<io::Result<T>>,
    task: JoinHandle<()>,
}

impl<T> Receiver<T> {
    /// The next message; `None` once the peer closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<io::Result<T>> {
        self.messages.recv().await
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes a connection apart into its two halves.
pub(super) fn split<T: DeserializeOwned + Send + 'static>(connection: Connection) -> (Sender, Receiver<T>) {
    let Connection { sink, source, .. } = connection;
    let (sender, messages) = mpsc::channel(READ_AHEAD);
    let task = tokio::spawn(read_ahead(source, sender));
    (Sender(sink), Receiver { messages, task })
}

async fn read_ahead<T: DeserializeOwned + Send>(mut source: Box<dyn FrameSource>, out: mpsc::Sender<io::Result<T>>) {
    loop {
        let message = match source.recv().await {
            Ok(None) => return,
            Ok(Some(frame)) if frame.len() > MAX_MESSAGE_BYTES => {
                let text = format!("a message of {} bytes, at most {MAX_MESSAGE_BYTES} are allowed", frame.len());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            Ok(Some(frame)) => codec::decode(&frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if out.send(message).await.is_err() || last {
            return;
        }
    }
}
