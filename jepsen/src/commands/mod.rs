//! What the command line offers; each command says its arguments and runs itself.

pub mod check;
pub mod doctor;
pub mod duration;
pub mod model;
pub mod mutants;
pub mod real;
pub mod replay;
pub mod report;
pub mod sim;

/// Of a table, in columns.
const WIDTH: u16 = 140;

/// Something that should hold is not shown to hold. Any other error says that a command could not do its
/// work at all: the two end with different exit codes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotShown(pub String);

pub fn not_shown<T>(why: impl Into<String>) -> anyhow::Result<T> {
    Err(NotShown(why.into()).into())
}

/// How results are printed.
#[derive(Debug, Clone, clap::Args)]
pub struct Output {
    /// `table` for people, `json` for programs
    #[arg(short = 'o', long = "output", default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

impl Output {
    pub fn json(&self) -> bool {
        self.output == "json"
    }
}
