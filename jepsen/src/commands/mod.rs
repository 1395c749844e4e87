//! What the command line offers; each command says its arguments and runs itself.

pub mod check;
pub mod model;
