//! The model checker itself: a small run is green, one that did too little is refused, one that
//! breaks an invariant shows the way, and the known counterexample conflicts and convicts.

use jepsen::model::leases::{self, LeaseModel};
use jepsen::model::{Action, CONFIGS, Config, FinalityModel, Limits, Reach, What, explore, run};
use stateright::Model as _;

fn config(name: &str) -> Config {
    CONFIGS.into_iter().find(|config| config.name == name).expect("a configuration of this name")
}

fn limits(depth: usize) -> Limits {
    Limits { threads: 1, depth: Some(depth) }
}

#[test]
fn honest_clouds_keep_every_invariant() {
    let small = Config { reaches: &[Reach::Final], floor: 200, ..config("honest") };
    let outcome = run(small, limits(4), |_| {});
    assert!(outcome.is_green(), "{:?}\n{:?}", outcome.failures, outcome.counterexample);
    assert_eq!(outcome.reached["FINAL"], 3, "submitted, sent there, sent back");
    assert!(outcome.restarts > 0);
}

#[test]
fn a_run_that_did_too_little_is_refused() {
    let outcome = run(Config { floor: 1_000, ..config("honest") }, limits(1), |_| {});
    assert!(outcome.failures.iter().any(|why| why.contains("at least 1000 are needed")), "{:?}", outcome.failures);
    assert!(outcome.failures.iter().any(|why| why.contains("never reached: SEALED")), "{:?}", outcome.failures);
}

#[test]
fn a_broken_invariant_shows_the_shortest_way() {
    // Whoever takes a liar for honest sees at once that it holds two logs.
    let mut gullible = FinalityModel::new(config("one-liar")).expect("the clouds meet");
    gullible.liars.clear();
    let outcome = explore(gullible, limits(4), |_| {});
    assert!(!outcome.is_green());
    let trace = outcome.counterexample.expect("a way to the violation");
    assert!(trace.contains("1. a client submits") && !trace.contains("2. "), "{trace}");
}

/// gcp and its twin confirm A to aws and B to azure, under a partition.
#[test]
fn two_finals_conflict_and_convict_the_liar() {
    let model = FinalityModel::new(config("one-liar")).expect("the clouds meet");
    let (aws, azure, gcp, twin) = (0, 1, 2, 3);
    let log = |from: u8, cloud: u8, to: u8| Action::Deliver { from, to, what: What::Log(cloud) };
    let steps = [
        Action::Submit { at: aws, event: 0, content: 0 },
        log(aws, aws, gcp),
        log(gcp, gcp, aws),
        Action::Submit { at: azure, event: 0, content: 1 },
        log(azure, azure, twin),
        log(twin, gcp, azure),
    ];
    let mut system = model.init_states().remove(0);
    for step in steps {
        assert!(!model.reaches(&system, Reach::Conflict));
        system = model.next_state(&system, step).expect("the step changes something");
    }
    assert!(model.reaches(&system, Reach::Conflict));
    // Judged as it stands and once the honest clouds have told each other everything: among the
    // invariants is that a conflict convicts, with evidence that a stranger can verify.
    assert_eq!(model.judge(&system), None);
    let compare = Action::Deliver { from: azure, to: aws, what: What::Proofs };
    let convicted = model.next_state(&system, compare).expect("they have been told different things");
    assert!(model.reaches(&convicted, Reach::Convicted));
}

fn lease_config(name: &str) -> leases::Config {
    leases::CONFIGS.into_iter().find(|config| config.name == name).expect("a configuration of this name")
}

#[test]
fn a_lease_has_one_holder_in_every_order_of_few_steps() {
    for config in leases::CONFIGS {
        let outcome = leases::run(leases::Config { floor: 100, reaches: &[], ..config }, limits(5), |_| {});
        assert!(outcome.is_green(), "{}: {:?}\n{:?}", config.name, outcome.failures, outcome.counterexample);
        assert!(outcome.restarts > 0);
    }
}

#[test]
fn a_cloud_that_voted_for_who_lost_joins_the_winner() {
    let outcome = leases::run(leases::Config { floor: 100, ..lease_config("lease-release") }, limits(6), |_| {});
    assert!(outcome.is_green(), "{:?}\n{:?}", outcome.failures, outcome.counterexample);
    assert_eq!(outcome.reached["a cloud joins the winner"], 5, "released, told, shown, renewed, voted");
}

#[test]
fn who_promises_one_holder_beside_a_liar_is_shown_two() {
    let mut gullible = LeaseModel::new(lease_config("lease-liar")).expect("the clouds meet");
    gullible.promised = true;
    let outcome = explore(gullible, limits(7), |_| {});
    let trace = outcome.counterexample.expect("a way to two holders");
    assert!(trace.contains("Lie") && (trace.contains("two hold") || trace.contains("was granted after")), "{trace}");
}
