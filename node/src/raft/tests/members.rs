//! Three members: elections, forwarding, partitions, snapshots, lost disks.

use super::Group;
use super::group::{Place, memory, until};
use crate::raft::ProposeError;
use crate::storage::Engine;
use crate::storage::refs;
use crate::storage::wal::{Done, Log, Position, SavedVote};
use std::time::Duration;
use tercet_core::command::Command;
use tercet_core::tenants;

#[tokio::test(start_paused = true)]
async fn a_command_from_any_member_is_applied_by_all() {
    let group = Group::started(3, memory(3)).await;
    for node in 0..3 {
        group.put(node, &format!("from-{node}")).await;
    }
    for node in 0..3 {
        for from in 0..3 {
            group.until_known(node, &format!("from-{from}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nine_members_work_as_well_as_three() {
    let group = Group::started(9, memory(9)).await;
    group.put(8, "t").await;
    for node in 0..9 {
        group.until_known(node, "t").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_the_leader_and_time_never_goes_back() {
    let mut group = Group::started(3, memory(3)).await;
    let mut known = Vec::new();
    let mut latest = 0;
    for round in 0..6 {
        let leader = group.leader().await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let tenant = format!("round-{round}");
        group.put((leader + 1) % 3, &tenant).await;
        known.push(tenant);
        let now = group.replica(leader).read(|view| Ok(view.state.now().0)).unwrap();
        assert!(now > latest, "{now} after {latest}");
        latest = now;
        group.kill(leader).await;
        let next = group.leader().await;
        assert!(
            known.iter().all(|tenant| group.knows(next, tenant)) || {
                group.replica(next).linearize().await.unwrap();
                known.iter().all(|tenant| group.knows(next, tenant))
            }
        );
        group.start(leader).await;
        for tenant in &known {
            group.until_known(leader, tenant).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_nothing_is_accepted_and_nothing_is_linearizable() {
    let mut group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    for node in (0..3).filter(|node| *node != leader) {
        group.kill(node).await;
    }
    let refused = group.try_put(leader, "t").await.unwrap_err();
    assert!(
        matches!(refused, ProposeError::OutcomeUnknown | ProposeError::NoLeader | ProposeError::NotLeader { .. }),
        "{refused:?}"
    );
    assert!(group.replica(leader).linearize().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_follower_says_who_leads() {
    let group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    let follower = (leader + 1) % 3;
    until("the follower knows", || group.replica(follower).leadership().borrow().leader.is_some()).await;
    let refused = group.replica(follower).propose(None, super::group::put_tenant("t")).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(group.members[leader].clone()) }));
    assert!(group.replica(follower).linearize().await.is_err());
    let read = group.replica(leader).linearize().await.unwrap();
    assert!(*group.replica(leader).applied().borrow() >= read);
}

#[tokio::test(start_paused = true)]
async fn a_member_behind_the_purged_log_gets_a_snapshot() {
    let mut group = Group::started(3, memory(3)).await;
    group.put(0, "early").await;
    let away = (group.leader().await + 1) % 3;
    group.kill(away).await;
    for n in 0..300 {
        group.put(group.leader().await, &format!("t-{n}")).await;
    }
    for node in group.running() {
        group.until_known(node, "t-299").await;
        group.purge(node).await;
    }
    group.start(away).await;
    group.until_known(away, "t-299").await;
    assert!(group.knows(away, "early"));
    group.put(away, "after").await;
    group.until_known(away, "after").await;
    // It is a full member: with it, either of the others can go.
    let other = group.leader().await;
    group.kill(other).await;
    group.put(away, "later").await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_state_behind_a_purged_log_is_fetched_from_another_member() {
    let mut group = Group::started(3, memory(3)).await;
    for n in 0..50 {
        group.put(0, &format!("t-{n}")).await;
    }
    for node in 0..3 {
        group.until_known(node, "t-49").await;
        group.purge(node).await;
    }
    let lost = group.leader().await;
    group.kill(lost).await;
    group.put(group.leader().await, "meanwhile").await;
    group.engine(lost).unwrap().clear().unwrap();
    group.start(lost).await;
    group.until_known(lost, "meanwhile").await;
    assert!(group.knows(lost, "t-0"));
}

#[tokio::test(start_paused = true)]
async fn a_half_installed_snapshot_is_dropped_and_fetched_again() {
    let mut group = Group::started(3, memory(3)).await;
    for n in 0..20 {
        group.put(0, &format!("t-{n}")).await;
    }
    for node in 0..3 {
        group.until_known(node, "t-19").await;
        group.purge(node).await;
    }
    group.kill(2).await;
    let engine = group.engine(2).unwrap();
    let half = crate::raft::machine::Stored { complete: false, ..Default::default() };
    engine.write(&refs(&[half.row(), (b"tgarbage".to_vec(), b"x".to_vec())])).unwrap();
    group.start(2).await;
    group.until_known(2, "t-19").await;
    assert_eq!(engine.get(b"tgarbage").unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_lost_disk_votes_only_when_it_has_caught_up() {
    let mut group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    let (wiped, behind) = ((leader + 1) % 3, (leader + 2) % 3);
    // `behind` misses an entry that the leader and `wiped` acknowledged.
    group.kill(behind).await;
    group.put(leader, "acknowledged").await;
    group.until_known(wiped, "acknowledged").await;
    group.kill(wiped).await;
    group.wipe(wiped);
    // It has to ask both others: the leader goes as soon as it has answered.
    group.start(wiped).await;
    group.start(behind).await;
    let rejoining = group.replica(wiped).inner.shared.clone();
    until("it knows what it has to catch up with", || rejoining.raft.get().is_some()).await;
    group.kill(leader).await;
    let caught_up = group.knows(wiped, "acknowledged");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let leads = |node: usize| group.replica(node).leadership().borrow().is_leader;
    assert!(caught_up || !(leads(wiped) || leads(behind)), "an acknowledged entry would be lost");
    group.start(leader).await;
    for node in 0..3 {
        group.until_known(node, "acknowledged").await;
    }
    until("it takes part again", || rejoining.may_vote.load(std::sync::atomic::Ordering::SeqCst)).await;
    let leader = group.leader().await;
    group.kill(if leader == wiped { behind } else { leader }).await;
    group.put(wiped, "goes-on").await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_starts_one_by_one_is_formed_once() {
    let mut group = Group::new(3, memory(3));
    group.start(2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    group.start(1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(group.replica(1).leadership().borrow().leader.is_none());
    group.start(0).await;
    group.leader().await;
    group.put(2, "t").await;
    for node in 0..3 {
        group.until_known(node, "t").await;
    }
}

#[tokio::test(start_paused = true)]
async fn facts_come_in_order_and_recent_ones_are_remembered() {
    let group = Group::started(3, memory(3)).await;
    let leader = group.leader().await;
    let mut facts = group.replica(leader).facts();
    let first = group.put(leader, "a").await.index;
    let second = group.put(leader, "b").await.index;
    assert_eq!(facts.recv().await.unwrap().index, first);
    assert_eq!(facts.recv().await.unwrap().index, second);
    let indexes = |after| {
        let recent = group.replica(leader).recent_facts(after)?;
        Some(recent.iter().map(|batch| batch.index).collect::<Vec<_>>())
    };
    assert_eq!(indexes(0), Some(vec![first, second]));
    assert_eq!(indexes(first), Some(vec![second]));
    assert_eq!(indexes(second), Some(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_no_follower_could_take_is_refused_before_it_is_logged() {
    let group = Group::started(1, memory(1)).await;
    let before = *group.replica(0).applied().borrow();
    let mut huge = super::group::put_tenant("t");
    if let Command::Tenants(tenants::Command::Put(tenant)) = &mut huge {
        tenant.keys = vec![super::group::genesis().voters[0].root_key; 600_000];
    }
    let refused = group.replica(0).propose(None, huge).await.unwrap();
    assert!(refused.reply.is_err());
    assert_eq!(*group.replica(0).applied().borrow(), before);
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_writes_nothing() {
    let group = Group::started(1, memory(1)).await;
    group.put(0, "t").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let flushed = group.replica(0).inner.shared.store.flush.flushed.subscribe();
    let Place::Memory(disks) = &group.place else { unreachable!() };
    disks[0].1.clear().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(disks[0].1.size_bytes(), 0);
    assert!(!flushed.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn partitions_never_lose_what_was_acknowledged() {
    let group = Group::started(3, memory(3)).await;
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        let alone = round % 3;
        let others: Vec<_> = (0..3).filter(|node| *node != alone).map(|node| group.members[node].clone()).collect();
        group.network.partition(&[group.members[alone].clone()], &others);
        for from in 0..3 {
            let tenant = format!("r{round}-{from}");
            if group.try_put(from, &tenant).await.is_ok_and(|committed| committed.reply.is_ok()) {
                acknowledged.push(tenant);
            }
        }
        group.network.heal_all();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(acknowledged.len() >= 12, "only {} acknowledged", acknowledged.len());
    for node in 0..3 {
        for tenant in &acknowledged {
            group.until_known(node, tenant).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn under_load_kills_purges_and_snapshots_lose_nothing_acknowledged() {
    let mut group = Group::started(3, memory(3)).await;
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for round in 0..12 {
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..20 {
            let replica = group.replica((round + client) % 3).clone();
            let acknowledged = acknowledged.clone();
            clients.spawn(async move {
                for n in 0..5 {
                    let tenant = format!("r{round}-c{client}-{n}");
                    let committed = replica.propose_anywhere(None, super::group::put_tenant(&tenant)).await;
                    if committed.is_ok_and(|committed| committed.reply.is_ok()) {
                        acknowledged.lock().unwrap().push(tenant);
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(5 * round as u64)).await;
        let victim = (group.leader().await + round % 2) % 3;
        // Handles that clients hold keep a replica alive, so its network goes first.
        group.network.crash(&group.members[victim]);
        group.replica(victim).stop().await;
        drop(group.nodes[victim].take());
        while clients.join_next().await.is_some() {}
        for node in group.running() {
            group.replica(node).linearize().await.ok();
            group.purge(node).await;
        }
        group.start(victim).await;
        until("it takes part", || group.takes_part(victim)).await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 300, "only {} acknowledged", acknowledged.len());
    for node in 0..3 {
        for tenant in &acknowledged {
            group.until_known(node, tenant).await;
        }
    }
}

/// A leader replicated nothing beyond its first message, to a member whose log is shorter than the other's, and
/// then lost its disk. Until it has caught up it takes no part, so only the member with the longer log can
/// lead; that one gave its vote and never heard the leader, whose refusal names the same vote as committed.
#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_its_disk_keeps_nobody_from_being_elected() {
    let mut group = Group::started(3, memory(3)).await;
    group.put(0, "before").await;
    for node in 0..3 {
        group.until_known(node, "before").await;
    }
    group.kill_all().await;
    let term = 1 + (0..3).filter_map(|node| group.log(node).state().vote).map(|vote| vote.term).max().unwrap();
    let elected = |committed| SavedVote { term, node: 2, committed };
    let longer = group.log(0);
    let last = longer.state().last.unwrap();
    let (_, bytes) = longer.read(last.index, last.index + 1, usize::MAX).unwrap().remove(0);
    longer.append(vec![(Position { index: last.index + 1, ..last }, bytes)], Done::new(drop)).unwrap();
    longer.save_vote(elected(false), Done::new(drop)).unwrap();
    group.log(2).save_vote(elected(true), Done::new(drop)).unwrap();
    group.wipe(1);
    group.start_all().await;
    let leader = group.leader().await;
    group.put(leader, "after").await;
    until("it takes part", || group.takes_part(1)).await;
    group.until_known(1, "after").await;
}
