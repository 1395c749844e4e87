//! A child process whose output is kept, line by line, and which ends with its owner.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a child may take for an orderly end.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// A running child, leader of its own process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let readers = [
            keep_lines(out.expect("stdout is piped"), lines.clone()),
            keep_lines(err.expect("stderr is piped"), lines.clone()),
        ];
        Self { child, lines, readers }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Everything that it wrote so far, stdout and stderr together.
    pub fn output(&self) -> String {
        self.lines.lock().expect("no thread panics while it holds the lines").join("\n")
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(&mut self) -> ExitStatus {
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        self.wait(STOP_LIMIT)
    }

    /// Its last words may still be in the pipe when it is gone. A child of its own that lives on
    /// would hold the pipe open, so this has a limit.
    fn read_to_the_end(&self) {
        let begun = Instant::now();
        while !self.readers.iter().all(JoinHandle::is_finished) && begun.elapsed() < LAST_WORDS_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                self.read_to_the_end();
                return status;
            }
            assert!(begun.elapsed() < limit, "process {} did not end within {limit:?}:\n{}", self.pid(), self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Outlives the test to clean up after it: it notices the end of this process by the end of its
/// input, whatever ended it, then kills whatever names the folder, and removes the folder.
#[derive(Debug)]
pub struct Reaper(Child);

const REAP: &str = r#"cat > /dev/null
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" != $$ ] && grep -qsF "$0" "$process/cmdline" && kill -9 "$pid"
done
[ "$1" = keep ] || rm -rf "$0""#;

impl Reaper {
    pub fn of(folder: &Path) -> Self {
        Self::start(folder, "remove")
    }

    /// Leaves the folder and what is in it.
    pub fn sparing(folder: &Path) -> Self {
        Self::start(folder, "keep")
    }

    fn start(folder: &Path, then: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        // A group of its own: Ctrl-C in the terminal must not end it before its work.
        command
            .arg("-c")
            .arg(REAP)
            .arg(folder)
            .arg(then)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.process_group(0).spawn().expect("a shell can be started"))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn keep_lines(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Ok(mut lines) = lines.lock() {
                lines.push(line);
            }
        }
    })
}

/// The ids of all processes whose command line names this folder, which is a test's own.
pub fn pids_of(folder: &Path) -> Vec<i32> {
    let folder = folder.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() as i32 && String::from_utf8_lossy(&line).contains(&folder)
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(names).collect()
}

/// Sends a signal to one process. It may be gone already.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether the process runs, and is not only waiting to be reaped.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    let ended = state.is_none_or(|state| matches!(state, 'Z' | 'X'));
    // The first thread of a killed process may be gone while another one waits for the disk, and holds ports and files.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !ended || threads > 1
}
