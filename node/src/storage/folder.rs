//! The folder of a store: its lock, its condemnation, and setting a broken one aside.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tercet_core::records::Broken;

/// A file of this name in a store's folder condemns it.
const CONDEMNED: &str = "condemned";
/// Broken folders kept; beyond that somebody has to look.
const MAX_BROKEN_FOLDERS: usize = 100;

/// Why a store could not be opened.
pub enum OpenError {
    /// The machine refused (space, permissions): the same folder may open later.
    Io(anyhow::Error),
    /// What is stored is damaged.
    Damaged(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.into())
    }
}

/// Remembers, across restarts, that a folder holds damage.
#[derive(Clone)]
pub struct Condemn {
    dir: PathBuf,
    _lock: Arc<File>,
}

impl Condemn {
    /// Condemns the folder, and gives the error to answer with.
    pub fn damaged(&self, what: impl std::fmt::Display) -> Broken {
        let what = what.to_string();
        tracing::error!(folder = %self.dir.display(), %what, "stored state is damaged; it will be rebuilt at the next start");
        if let Err(error) = fs::write(self.dir.join(CONDEMNED), what.as_bytes()) {
            tracing::error!(folder = %self.dir.display(), %error, "the damage could not be recorded");
        }
        Broken(what)
    }

    /// Tells damage (the folder is condemned) from a failing machine (it is not).
    pub fn failed(&self, what: impl std::fmt::Display) -> Broken {
        Broken(format!("{}: {what}", self.dir.display()))
    }
}

/// Makes the entries of a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Opens with `open`, and once more in an empty folder if the first one is damaged.
pub fn open<T>(dir: &Path, open: impl Fn(&Path, Condemn) -> Result<T, OpenError>) -> anyhow::Result<T> {
    let lock = lock(dir)?;
    let condemn = Condemn { dir: dir.to_path_buf(), _lock: Arc::new(lock) };
    if let Ok(why) = fs::read_to_string(dir.join(CONDEMNED)) {
        set_aside(dir, &why)?;
    }
    let attempt = || -> Result<T, OpenError> {
        create(dir)?;
        // A damaged sled file can panic deep inside; that is an answer like any other here.
        catch_unwind(AssertUnwindSafe(|| open(dir, condemn.clone())))
            .unwrap_or_else(|panic| Err(OpenError::Damaged(panic_text(panic.as_ref()))))
    };
    match attempt() {
        Ok(store) => Ok(store),
        Err(OpenError::Io(error)) => Err(error).with_context(|| format!("opening the store in {}", dir.display())),
        Err(OpenError::Damaged(why)) => {
            set_aside(dir, &why)?;
            attempt().map_err(|error| match error {
                OpenError::Io(error) => error.context(format!("opening a fresh store in {}", dir.display())),
                OpenError::Damaged(why) => anyhow::anyhow!("a fresh store in {} is damaged: {why}", dir.display()),
            })
        }
    }
}

/// One process a folder: the lock sits beside it, so that it survives setting the folder aside.
fn lock(dir: &Path) -> anyhow::Result<File> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    let path = beside(dir, "lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening the lock file {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("{} is in use by another process; stop it first", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

fn create(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    match dir.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

fn set_aside(dir: &Path, why: &str) -> anyhow::Result<()> {
    let free = (1..=MAX_BROKEN_FOLDERS).map(|n| beside(dir, &format!("broken-{n}"))).find(|path| !path.exists());
    let Some(target) = free else {
        anyhow::bail!(
            "{} is damaged ({why}) and {MAX_BROKEN_FOLDERS} broken folders lie beside it; find out why the disk fails, then remove them",
            dir.display()
        );
    };
    tracing::error!(from = %dir.display(), to = %target.display(), why, "DAMAGED STATE set aside; it is rebuilt from the Raft log or another node");
    fs::rename(dir, &target).with_context(|| format!("renaming {} to {}", dir.display(), target.display()))?;
    create(dir).with_context(|| format!("creating {}", dir.display()))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
