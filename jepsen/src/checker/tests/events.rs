//! What became of events: lost, doubled, changed, invented, fallen.

use super::*;

#[test]
fn good_histories_pass_with_no_liar_one_and_two() {
    holds(good(&[]));
    holds(good(&["gcp"]));
    holds(good(&["azure", "gcp"]));
}

#[test]
fn lost_doubled_and_changed_events_are_found() {
    let is_it = |what: &What, at: &str| matches!(what, What::Listed { cloud, id, .. } if cloud == at && id == "c0-7");
    let mut all = good(&[]);
    all.retain(|what| !CLOUDS.iter().any(|cloud| is_it(what, cloud)));
    broken(all, "c0-7 was acknowledged by azure with content hash-7 and is lost at aws");
    let mut all = good(&[]);
    all.retain(|what| !is_it(what, "gcp"));
    also(all.clone(), "c0-7 is listed by [\"aws\", \"azure\"] and not by gcp");
    also(all, "is lost at gcp");
    let mut all = good(&[]);
    all.push(listed("aws", "c0-3", "SEALED", "hash-3"));
    broken(all, "exactly once");
    let mut all = good(&[]);
    relist(&mut all, &CLOUDS, "c0-5", |seen| seen.content = Some("hash-6".into()));
    also(all, "aws lists content hash-6");
    let mut all = good(&[]);
    relist(&mut all, &["gcp"], "c0-5", |seen| seen.content = None);
    also(all, "without a content");
}

#[test]
fn a_cloud_acknowledges_what_it_was_asked_for() {
    let mut all = good(&[]);
    for what in &mut all {
        if let What::Acknowledged { id, content, .. } = what
            && id == "c0-9"
        {
            *content = "other".into();
        }
    }
    broken(all, "c0-9 was submitted at aws with content hash-9; it acknowledged other");
}

#[test]
fn contested_ids_may_be_acknowledged_with_different_contents_and_end_alike() {
    let contest = |level: &str, contents: [&str; 3]| {
        let mut all = good(&[]);
        let asked = [("aws", "a"), ("azure", "b"), ("gcp", "c")];
        let told =
            asked.into_iter().flat_map(|(cloud, of)| [invoked(0, cloud, "x-0", of), acknowledged(0, cloud, "x-0", of)]);
        before_healing(&mut all, told);
        all.extend(CLOUDS.into_iter().zip(contents).map(|(cloud, content)| listed(cloud, "x-0", level, content)));
        all
    };
    holds(contest("QUARANTINED", ["a", "b", "c"]));
    holds(contest("SEALED", ["b", "b", "b"]));
    // What is settled is the same everywhere; before that each cloud shows what it saw first.
    also(contest("SEALED", ["a", "b", "b"]), "SEALED was contradicted: x-0 was SEALED with content a at aws");
    broken(contest("FINAL", ["c", "c", "c"]), "x-0 as FINAL, and it must be SEALED or QUARANTINED");
    broken(contest("SEALED", ["d", "d", "d"]), "x-0 with content d");
}

#[test]
fn a_lost_state_excuses_nothing_that_was_acknowledged() {
    let lose = |seen_elsewhere: bool| {
        let mut all = good(&[]);
        let mut more = vec![invoked(0, "aws", "c9-1", "h"), acknowledged(0, "aws", "c9-1", "h")];
        if seen_elsewhere {
            more.push(observed("gcp", "c9-1", "FINAL", "h"));
        }
        more.extend([led("aws", "aws-1", 3), began(2, LOST_STATE, &["aws-1", "aws-2", "aws-3"]), proven(2)]);
        more.extend([What::FaultEnded { number: 2 }, led("aws", "aws-2", 3)]);
        // The id is free again, so another content may be the first now.
        more.extend([invoked(0, "aws", "c0-0", "hash-0"), acknowledged(0, "aws", "c0-0", "hash-0")]);
        before_healing(&mut all, more);
        all
    };
    broken(lose(false), "c9-1 was acknowledged by aws with content h and is lost");
    let mut kept = lose(false);
    kept.extend(CLOUDS.map(|cloud| listed(cloud, "c9-1", "SEALED", "h")));
    holds(kept);
    also(lose(true), "c9-1 was FINAL at gcp");
}

#[test]
fn phantoms_are_found() {
    let mut all = good(&[]);
    all.extend(CLOUDS.map(|cloud| listed(cloud, "c9-9", "SEALED", "x")));
    broken(all, "c9-9, which nobody submitted");
    let mut all = good(&[]);
    let refused =
        What::Refused { client: 1, cloud: "aws".into(), id: "c1-1".into(), code: "quota".into(), first: None };
    before_healing(&mut all, [invoked(1, "aws", "c1-1", "y"), refused]);
    all.extend(CLOUDS.map(|cloud| listed(cloud, "c1-1", "SEALED", "y")));
    broken(all, "c1-1 with content y, which was refused");
    let mut all = good(&[]);
    all.insert(1, observed("aws", "c0-4", "PENDING", "hash-4"));
    broken(all, "submitted only later");
}

#[test]
fn an_event_of_unknown_outcome_may_be_there_or_not() {
    let unknown = What::Unknown { client: 1, cloud: "aws".into(), id: "c1-1".into(), why: "timeout".into() };
    let mut all = good(&[]);
    before_healing(&mut all, [invoked(1, "aws", "c1-1", "y"), unknown]);
    holds(all.clone());
    let with = |level: &str| {
        let mut all = all.clone();
        all.extend(CLOUDS.map(|cloud| listed(cloud, "c1-1", level, "y")));
        all
    };
    holds(with("SEALED"));
    broken(with("PENDING"), "c1-1 as PENDING, and it must be SEALED");
}

#[test]
fn a_level_that_falls_back_is_found() {
    let mut all = good(&[]);
    before_healing(
        &mut all,
        [observed("gcp", "c0-2", "SEALED", "hash-2"), observed("gcp", "c0-2", "PENDING", "hash-2")],
    );
    holds(all);
    let mut all = good(&[]);
    before_healing(&mut all, [observed("gcp", "c0-2", "QUARANTINED", "hash-2")]);
    broken(all, "c0-2 was FINAL at aws at");
    let mut all = good(&[]);
    all.push(observed("gcp", "c0-2", "FINAL", "hash-2"));
    broken(all, "gcp calls it FINAL");
    let mut all = good(&["gcp"]);
    relist(&mut all, &["aws", "azure"], "c0-2", |seen| seen.level = "PENDING".into());
    also(all, "aws calls it PENDING");
}
