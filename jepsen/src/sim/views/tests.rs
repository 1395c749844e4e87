use super::*;
use crate::invariants::{EventView, LogView, Proof, VoteView};
use crate::sim::cluster::{CLOUDS, NODES_PER_CLOUD, Timers, key_of};
use crate::sim::trace::Trace;
use tercet_core::events::{Level, Marks};
use tercet_core::genesis::Voter;
use tercet_core::ids::{EventKey, Hash, TenantId};
use tercet_core::transparency::Verdict;
use tercetd::raft::Retention;

const NEVER_BACK: &str = "FINAL and SEALED never go back";
const ONLY_GROW: &str = "logs, audits and proofs only grow";
const PREFIX: &str = "a mirror of an honest log is a prefix of it";

fn cloud(name: &str) -> CloudId {
    CloudId::new(name).unwrap()
}

fn clouds(names: &[&str]) -> BTreeSet<CloudId> {
    names.iter().map(|name| cloud(name)).collect()
}

fn views(liars: &[&str]) -> HonestViews {
    let voter = |name: &str| Voter { cloud: cloud(name), weight: 1, root_key: key_of(name).public() };
    let genesis = Genesis { voters: CLOUDS.map(voter).to_vec(), quorum: 2, nonce: [7; 32] };
    HonestViews::new(genesis, clouds(liars))
}

fn epoch(name: &str) -> EpochId {
    EpochId([name.as_bytes()[1]; 16])
}

fn key() -> (TenantId, EventKey) {
    (TenantId::new("default").unwrap(), EventKey::new("", "e1").unwrap())
}

fn event(level: Level, voters: &[&str]) -> EventView {
    let content = Hash([1; 32]);
    let vote = |name: &&str| VoteView { cloud: cloud(name), verdict: Verdict::Confirm, content };
    let settled = (level >= Level::Final).then_some(content);
    EventView { level, marks: Marks::default(), settled, votes: voters.iter().map(vote).collect(), by_hand: false }
}

/// A cloud that holds so many leaves of every log, and an event that all confirmed.
fn view(name: &str, size: u64) -> CloudView {
    let log = LogView { size, root: Some(Hash([size as u8; 32])), audits: BTreeMap::new() };
    CloudView {
        cloud: cloud(name),
        events: [(key(), event(Level::Sealed, &CLOUDS))].into(),
        logs: CLOUDS.iter().map(|of| ((cloud(of), epoch(of)), log.clone())).collect(),
        flagged: BTreeSet::new(),
        evidence: BTreeMap::new(),
    }
}

fn proof(against: &str, verified: Result<(), String>) -> BTreeMap<Hash, Proof> {
    [(Hash([9; 32]), Proof { cloud: cloud(against), verified })].into()
}

fn names(broken: Vec<Broken>) -> Vec<&'static str> {
    broken.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn clouds_that_hold_the_same_break_nothing() {
    let mut views = views(&[]);
    for name in CLOUDS {
        assert_eq!(views.take(5, view(name, 3)), []);
        assert_eq!(views.take(5, view(name, 3)), []);
    }
    assert_eq!(views.judge(&clouds(&CLOUDS)), []);
    assert_eq!(views.unquiet(), []);
    assert_eq!(views.judge_work(Duration::from_secs(119)), Ok(()));
    assert_eq!(views.checks, Checks { always: 1, on_change: 3, at_rest: 3, when_quiet: 1 });
}

#[test]
fn a_level_that_fell_and_an_event_that_vanished_are_violations() {
    let mut views = views(&[]);
    views.take(5, view("aws", 3));
    let mut fallen = view("aws", 3);
    fallen.events.insert(key(), event(Level::Final, &CLOUDS));
    assert_eq!(names(views.take(6, fallen)), [NEVER_BACK]);
    let mut vanished = view("aws", 3);
    vanished.events.clear();
    assert_eq!(names(views.take(7, vanished)), [NEVER_BACK]);
}

#[test]
fn leaves_and_evidence_that_vanished_are_violations() {
    let mut views = views(&["gcp"]);
    let before = CloudView { evidence: proof("gcp", Ok(())), flagged: clouds(&["gcp"]), ..view("aws", 3) };
    views.take(5, before.clone());
    assert_eq!(views.judge(&BTreeSet::new()), []);
    assert_eq!(names(views.take(6, CloudView { evidence: BTreeMap::new(), ..before.clone() })), [ONLY_GROW]);
    assert_eq!(names(views.take(7, CloudView { flagged: BTreeSet::new(), ..before })), [ONLY_GROW]);
    assert_eq!(names(views.take(8, view("aws", 2))), [ONLY_GROW]);
}

#[test]
fn a_replica_that_lags_is_not_taken_for_a_fall_and_does_not_hide_one() {
    let mut views = views(&[]);
    views.take(5, view("aws", 3));
    let mut old = view("aws", 2);
    old.events.insert(key(), event(Level::Pending, &["aws"]));
    assert_eq!(views.take(4, old.clone()), []);
    assert_eq!(names(views.take(5, old)), [NEVER_BACK, ONLY_GROW]);
}

#[test]
fn a_cloud_that_lost_its_state_is_looked_at_again_in_its_next_epoch() {
    let mut views = views(&[]);
    views.take(5, view("aws", 3));
    views.take(5, view("gcp", 3));
    views.forget(&cloud("aws"), epoch("aws"));
    // Put back from a backup, it answers in another way, and what others hold of its log is longer.
    let mut restored = view("aws", 1);
    restored.events.get_mut(&key()).unwrap().votes[0].content = Hash([2; 32]);
    assert_eq!(views.take(9, restored.clone()), []);
    assert_eq!(views.judge(&clouds(&["aws"])), []);
    assert_eq!(views.checks.at_rest, 0);
    // In its next epoch it is answerable again.
    restored.logs.remove(&(cloud("aws"), epoch("aws")));
    assert_eq!(views.take(1, restored), []);
    assert_eq!(names(views.judge(&clouds(&["aws"]))), ["an honest cloud votes once for a key, ever"]);
    assert_eq!(views.checks.at_rest, 1);
}

#[test]
fn a_mirror_longer_than_its_owners_log_is_a_violation_once_the_owner_rests() {
    let mut views = views(&[]);
    views.take(5, view("aws", 3));
    views.take(5, view("gcp", 4));
    assert_eq!(views.judge(&clouds(&["gcp"])), [], "aws may have committed more than its view shows");
    assert_eq!(names(views.judge(&clouds(&["aws"]))), [PREFIX]);
}

#[test]
fn accused_honest_clouds_and_proofs_that_do_not_verify_are_violations() {
    let mut views = views(&["gcp"]);
    views.take(5, CloudView { evidence: proof("azure", Ok(())), ..view("aws", 3) });
    assert_eq!(names(views.judge(&BTreeSet::new())), ["no honest cloud is ever accused"]);
    views.take(6, CloudView { evidence: proof("gcp", Err("a bad signature".into())), ..view("aws", 3) });
    assert_eq!(names(views.judge(&BTreeSet::new())), ["all evidence verifies offline"]);
}

#[test]
fn final_without_the_votes_of_a_quorum_is_a_violation() {
    let mut views = views(&["gcp"]);
    let mut alone = view("aws", 3);
    alone.events.insert(key(), event(Level::Final, &["aws"]));
    views.take(5, alone);
    assert_eq!(names(views.judge(&BTreeSet::new())), ["a quorum of clouds voted for what is FINAL"]);
}

#[test]
fn what_honest_clouds_do_not_agree_on_in_the_end_is_a_violation() {
    let mut views = views(&["gcp"]);
    views.take(5, view("aws", 3));
    let mut behind = view("azure", 3);
    behind.events.insert(key(), event(Level::Pending, &CLOUDS));
    views.take(5, behind);
    views.judge(&clouds(&["aws", "azure"]));
    let expected = ["honest clouds agree on every level, mark and content", "what honest clouds agree on is settled"];
    assert_eq!(names(views.unquiet()), expected);
}

#[test]
fn only_an_operator_may_leave_an_event_pending() {
    let unquiet = |by_hand, voters: &[&str]| {
        let mut views = views(&[]);
        for name in CLOUDS {
            let mut waits = view(name, 3);
            waits.events.insert(key(), EventView { by_hand, ..event(Level::Pending, voters) });
            views.take(5, waits);
        }
        views.judge(&clouds(&CLOUDS));
        names(views.unquiet())
    };
    let broken = ["what honest clouds agree on is settled"];
    assert_eq!(unquiet(false, &["aws"]), broken);
    assert_eq!(unquiet(true, &["aws"]), [""; 0]);
    assert_eq!(unquiet(true, &["aws", "azure"]), broken, "a quorum agrees, and it is still PENDING");
}

#[test]
fn a_run_that_was_hardly_looked_at_is_a_violation() {
    let mut views = views(&["gcp"]);
    views.take(5, view("aws", 3));
    views.judge(&clouds(&["aws"]));
    assert_eq!(names(views.unquiet()), [EVALUATED], "azure was not seen");
    views.take(5, view("azure", 3));
    views.judge(&clouds(&["aws"]));
    assert_eq!(names(views.unquiet()), [EVALUATED], "azure was never at rest");
    views.judge_work(Duration::from_secs(60)).unwrap_err();
    views.judge(&clouds(&["aws", "azure"]));
    assert_eq!(views.judge_work(Duration::from_secs(120)), Ok(()));
    views.judge_work(Duration::from_secs(180)).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn running_clouds_are_seen_and_come_to_rest() {
    let (heartbeat, election_min) = (Duration::from_millis(300), Duration::from_millis(1500));
    let sync = (Duration::from_micros(200), Duration::from_micros(1500));
    let timers =
        Timers { heartbeat, election_min, election_max: election_min * 2, retention: Retention::default(), sync };
    let cluster = Cluster::new(1, timers, Trace::new(None, false));
    for seat in cluster.seats() {
        cluster.start(&seat).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut views = HonestViews::new(cluster.directory().genesis.clone(), BTreeSet::new());
    assert_eq!(views.look(&cluster), []);
    assert_eq!(views.unquiet(), []);
    assert_eq!(views.checks, Checks { always: 1, on_change: 0, at_rest: 3, when_quiet: 1 });
    // A disk in which more is written than was seen may hold something that is committed.
    let aws = cloud("aws");
    let seen = views.latest[&aws].applied;
    assert!(is_at_rest(&cluster, &aws, seen));
    assert!(!is_at_rest(&cluster, &aws, seen - 1));
    for seat in (1..=NODES_PER_CLOUD).map(|n| format!("aws-{n}")) {
        cluster.kill(&seat);
        assert!(!is_at_rest(&cluster, &aws, seen - 1));
    }
    assert!(views.latest.values().all(|latest| latest.view.logs.len() == 3), "every log is seen");
}
