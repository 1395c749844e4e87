//! A small disk of its own for each node: an ext4 in a file, mounted through a loop device, which
//! can lose power, run full, or turn read-only without harming anybody else.

use super::kernel;
use super::namespace::command;
use anyhow::{Context as _, Result, bail};
use nix::mount::umount;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of a disk's image, which is sparse.
const IMAGE_BYTES: u64 = 640 << 20;
/// How long a file system may stay busy after its last process was killed.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const BALLAST: &str = "ballast";
const CANARY: &str = "canary";

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Makes the image, and mounts it at the folder.
    pub fn make(image: &Path, folder: &Path) -> Result<Self> {
        let disk = Self { image: image.to_owned(), folder: folder.to_owned() };
        std::fs::create_dir_all(folder)?;
        File::create(image)?.set_len(IMAGE_BYTES)?;
        command("mkfs.ext4", &["-q", "-E", "lazy_itable_init=1", text(image)?])?;
        disk.mount()?;
        std::fs::remove_dir(folder.join("lost+found"))?;
        Ok(disk)
    }

    pub fn mount(&self) -> Result<()> {
        // An error turns it read-only, as on most machines.
        let options = "loop,errors=remount-ro";
        command("mount", &["-o", options, text(&self.image)?, text(&self.folder)?]).map(drop)
    }

    pub fn unmount(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match umount(&self.folder) {
                Ok(()) => return Ok(()),
                Err(nix::Error::EBUSY) if begun.elapsed() < BUSY_LIMIT => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => bail!("cannot unmount {}: {error}", self.folder.display()),
            }
        }
    }

    /// Pulls the plug. A file that was written but never synced goes along, to show that it worked.
    pub fn cut_power(&self) -> Result<()> {
        std::fs::write(self.folder.join(CANARY), b"never synced")?;
        kernel::cut_power(&self.folder).with_context(|| format!("cannot shut down {}", self.folder.display()))
    }

    /// Power comes back. Says whether what was not synced is really lost.
    pub fn restore_power(&self) -> Result<bool> {
        self.unmount()?;
        self.mount()?;
        let canary = self.folder.join(CANARY);
        let lost = std::fs::read(&canary).map_or(true, |found| found.is_empty());
        let _ = std::fs::remove_file(canary);
        Ok(lost)
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<u64> {
        let file = File::create(self.folder.join(BALLAST))?;
        let (mut size, mut step) = (0, 64u64 << 20);
        while step >= 4096 {
            let flags = nix::fcntl::FallocateFlags::empty();
            match nix::fcntl::fallocate(&file, flags, size as i64, step as i64) {
                Ok(()) => size += step,
                Err(nix::Error::ENOSPC) => step /= 2,
                Err(error) => bail!("cannot fill {}: {error}", self.folder.display()),
            }
        }
        Ok(size)
    }

    pub fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.folder.join(BALLAST))?)
    }

    /// The kernel finds an error in the file system, and makes it read-only.
    pub fn turn_read_only(&self) -> Result<()> {
        let source = command("findmnt", &["-no", "SOURCE", text(&self.folder)?])?;
        let device = source.trim().rsplit('/').next().unwrap_or_default().to_owned();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, b"1").with_context(|| format!("cannot write {trigger}"))
    }

    /// Whether nothing can be written, and what the kernel says of it.
    pub fn refuses_writes(&self) -> Option<String> {
        let canary = self.folder.join(CANARY);
        match std::fs::write(&canary, b"x") {
            Err(error) => Some(error.to_string()),
            Ok(()) => {
                let _ = std::fs::remove_file(canary);
                None
            }
        }
    }

    /// What an operator does with a file system that had an error: check it, and mount it again.
    pub fn repair(&self) -> Result<()> {
        self.unmount()?;
        // It exits with 1 if it corrected something, which is what it is for.
        let done = std::process::Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output()?;
        if !matches!(done.status.code(), Some(0 | 1)) {
            bail!("e2fsck: {}", String::from_utf8_lossy(&done.stdout));
        }
        self.mount()
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8; use another --out", path.display()))
}
