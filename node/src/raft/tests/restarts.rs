//! Replicas on disk: restarts, crashes and damage.

use super::Group;
use super::group::{on_disk, until};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_keeps_what_it_acknowledged_through_stops_and_kills() {
    on_disk(|place| async {
        let mut group = Group::started(1, place).await;
        for round in 0..4 {
            group.put(0, &format!("t-{round}")).await;
            if round % 2 == 0 {
                group.kill(0).await
            } else {
                group.stop(0).await
            }
            group.start(0).await;
            for earlier in 0..=round {
                group.until_known(0, &format!("t-{earlier}")).await;
            }
            group.leader().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_disk_survive_rolling_kills() {
    on_disk(|place| async {
        let mut group = Group::started(3, place).await;
        for round in 0..3 {
            let leader = group.leader().await;
            group.put(leader, &format!("t-{round}")).await;
            group.kill(leader).await;
            group.put(group.leader().await, &format!("u-{round}")).await;
            group.start(leader).await;
            group.until_known(leader, &format!("u-{round}")).await;
        }
        for node in 0..3 {
            for round in 0..3 {
                group.until_known(node, &format!("t-{round}")).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_state_is_rebuilt_from_the_log() {
    on_disk(|place| async {
        let mut group = Group::started(1, place).await;
        for n in 0..20 {
            group.put(0, &format!("t-{n}")).await;
        }
        group.stop(0).await;
        group.engine(0).unwrap().clear().unwrap();
        group.start(0).await;
        assert!((0..20).all(|n| group.knows(0, &format!("t-{n}"))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_crosses_from_disk_to_disk() {
    on_disk(|place| async {
        let mut group = Group::started(3, place).await;
        let away = (group.leader().await + 1) % 3;
        group.put(0, "early").await;
        group.kill(away).await;
        for n in 0..100 {
            group.put(group.leader().await, &format!("t-{n}")).await;
        }
        for node in group.running() {
            group.until_known(node, "t-99").await;
            group.purge(node).await;
        }
        group.start(away).await;
        group.until_known(away, "t-99").await;
        group.stop(away).await;
        group.start(away).await;
        group.until_known(away, "early").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_acknowledged_entries_is_refused() {
    on_disk(|place| async {
        let mut group = Group::started(1, place).await;
        group.put(0, "t").await;
        group.stop(0).await;
        let super::Place::Disk(_, dir) = &group.place else { unreachable!() };
        let wal = dir.path().join("gcp-1/raft/wal");
        let file = std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path());
        let file = file.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).max().unwrap();
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let refused = group.try_start(0).await.map_err(|error| format!("{error:#}"));
        assert!(refused.as_ref().is_err_and(|text| text.contains("lost acknowledged entries")), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_engine_ends_the_replica_with_its_reason() {
    let group = Group::started(1, super::group::memory(1)).await;
    let replica = group.replica(0).clone();
    let broken = replica.read(|_| Err::<(), _>(tercet_core::records::Broken("a bad record".into())));
    assert!(broken.is_err());
    let reason = tokio::time::timeout(Duration::from_secs(5), replica.failed()).await.unwrap();
    assert!(reason.contains("a bad record"));
    assert!(group.try_put(0, "t").await.is_err());
}

/// Not a benchmark: it prints what a group does, and fails only if batching is broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_commands_share_their_syncs() {
    for size in [1, 3] {
        measure(size).await;
    }
}

async fn measure(size: usize) {
    on_disk(|place| async move {
        let kind = match &place {
            super::Place::Disk(kind, _) => *kind,
            super::Place::Memory(_) => unreachable!(),
        };
        let group = Group::started(size, place).await;
        let leader = group.leader().await;
        group.put(leader, "t").await;
        let started = Instant::now();
        let (clients, each) = (200, 20);
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let replica = group.replica(leader).clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        replica.propose(None, super::group::put_tenant("t")).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rate = f64::from(clients * each) / started.elapsed().as_secs_f64();
        eprintln!("{kind:?}, {size} nodes: {rate:.0} durable commands/s from {clients} clients");
        assert!(rate > 200.0, "only {rate:.0} commands/s");
        until("flushed", || *group.replica(leader).inner.shared.store.flush.flushed.borrow() > 100).await;
    })
    .await;
}
