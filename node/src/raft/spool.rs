//! A queue of pieces in a file: what does not fit into memory and need not survive a restart.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tercet_core::codec;

const PREFIX: &str = "spool-";
/// Length and checksum.
const HEAD_BYTES: usize = 8 + 4;

/// First in, first out.
pub enum Spool<T> {
    Memory(VecDeque<T>),
    File(SpoolFile),
}

pub struct SpoolFile {
    path: PathBuf,
    end: File,
    begin: BufReader<File>,
    /// Pieces between the two.
    pieces: u64,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // A file left behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl<T: Serialize + DeserializeOwned> Spool<T> {
    /// An empty one, in `dir` under a name of its own, or in memory without one.
    pub fn create(dir: Option<&Path>, name: &str) -> io::Result<Self> {
        let Some(dir) = dir else { return Ok(Self::Memory(VecDeque::new())) };
        let path = dir.join(format!("{PREFIX}{name}"));
        let end = File::create(&path)?;
        let begin = BufReader::new(File::open(&path)?);
        Ok(Self::File(SpoolFile { path, end, begin, pieces: 0 }))
    }

    pub fn push(&mut self, piece: T) -> io::Result<()> {
        match self {
            Self::Memory(pieces) => pieces.push_back(piece),
            Self::File(spool) => {
                let bytes = codec::encode(&piece);
                let mut framed = Vec::with_capacity(HEAD_BYTES + bytes.len());
                framed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                framed.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
                framed.extend_from_slice(&bytes);
                spool.end.write_all(&framed)?;
                spool.pieces += 1;
            }
        }
        Ok(())
    }

    pub fn pop(&mut self) -> io::Result<Option<T>> {
        match self {
            Self::Memory(pieces) => Ok(pieces.pop_front()),
            Self::File(SpoolFile { pieces: 0, .. }) => Ok(None),
            Self::File(spool) => {
                spool.pieces -= 1;
                read(&mut spool.begin).map(Some)
            }
        }
    }

    pub fn in_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }
}

fn read<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<T> {
    let (mut len, mut sum) = ([0; 8], [0; 4]);
    reader.read_exact(&mut len)?;
    reader.read_exact(&mut sum)?;
    let len = u64::from_le_bytes(len);
    let invalid =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("a piece on disk is damaged: {what}"));
    if len > codec::MAX_BYTES as u64 {
        return Err(invalid("its length is too large"));
    }
    let mut bytes = vec![0; len as usize];
    reader.read_exact(&mut bytes)?;
    if crc32fast::hash(&bytes).to_le_bytes() != sum {
        return Err(invalid("its checksum does not match"));
    }
    codec::decode(&bytes).map_err(|error| invalid(&error.to_string()))
}

/// Removes what a crash left behind.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_the_order_in_which_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        for dir in [None, Some(dir.path())] {
            let mut spool = Spool::create(dir, "test").unwrap();
            assert_eq!(spool.pop().unwrap(), None);
            for round in 0..3u32 {
                spool.push(vec![round; 10_000]).unwrap();
                spool.push(vec![round + 100]).unwrap();
                assert_eq!(spool.pop().unwrap(), Some(vec![round; 10_000]));
                assert_eq!(spool.pop().unwrap(), Some(vec![round + 100]));
                assert_eq!(spool.pop().unwrap(), None);
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "its file goes with it");
    }

    #[test]
    fn a_piece_that_was_damaged_on_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(Some(dir.path()), "test").unwrap();
        spool.push(vec![7u8; 100]).unwrap();
        let path = dir.path().join("spool-test");
        let mut bytes = fs::read(&path).unwrap();
        bytes[50] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(spool.pop().unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn what_a_crash_left_behind_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("spool-7"), "half").unwrap();
        fs::write(dir.path().join("wal"), "kept").unwrap();
        remove_leftovers(dir.path()).unwrap();
        assert!(!dir.path().join("spool-7").exists());
        assert!(dir.path().join("wal").exists());
    }
}
