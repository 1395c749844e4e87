//! Mirrors: this cloud's copies of the other clouds' logs, extended by cursor and audited. The same
//! chunks serve replication, catch-up, relaying and the search for forks.

mod apply;
mod serve;

pub(crate) use apply::{apply, keep_misfit, take_strays, touch};
pub use serve::Dispute;

use crate::epochs::Opening;
use crate::events::PackedBody;
use crate::ids::{CloudId, EpochId, Hash};
use crate::transparency::{Leaf, SignedNote};
use serde::{Deserialize, Serialize};

/// The most leaves and body bytes of one chunk.
pub const MAX_CHUNK_LEAVES: usize = 2048;
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
/// The most chunks and loose bodies of one command.
pub const MAX_CHUNKS: usize = 8;
pub const MAX_BODIES: usize = 2048;

/// A run of leaves of one log, verifiable against the note that comes with it: the leaves lead from
/// the receiver's root to the root at the run's end, and `consistency` from there to the note's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub first_index: u64,
    /// May be empty: then only the note is news.
    pub leaves: Vec<Leaf>,
    pub note: SignedNote,
    /// Consistency proof from the run's end to the note's size; empty if they are equal.
    pub consistency: Vec<Hash>,
    /// Bodies of the events among the leaves that were submitted at this log's own cloud.
    pub bodies: Vec<PackedBody>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Chunks whose note signatures, and bodies whose tenant signatures, the proposing leader has
    /// verified. Apply recomputes every root itself.
    Ingest { chunks: Vec<LogChunk>, bodies: Vec<PackedBody> },
    /// An epoch of another cloud, certified by its root key (verified again by apply).
    Introduce(Opening),
}

/// What became of one chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkOutcome {
    /// The mirror now has this many leaves.
    Extended { size: u64 },
    /// Nothing in it was news.
    Known,
    /// It begins behind the mirror's end; fetch from there.
    Gap { have: u64 },
    /// The leaves do not lead to the note's root: drop it and ask another cloud.
    Mismatch,
    /// The epoch is unknown, closed or not yet open for this cloud.
    WrongEpoch,
}
