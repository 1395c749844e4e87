//! Runs that prove nothing, and what could not be judged.

use super::*;

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
