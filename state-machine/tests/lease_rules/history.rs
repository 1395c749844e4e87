//! What a lease's history tells.

use super::*;

#[test]
fn history_keeps_the_latest_changes_the_newest_first() {
    let mut world = World::new("global");
    for frozen in (0..MAX_HISTORY + 9).map(|at| at % 2 == 0) {
        world.must("aws", leases::Command::Put(Spec { frozen, ..spec("global") }, Asked::default()));
    }
    let (entry, state) = &world.0.clouds["aws"];
    let changes = state.lease_history(&entry.records, &world.lease("aws"), u64::MAX).unwrap();
    let numbers: Vec<u64> = changes.iter().map(|change| change.number).collect();
    let last = MAX_HISTORY + 9;
    assert_eq!(numbers, (last - MAX_HISTORY + 1..=last).rev().collect::<Vec<_>>());
    let latest = state.lease_history(&entry.records, &world.lease("aws"), 1).unwrap();
    assert_eq!(latest, changes[..1]);
}

#[test]
fn history_names_who_asked_when_and_why() {
    let mut world = World::new("global");
    let asked = |by: &str, why: &str| Asked { by: Some(by.into()), why: Some(why.into()), at: WallMillis(70) };
    let frozen = Spec { frozen: true, ..spec("global") };
    world.must("gcp", leases::Command::Put(frozen.clone(), asked("alice", "upgrade")));
    world.must("gcp", leases::Command::Put(spec("global"), asked("bob", "done")));
    let ada = claim("ada", 1, 0);
    world.vote("gcp", &ada, None).unwrap();
    world.show("gcp", &ada);
    world.release("gcp", &ada, None);
    let (entry, state) = &world.0.clouds["gcp"];
    let changes = state.lease_history(&entry.records, &world.lease("gcp"), u64::MAX).unwrap();
    let told: Vec<_> = changes.iter().map(|c| (c.by.as_deref(), c.why.as_deref(), c.time)).collect();
    let (asked_at, holder_at) = (WallMillis(70), WallMillis(5));
    let expected = [
        (Some("ada"), None, holder_at),
        (Some("ada"), None, holder_at),
        (Some("bob"), Some("done"), asked_at),
        (Some("alice"), Some("upgrade"), asked_at),
        (None, None, WallMillis(0)),
    ];
    assert_eq!(told, expected);
    for bad in ["", "two\nlines", &"x".repeat(Asked::MAX_BYTES + 1)] {
        let command = leases::Command::Put(frozen.clone(), asked("alice", bad));
        assert_eq!(world.apply("gcp", command).0.unwrap_err().code().as_str(), "invalid_request");
    }
    assert!(!world.lease("gcp").spec.frozen, "a refused change changes nothing");
}

#[test]
fn history_tells_why_a_lease_changed_hands_and_how_long_nobody_held_it() {
    let mut world = World::new("global");
    let acquired = |world: &World| match world.history("gcp").remove(0) {
        What::Acquired { because, vacant_ms, .. } => (because, vacant_ms),
        other => panic!("unexpected {other:?}"),
    };
    let ada = claim("ada", 1, 0);
    world.vote("gcp", &ada, None).unwrap();
    world.show("gcp", &ada);
    assert_eq!(acquired(&world), (Because::First, None));
    world.0.passed += u64::from(LASTS_MS) + 500;
    world.show("gcp", &claim("bob", 2, 0));
    // Each entry takes a millisecond.
    assert_eq!(acquired(&world), (Because::Expired, Some(501)));

    let eve = claim("eve", 3, 0);
    world.vote("gcp", &eve, Some(ada.ballot())).unwrap();
    world.show("gcp", &eve);
    world.release("gcp", &eve, None);
    world.0.passed += 40;
    world.show("gcp", &claim("ada", 4, 0));
    assert_eq!(acquired(&world), (Because::Released, Some(41)));
    assert_eq!(world.lease("gcp").transitions, 3);

    // The release overtakes the grant.
    let bob = claim("bob", 5, 0);
    world.vote("gcp", &bob, None).unwrap();
    world.release("gcp", &bob, None);
    world.show("gcp", &bob);
    world.0.passed += 40;
    world.show("gcp", &claim("eve", 6, 0));
    assert_eq!(acquired(&world), (Because::Released, Some(41)));
}
