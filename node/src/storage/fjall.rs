//! fjall: a generation is one of its atomic batches, synced before it is visible.

use super::folder::{Condemn, OpenError};
use super::{Engine, RowRef, record};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;
use tercet_core::records::{Broken, LEDGER, Row};

/// Block cache of one node, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// The memtable is written out beyond this size, in bytes.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journals are kept below this size, in bytes (the smallest value that fjall takes is 64 MiB).
const JOURNAL_BYTES: u64 = 128 << 20;
/// Background threads for flushes and compactions. Of two, fjall 3.1 keeps one spinning while the other compacts: it
/// takes requests for compaction off the queue and puts them back.
const WORKERS: usize = 1;
/// Rows of the ledger from this size on, in bytes, stay in one place while their keys are sorted into larger tables.
const SEPARATION_BYTES: u32 = 128;

pub struct FjallEngine {
    database: Database,
    /// What changes: records of events, most of all.
    records: Keyspace,
    /// What is large and written once.
    ledger: Keyspace,
    condemn: Condemn,
}

impl FjallEngine {
    pub fn open(dir: &Path, condemn: Condemn) -> Result<Self, OpenError> {
        let builder = Database::builder(dir.join("fjall")).cache_size(CACHE_BYTES);
        let database = builder.max_journaling_size(JOURNAL_BYTES).worker_threads(WORKERS).open().map_err(open_error)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let records = database.keyspace("records", options).map_err(open_error)?;
        let apart = KvSeparationOptions::default().separation_threshold(SEPARATION_BYTES);
        let ledger = || options().with_kv_separation(Some(apart));
        let ledger = database.keyspace("ledger", ledger).map_err(open_error)?;
        database.persist(PersistMode::SyncAll).map_err(open_error)?;
        super::folder::sync_dir(dir)?;
        Ok(Self { database, records, ledger, condemn })
    }

    fn broken(&self, error: fjall::Error) -> Broken {
        match open_error(error) {
            OpenError::Io(error) => self.condemn.failed(error),
            OpenError::Damaged(what) => self.condemn.damaged(what),
        }
    }

    fn keyspace(&self, key: &[u8]) -> &Keyspace {
        if key.first().is_some_and(|table| LEDGER.contains(table)) { &self.ledger } else { &self.records }
    }

    fn unseal(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Broken> {
        record::unseal(key, stored).map_err(|broken| self.condemn.damaged(broken))
    }
}

impl Engine for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.keyspace(key).get(key) {
            Ok(Some(stored)) => self.unseal(key, &stored).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        let mut rows = Vec::new();
        if from >= to {
            return Ok(rows);
        }
        let mut sources = [&self.records, &self.ledger].map(|keyspace| keyspace.range(from..to));
        let mut next = |source: usize| -> Result<Option<Row>, Broken> {
            let Some(guard) = sources[source].next() else { return Ok(None) };
            let (key, stored) = guard.into_inner().map_err(|error| self.broken(error))?;
            Ok(Some((key.to_vec(), self.unseal(&key, &stored)?)))
        };
        let mut heads = [next(0)?, next(1)?];
        while rows.len() < limit {
            let first = match &heads {
                [Some(one), Some(other)] => usize::from(other.0 < one.0),
                [one, _] => usize::from(one.is_none()),
            };
            let Some(row) = heads[first].take() else { break };
            heads[first] = next(first)?;
            rows.push(row);
        }
        Ok(rows)
    }

    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in rows {
            batch.insert(self.keyspace(key), *key, record::seal(key, value));
        }
        batch.commit().map_err(|error| self.broken(error))
    }

    fn clear(&self) -> Result<(), Broken> {
        self.records.clear().map_err(|error| self.broken(error))?;
        self.ledger.clear().map_err(|error| self.broken(error))?;
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.broken(error))
    }

    fn size_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or(0)
    }
}

/// What the machine refused is tried again later; everything else is damage.
fn open_error(error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => OpenError::Io(error.into()),
        fjall::Error::Locked => OpenError::Io(anyhow::anyhow!("the store is in use by another process")),
        fjall::Error::Poisoned => OpenError::Io(anyhow::anyhow!("an earlier write failed")),
        other => OpenError::Damaged(other.to_string()),
    }
}
