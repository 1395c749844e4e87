//! A checker is only worth something if it catches what it is for: each planted fault is found by
//! exactly the invariant that names it.

use super::*;
use crate::history::{Harm, What};

/// A good history: two harms, 120 events, seen FINAL, listed everywhere.
fn good() -> Vec<What> {
    let content = |number: usize| format!("hash-{number}");
    let mut all = Vec::new();
    let submit = |numbers: std::ops::Range<usize>, all: &mut Vec<What>| {
        for number in numbers {
            let id = format!("c0-{number}");
            all.push(What::Invoked { client: 0, cloud: "aws".into(), id: id.clone(), content: content(number) });
            all.push(What::Acknowledged { client: 0, id: id.clone(), content: content(number), new: true });
            let level = if number % 2 == 0 { "FINAL" } else { "PENDING" };
            let (level, cloud) = (level.into(), "gcp".into());
            all.push(What::Observed { cloud, id, level, content: Some(content(number)) });
        }
    };
    submit(0..40, &mut all);
    for (how, cloud, numbers) in [(Harm::KillLeader, "aws", 40..80), (Harm::KillCloud, "azure", 80..120)] {
        all.push(What::Harmed { how, cloud: cloud.into(), nodes: vec![format!("{cloud}-1")] });
        submit(numbers, &mut all);
        all.push(What::Restored { cloud: cloud.into() });
    }
    all.push(What::Healed { took_ms: 5, within_ms: 10, complete: true });
    for cloud in CLOUDS {
        for number in 0..120 {
            let (id, level) = (format!("c0-{number}"), "SEALED".into());
            all.push(What::Listed { cloud: cloud.into(), id, level, content: Some(content(number)) });
        }
        all.push(What::Listed { cloud: cloud.into(), id: "hello-1".into(), level: "SEALED".into(), content: None });
        for of in CLOUDS {
            all.push(What::Head { by: cloud.into(), of: of.into(), size: 9, root: "r".into() });
        }
    }
    all
}

fn judge(whats: Vec<What>) -> Vec<String> {
    let history: Vec<Record> = whats.into_iter().map(|what| Record { at_ms: 0, what }).collect();
    check(&history).into_iter().map(|(name, why)| format!("{name}: {why}")).collect()
}

fn broken(change: impl FnOnce(&mut Vec<What>)) -> String {
    let mut history = good();
    // The greeting has content in real histories; here it must not matter to any invariant.
    history.retain(|what| !matches!(what, What::Listed { id, .. } if id == "hello-1"));
    change(&mut history);
    let found = judge(history);
    assert!(!found.is_empty(), "the fault was not found");
    found.join("\n")
}

fn listed<'a>(history: &'a mut [What], at: &str, wanted: &str) -> &'a mut What {
    let is_it = |what: &&mut What| matches!(what, What::Listed { cloud, id, .. } if cloud == at && id == wanted);
    history.iter_mut().find(is_it).unwrap()
}

#[test]
fn a_good_history_passes() {
    let mut history = good();
    history.retain(|what| !matches!(what, What::Listed { id, .. } if id == "hello-1"));
    assert_eq!(judge(history), Vec::<String>::new());
}

#[test]
fn a_lost_event_is_found() {
    let found = broken(|history| {
        history.retain(|what| !matches!(what, What::Listed { cloud, id, .. } if cloud == "azure" && id == "c0-7"));
    });
    assert!(found.contains("c0-7 was acknowledged and is lost at azure"), "{found}");
}

#[test]
fn a_doubled_event_is_found() {
    let found = broken(|history| {
        let again = listed(history, "aws", "c0-3").clone();
        history.push(again);
    });
    assert!(found.contains("exactly once"), "{found}");
}

#[test]
fn a_changed_content_is_found() {
    let found = broken(|history| {
        if let What::Listed { content, .. } = listed(history, "gcp", "c0-5") {
            *content = Some("other".into());
        }
    });
    assert!(found.contains("c0-5") && found.contains("other"), "{found}");
}

#[test]
fn a_reversed_final_is_found() {
    let found = broken(|history| {
        if let What::Listed { level, .. } = listed(history, "gcp", "c0-2") {
            *level = "PENDING".into();
        }
    });
    assert!(found.contains("c0-2 was FINAL"), "{found}");
}

#[test]
fn an_invented_event_is_found() {
    let found = broken(|history| {
        let (cloud, id) = ("aws".into(), "c9-9".into());
        history.push(What::Listed { cloud, id, level: "SEALED".into(), content: Some("x".into()) });
    });
    assert!(found.contains("nobody submitted"), "{found}");
}

#[test]
fn an_event_that_is_never_sealed_is_found() {
    let found = broken(|history| {
        if let What::Listed { level, .. } = listed(history, "aws", "c0-4") {
            *level = "FINAL".into();
        }
    });
    assert!(found.contains("aws lists c0-4 as FINAL"), "{found}");
}

#[test]
fn different_heads_are_found() {
    let found = broken(|history| {
        for what in history.iter_mut() {
            if let What::Head { by, of, root, .. } = what
                && (by.as_str(), of.as_str()) == ("gcp", "aws")
            {
                *root = "another".into();
            }
        }
    });
    assert!(found.contains("the log of aws differs"), "{found}");
}

#[test]
fn runs_without_harm_or_work_are_rejected() {
    let found = broken(|history| history.retain(|what| !matches!(what, What::Harmed { how: Harm::KillCloud, .. })));
    assert!(found.contains("rejected") && found.contains("KillCloud"), "{found}");
    let found = broken(|history| {
        let is_late = |id: &str| id.trim_start_matches("c0-").parse::<usize>().is_ok_and(|number| number >= 80);
        history.retain(|what| !matches!(what, What::Acknowledged { id, .. } if is_late(id)));
    });
    assert!(found.contains("rejected"), "{found}");
}
