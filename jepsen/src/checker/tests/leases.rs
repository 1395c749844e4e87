//! Leases: two holders, tokens that fall, and resources that take what they must refuse.

use super::*;

/// Replaces what the good history says of leases.
fn with(leases: impl Fn(u64) -> Vec<What>) -> Vec<What> {
    let mut all = good(&[]);
    let is_lease = |what: &What| {
        matches!(what, What::Granted { .. } | What::Acted { .. } | What::Stopped { .. } | What::Wrote { .. })
    };
    all.retain(|what| !is_lease(what));
    let at = all.iter().position(|what| matches!(what, What::Healed { .. })).unwrap() as u64;
    before_healing(&mut all, leases(at));
    all
}

#[test]
fn two_holders_at_one_moment_are_found() {
    broken(with(|at| vec![granted("s1", 1, at + 5), granted("s2", 2, at + 9), wrote("s2", 2, true)]), "two hold it");
    // The first one is renewed, and overlaps only then.
    broken(
        with(|at| {
            let renewed = [granted("s1", 1, at + 2), granted("s1", 1, at + 6)];
            renewed.into_iter().chain([granted("s2", 2, at + 9), wrote("s2", 2, true)]).collect()
        }),
        "two hold it",
    );
    holds(with(|at| vec![granted("s1", 1, at + 1), granted("s2", 2, at + 9), wrote("s2", 2, true)]));
    holds(with(|at| vec![granted("s1", 1, at + 9), stopped("s1"), granted("s2", 2, at + 9), wrote("s2", 2, true)]));
}

#[test]
fn tokens_that_do_not_grow_are_found() {
    for token in [1, 2] {
        let later = |at: u64| vec![granted("s1", 2, at + 1), granted("s2", token, at + 9), wrote("s2", token, true)];
        broken(with(later), "was granted after 2");
    }
}

#[test]
fn who_acts_after_its_time_is_found() {
    let late = |at: u64| vec![granted("s1", 1, at + 2), wrote("s1", 1, true), acted("s1", 1), acted("s1", 1)];
    broken(with(late), "whose time is over");
    broken(with(|at| vec![granted("s1", 1, at + 9), wrote("s1", 1, true), acted("s1", 2)]), "whose time is over");
}

#[test]
fn a_resource_that_takes_a_lower_token_is_found() {
    let late = |at: u64| vec![granted("s1", 1, at + 1), granted("s2", 2, at + 9)];
    let with_writes = |writes: [What; 2]| with(move |at| late(at).into_iter().chain(writes.clone()).collect());
    broken(with_writes([wrote("s2", 2, true), wrote("s1", 1, true)]), "took token 1 after 2");
    broken(with_writes([wrote("s2", 2, true), wrote("s1", 2, true)]), "of another holder");
    holds(with_writes([wrote("s2", 2, true), wrote("s1", 1, false)]));
}

#[test]
fn a_run_without_leases_proves_nothing_about_them() {
    found(with(|_| Vec::new()), "UNKNOWN", "no lease");
    found(with(|at| vec![granted("s1", 1, at + 1)]), "REJECTED", "written to");
}
