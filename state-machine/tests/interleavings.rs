//! Whatever the order in which clouds hear of votes, of each other, of duplicates and of lies, the
//! honest ones end up with the same levels; no level ever goes back; nobody honest is accused.

mod clouds;

use clouds::{Clouds, NAMES, id};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tercet_core::events::Level;
use tercet_core::ids::{EventKey, TenantId};
use tercet_core::transparency::Verdict;

#[derive(Debug, Clone)]
enum Step {
    Submit {
        at: usize,
        event: u8,
        payload: u8,
    },
    Decide {
        at: usize,
        event: u8,
        confirm: bool,
    },
    Send {
        from: usize,
        to: usize,
    },
    Relay {
        log: usize,
        via: usize,
        to: usize,
    },
    /// Two clouds find out that they hold different histories of one log.
    Compare {
        from: usize,
        to: usize,
    },
    /// Bodies and proofs alone, ahead of the notes that go with them.
    Proofs {
        from: usize,
        to: usize,
    },
    /// What the liar told one, alone.
    Testimony {
        from: usize,
        to: usize,
    },
}

/// Clouds 0 to 2, and 3 for gcp's twin where there is one.
fn step(labels: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..labels, 0..4_u8, 0..3_u8).prop_map(|(at, event, payload)| Step::Submit { at, event, payload }),
        1 => (0..labels, 4..6_u8, any::<bool>()).prop_map(|(at, event, confirm)| Step::Decide { at, event, confirm }),
        4 => (0..labels, 0..labels).prop_map(|(from, to)| Step::Send { from, to }),
        3 => (0..3_usize, 0..labels, 0..labels).prop_map(|(log, via, to)| Step::Relay { log, via, to }),
        1 => (0..labels, 0..labels).prop_map(|(from, to)| Step::Compare { from, to }),
        1 => (0..labels, 0..labels).prop_map(|(from, to)| Step::Proofs { from, to }),
        1 => (0..labels, 0..labels).prop_map(|(from, to)| Step::Testimony { from, to }),
    ]
}

fn label(at: usize) -> &'static str {
    ["aws", "azure", "gcp", "gcp-twin"][at]
}

fn run(clouds: &mut Clouds, steps: &[Step]) {
    let mut levels = BTreeMap::new();
    for step in steps {
        match *step {
            // Ids 4 and 5 belong to a tenant that confirms by hand.
            Step::Submit { at, event, payload } => {
                let _ = clouds.submit(label(at), "shop", &event.to_string(), &payload.to_string());
                let _ = clouds.submit(label(at), "bank", &(4 + event % 2).to_string(), "X");
            }
            Step::Decide { at, event, confirm } => {
                let verdict = if confirm { Verdict::Confirm } else { Verdict::RejectOperator };
                let _ = clouds.decide(label(at), &event.to_string(), "X", verdict);
            }
            Step::Send { from, to } if id(label(from)) != id(label(to)) => {
                clouds.send(label(from), label(to));
            }
            Step::Relay { log, via, to } if id(NAMES[log]) != id(label(to)) && via != to => {
                clouds.send_log(&id(NAMES[log]), label(via), label(to));
            }
            Step::Compare { from, to } if id(label(from)) != id(label(to)) => {
                clouds.investigate(label(from), label(to));
            }
            Step::Proofs { from, to } if id(label(from)) != id(label(to)) => {
                clouds.send_rest(label(from), label(to));
            }
            Step::Testimony { from, to } if id(label(from)) != id(label(to)) => {
                clouds.send_testimony(label(from), label(to));
            }
            _ => {}
        }
        levels_never_go_back(clouds, &mut levels);
    }
}

/// FINAL and SEALED stay. QUARANTINED may end when a lying cloud votes again.
fn levels_never_go_back(clouds: &Clouds, seen: &mut BTreeMap<(String, String, String), Level>) {
    for (label, (cloud, state)) in &clouds.clouds {
        for (tenant, event) in all_events() {
            let key = EventKey::new("", &event).unwrap();
            let level = state.level(&cloud.records, &TenantId::new(tenant).unwrap(), &key).unwrap();
            let Some(level) = level else { continue };
            let before = seen.insert((label.clone(), tenant.to_string(), event.clone()), level);
            let kept = before.is_none_or(|before| before <= level || before == Level::Quarantined);
            assert!(kept, "{event} at {label} fell from {before:?} to {level:?}");
        }
    }
}

fn all_events() -> impl Iterator<Item = (&'static str, String)> {
    (0..4).map(|event| ("shop", event.to_string())).chain((4..6).map(|event| ("bank", event.to_string())))
}

fn standing(clouds: &Clouds, label: &str, tenant: &str, event: &str) -> String {
    let (cloud, state) = &clouds.clouds[label];
    let key = EventKey::new("", event).unwrap();
    match state.event(&cloud.records, &TenantId::new(tenant).unwrap(), &key).unwrap() {
        None => "unknown".into(),
        Some(view) => format!("{:?} {:?} {:?}", view.record.level, view.record.marks, view.record.settled),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn honest_clouds_agree_in_every_order(steps in prop::collection::vec(step(3), 1..60)) {
        let mut clouds = Clouds::default();
        run(&mut clouds, &steps);
        clouds.exchange(&NAMES);
        for (tenant, event) in all_events() {
            let all = NAMES.map(|label| clouds.show(label, tenant, &event));
            prop_assert_eq!(&all[0], &all[1]);
            prop_assert_eq!(&all[1], &all[2]);
        }
        for label in NAMES {
            prop_assert!(clouds.clouds[label].1.evidence_ids().is_empty(), "an honest cloud was accused");
            for log in NAMES {
                let heads = NAMES.map(|at| clouds.clouds[at].1.head(&id(log)));
                prop_assert_eq!(&heads[0], &heads[1]);
                prop_assert_eq!(&heads[1], &heads[2]);
            }
        }
    }

    #[test]
    fn honest_clouds_agree_although_one_cloud_runs_twice(steps in prop::collection::vec(step(4), 1..60)) {
        let mut clouds = Clouds::default();
        clouds.twin("gcp");
        run(&mut clouds, &steps);
        clouds.exchange(&["aws", "azure"]);
        for (tenant, event) in all_events() {
            let (aws, azure) = (standing(&clouds, "aws", tenant, &event), standing(&clouds, "azure", tenant, &event));
            prop_assert_eq!(aws, azure, "{}\n{}", clouds.show("aws", tenant, &event), clouds.show("azure", tenant, &event));
        }
        for label in ["aws", "azure"] {
            let (cloud, state) = &clouds.clouds[label];
            prop_assert!(!state.is_flagged(&id("aws")) && !state.is_flagged(&id("azure")), "an honest cloud is flagged");
            for evidence in state.evidence(&cloud.records).unwrap() {
                prop_assert_eq!(evidence.verify(&clouds.genesis, &clouds.openings), Ok(()));
            }
        }
    }

    #[test]
    fn two_conflicting_finals_always_convict(steps in prop::collection::vec(step(4), 1..60)) {
        let mut clouds = Clouds::default();
        clouds.twin("gcp");
        run(&mut clouds, &steps);
        clouds.exchange(&["aws", "azure"]);
        for (tenant, event) in all_events() {
            for label in ["aws", "azure"] {
                let (cloud, state) = &clouds.clouds[label];
                let key = EventKey::new("", &event).unwrap();
                let view = state.event(&cloud.records, &TenantId::new(tenant).unwrap(), &key).unwrap();
                if view.is_some_and(|view| view.record.marks.conflict) {
                    prop_assert!(state.is_flagged(&id("gcp")), "a conflict without a proof of who lied");
                }
            }
        }
    }
}
