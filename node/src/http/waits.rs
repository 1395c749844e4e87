//! Long polls: a request that waits for an event's level. Waiters are filed under the event's tag
//! and woken by the fact that its level changed, so an applied entry costs nothing to the others.

use super::error::Problem;
use super::{Context, Stopping};
use crate::raft::Replica;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::fact::Fact;
use tercet_core::ids::{EventKey, Tag, TenantId};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

/// The most requests that wait for a level at once.
pub const MAX_WAITERS: usize = 10_000;
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// The longest wait; clients ask again.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitFor {
    Final,
    Sealed,
}

/// `?wait=final|sealed&timeoutMs=`.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitSearch {
    /// Answer only once the event has this level, is QUARANTINED, or the time is over.
    pub wait: Option<WaitFor>,
    /// How long to wait at most, in milliseconds: 10000 if absent, at most 60000.
    pub timeout_ms: Option<u64>,
}

impl WaitSearch {
    fn limit(self) -> Duration {
        self.timeout_ms.map_or(DEFAULT_WAIT, Duration::from_millis).min(MAX_WAIT)
    }
}

impl WaitFor {
    /// Whether waiting is over. A quarantined event rarely moves again, so its waiters learn it.
    fn is_met(self, level: Level) -> bool {
        match self {
            Self::Final => matches!(level, Level::Final | Level::Sealed | Level::Quarantined),
            Self::Sealed => matches!(level, Level::Sealed | Level::Quarantined),
        }
    }
}

#[derive(Default)]
pub struct Waiters(Mutex<Table>);

#[derive(Default)]
struct Table {
    count: usize,
    by_tag: HashMap<Tag, (Arc<Notify>, usize)>,
}

/// One waiting request; dropping it makes room.
struct Waiter<'a> {
    waiters: &'a Waiters,
    tag: Tag,
    changed: Arc<Notify>,
}

impl Waiters {
    /// Begins to listen to facts. The task ends with the replica or with the last handler.
    pub fn start(replica: &Replica) -> Arc<Self> {
        let waiters = Arc::new(Self::default());
        tokio::spawn(wake(replica.facts(), Arc::downgrade(&waiters)));
        waiters
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and the table stays valid between its statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.table().count
    }

    fn enter(&self, tag: Tag) -> Result<Waiter<'_>, Problem> {
        let mut table = self.table();
        if table.count >= MAX_WAITERS {
            return Err(Problem::overloaded("waiting requests", MAX_WAITERS));
        }
        table.count += 1;
        let (changed, users) = table.by_tag.entry(tag).or_default();
        *users += 1;
        Ok(Waiter { waiters: self, tag, changed: changed.clone() })
    }

    fn wake(&self, tag: &Tag) {
        if let Some((changed, _)) = self.table().by_tag.get(tag) {
            changed.notify_waiters();
        }
    }

    fn wake_all(&self) {
        self.table().by_tag.values().for_each(|(changed, _)| changed.notify_waiters());
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut table = self.waiters.table();
        table.count -= 1;
        if let Some((_, users)) = table.by_tag.get_mut(&self.tag) {
            *users -= 1;
            if *users == 0 {
                table.by_tag.remove(&self.tag);
            }
        }
    }
}

async fn wake(mut facts: tokio::sync::broadcast::Receiver<Arc<crate::raft::FactBatch>>, waiters: Weak<Waiters>) {
    loop {
        let batch = facts.recv().await;
        let Some(waiters) = waiters.upgrade() else { return };
        match batch {
            Ok(batch) => {
                for fact in &batch.facts {
                    if let Fact::LevelChanged { tag, .. } = fact {
                        waiters.wake(tag);
                    }
                }
            }
            // Facts were missed: whoever waits must look.
            Err(RecvError::Lagged(_)) => waiters.wake_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Waits until all events of a batch have what the query asks for, and tells their levels then. Logs keep their order, so
/// the last event is waited for first, and the others are rarely waited for at all.
pub async fn wait_for_levels(
    context: &Context,
    stopping: &Stopping,
    tenant: &TenantId,
    events: Vec<(&EventKey, &mut Level)>,
    search: WaitSearch,
) -> Result<(), Problem> {
    let deadline = Instant::now() + search.limit();
    for (key, level) in events.into_iter().rev() {
        let left_ms = (deadline - Instant::now()).as_millis() as u64;
        let search = WaitSearch { timeout_ms: Some(left_ms), ..search };
        *level = wait_for_level(context, stopping, tenant, key, search).await?.unwrap_or(*level);
    }
    Ok(())
}

/// Waits as the query asks, and returns the level then; `None` while the event is unknown here.
pub async fn wait_for_level(
    context: &Context,
    stopping: &Stopping,
    tenant: &TenantId,
    key: &EventKey,
    search: WaitSearch,
) -> Result<Option<Level>, Problem> {
    let read = || context.api.replica.read(|view| view.state.level(view.records, tenant, key));
    let Some(wanted) = search.wait else { return Ok(read()?) };
    let deadline = Instant::now() + search.limit();
    let tag = context.api.replica.read(|view| Ok(view.state.tag(tenant, key)))?;
    let Some(tag) = tag else { return Ok(None) };
    let waiter = context.waiters.enter(tag)?;
    loop {
        // Listening begins before the level is read, so no change falls in between.
        let mut changed = std::pin::pin!(waiter.changed.notified());
        changed.as_mut().enable();
        let level = read()?;
        if level.is_some_and(|level| wanted.is_met(level)) {
            return Ok(level);
        }
        let stopped = tokio::select! {
            woken = timeout_at(deadline, changed) => woken.is_err(),
            () = stopping.wait() => true,
        };
        if stopped {
            return Ok(read()?);
        }
    }
}
