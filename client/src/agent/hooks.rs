//! Hooks: programs with their arguments, never through a shell, each within a time.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long a hook may take, unless its role is over sooner.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook with these variables; an empty one does nothing. An error says what went wrong.
pub async fn run(hook: &[String], env: &[(&str, String)], folder: &Path, within: Duration) -> Result<(), String> {
    let Some((program, arguments)) = hook.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).env("TERCET_STATE", folder);
    for (name, value) in env {
        command.env(name, value);
    }
    let ended = tokio::time::timeout(within.min(HOOK_TIMEOUT), command.status()).await;
    match ended {
        Err(_) => Err(format!("{program} did not end within {within:?} and was killed")),
        Ok(Err(error)) => Err(format!("cannot run {program}: {error}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program} failed: {status}")),
    }
}
