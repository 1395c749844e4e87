//! Has certificates and evidence judged by a separate program that shares no code with Tercet and
//! holds public keys only: `jepsen/judge/judge.py`, on Python's standard library. Where that cannot
//! run nothing is known, which is no pass.

use super::Verdict;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names that the program looks for in a folder.
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

fn judge_with(python: &str, trust: &Path, folder: &Path) -> Result<Vec<Finding>, String> {
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

/// Holds if something was judged and all of it is valid.
pub fn verdict(findings: Result<Vec<Finding>, String>) -> Verdict {
    let findings = match findings {
        Ok(findings) => findings,
        Err(why) => return Verdict::Unknown(why),
    };
    match findings.iter().find(|finding| !finding.valid) {
        Some(bad) => Verdict::Broken(format!("{}: {}", bad.file, bad.why.as_deref().unwrap_or("no reason is told"))),
        None if findings.is_empty() => Verdict::Rejected("there was no certificate and no evidence to judge".into()),
        None => Verdict::Holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
    }

    fn vector(file: &str, list: &str) -> Vec<u8> {
        let text = std::fs::read_to_string(vectors().join(file)).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let digits = all[list][0]["bytes"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn a_real_certificate_convinces_and_one_changed_bit_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = vector("certificates.json", "certificates");
        std::fs::write(folder.path().join("a.certificate"), &certificate).unwrap();
        std::fs::write(folder.path().join("b.evidence"), vector("evidence.json", "evidence")).unwrap();
        let trust = vectors().join("trust.json");
        let found = judge(&trust, folder.path()).unwrap();
        assert!(found.len() == 2 && found.iter().all(|finding| finding.valid), "{found:?}");
        let says = found[0].says.as_ref().unwrap();
        assert!(matches!(says.level.as_deref(), Some("FINAL" | "SEALED")), "{says:?}");
        assert_eq!(found[1].says.as_ref().unwrap().cloud.as_deref(), Some("gcp"));
        assert_eq!(verdict(Ok(found)), Verdict::Holds);
        for at in [0, certificate.len() / 2, certificate.len() - 1] {
            let mut changed = certificate.clone();
            changed[at] ^= 1;
            std::fs::write(folder.path().join("a.certificate"), changed).unwrap();
            let found = judge(&trust, folder.path()).unwrap();
            assert_eq!((found[0].valid, found[1].valid), (false, true), "byte {at}: {found:?}");
            let verdict = verdict(Ok(found));
            assert!(matches!(&verdict, Verdict::Broken(why) if why.starts_with("a.certificate: ")), "{verdict:?}");
        }
    }

    #[test]
    fn what_could_not_be_judged_is_no_pass() {
        let folder = tempfile::tempdir().unwrap();
        let trust = vectors().join("trust.json");
        let found = judge_with("a-python-that-is-not-there", &trust, folder.path());
        assert!(matches!(verdict(found), Verdict::Unknown(why) if why.contains("install Python 3")));
        assert!(matches!(verdict(judge(&trust, folder.path())), Verdict::Rejected(_)));
        let strange = folder.path().join("trust.json");
        std::fs::write(&strange, "{}").unwrap();
        assert!(matches!(verdict(judge(&strange, folder.path())), Verdict::Unknown(_)));
    }
}
