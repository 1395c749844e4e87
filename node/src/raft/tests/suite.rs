//! openraft's own suite, against both logs.

use super::group::genesis;
use crate::env::Os;
use crate::raft::apply::{Applier, Store};
use crate::raft::flush;
use crate::raft::log_store::LogStore;
use crate::raft::sessions::Sessions;
use crate::raft::types::TypeConfig;
use crate::storage::MemoryEngine;
use crate::storage::wal::{Log, MemoryLog, Position, Wal};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use tercet_core::ids::CloudId;
use tokio::task::JoinHandle;

struct Builder {
    on_disk: bool,
}

struct Kept {
    _dir: Option<tempfile::TempDir>,
    flusher: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.flusher.abort();
    }
}

impl StoreBuilder<TypeConfig, LogStore, Applier, Kept> for Builder {
    async fn build(&self) -> Result<(Kept, LogStore, Applier), StorageError<TypeConfig>> {
        let dir = self.on_disk.then(|| tempfile::tempdir().unwrap());
        let log: Arc<dyn Log> = match &dir {
            Some(dir) => Arc::new(Wal::open(&dir.path().join("wal")).unwrap()),
            None => Arc::new(MemoryLog::default()),
        };
        // The suite applies entries that are in no log, and a flush waits for the log.
        let durable = MemoryLog::default();
        durable.purge(Position { term: 0, node: 0, index: u64::MAX - 1 }).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let cloud = CloudId::new("gcp").unwrap();
        let sessions = Sessions::new(None, Arc::new(Os));
        let store = Store::open(genesis(), cloud, "europe".into(), engine, Arc::new(durable), sessions);
        let store = Arc::new(store.unwrap());
        let flusher = tokio::spawn(flush::run(store.clone()));
        Ok((Kept { _dir: dir, flusher }, LogStore::new(log), Applier { store }))
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_in_memory_passes_openrafts_suite() {
    Suite::test_all(Builder { on_disk: false }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_on_disk_passes_openrafts_suite() {
    Suite::test_all(Builder { on_disk: true }).await.unwrap();
}
