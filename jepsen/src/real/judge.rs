//! Certificates and evidence are judged by a program of its own, `tercet verify`, that is given the
//! file and public keys, and nothing else. What it refuses is kept.

use crate::settle::Judge;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tercet_tests::programs;

pub struct Verifier {
    folder: PathBuf,
    numbers: AtomicU64,
}

impl Verifier {
    /// Files go to this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, numbers: AtomicU64::new(1) }
    }

    /// A member of what the program tells, or why it refuses.
    fn verify(&self, bytes: &[u8], trust: &[u8], kind: &str, member: &str) -> Result<String, String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (file, keys) = (self.folder.join(format!("{kind}-{number}")), self.folder.join("trust.json"));
        let written = std::fs::write(&file, bytes).and_then(|()| std::fs::write(&keys, trust));
        written.map_err(|error| format!("cannot write into {}: {error}", self.folder.display()))?;
        let mut command = Command::new(programs::tercet());
        command.arg("verify").arg(&file).arg("--trust").arg(&keys).args(["-o", "json"]);
        let done = command.output().map_err(|error| format!("cannot start tercet: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        let told: Value = serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())?;
        if told["kind"] != kind {
            return Err(format!("it is no {kind}: {told}"));
        }
        std::fs::remove_file(&file).map_err(|error| error.to_string())?;
        told[member].as_str().map(ToOwned::to_owned).ok_or_else(|| format!("it names no {member}: {told}"))
    }
}

impl Judge for Verifier {
    fn certificate(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String> {
        self.verify(bytes, trust, "certificate", "level")
    }

    fn evidence(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String> {
        self.verify(bytes, trust, "evidence", "cloud")
    }
}
