//! `tercet keep-child`, between `tercet role run` and its command: a process of its own that ends the command
//! and all that it started once the role's time is over, also when the one that watches the role was
//! killed, stopped or hangs.

use crate::exit::Failure;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;
use tercet::leases::boottime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// How often what was killed is looked for again, and how often orphans that ended are collected.
const AGAIN: Duration = Duration::from_millis(10);
const COLLECT: Duration = Duration::from_secs(5);
/// How often the clock is looked at, which goes on while the machine sleeps.
const LOOK: Duration = Duration::from_millis(100);
/// How long a keeper may take to end what it keeps, after it was told.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet keep-child 1234 -- ./serve

Not for people: reads on stdin until when the command may run. Once that is over, or nobody writes any more, the command is
killed with everything that it started.")]
pub struct Keep {
    /// The process whose standard input the command reads
    #[arg(value_name = "PID")]
    parent: i32,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

/// Ends with the command's exit code.
pub async fn run(keep: &Keep) -> Result<(), Failure> {
    let trouble = |what: &str, error: &dyn std::fmt::Display| Failure::usage(format!("{what}: {error}"));
    // What its parent left behind is still ours to end.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|error| trouble("the kernel does not hand orphans to this process", &error))?;
    // The command is asked to end; this process waits for it.
    let _ignored = signal(SignalKind::terminate()).map_err(|error| trouble("no signals", &error))?;
    let me = std::env::current_exe().map_err(|error| trouble("cannot find this program", &error))?;
    let mut command = Command::new(me);
    command.arg("exec-child").arg(std::process::id().to_string()).arg("--").args(&keep.command);
    command.stdin(File::open(format!("/proc/{}/fd/0", keep.parent)).map_or_else(|_| Stdio::null(), Stdio::from));
    let mut child = command.spawn().map_err(|error| trouble("cannot start a process", &error))?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    // The first order comes before any time could be over.
    let mut until = Duration::MAX;
    let mut collecting = tokio::time::interval(COLLECT);
    let ended = loop {
        let left = until.saturating_sub(boottime());
        if left.is_zero() {
            break None;
        }
        tokio::select! {
            status = child.wait() => break status.ok(),
            order = orders.next_line() => match order.ok().flatten().as_deref() {
                Some("end") => signal_all(&child, Signal::SIGTERM),
                Some(order) => match order.strip_prefix("until ").and_then(|ms| ms.parse().ok()) {
                    Some(ms) => until = Duration::from_millis(ms),
                    None => break None,
                },
                None => break None,
            },
            () = sleep(left.min(LOOK)) => {}
            _ = collecting.tick() => collect(&child),
        }
    };
    let status = match ended {
        Some(status) => status,
        None => {
            kill_all(&child).await;
            child.wait().await.map_err(|error| trouble("the command does not end", &error))?
        }
    };
    kill_all(&child).await;
    use std::os::unix::process::ExitStatusExt;
    // Codes of signals are told as shells do.
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 => Ok(()),
        code => Err(Failure::new(u8::try_from(code).unwrap_or(1), "")),
    }
}

fn signal_all(child: &Child, signal: Signal) {
    for pid in descendants(child) {
        // It may have ended meanwhile.
        let _ = kill(pid, signal);
    }
}

/// Until nothing is left that descends from this process.
async fn kill_all(child: &Child) {
    loop {
        if descendants(child).is_empty() {
            return;
        }
        signal_all(child, Signal::SIGKILL);
        sleep(AGAIN).await;
        collect(child);
    }
}

/// Collects orphans that have ended; the command itself is waited for elsewhere.
fn collect(child: &Child) {
    let me = Pid::this();
    for (pid, parent, _) in processes() {
        if parent == me && child.id() != u32::try_from(pid.as_raw()).ok() {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Everything that runs and descends from this process; without `/proc`, the command alone.
fn descendants(child: &Child) -> Vec<Pid> {
    let processes = processes();
    if processes.is_empty() {
        return child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw).into_iter().collect();
    }
    let mut family = BTreeSet::from([Pid::this()]);
    while processes.iter().fold(false, |grew, (pid, parent, _)| grew | (family.contains(parent) && family.insert(*pid)))
    {
    }
    let ours =
        |(pid, _, runs): &(Pid, Pid, bool)| (*runs && *pid != Pid::this() && family.contains(pid)).then_some(*pid);
    processes.iter().filter_map(ours).collect()
}

/// Every process, its parent, and whether it runs, as proc(5) tells.
fn processes() -> Vec<(Pid, Pid, bool)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let read = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before the last parenthesis may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        Some((Pid::from_raw(pid), Pid::from_raw(parent), !matches!(state, "Z" | "X")))
    };
    entries.flatten().filter_map(read).collect()
}

/// The other end: a command that is kept.
pub struct Kept {
    child: Child,
    orders: ChildStdin,
}

impl Kept {
    /// Starts the command with these variables; it may run for so long at first.
    pub async fn start(command: &[OsString], env: &[(&str, String)], left: Duration) -> std::io::Result<Self> {
        let mut keeper = Command::new(std::env::current_exe()?);
        keeper.arg("keep-child").arg(std::process::id().to_string()).arg("--").args(command);
        // Signals for this process's group are not for it.
        keeper.process_group(0).stdin(Stdio::piped());
        for (name, value) in env {
            keeper.env(name, value);
        }
        let mut child = keeper.spawn()?;
        let orders = child.stdin.take().ok_or_else(|| std::io::Error::other("no pipe to the keeper"))?;
        let mut this = Self { child, orders };
        this.allow(left).await;
        Ok(this)
    }

    /// The command may run for so long from now.
    pub async fn allow(&mut self, left: Duration) {
        self.tell(&format!("until {}\n", (boottime() + left).as_millis())).await;
    }

    /// The exit code, once the command has ended by itself.
    pub async fn ended(&mut self) -> i32 {
        self.child.wait().await.ok().and_then(|status| status.code()).unwrap_or(1)
    }

    /// SIGTERM to all of it, and SIGKILL once the time is over.
    pub async fn end(mut self, within: Duration) {
        self.allow(within).await;
        self.tell("end\n").await;
        if tokio::time::timeout(within + PATIENCE, self.child.wait()).await.is_err() {
            // Even the keeper does not answer.
            if let Some(group) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
                let _ = nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = self.child.wait().await;
        }
    }

    async fn tell(&mut self, order: &str) {
        // One that has ended cannot be told.
        let _ = self.orders.write_all(order.as_bytes()).await;
        let _ = self.orders.flush().await;
    }
}
