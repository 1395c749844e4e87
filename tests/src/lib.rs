//! The harness of the integration tests: real `tercetd` processes on real sockets, driven over HTTP
//! and with the real `tercet` command line. It knows the product only from outside: its files, its
//! API and its programs; never the node crate.
//!
//! A test gets a [`Cluster`], which lives in a folder of its own and is gone when it is dropped.
//! Nothing here sleeps for luck: every wait has a condition and a deadline ([`wait`]), and a missed
//! deadline shows what the nodes wrote last. The programs are built on first use ([`programs`]), so
//! plain `cargo test` works on a fresh clone. How many clusters run at once is bounded across all
//! test processes of this machine ([`slots`]).

pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod etcd;
pub mod events;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod slots;
pub mod wait;

pub use api::{Api, Reply};
pub use cli::{Cli, Output};
pub use cluster::{CLOUDS, Cluster};
pub use engine::Engine;
pub use wait::eventually;
