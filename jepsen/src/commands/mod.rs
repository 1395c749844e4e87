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
