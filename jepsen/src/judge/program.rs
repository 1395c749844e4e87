//! `tercet verify` as the verifier: a program that is given a file and public keys, and nothing else.

use super::{Says, Verifier};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use tercet_tests::programs;

pub struct Program {
    folder: PathBuf,
}

impl Program {
    /// Files go to this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What the program tells, or why it refuses.
    fn verify(&self, bytes: &[u8], trust: &[u8], kind: &str) -> Result<Value, String> {
        let (file, keys) = (self.folder.join("to-verify"), self.folder.join("trust.json"));
        let written = std::fs::create_dir_all(&self.folder);
        let written = written.and_then(|()| std::fs::write(&file, bytes)).and_then(|()| std::fs::write(&keys, trust));
        written.map_err(|error| format!("cannot write into {}: {error}", self.folder.display()))?;
        let mut command = Command::new(programs::tercet());
        command.arg("verify").arg(&file).arg("--trust").arg(&keys).args(["-o", "json"]);
        let done = command.output().map_err(|error| format!("cannot start tercet: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
        }
        let told: Value = serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())?;
        if told["kind"] == kind { Ok(told) } else { Err(format!("it is no {kind}: {told}")) }
    }
}

fn member(told: &Value, name: &str) -> Result<String, String> {
    told[name].as_str().map(ToOwned::to_owned).ok_or_else(|| format!("it names no {name}: {told}"))
}

impl Verifier for Program {
    fn certificate(&self, bytes: &[u8], trust: &[u8]) -> Result<Says, String> {
        let told = self.verify(bytes, trust, "certificate")?;
        Ok(Says {
            tenant: member(&told, "tenant")?,
            id: member(&told, "id")?,
            content: member(&told, "contentHash")?,
            level: member(&told, "level")?,
        })
    }

    fn evidence(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String> {
        member(&self.verify(bytes, trust, "evidence")?, "cloud")
    }
}
