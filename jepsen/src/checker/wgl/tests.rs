//! Known histories of a register, and a comparison with the definition itself: all orders.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Write(u8),
    Read(u8),
    /// Writes the second value if the first is there.
    Swap(u8, u8),
}

struct OneRegister;

impl Model for OneRegister {
    type Operation = Register;
    type State = u8;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, operation: &Register) -> Option<u8> {
        match *operation {
            Register::Write(value) => Some(value),
            Register::Read(value) => (value == *state).then_some(value),
            Register::Swap(from, to) => (from == *state).then_some(to),
        }
    }
}

use Register::{Read, Swap, Write};

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn judge(operations: &[(Register, usize, Option<usize>)]) -> Linearizable {
    let operation = |&(what, invoked, returned)| Operation { what, invoked, returned };
    check(&OneRegister, operations.iter().map(operation).collect(), later())
}

#[test]
fn sequential_histories() {
    assert_eq!(judge(&[]), Linearizable::Yes);
    assert_eq!(judge(&[(Write(1), 0, Some(1)), (Read(1), 2, Some(3))]), Linearizable::Yes);
    let stale = judge(&[(Write(1), 0, Some(1)), (Write(2), 2, Some(3)), (Read(1), 4, Some(5))]);
    assert_eq!(stale, Linearizable::No("after 2 operations, in state 2, none fits of [Read(1)]".into()));
}

#[test]
fn concurrent_writes_may_take_effect_in_any_order_but_in_one() {
    let two = [(Write(1), 0, Some(5)), (Write(2), 1, Some(4))];
    assert_eq!(judge(&[two[0], two[1], (Read(1), 6, Some(7))]), Linearizable::Yes);
    assert_eq!(judge(&[two[0], two[1], (Read(2), 6, Some(7))]), Linearizable::Yes);
    let both = judge(&[two[0], two[1], (Read(1), 6, Some(7)), (Read(2), 8, Some(9))]);
    assert!(matches!(both, Linearizable::No(_)));
}

#[test]
fn a_read_that_was_answered_fixes_the_order_for_later_reads() {
    // The write is still going on; once someone read it, nobody reads the old value any more.
    let history = [(Write(1), 0, Some(9)), (Read(1), 1, Some(2)), (Read(0), 3, Some(4))];
    assert!(matches!(judge(&history), Linearizable::No(_)));
    assert_eq!(judge(&[history[0], (Read(0), 1, Some(2)), (Read(1), 3, Some(4))]), Linearizable::Yes);
}

#[test]
fn an_operation_without_an_answer_may_take_effect_late_or_never() {
    let write = (Write(1), 0, None);
    assert_eq!(judge(&[write, (Read(0), 1, Some(2))]), Linearizable::Yes);
    assert_eq!(judge(&[write, (Read(0), 1, Some(2)), (Read(1), 3, Some(4))]), Linearizable::Yes);
    let once = judge(&[write, (Read(1), 1, Some(2)), (Write(2), 3, Some(4)), (Read(1), 5, Some(6))]);
    assert!(matches!(once, Linearizable::No(_)), "it takes effect once");
}

#[test]
fn only_one_of_two_swaps_from_the_same_value_succeeds() {
    assert!(matches!(judge(&[(Swap(0, 1), 0, Some(5)), (Swap(0, 2), 1, Some(4))]), Linearizable::No(_)));
    assert_eq!(judge(&[(Swap(0, 1), 0, Some(5)), (Swap(1, 2), 1, Some(4))]), Linearizable::Yes);
}

#[test]
fn time_running_out_is_unknown_and_never_a_pass() {
    let operations = vec![Operation { what: Write(1), invoked: 0, returned: Some(1) }];
    assert_eq!(check(&OneRegister, operations, Instant::now()), Linearizable::Unknown);
}

/// Without its memory of what was tried, this search would go through 12! orders.
#[test]
fn many_concurrent_operations_are_decided_fast() {
    let mut operations: Vec<_> = (0..12).map(|at| (Write(at % 3), usize::from(at), Some(100))).collect();
    operations.push((Read(7), 101, Some(102)));
    assert!(matches!(judge(&operations), Linearizable::No(_)));
    operations.pop();
    operations.push((Read(2), 101, Some(102)));
    assert_eq!(judge(&operations), Linearizable::Yes);
}

#[test]
fn memory_running_out_is_unknown_too() {
    let mut operations: Vec<_> = (0..40).map(|at| (Write(at), usize::from(at), Some(100))).collect();
    operations.push((Read(99), 101, Some(102)));
    assert_eq!(judge(&operations), Linearizable::Unknown);
}

/// The definition: some order of some of the operations, all answered ones among them, respects real
/// time and the model.
fn by_definition(left: &[Operation<Register>], state: u8) -> bool {
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    (0..left.len()).any(|at| {
        let first = &left[at];
        let too_late = left.iter().any(|other| other.returned.is_some_and(|returned| returned < first.invoked));
        let mut rest = left.to_vec();
        rest.remove(at);
        !too_late && OneRegister.step(&state, &first.what).is_some_and(|state| by_definition(&rest, state))
    })
}

fn operations() -> impl Strategy<Value = Vec<Operation<Register>>> {
    let what = prop_oneof![
        (0..3_u8).prop_map(Write),
        (0..3_u8).prop_map(Read),
        (0..3_u8, 0..3_u8).prop_map(|(from, to)| Swap(from, to)),
    ];
    // Even places begin and odd places end, so that no two records share one.
    let operation = (what, 0..12_usize, 0..8_usize, 0..4_u8).prop_map(|(what, begin, lasts, answered)| Operation {
        what,
        invoked: 2 * begin,
        returned: (answered > 0).then_some(2 * (begin + lasts) + 1),
    });
    proptest::collection::vec(operation, 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_search_agrees_with_the_definition(operations in operations()) {
        let expected = by_definition(&operations, 0);
        let found = check(&OneRegister, operations, later());
        prop_assert_eq!(found == Linearizable::Yes, expected, "{:?}", found);
    }
}
