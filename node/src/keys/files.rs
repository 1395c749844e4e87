//! Private files: written to a temporary name, synced and renamed, so that a crash leaves the old
//! file or the new one; and read only if nobody else can.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest key or certificate file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "{path}: others can read this key file (mode {mode:03o}); run `chmod 600 {path}`, and replace the key if someone may have read it",
        path = path.display()
    )]
    Loose { path: PathBuf, mode: u32 },
    #[error("{path}: the file is missing; `tercetd up` makes it, or copy it from where the cluster was made", path = path.display())]
    Missing { path: PathBuf },
    #[error("{path}: cannot read the key: {error}; check that this user owns the file", path = path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path}: the file does not hold {what}; restore it from where the cluster was made", path = path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("cannot write {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Writes a file that only this user can read: all of it or nothing, and durable on return.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    write_synced(path, bytes).map_err(|error| KeyError::Write { path: path.into(), error })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = folder.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder, and those above it, that only this user can enter.
pub fn make_private_dir(path: &Path) -> Result<(), KeyError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| KeyError::Write { path: path.into(), error })
}

/// Reads a file that nobody else may read.
pub fn read_private(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mode = stat(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Loose { path: path.into(), mode });
    }
    read(path)
}

/// Reads a small file that anybody may read.
pub fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let found = stat(path)?;
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        let what = format!("at most {MAX_FILE_BYTES} bytes in a regular file");
        return Err(KeyError::Malformed { path: path.into(), what });
    }
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn stat(path: &Path) -> Result<fs::Metadata, KeyError> {
    fs::metadata(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> KeyError {
    if error.kind() == io::ErrorKind::NotFound {
        return KeyError::Missing { path: path.into() };
    }
    KeyError::Unreadable { path: path.into(), error }
}
