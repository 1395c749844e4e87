//! The client library of Tercet: it finds the cluster ([`context`]), speaks to it safely
//! ([`client`]), signs what a tenant wants ([`sign`]) and checks offline what the clouds promised
//! ([`verify`]). The command line `tercet` is a thin face on it.
//!
//! It never trusts a certificate authority but the context's own, never sends the token to an
//! address that the context does not name, and never reports success that no cloud confirmed.

pub mod agent;
pub mod client;
pub mod context;
pub mod duration;
pub mod error;
pub mod events;
pub mod evidence;
pub mod http;
pub mod import;
pub mod leases;
pub mod load;
pub mod sign;
pub mod status;
pub mod tenants;
pub mod usage;
pub mod verify;
pub mod watch;

pub use client::Client;
pub use context::Context;
pub use error::Error;
