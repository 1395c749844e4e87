//! What a process of this machine uses, as Linux tells (`/proc`, proc(5)).

use serde::Serialize;
use std::path::Path;

/// CPU time since the process started, and memory now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub cpu_ms: u64,
    pub rss_bytes: u64,
    /// The most that it ever was.
    pub peak_rss_bytes: u64,
    /// What it had written to its disks, less what it took back.
    pub written_bytes: u64,
}

impl Usage {
    /// `None` if there is no such process here, or this is not Linux.
    pub fn of(pid: u32) -> Option<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).ok();
        let (cpu_ms, status) = (cpu_ms(&read("stat")?)?, read("status")?);
        let kib = |name: &str| field(&status, name).map_or(0, |kib| kib * 1024);
        let written = read("io").and_then(|io| Some(field(&io, "write_bytes")? - field(&io, "cancelled_write_bytes")?));
        let (rss_bytes, peak_rss_bytes) = (kib("VmRSS"), kib("VmHWM"));
        Some(Self { cpu_ms, rss_bytes, peak_rss_bytes, written_bytes: written.unwrap_or(0) })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, in the 10 ms that Linux counts in for user space.
fn cpu_ms(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything.
    let rest = stat.get(stat.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = Usage::of(std::process::id()).expect("Linux");
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {}
        let after = Usage::of(std::process::id()).expect("Linux");
        assert!(after.rss_bytes > 1 << 20 && after.peak_rss_bytes >= after.rss_bytes, "{after:?}");
        assert!(after.cpu_ms > before.cpu_ms, "{before:?} {after:?}");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_trouble() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_ms(stat), Some(3000));
    }
}
