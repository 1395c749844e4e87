//! What has to be on disk before somebody is told, or before something older goes.

use super::Group;
use super::group::{genesis, memory, until};
use crate::env::Os;
use crate::raft::apply::Store;
use crate::raft::log_store::LogStore;
use crate::raft::sessions::Sessions;
use crate::raft::types::vote;
use crate::storage::wal::{LateLog, Log, SavedVote};
use futures::FutureExt;
use openraft::async_runtime::WatchReceiver;
use openraft::storage::RaftLogStorage;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::CloudId;

const VOTE: SavedVote = SavedVote { term: 3, node: 2, committed: false };

#[tokio::test]
async fn a_vote_is_answered_only_when_it_is_on_disk() {
    let disk = LateLog::default();
    disk.hold();
    let mut store = LogStore::new(Arc::new(disk.clone()));
    let vote = vote(VOTE);
    let mut saving = pin!(store.save_vote(&vote));
    assert!(saving.as_mut().now_or_never().is_none(), "answered before the sync");
    disk.end_syncs(Ok(()));
    saving.await.unwrap();
    assert_eq!(disk.state().vote, Some(VOTE));
}

#[tokio::test]
async fn a_vote_whose_sync_fails_is_not_given() {
    let disk = LateLog::default();
    disk.hold();
    let mut store = LogStore::new(Arc::new(disk.clone()));
    let vote = vote(VOTE);
    let mut saving = pin!(store.save_vote(&vote));
    assert!(saving.as_mut().now_or_never().is_none());
    disk.end_syncs(Err("EIO"));
    assert_eq!(saving.await.unwrap_err().to_string(), "EIO");
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_from_the_log_is_in_the_engine() {
    let mut group = Group::started(3, memory(3)).await;
    group.put(0, "purged").await;
    for node in 0..3 {
        group.until_known(node, "purged").await;
        group.purge(node).await;
    }
    group.kill_all().await;
    group.start_all().await;
    group.leader().await;
    until("all know it again", || (0..3).all(|node| group.knows(node, "purged"))).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_is_kept_while_a_member_reads_a_snapshot() {
    let group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    let shared = group.replica(leader).inner.shared.clone();
    let raft = shared.raft.get().unwrap();
    let index = group.put(leader, "read").await.index;
    let built = || raft.metrics().borrow_watched().snapshot.is_some_and(|id| id.index >= index);
    let session = shared.store.sessions.open(true).unwrap();
    raft.trigger().snapshot().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!built(), "the log could have been purged behind it");
    shared.store.flush.flush_now(&shared.store).await;
    let (rows, end) = shared.store.sessions.read(&shared.store, session, 0).await.unwrap();
    assert!(!rows.is_empty() && end.is_some());
    // The member has it, and lacks what was logged since.
    let member = group.members[(leader + 1) % 3].clone();
    let next = group.put(leader, "since").await.index + 1;
    shared.store.sessions.installed(session, member, next);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!built(), "the log could have been purged before the member had it");
    group.put(leader, "later").await;
    until("the log may be purged again", built).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_went_away_keeps_the_log_for_a_moment_only() {
    let group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    let sessions = &group.replica(leader).inner.shared.store.sessions;
    sessions.open(true).unwrap();
    until("it is swept away", || sessions.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_tells_the_next_start_how_far_the_state_goes() {
    let group = Group::started(1, memory(1)).await;
    let index = group.put(0, "flushed").await.index;
    let store = group.replica(0).inner.shared.store.clone();
    store.flush.flush_now(&store).await;
    let (engine, log) = (group.engine(0).unwrap(), store.log.clone());
    let (cloud, sessions) = (CloudId::new("gcp").unwrap(), Sessions::new(None, Arc::new(Os)));
    let next_start = Store::open(genesis(), cloud, "europe".into(), engine, log, sessions).unwrap();
    assert_eq!(next_start.stored().applied.map(|id| id.index), Some(index));
}
