//! Moving applied changes from memory into the engine, in the background: last values, the hot
//! rows and the applied index, as one generation. An idle node writes nothing.
//!
//! A flush never runs ahead of the log: an entry is on disk there before its effect is here. Those
//! who read a snapshot are told what it changes.

use super::apply::Store;
use super::machine::Rows;
use crate::storage::refs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tercet_core::mutant;
use tercet_core::records::{Broken, Row};
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::time::Instant;

/// How long a change stays in memory at most, if the disk keeps up.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// Changed bytes that start a flush at once. An event's record changes with every vote and audit: the longer a flush
/// waits, the more of these are one write.
const FLUSH_BYTES: usize = 16 << 20;
/// Changed bytes beyond which applying waits.
const MAX_UNFLUSHED_BYTES: usize = 128 << 20;

pub struct FlushControl {
    /// The index after the last entry whose effect is in the engine.
    pub flushed: watch::Sender<u64>,
    /// Since when something waits, and how many bytes.
    pending: watch::Sender<Option<(Instant, usize)>>,
    forced: AtomicBool,
    wake: Notify,
    /// Held by whoever changes the engine, and by whoever reads rows that have to be of one moment.
    exclusive: Mutex<()>,
}

impl FlushControl {
    pub fn new(flushed: u64) -> Self {
        Self {
            flushed: watch::Sender::new(flushed),
            pending: watch::Sender::new(None),
            forced: AtomicBool::new(false),
            wake: Notify::new(),
            exclusive: Mutex::default(),
        }
    }

    pub fn changed(&self, since: Instant, bytes: usize) {
        self.pending.send_replace(Some((since, bytes)));
    }

    /// Keeps everybody else from the engine, in the order of asking.
    pub async fn exclude(&self) -> MutexGuard<'_, ()> {
        self.exclusive.lock().await
    }

    /// Flushes everything applied up to now, and waits for it. Returns early if the replica failed.
    pub async fn flush_now(&self, store: &Store) {
        let target = store.read().next_index();
        let mut flushed = self.flushed.subscribe();
        let mut failed = store.failed.subscribe();
        self.forced.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        tokio::select! {
            _ = flushed.wait_for(|next| *next >= target) => {}
            _ = failed.wait_for(Option::is_some) => {}
        }
    }

    /// Bounds what is in memory only.
    pub async fn wait_for_room(&self, store: &Store) {
        if store.read().overlay.active_bytes() < MAX_UNFLUSHED_BYTES {
            return;
        }
        tracing::warn!("applying waits: {MAX_UNFLUSHED_BYTES} bytes wait for a flush");
        self.flush_now(store).await;
    }

    /// Waits until a flush is due.
    async fn due(&self) {
        let mut pending = self.pending.subscribe();
        loop {
            if self.forced.swap(false, Ordering::Relaxed) {
                return;
            }
            let now = *pending.borrow_and_update();
            let deadline = match now {
                Some((_, bytes)) if bytes >= FLUSH_BYTES => return,
                Some((since, _)) => since + FLUSH_AFTER,
                None => {
                    tokio::select! {
                        _ = pending.changed() => {}
                        _ = self.wake.notified() => {}
                    }
                    continue;
                }
            };
            tokio::select! {
                _ = tokio::time::sleep_until(deadline) => return,
                _ = pending.changed() => {}
                _ = self.wake.notified() => {}
            }
        }
    }
}

/// Flushes whenever it is due, until the replica fails or stops.
pub async fn run(store: Arc<Store>) {
    loop {
        store.flush.due().await;
        if let Err(broken) = once(&store).await {
            store.fail(format!("applied state cannot be written: {broken}"));
            return;
        }
    }
}

/// One flush of everything applied so far.
pub async fn once(store: &Arc<Store>) -> Result<(), Broken> {
    let _exclusive = store.flush.exclude().await;
    let (frozen, rows, stored) = {
        let mut machine = store.write();
        machine.check()?;
        store.flush.pending.send_replace(None);
        if machine.dirty_since.take().is_none() {
            let flushed = machine.next_index();
            drop(machine);
            store.flush.flushed.send_replace(flushed);
            return Ok(());
        }
        let frozen = machine.overlay.freeze();
        let stored = machine.stored();
        // None of their keys is among the records: engines may order two values of one generation as they like.
        let mut rows = machine.state.hot_rows();
        rows.extend([if mutant!(FlushedWithoutLastApplied) { store.stored().row() } else { stored.row() }]);
        (frozen, rows, stored)
    };
    let next = stored.applied.as_ref().map_or(0, |id| id.index + 1);
    // The log outlives this task, so an error means that it is gone with everything else.
    let _ = store.log.durable().wait_for(|durable| *durable >= next).await;
    write(store, frozen, rows).await?;
    store.set_stored(stored);
    let flushed = store.write().overlay.thaw();
    drop(flushed);
    store.flush.flushed.send_replace(next);
    Ok(())
}

/// Writes rows as one generation, off the async workers if the engine may wait for a disk.
async fn write(store: &Arc<Store>, frozen: Arc<Rows>, more: Vec<Row>) -> Result<(), Broken> {
    let work = move |store: &Store| {
        let mut rows = refs(&more);
        rows.extend(frozen.sorted());
        store.sessions.note(&rows);
        store.engine.write(&rows)
    };
    blocking(store, work).await
}

/// Runs engine work off the async workers if the engine may wait for a disk.
pub async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, Broken> + Send + 'static,
) -> Result<T, Broken> {
    if !store.engine.blocks() {
        return work(store);
    }
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|error| Broken(format!("the storage engine panicked: {error}")))?
}
