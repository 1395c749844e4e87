//! Leases for services: [`Candidate`] wins one and [`Held`] keeps it, [`FencedResource`] protects what
//! only the holder may touch, and the calls of `api` are what they are made of.
//!
//! A holder asks [`Held::check`] before each act. What must never happen twice is protected by the
//! fencing token as well: between the check and the act a machine may sleep.

mod api;
mod candidate;
mod clock;
mod fenced;

pub use api::{AgentView, LeaderView, LeaseView, VoteView};
pub use candidate::{Candidate, Held, Lost, Waiting};
pub use clock::boottime;
pub use fenced::{FencedResource, NotAdmitted};
