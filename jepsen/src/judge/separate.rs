//! The separate program, `jepsen/judge/judge.py`, on Python's standard library. Where that cannot run
//! nothing is known, which is no pass.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kinds of files that the program looks for in a folder.
pub const CERTIFICATE: &str = "certificate";
pub const EVIDENCE: &str = "evidence";

/// What the program says of one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    pub file: String,
    /// `certificate` or `evidence`.
    pub kind: String,
    pub valid: bool,
    pub why: Option<String>,
    #[serde(default)]
    pub says: Option<Says>,
}

/// What a valid file proves: a level of a content, or a lie of a cloud.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Says {
    pub level: Option<String>,
    pub content_hash: Option<String>,
    pub cloud: Option<String>,
    pub id: Option<String>,
}

/// Judges every `*.certificate` and `*.evidence` in a folder; an error says why nothing is known.
pub fn judge(trust: &Path, folder: &Path) -> Result<Vec<Finding>, String> {
    judge_with("python3", trust, folder)
}

pub(super) fn judge_with(python: &str, trust: &Path, folder: &Path) -> Result<Vec<Finding>, String> {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("judge/judge.py");
    let mut command = Command::new(python);
    command.arg("-B").arg(&program).arg(trust).arg(folder);
    let output = command.output().map_err(|error| format!("cannot run {python}: {error}; install Python 3"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ended with {}: {}", program.display(), output.status, told.trim()));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{} printed no verdicts: {error}", program.display()))
}
