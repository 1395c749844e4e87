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

use anyhow::Context as _;
use std::path::Path;
use std::str::FromStr;

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

/// A number of things of which at least one is needed.
pub fn count<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| format!("{text:?} is not possible; give 1 or more"))
}

/// Finds out before a long run whether its results can be written at all.
pub fn make_writable(folder: &Path) -> anyhow::Result<()> {
    let hint = || format!("cannot write into {}; give another folder with --out", folder.display());
    std::fs::create_dir_all(folder).with_context(hint)?;
    let probe = folder.join(format!(".jepsen-{}", std::process::id()));
    std::fs::write(&probe, "").with_context(hint)?;
    std::fs::remove_file(&probe).with_context(hint)
}
