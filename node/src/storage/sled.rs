//! sled: its batches are kept small (large ones stall it and take gigabytes), so a generation is
//! several of them. A redo file makes them one: it holds all rows of the generation and is durable
//! before sled sees the first, so a crash in between is finished at the next open.
//!
//! sled's own `flush` is no barrier on Linux; its file is synced here.

use super::folder::{Condemn, OpenError, sync_dir};
use super::{Engine, RowRef, record, refs};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tercet_core::records::{Broken, Row};

/// Keys in one sled batch.
const BATCH_KEYS: usize = 500;
/// Page cache of one node, in bytes.
const CACHE_BYTES: u64 = 32 << 20;

pub struct SledEngine {
    database: sled::Db,
    dir: PathBuf,
    condemn: Condemn,
}

impl SledEngine {
    pub fn open(dir: &Path, condemn: Condemn) -> Result<Self, OpenError> {
        let config = sled::Config::new().path(dir.join("sled")).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let database = config.open().map_err(open_error)?;
        let engine = Self { database, dir: dir.to_path_buf(), condemn };
        engine.finish_generation()?;
        engine.sync()?;
        sync_dir(dir)?;
        Ok(engine)
    }

    /// Completes the generation that a crash interrupted. Rows only ever get new values, so writing
    /// a finished generation once more changes nothing.
    fn finish_generation(&self) -> Result<(), OpenError> {
        let bytes = match fs::read(self.redo_path()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The file got its name after it was synced, so what is cut short now was damaged later.
        let rows = record::decode_redo(&bytes).ok_or_else(|| OpenError::Damaged("the redo file is damaged".into()))?;
        tracing::info!(rows = rows.len(), "finishing the generation that a crash interrupted");
        self.insert(&refs(&rows)).map_err(open_error)?;
        self.sync()?;
        fs::remove_file(self.redo_path())?;
        Ok(())
    }

    fn redo_path(&self) -> PathBuf {
        self.dir.join("generation.redo")
    }

    fn write_redo(&self, rows: &[RowRef<'_>]) -> io::Result<()> {
        let draft = self.dir.join("generation.draft");
        let mut file = File::create(&draft)?;
        file.write_all(&record::encode_redo(rows))?;
        file.sync_all()?;
        fs::rename(&draft, self.redo_path())?;
        sync_dir(&self.dir)
    }

    fn insert(&self, rows: &[RowRef<'_>]) -> sled::Result<()> {
        for rows in rows.chunks(BATCH_KEYS) {
            let mut batch = sled::Batch::default();
            for (key, value) in rows {
                batch.insert(*key, record::seal(key, value));
            }
            self.database.apply_batch(batch)?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.database.flush().map_err(io::Error::other)?;
        File::open(self.dir.join("sled").join("db"))?.sync_data()?;
        // Large values live in files of their own, which sled syncs; their names are synced here.
        let blobs = self.dir.join("sled").join("blobs");
        if blobs.is_dir() {
            sync_dir(&blobs)?;
        }
        sync_dir(&self.dir.join("sled"))
    }

    fn broken(&self, error: sled::Error) -> Broken {
        match open_error(error) {
            OpenError::Io(error) => self.condemn.failed(error),
            OpenError::Damaged(what) => self.condemn.damaged(what),
        }
    }

    fn unseal(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Broken> {
        record::unseal(key, stored).map_err(|broken| self.condemn.damaged(broken))
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.database.get(key) {
            Ok(Some(stored)) => self.unseal(key, &stored).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for row in self.database.range(from..to).take(limit) {
            let (key, stored) = row.map_err(|error| self.broken(error))?;
            rows.push((key.to_vec(), self.unseal(&key, &stored)?));
        }
        Ok(rows)
    }

    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken> {
        self.write_redo(rows).map_err(|error| self.condemn.failed(error))?;
        self.insert(rows).map_err(|error| self.broken(error))?;
        self.sync().map_err(|error| self.condemn.failed(error))?;
        fs::remove_file(self.redo_path()).map_err(|error| self.condemn.failed(error))
    }

    fn clear(&self) -> Result<(), Broken> {
        self.database.clear().map_err(|error| self.broken(error))?;
        self.sync().map_err(|error| self.condemn.failed(error))
    }

    fn size_bytes(&self) -> u64 {
        self.database.size_on_disk().unwrap_or(0)
    }
}

/// What the machine refused is tried again later; everything else is damage.
fn open_error(error: sled::Error) -> OpenError {
    match error {
        sled::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => OpenError::Io(error.into()),
        other => OpenError::Damaged(other.to_string()),
    }
}

#[cfg(test)]
impl SledEngine {
    /// What a crash leaves behind that hits after `batches` of a generation's batches.
    pub fn write_and_crash_after(&self, rows: Vec<Row>, batches: usize) {
        self.write_redo(&refs(&rows)).expect("the test folder takes files");
        let upto = rows.len().min(batches * BATCH_KEYS);
        self.insert(&refs(&rows[..upto])).expect("the test store takes rows");
        self.sync().expect("the test folder syncs");
    }
}
