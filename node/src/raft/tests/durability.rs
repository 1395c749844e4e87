//! What has to be on disk before somebody is told, or before something older goes.

use super::Group;
use super::group::{genesis, memory, until};
use crate::raft::apply::Store;
use crate::raft::log_store::LogStore;
use crate::raft::types::vote;
use crate::storage::wal::{LateLog, Log, SavedVote};
use futures::FutureExt;
use openraft::storage::RaftLogStorage;
use std::pin::pin;
use std::sync::Arc;
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
async fn a_flush_tells_the_next_start_how_far_the_state_goes() {
    let group = Group::started(1, memory(1)).await;
    let index = group.put(0, "flushed").await.index;
    let store = group.replica(0).inner.shared.store.clone();
    store.flush.flush_now(&store).await;
    let (engine, log) = (group.engine(0).unwrap(), store.log.clone());
    let next_start = Store::open(genesis(), CloudId::new("gcp").unwrap(), "europe".into(), engine, log).unwrap();
    assert_eq!(next_start.stored().applied.map(|id| id.index), Some(index));
}
