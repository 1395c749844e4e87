//! What this machine can do, found out by doing it: on a disk, a link and a process of no worth.

use super::disk::Disk;
use super::namespace::{Namespace, command, hide_mounts};
use super::nemesis::faketime;
use super::strace::Strace;
use super::switch::{Effect, Links, Switch};
use anyhow::{Context as _, Result, ensure};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PACKET_LIMIT: Duration = Duration::from_secs(2);
const LOST_AFTER: Duration = Duration::from_millis(300);
const STRACE_LIMIT: Duration = Duration::from_secs(10);
const HOUR_SECONDS: u64 = 3600;

/// What a nemesis may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Network,
    Disk,
    PowerCut,
    ReadOnly,
    Strace,
    FakeTime,
    TimeNamespace,
}

pub const NEEDS: [Need; 7] =
    [Need::Network, Need::Disk, Need::PowerCut, Need::ReadOnly, Need::Strace, Need::FakeTime, Need::TimeNamespace];

impl Need {
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network namespaces",
            Self::Disk => "a disk for each node",
            Self::PowerCut => "power cut",
            Self::ReadOnly => "file system errors",
            Self::Strace => "failing and slow syncs",
            Self::FakeTime => "wrong wall clocks",
            Self::TimeNamespace => "another monotonic clock",
        }
    }

    /// What to do where it does not work.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Network => "run as root on Linux with /dev/net/tun, and install iproute2 (jepsen/setup)",
            Self::Disk => "run as root where loop devices can be mounted, and install e2fsprogs (jepsen/setup)",
            Self::PowerCut => "as for a disk; the kernel must know EXT4_IOC_SHUTDOWN (4.20 or newer)",
            Self::ReadOnly => "as for a disk; /sys/fs/ext4/<device>/trigger_fs_error must be there",
            Self::Strace => {
                "install strace (jepsen/setup), and allow it to attach: /proc/sys/kernel/yama/ptrace_scope is 0"
            }
            Self::FakeTime => "install libfaketime (jepsen/setup)",
            Self::TimeNamespace => "run as root on Linux 6.3 or newer with time namespaces, and install util-linux",
        }
    }

    /// Tries it, and says how it was shown or why it does not work.
    pub fn probe(self) -> Result<String, String> {
        // On a thread of its own: what it mounts or enters ends with it.
        let probed = std::thread::spawn(move || match self {
            Self::Network => network(),
            Self::Disk => on_disk(|disk, _| {
                let bytes = disk.fill()?;
                let refusal = disk.refuses_writes().context("a full disk took a write")?;
                Ok(format!("{bytes} bytes filled one up: {refusal}"))
            }),
            Self::PowerCut => on_disk(|disk, _| {
                disk.cut_power()?;
                ensure!(disk.restore_power()?, "a write that was never synced outlived the cut");
                Ok("a write that was not synced was lost".into())
            }),
            Self::ReadOnly => on_disk(|disk, _| {
                disk.turn_read_only()?;
                let refusal = disk.refuses_writes().context("it takes writes still")?;
                disk.repair()?;
                Ok(refusal)
            }),
            Self::Strace => strace(),
            Self::FakeTime => fake_time(),
            Self::TimeNamespace => time_namespace(),
        });
        let probed = probed.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the probe panicked")));
        probed.map_err(|error| format!("{error:#}"))
    }
}

fn network() -> Result<String> {
    let addresses = [Ipv4Addr::new(10, 66, 0, 1), Ipv4Addr::new(10, 66, 0, 2)];
    let namespaces = [Namespace::new()?, Namespace::new()?];
    let mut interfaces = Vec::new();
    for (address, namespace) in addresses.iter().zip(&namespaces) {
        interfaces.push((*address, namespace.attach(*address)?));
    }
    let switch = Switch::start(interfaces, 1)?;
    let socket = |at: usize| namespaces[at].inside(|| Ok(UdpSocket::bind((addresses[at], 9))?));
    let (from, to) = (socket(0)?, socket(1)?);
    let arrives = |limit| -> Result<bool> {
        from.send_to(b"?", (addresses[1], 9))?;
        to.set_read_timeout(Some(limit))?;
        Ok(to.recv_from(&mut [0; 8]).is_ok())
    };
    ensure!(arrives(PACKET_LIMIT)?, "a packet between two namespaces did not arrive");
    let cut = switch.harm(Links::from([(0, 1)]), Effect::Drop);
    ensure!(!arrives(LOST_AFTER)?, "a packet crossed a link that was cut");
    let proof = cut.counts().proof().context("the cut did not count the packet")?;
    drop(cut);
    ensure!(arrives(PACKET_LIMIT)?, "a healed link carries nothing");
    Ok(format!("a link between two was cut and healed; {proof}"))
}

fn on_disk(act: impl FnOnce(&Disk, &Path) -> Result<String>) -> Result<String> {
    hide_mounts()?;
    let place =
        std::env::temp_dir().join(format!("tercet-probe-{}-{:?}", std::process::id(), std::thread::current().id()));
    let folder = place.join("mounted");
    std::fs::create_dir_all(&folder)?;
    let disk = Disk::make(&place.join("image"), &folder);
    let done = disk.and_then(|disk| {
        let done = act(&disk, &folder);
        disk.unmount()?;
        done
    });
    let _ = std::fs::remove_dir_all(place);
    done
}

fn strace() -> Result<String> {
    let place = std::env::temp_dir().join(format!("tercet-probe-strace-{}", std::process::id()));
    std::fs::create_dir_all(&place)?;
    let script = "while :; do sync \"$0\"; sleep 0.05; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(&place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut syncing = command.spawn().context("cannot start a shell")?;
    let shown = Strace::attach(syncing.id() as i32, "error=EIO", &place.join("calls")).and_then(|strace| {
        let begun = Instant::now();
        while strace.injected() == 0 {
            ensure!(begun.elapsed() < STRACE_LIMIT, "strace attached, and injected nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(format!("{} fsync failed with EIO", strace.injected()))
    });
    let _ = (syncing.kill(), syncing.wait(), std::fs::remove_dir_all(place));
    shown
}

fn fake_time() -> Result<String> {
    let library = faketime().context("libfaketimeMT.so.1 was not found")?;
    let done = Command::new("date").arg("+%s").env("LD_PRELOAD", &library).env("FAKETIME", "+1h").output()?;
    let told: u64 = String::from_utf8_lossy(&done.stdout).trim().parse().context("date tells no number")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(told > now + HOUR_SECONDS / 2, "the library is loaded, and the time is right all the same");
    Ok("date was told a time that is an hour ahead".into())
}

fn time_namespace() -> Result<String> {
    let arguments = ["--time", "--monotonic", "1000000", "--boottime", "1000000", "cat", "/proc/uptime"];
    let told = command("unshare", &arguments)?;
    let uptime: f64 = told.split_whitespace().next().and_then(|text| text.parse().ok()).context("no uptime")?;
    ensure!(uptime >= 1_000_000.0, "the uptime is {uptime} s");
    Ok("a process saw an uptime of over a million seconds".into())
}
