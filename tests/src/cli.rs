//! The real command line, as a user runs it.

use crate::process::Process;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `tercet` with one cluster's context.
#[derive(Debug, Clone)]
pub struct Cli {
    context: Option<PathBuf>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    command: String,
}

impl Cli {
    pub fn new(data_dir: &Path) -> Self {
        Self { context: Some(data_dir.join("context.toml")) }
    }

    pub fn with_context(context: PathBuf) -> Self {
        Self { context: Some(context) }
    }

    /// Knows no cluster at all: what an outsider has.
    pub fn offline() -> Self {
        Self { context: None }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let text = format!("{command:?}");
        let done = command.stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
        Output { code: done.status.code().unwrap_or(-1), stdout: done.stdout, stderr, command: text }
    }

    /// Runs with `-o json` and expects success.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        self.run(&all).ok().json()
    }

    /// Starts a command that runs beside the test.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::programs::tercet());
        // A context of the developer's own must not leak in.
        command.env_remove("TERCET_CONTEXT").current_dir("/");
        // Before everything else: what follows a `--` belongs to another program.
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        command.args(arguments);
        command
    }
}

impl Output {
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// Fails unless it ended with this code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.command, self.text(), self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: not JSON ({error}): {}", self.command, self.text()))
    }
}
