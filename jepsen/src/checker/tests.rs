//! A checker is only worth something if it catches what it is for: each planted fault is found by
//! exactly the invariant that names it, and good histories of every kind pass.

use super::*;
use crate::history::{LOST_STATE, Outcome, Seen, What};
use proptest::prelude::*;

mod clouds;
mod events;
mod leases;
mod run;

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
    What::Acknowledged {
        client,
        cloud: cloud.into(),
        id: id.into(),
        content: content.into(),
        new: true,
        repeated: false,
    }
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
    // Two tenures, one after the other, and a write under each.
    let at = all.len() as u64;
    all.extend([granted("s1", 1, at + 3), acted("s1", 1), wrote("s1", 1, true), stopped("s1")]);
    all.push(granted("s2", 2, at + 10));
    all.extend([wrote("s2", 2, true), wrote("s1", 1, false)]);
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

/// `until` counts records, which are 100 ms apart.
fn granted(session: &str, token: u64, until: u64) -> What {
    What::Granted { lease: "primary".into(), session: session.into(), token, until_ns: until * 100_000_000 }
}

fn acted(session: &str, token: u64) -> What {
    What::Acted { lease: "primary".into(), session: session.into(), token }
}

fn stopped(session: &str) -> What {
    What::Stopped { lease: "primary".into(), session: session.into() }
}

fn wrote(session: &str, token: u64, accepted: bool) -> What {
    let why = (!accepted).then(|| "a higher token was seen".into());
    What::Wrote { lease: "primary".into(), session: session.into(), token, accepted, why }
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
