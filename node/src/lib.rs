//! `tercetd`: one node of a Tercet cloud. It replicates the state machine with Raft, signs what is
//! committed, exchanges logs with the other clouds, and serves the API.

pub mod config;
pub mod env;
pub mod federation;
pub mod http;
pub mod keys;
pub mod node;
pub mod peer;
pub mod raft;
pub mod storage;
pub mod up;
