//! Replicas of one cloud, in memory under simulated time and on disk.

mod durability;
mod group;
mod members;
mod restarts;
mod suite;

use group::{Group, Place};
