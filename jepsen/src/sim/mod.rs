//! The whole system in one paused, seeded runtime: nine nodes as the product runs them, on a
//! simulated network, disk, clock and random source; clients, observers, a nemesis and liars. The
//! clock jumps from event to event, so hours pass in minutes, and a seed decides everything.

pub mod cluster;
pub mod disk;
mod entropy;
pub mod lane;
mod liar;
mod monitor;
mod nemesis;
pub mod network;
pub mod port;
pub mod run;
pub mod summary;
pub mod swarm;
pub mod trace;
pub mod views;
