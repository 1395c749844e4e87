//! The product's own finality core (`State::apply`, the very code) in every interleaving within
//! bounds, under `stateright`. A configuration says who lies and what may happen; every state that
//! is reached is judged by the shared invariants, and so is what the honest clouds hold after
//! they have told each other everything from there. `leases` does the same with votes on a lease.

mod clouds;
mod config;
mod deliver;
mod federation;
pub mod leases;
mod quiet;
mod rows;
mod run;
mod system;
mod trace;

pub use config::{CONFIGS, Config, Reach};
pub use deliver::What;
pub use run::{Bounds, Explored, Limits, Outcome, Progress, explore, run};
pub use system::{Action, FinalityModel};
