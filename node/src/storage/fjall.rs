//! fjall: a generation is one of its atomic batches, synced before it is visible.

use super::folder::{Condemn, OpenError};
use super::{Engine, RowRef, record};
use fjall::compaction::Leveled;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;
use std::sync::Arc;
use tercet_core::records::{BODIES, Broken, LEDGER, Row};

/// Block cache of one node, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// The memtable is written out beyond this size, in bytes.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Journals are kept below this size, in bytes (the smallest value that fjall takes is 64 MiB).
const JOURNAL_BYTES: u64 = 128 << 20;
/// Background threads for flushes and compactions. Of two, fjall 3.1 keeps one spinning while the other compacts: it
/// takes requests for compaction off the queue and puts them back.
const WORKERS: usize = 1;
/// New tables that are merged at once with those of the first level, which holds as many of the target size, in bytes. A
/// merge rewrites the keys of that level, so few large merges cost less than many small ones; looking through more tables
/// costs little, since ids that are new are not looked up here.
const NEW_TABLES: u8 = 12;
const TABLE_BYTES: u64 = 16 << 20;
/// Values from this size on, in bytes, stay in one place while their keys are sorted into larger tables.
const SEPARATION_BYTES: u32 = 128;

/// What lies in trees of its own, so that no compaction merges what needs no merging: records of events and what else
/// changes, bodies, the rest of the ledger.
const TREES: [&str; 3] = ["records", "bodies", "ledger"];

fn tree(key: &[u8]) -> usize {
    match key.first() {
        Some(&BODIES) => 1,
        Some(table) if LEDGER.contains(table) => 2,
        _ => 0,
    }
}

pub struct FjallEngine {
    database: Database,
    trees: [Keyspace; TREES.len()],
    condemn: Condemn,
}

impl FjallEngine {
    pub fn open(dir: &Path, condemn: Condemn) -> Result<Self, OpenError> {
        let builder = Database::builder(dir.join("fjall")).cache_size(CACHE_BYTES);
        let database = builder.max_journaling_size(JOURNAL_BYTES).worker_threads(WORKERS).open().map_err(open_error)?;
        let options = || {
            let apart = KvSeparationOptions::default().separation_threshold(SEPARATION_BYTES);
            let leveled = Leveled::default().with_l0_threshold(NEW_TABLES).with_table_target_size(TABLE_BYTES);
            let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            options.with_kv_separation(Some(apart)).compaction_strategy(Arc::new(leveled))
        };
        let open = |name| database.keyspace(name, options).map_err(open_error);
        let trees = [open(TREES[0])?, open(TREES[1])?, open(TREES[2])?];
        database.persist(PersistMode::SyncAll).map_err(open_error)?;
        super::folder::sync_dir(dir)?;
        Ok(Self { database, trees, condemn })
    }

    fn broken(&self, error: fjall::Error) -> Broken {
        match open_error(error) {
            OpenError::Io(error) => self.condemn.failed(error),
            OpenError::Damaged(what) => self.condemn.damaged(what),
        }
    }

    fn unseal(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Broken> {
        record::unseal(key, stored).map_err(|broken| self.condemn.damaged(broken))
    }

    /// What all trees hold of a range, in the order of keys.
    fn merge<T: Ord>(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        read: impl Fn(Guard) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let mut rows = Vec::new();
        if from >= to {
            return Ok(rows);
        }
        let mut sources = self.trees.each_ref().map(|tree| tree.range(from..to));
        let mut next = |source: usize| sources[source].next().map(&read).transpose();
        let mut heads = [next(0)?, next(1)?, next(2)?];
        while rows.len() < limit {
            let heads_at = heads.iter().enumerate().filter_map(|(source, row)| Some((row.as_ref()?, source)));
            let Some((_, first)) = heads_at.min() else { break };
            let following = next(first)?;
            rows.extend(std::mem::replace(&mut heads[first], following));
        }
        Ok(rows)
    }
}

impl Engine for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        match self.trees[tree(key)].get(key) {
            Ok(Some(stored)) => self.unseal(key, &stored).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Broken> {
        self.merge(from, to, limit, |found| {
            let (key, stored) = found.into_inner().map_err(|error| self.broken(error))?;
            Ok((key.to_vec(), self.unseal(&key, &stored)?))
        })
    }

    /// Values are not read.
    fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Broken> {
        self.merge(from, to, limit, |found| Ok(found.key().map_err(|error| self.broken(error))?.to_vec()))
    }

    fn write(&self, rows: &[RowRef<'_>]) -> Result<(), Broken> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in rows {
            batch.insert(&self.trees[tree(key)], *key, record::seal(key, value));
        }
        batch.commit().map_err(|error| self.broken(error))
    }

    fn clear(&self) -> Result<(), Broken> {
        for tree in &self.trees {
            tree.clear().map_err(|error| self.broken(error))?;
        }
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
