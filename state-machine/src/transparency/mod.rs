//! The clouds' Merkle logs (RFC 6962 hashing), the notes that sign them (C2SP signed-note and
//! tlog-checkpoint), and the proofs between them. Pure functions and types: which log says what at
//! which moment is the business of `state.rs` and `events/`.

mod leaf;
mod merkle;
mod note;

pub use leaf::{Leaf, Open, Predecessor, Verdict, Vote};
pub use merkle::{Frontier, Nodes, consistency_proof, empty_root, inclusion_proof, leaf_hash, node_hash, root_at};
pub use merkle::{root_from_inclusion, verify_consistency};
pub use note::{Audit, MAX_NOTE_BYTES, NodeSignature, NoteBody, NoteError, Origin, SignedNote};

/// The longest inclusion proof: one hash a level of the largest log.
pub const MAX_PATH: usize = 64;

/// The longest leaf in bytes, with room to spare.
pub const MAX_LEAF_BYTES: usize = 256;
