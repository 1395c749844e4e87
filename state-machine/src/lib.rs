//! Tercet's replicated state machine: what the three clouds agree on and how.
//!
//! This crate is pure. It has no clock, no input or output, no async, no randomness and no floats:
//! time arrives inside each [`command::Entry`], records are read through [`records::Records`], and
//! everything that happened leaves as [`fact::Fact`]s. `node/` replicates it, `client/` verifies
//! what it produced, `jepsen/` runs the very same code in simulation.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("planted bugs never belong in a release build; use `--profile mutants`, or build without the feature");

/// Whether a planted bug is switched on (see `mutants.rs`). Without the feature it is `false`, and the
/// compiler drops the bug.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

/// Whether a planted bug is switched on (see [`mutants`]).
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_on($crate::mutants::Mutant::$name)
    };
}

pub mod agents;
pub mod canonical;
pub mod certificate;
pub mod cloudevents;
pub mod codec;
pub mod command;
pub mod content;
pub mod epochs;
pub mod events;
pub mod evidence;
pub mod fact;
pub mod genesis;
pub mod ids;
pub mod leases;
mod ledger;
pub mod mirrors;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod read;
pub mod records;
pub mod rejection;
pub mod signature;
pub mod state;
pub mod tenants;
pub mod time;
pub mod transparency;
pub mod wire;
