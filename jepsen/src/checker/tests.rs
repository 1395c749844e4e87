//! A checker is only worth something if it catches what it is for: each planted fault is found by
//! exactly the invariant that names it, and good histories of every kind pass.

use super::*;
use crate::history::{LOST_STATE, Outcome, Seen, What};
use proptest::prelude::*;

const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
const EVENTS: usize = 60;

fn seen(level: &str, content: &str) -> Seen {
    Seen { level: level.into(), review: false, conflict: false, content: Some(content.into()) }
}

fn run_of(liars: &[&str]) -> What {
    let nodes = CLOUDS.iter().flat_map(|cloud| (1..=3).map(move |number| format!("{cloud}-{number}")));
    What::Run {
        layer: "sim".into(),
        seed: 7,
        clouds: CLOUDS.map(String::from).to_vec(),
        nodes: nodes.collect(),
        liars: liars.iter().map(|liar| (*liar).into()).collect(),
        version: "0".into(),
    }
}

fn invoked(client: u64, cloud: &str, id: &str, content: &str) -> What {
    What::Invoked { client, cloud: cloud.into(), id: id.into(), content: content.into() }
}

fn acknowledged(client: u64, cloud: &str, id: &str, content: &str) -> What {
    What::Acknowledged { client, cloud: cloud.into(), id: id.into(), content: content.into(), new: true, repeated: false }
}

fn began(number: u64, fault: &str, on: &[&str]) -> What {
    let on = on.iter().map(|on| (*on).into()).collect();
    What::FaultBegan { number, fault: fault.into(), on, detail: String::new() }
}

fn proven(number: u64) -> What {
    What::FaultProven { number, how: "the process is gone".into() }
}

fn listed(cloud: &str, id: &str, level: &str, content: &str) -> What {
    What::Listed { cloud: cloud.into(), id: id.into(), seen: seen(level, content) }
}

fn observed(cloud: &str, id: &str, level: &str, content: &str) -> What {
    What::Observed { cloud: cloud.into(), id: id.into(), seen: seen(level, content) }
}

fn convicted(by: &str, cloud: &str, valid: bool) -> What {
    What::Convicted { by: by.into(), cloud: cloud.into(), evidence: "e-1".into(), valid }
}

fn led(cloud: &str, node: &str, term: u64) -> What {
    led_by(cloud, node, term, 1)
}

fn led_by(cloud: &str, node: &str, term: u64, process: u64) -> What {
    What::Led { cloud: cloud.into(), node: node.into(), term, process }
}

fn submit(number: usize, all: &mut Vec<What>, clouds: &[&str]) {
    let (id, content) = (format!("c0-{number}"), format!("hash-{number}"));
    let cloud = clouds[number % clouds.len()];
    all.push(invoked(0, cloud, &id, &content));
    all.push(acknowledged(0, cloud, &id, &content));
    all.push(observed(clouds[0], &id, if number.is_multiple_of(2) { "FINAL" } else { "PENDING" }, &content));
}

/// A good history: faults and work, FINAL seen, everything settled and listed everywhere.
fn good(liars: &[&str]) -> Vec<What> {
    let honest: Vec<&str> = CLOUDS.into_iter().filter(|cloud| !liars.contains(cloud)).collect();
    let level = ["SEALED", "FINAL", "PENDING"][liars.len()];
    let mut all = vec![run_of(liars)];
    (0..20).for_each(|number| submit(number, &mut all, &honest));
    all.extend([began(1, "kill", &["aws-1"]), proven(1)]);
    (20..40).for_each(|number| submit(number, &mut all, &honest));
    all.push(What::FaultEnded { number: 1 });
    for liar in liars {
        all.push(What::Lied { cloud: (*liar).into(), lie: "two votes".into(), detectable: true });
    }
    (40..EVENTS).for_each(|number| submit(number, &mut all, &honest));
    if liars.len() == 2 {
        all.retain(|what| !matches!(what, What::Observed { .. }));
    }
    all.push(What::Healed { took_ms: 5, within_ms: 10, complete: true, missing: None });
    for by in &honest {
        all.extend(liars.iter().map(|liar| convicted(by, liar, true)));
        (0..EVENTS).for_each(|number| all.push(listed(by, &format!("c0-{number}"), level, &format!("hash-{number}"))));
        if liars.len() < 2 {
            all.push(certified(by, true));
        }
        for of in CLOUDS {
            let root = if liars.contains(&of) { format!("as {by} knows it") } else { "r".into() };
            all.push(What::Head { by: (*by).into(), of: of.into(), size: EVENTS as u64 + 10, root });
        }
    }
    all
}

fn certified(cloud: &str, valid: bool) -> What {
    What::Certified {
        cloud: cloud.into(),
        id: "c0-1".into(),
        level: "SEALED".into(),
        content: valid.then(|| "hash-1".into()),
        valid,
        why: (!valid).then(|| "a bad signature".into()),
    }
}

fn judge(whats: Vec<What>) -> Vec<Judged> {
    let record = |(at, what)| Record { time_ns: at as u64 * 100_000_000, what };
    check(&whats.into_iter().enumerate().map(record).collect::<Vec<_>>())
}

fn failures(judged: &[Judged]) -> String {
    let told = |judged: &Judged| judged.verdict.why().map(|why| format!("{} {}\n", judged.verdict.name(), why));
    judged.iter().filter_map(told).collect()
}

#[track_caller]
fn holds(whats: Vec<What>) {
    let judged = judge(whats);
    assert!(passed(&judged), "{}", failures(&judged));
}

/// Exactly one invariant finds it, with this verdict.
#[track_caller]
fn found(whats: Vec<What>, verdict: &str, why: &str) {
    let judged = judge(whats);
    let bad: Vec<_> = judged.iter().filter(|judged| !judged.verdict.holds()).collect();
    let told = failures(&judged);
    assert_eq!(bad.len(), 1, "one invariant finds it: {told}");
    assert_eq!(bad[0].verdict.name(), verdict, "{told}");
    assert!(told.contains(why), "{told}");
    assert!(!passed(&judged));
}

#[track_caller]
fn broken(whats: Vec<What>, why: &str) {
    found(whats, "BROKEN", why);
}

/// Found, whichever other invariants find it as well.
#[track_caller]
fn also(whats: Vec<What>, why: &str) {
    let judged = judge(whats);
    assert!(failures(&judged).contains(why), "{}", failures(&judged));
    assert!(!passed(&judged));
}

fn before_healing(all: &mut Vec<What>, what: impl IntoIterator<Item = What>) {
    let healed = all.iter().position(|what| matches!(what, What::Healed { .. })).unwrap();
    all.splice(healed..healed, what);
}

fn relist(all: &mut [What], at: &[&str], wanted: &str, change: impl Fn(&mut Seen)) {
    for what in all {
        if let What::Listed { cloud, id, seen } = what
            && at.contains(&cloud.as_str())
            && id == wanted
        {
            change(seen);
        }
    }
}

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

#[test]
fn contradictions_need_a_convicted_liar_and_never_touch_sealed() {
    let contradict = |liars: &[&str], level: &str| {
        let mut all = good(liars);
        let two = [invoked(0, "aws", "x-1", "a"), acknowledged(0, "aws", "x-1", "a"), invoked(0, "aws", "x-1", "b")];
        before_healing(&mut all, two);
        before_healing(&mut all, [What::Unknown { client: 0, cloud: "aws".into(), id: "x-1".into(), why: "t".into() }]);
        before_healing(&mut all, [observed("aws", "x-1", level, "a"), observed("aws", "x-1", "FINAL", "b")]);
        let honest = CLOUDS.into_iter().filter(|cloud| !liars.contains(cloud));
        all.extend(honest.map(|cloud| listed(cloud, "x-1", level, "a")));
        all
    };
    also(contradict(&[], "FINAL"), "no cloud lied, and x-1 was FINAL with content a");
    holds(contradict(&["gcp"], "FINAL"));
    broken(contradict(&["gcp"], "SEALED"), "SEALED was contradicted");
    holds(contradict(&["azure", "gcp"], "SEALED"));
    let mut unproven = contradict(&["gcp"], "FINAL");
    unproven.retain(|what| !matches!(what, What::Convicted { .. }));
    also(unproven, "aws convicts nobody, and x-1 was FINAL");
    let mut unproven = contradict(&["gcp"], "FINAL");
    unproven.retain(|what| !matches!(what, What::Convicted { by, .. } if by == "azure"));
    also(unproven, "azure convicts nobody, and x-1 was FINAL");
    let mut marked = good(&[]);
    relist(&mut marked, &CLOUDS, "c0-1", |seen| seen.conflict = true);
    broken(marked, "marks c0-1 CONFLICT, and it convicts nobody");
    let mut marked = good(&[]);
    relist(&mut marked, &CLOUDS, "c0-1", |seen| seen.review = true);
    broken(marked, "marks c0-1 REVIEW, and it convicts nobody");
}

#[test]
fn clouds_that_differ_at_the_end_are_found() {
    let mut all = good(&["gcp"]);
    relist(&mut all, &["aws"], "c0-4", |seen| seen.level = "SEALED".into());
    also(all, "clouds differ about c0-4");
    let mut all = good(&[]);
    before_healing(&mut all, [invoked(0, "aws", "m0-2", "g"), acknowledged(0, "aws", "m0-2", "g")]);
    all.extend(
        CLOUDS.map(|cloud| listed(cloud, "m0-2", if cloud == "gcp" { "PENDING" } else { "QUARANTINED" }, "g")),
    );
    broken(all, "clouds differ about m0-2");
    let mut all = good(&["gcp"]);
    relist(&mut all, &["aws"], "c0-4", |seen| seen.content = Some("hash-5".into()));
    also(all, "clouds differ about c0-4");
    let mut all = good(&["gcp"]);
    relist(&mut all, &["aws"], "c0-4", |seen| seen.review = true);
    broken(all, "clouds differ about c0-4");
    let mut all = good(&[]);
    for what in &mut all {
        if let What::Head { by, of, root, .. } = what
            && (by.as_str(), of.as_str()) == ("gcp", "aws")
        {
            *root = "another".into();
        }
    }
    broken(all, "of the log of aws");
    let mut all = good(&[]);
    all.retain(|what| !matches!(what, What::Head { by, .. } if by == "gcp"));
    found(all, "UNKNOWN", "gcp did not tell what it holds");
}

#[test]
fn accusations_of_the_innocent_are_found() {
    let mut all = good(&["gcp"]);
    all.push(convicted("aws", "azure", true));
    broken(all, "against azure, which is honest");
    let mut all = good(&["gcp"]);
    all.push(convicted("aws", "gcp", false));
    broken(all, "does not verify");
    let mut all = good(&["gcp"]);
    all.push(convicted("gcp", "aws", false));
    holds(all);
}

#[test]
fn lies_that_nobody_proves_in_time_are_found() {
    let mut all = good(&["gcp"]);
    all.retain(|what| !matches!(what, What::Convicted { by, .. } if by == "azure"));
    broken(all, "azure never convicted it");
    let mut all = good(&["gcp"]);
    all.retain(|what| !matches!(what, What::Convicted { by, .. } if by == "azure"));
    // A record every 100 ms, so this one comes after the time for healing and reading.
    all.extend((0..700).map(|term| led("aws", "aws-1", term)));
    all.push(convicted("azure", "gcp", true));
    broken(all, "azure convicted it at");
    let mut all = good(&["gcp"]);
    all.retain(|what| !matches!(what, What::Convicted { .. }));
    for what in &mut all {
        if let What::Lied { detectable, .. } = what {
            *detectable = false;
        }
    }
    holds(all);
}

#[test]
fn what_does_not_settle_is_found() {
    let mut all = good(&[]);
    relist(&mut all, &CLOUDS, "c0-4", |seen| seen.level = "FINAL".into());
    broken(all, "c0-4 as FINAL, and it must be SEALED");
    let mut all = good(&["gcp"]);
    relist(&mut all, &CLOUDS, "c0-5", |seen| seen.level = "PENDING".into());
    broken(all, "c0-5 as PENDING, and it must be FINAL or SEALED");
    for (took_ms, complete) in [(5, false), (11, true)] {
        let mut all = good(&[]);
        all.retain(|what| !matches!(what, What::Healed { .. }));
        all.push(What::Healed { took_ms, within_ms: 10, complete, missing: Some("c0-8 at aws".into()) });
        broken(all, "c0-8 at aws");
    }
    // If nobody could be asked, nothing is known of what is lost.
    let mut all = good(&[]);
    all.retain(|what| !matches!(what, What::Healed { .. } | What::Listed { .. } | What::Certified { .. }));
    all.push(What::Healed { took_ms: 11, within_ms: 10, complete: false, missing: Some("aws is silent".into()) });
    let told = failures(&judge(all));
    assert_eq!((told.matches("UNKNOWN").count(), told.matches("BROKEN").count()), (2, 1), "{told}");
    let mut all = good(&[]);
    all.retain(|what| !matches!(what, What::Healed { .. }));
    let judged = judge(all);
    let unknown = judged.iter().filter(|judged| judged.verdict.name() == "UNKNOWN").count();
    assert_eq!(unknown, 3, "{}", failures(&judged));
}

#[test]
fn decisions_by_hand_settle_events_when_two_clouds_agree() {
    let decide = |decisions: &[(&str, bool)], level: &str| {
        let mut all = good(&[]);
        before_healing(&mut all, [invoked(0, "aws", "m0-1", "h"), acknowledged(0, "aws", "m0-1", "h")]);
        let decided = decisions.iter().map(|(cloud, confirm)| What::Decided {
            cloud: (*cloud).into(),
            id: "m0-1".into(),
            content: "h".into(),
            confirm: *confirm,
            outcome: Outcome::Done,
        });
        before_healing(&mut all, decided);
        all.extend(CLOUDS.map(|cloud| listed(cloud, "m0-1", level, "h")));
        all
    };
    holds(decide(&[], "PENDING"));
    holds(decide(&[("aws", true), ("gcp", false)], "PENDING"));
    holds(decide(&[("aws", true), ("gcp", true)], "SEALED"));
    holds(decide(&[("aws", false), ("gcp", false)], "QUARANTINED"));
    broken(decide(&[("aws", true), ("gcp", true)], "PENDING"), "m0-1 as PENDING, and it must be SEALED");
    broken(decide(&[("aws", false), ("gcp", false)], "SEALED"), "m0-1 as SEALED, and it must be QUARANTINED");
}

#[test]
fn a_second_lead_bad_certificates_and_violations_are_found() {
    let mut all = good(&[]);
    before_healing(
        &mut all,
        [led("aws", "aws-1", 4), led("aws", "aws-3", 5), led("gcp", "gcp-1", 4), led("aws", "aws-2", 5)],
    );
    holds(all.clone());
    all.push(led("aws", "aws-3", 5));
    holds(all.clone());
    all.push(led_by("aws", "aws-3", 5, 2));
    broken(all, "aws-3 led aws in term 5");
    let mut all = good(&["gcp"]);
    all.retain(|what| !matches!(what, What::Certified { .. }));
    found(all, "REJECTED", "aws was asked for no certificate");
    let mut all = good(&["gcp"]);
    all.extend([certified("aws", true), certified("gcp", false)]);
    holds(all.clone());
    all.push(certified("aws", false));
    broken(all, "aws certified c0-1 as SEALED of no content: a bad signature");
    let changed = |change: fn(&mut String, &mut String, &mut Option<String>)| {
        let mut all = good(&[]);
        let certificate = all.iter_mut().find(|what| matches!(what, What::Certified { .. }));
        let Some(What::Certified { id, level, content, .. }) = certificate else { panic!("there is one") };
        change(id, level, content);
        all
    };
    broken(changed(|_, level, _| *level = "PENDING".into()), "no certificate is of that level");
    broken(changed(|_, level, _| *level = "FINAL".into()), "it lists it as SEALED");
    broken(changed(|_, _, content| *content = Some("hash-2".into())), "it lists content Some(\"hash-1\")");
    broken(changed(|id, _, _| *id = "c0-99".into()), "it does not list the event");
    let mut all = good(&[]);
    all.push(What::Violated { invariant: "log ids".into(), why: "two payloads".into() });
    broken(all, "log ids: two payloads");
}

#[test]
fn a_second_first_answer_for_an_id_is_found() {
    let mut all = good(&[]);
    before_healing(&mut all, [invoked(0, "aws", "c0-0", "hash-0"), acknowledged(0, "aws", "c0-0", "hash-0")]);
    broken(all, "c0-0 at aws: after");
    let mut all = good(&[]);
    let code = "id_reuse".into();
    let refused = What::Refused { client: 0, cloud: "aws".into(), id: "c0-0".into(), code, first: None };
    before_healing(&mut all, [invoked(0, "aws", "c0-0", "other"), refused]);
    also(all, "refused for another content, and not told which");
}

#[test]
fn what_could_not_be_judged_is_unknown() {
    let mut all = good(&["gcp"]);
    all.push(What::Unjudged { of: "the evidence that aws holds".into(), why: "no answer".into() });
    found(all, "UNKNOWN", "the evidence that aws holds: no answer");
}

#[test]
fn a_log_with_fewer_leaves_than_its_cloud_acknowledged_events_is_found() {
    let mut all = good(&[]);
    for what in &mut all {
        if let What::Head { of, size, .. } = what
            && of == "gcp"
        {
            *size = 19;
        }
    }
    broken(all, "the log of gcp has 19 leaves, and gcp acknowledged 20 events");
}

#[test]
fn a_history_does_not_set_its_own_bound() {
    let mut all = good(&[]);
    all.retain(|what| !matches!(what, What::Healed { .. }));
    let (took_ms, within_ms) = (400_000, 500_000);
    all.push(What::Healed { took_ms, within_ms, complete: true, missing: None });
    broken(all, "not settled 400000 ms after healing, 120000 ms are allowed");
}

#[test]
fn runs_without_harm_work_or_watching_are_rejected() {
    let without = |is: fn(&What) -> bool| {
        let mut all = good(&[]);
        all.retain(|what| !is(what));
        all
    };
    found(without(|what| matches!(what, What::FaultProven { .. })), "REJECTED", "nothing proves that fault 1 (kill");
    let mut unsaid = good(&[]);
    for what in &mut unsaid {
        if let What::FaultProven { how, .. } = what {
            how.clear();
        }
    }
    found(unsaid, "REJECTED", "nothing proves that fault 1 (kill");
    let mut missed = good(&[]);
    let why = "nothing met it".to_owned();
    before_healing(
        &mut missed,
        (2..8).flat_map(|number| {
            let missed = What::FaultMissed { number, why: why.clone() };
            [began(number, "one-way", &["aws-1"]), What::FaultEnded { number }, missed]
        }),
    );
    found(missed, "REJECTED", "6 of 7 faults met nothing");
    let no_faults =
        |what: &What| matches!(what, What::FaultBegan { .. } | What::FaultProven { .. } | What::FaultEnded { .. });
    found(without(no_faults), "REJECTED", "no fault began");
    found(without(|what| matches!(what, What::Observed { .. })), "REJECTED", "observers saw 0");
    let clients = |what: &What| matches!(what, What::Invoked { .. } | What::Acknowledged { .. });
    let clouds = |what: &What| matches!(what, What::Listed { .. } | What::Observed { .. } | What::Certified { .. });
    let mut all = good(&[]);
    all.retain(|what| !clients(what) && !clouds(what));
    also(all, "0 events were acknowledged");
    let mut all = good(&["gcp"]);
    all.retain(|what| !matches!(what, What::Lied { .. }));
    found(all, "REJECTED", "may lie in this run, and never did");
    assert!(judge(good(&[])[1..].to_vec()).iter().all(|judged| judged.verdict.name() == "REJECTED"));
}

#[test]
fn a_long_fault_without_work_is_rejected_unless_nothing_could_work() {
    let pause = |on: &[&str]| {
        let mut all = good(&[]);
        let mut fault = vec![began(2, "pause", on), proven(2)];
        fault.extend((0..300).map(|term| led("aws", "aws-1", term)));
        fault.push(What::FaultEnded { number: 2 });
        before_healing(&mut all, fault);
        // The first fault's work does not count for the second.
        let first = all.iter().position(|what| matches!(what, What::FaultBegan { number: 1, .. })).unwrap();
        let ended = all.iter().position(|what| matches!(what, What::FaultEnded { number: 1 })).unwrap();
        let end = all.remove(ended);
        all.insert(first + 2, end);
        all
    };
    found(pause(&["aws-1", "azure-1"]), "REJECTED", "0 submissions were acknowledged in 30");
    holds(pause(&CLOUDS));
}

#[test]
fn a_history_whose_time_goes_backwards_is_rejected() {
    let record = |(at, what)| Record { time_ns: 1_000_000 - at as u64, what };
    let history: Vec<Record> = good(&[]).into_iter().enumerate().map(record).collect();
    assert!(failures(&check(&history)).contains("record 1: time goes backwards"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is missing and in whatever order: a verdict, never a panic.
    #[test]
    fn any_shuffled_part_of_a_history_is_judged(
        (liars, all) in (0..3_usize).prop_map(|liars| (liars, good(&["gcp", "azure"][..liars]))),
        keep in proptest::collection::vec(any::<bool>(), 1000),
        order in any::<u64>(),
    ) {
        let mut all: Vec<What> = all.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(what, _)| what).collect();
        let mut random = crate::random::Random::new(order, liars as u64);
        for at in 1..all.len() {
            all.swap(at, random.below(at + 1));
        }
        all.insert(0, run_of(&["gcp", "azure"][..liars]));
        prop_assert_eq!(judge(all).len(), INVARIANTS.len());
    }

    /// No acknowledged event can go missing at any cloud without being missed.
    #[test]
    fn each_missing_event_is_missed(number in 0..EVENTS, cloud in 0..3_usize) {
        let mut all = good(&[]);
        let id = format!("c0-{number}");
        all.retain(|what| !matches!(what, What::Listed { cloud: at, id: of, .. } if at == CLOUDS[cloud] && *of == id));
        let told = failures(&judge(all));
        prop_assert!(told.contains(&format!("is lost at {}", CLOUDS[cloud])), "{}", told);
    }
}
