//! Fault injection in three layers that share one set of workloads, histories and checkers: the
//! whole system in a seeded simulation (`sim`), its finality core under a model checker (`model`),
//! and real processes on a real kernel (`real`). A run that did not really harm, or did too little
//! work, is rejected: it proves nothing.
//!
//! `workload` acts through a `port` and writes a `history`; `checker` reads nothing but the history.

pub mod checker;
pub mod history;
pub mod invariants;
pub mod judge;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod port;
pub mod random;
pub mod real;
pub mod report;
pub mod settle;
pub mod sim;
pub mod workload;
