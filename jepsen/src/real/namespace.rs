//! Network and mount namespaces without names: they live as long as somebody is inside or holds
//! them open, so that nothing can be left over, whatever ends this process.

use super::kernel;
use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

/// How the one interface of each namespace is called.
const INTERFACE: &str = "tercet0";
const PREFIX_BITS: u8 = 24;

#[derive(Debug, Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    pub fn new() -> Result<Self> {
        let made = std::thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("cannot hold a network namespace")
        });
        Ok(Self(Arc::new(made.join().expect("the thread has nothing that panics")?)))
    }

    /// Moves the calling thread here, and all threads and processes that it starts from now on.
    pub fn enter(&self) -> Result<()> {
        setns(&*self.0, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")
    }

    /// Does something in here, on a thread that ends with it.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives it an interface with this address; whoever holds the file carries its packets.
    pub fn attach(&self, address: Ipv4Addr) -> Result<File> {
        self.inside(|| {
            let file = kernel::open_interface(INTERFACE).context("cannot make a TUN interface")?;
            let address = format!("{address}/{PREFIX_BITS}");
            command("ip", &["link", "set", "lo", "up"])?;
            command("ip", &["address", "add", &address, "dev", INTERFACE])?;
            command("ip", &["link", "set", INTERFACE, "up"])?;
            Ok(file)
        })
    }
}

/// What the calling thread and its descendants mount is seen by nobody else, and ends with them.
pub fn hide_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("cannot make mounts private")
}

/// Runs a command of the system to its end; what it says is in the error.
pub fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).output();
    let done = done.with_context(|| format!("cannot start {program}; jepsen/setup installs what is needed"))?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {}: {}", arguments.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
