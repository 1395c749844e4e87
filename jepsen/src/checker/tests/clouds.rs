//! What clouds say of each other and of themselves, and what has to settle.

use super::*;

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
    all.extend(CLOUDS.map(|cloud| listed(cloud, "m0-2", if cloud == "gcp" { "PENDING" } else { "QUARANTINED" }, "g")));
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
