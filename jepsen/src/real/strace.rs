//! strace as a fault injector: attached to a running node, it makes its syncs fail or crawl.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CALLS: &str = "fsync,fdatasync";
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Strace {
    child: Child,
    output: PathBuf,
}

impl Strace {
    /// `how` is what strace's `inject` understands. Returns once the process is being traced.
    pub fn attach(pid: i32, how: &str, output: &Path) -> Result<Self> {
        let (calls, inject) = (format!("trace={CALLS}"), format!("inject={CALLS}:{how}"));
        let mut command = Command::new("strace");
        command.args(["-q", "-f", "-e", &calls, "-e", &inject, "-o"]).arg(output).args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start strace; jepsen/setup installs it")?;
        let strace = Self { child, output: output.to_owned() };
        let begun = Instant::now();
        while !is_traced(pid) {
            ensure!(begun.elapsed() < ATTACH_LIMIT, "strace did not attach to process {pid}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(strace)
    }

    /// How many calls it touched so far.
    pub fn injected(&self) -> usize {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        text.lines().filter(|line| line.contains("(INJECTED)") || line.contains("(DELAYED)")).count()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // A traced process goes on when its tracer ends.
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn is_traced(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}
