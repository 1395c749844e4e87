//! Answers of one cloud about one id that are possible, and such that are not.

use super::*;
use crate::history::{LOST_STATE, Record, What};

const ID: &str = "x-0";

fn run() -> What {
    let clouds: Vec<String> = ["aws", "azure", "gcp"].map(String::from).to_vec();
    let nodes = vec![];
    What::Run { layer: "test".into(), seed: 1, clouds, nodes, liars: vec!["gcp".into()], version: "0".into() }
}

fn ask(client: u64, cloud: &str, content: &str) -> What {
    What::Invoked { client, cloud: cloud.into(), id: ID.into(), content: content.into() }
}

fn yes(client: u64, content: &str, new: bool) -> What {
    What::Acknowledged { client, cloud: String::new(), id: ID.into(), content: content.into(), new, repeated: false }
}

fn again(client: u64, content: &str) -> What {
    let (cloud, id, content) = (String::new(), ID.into(), content.into());
    What::Acknowledged { client, cloud, id, content, new: false, repeated: true }
}

fn no(client: u64, first: &str) -> What {
    let (cloud, id, code) = (String::new(), ID.into(), ID_REUSE.into());
    What::Refused { client, cloud, id, code, first: Some(first.into()) }
}

fn unknown(client: u64) -> What {
    What::Unknown { client, cloud: String::new(), id: ID.into(), why: "timeout".into() }
}

fn judge(whats: impl IntoIterator<Item = What>, limit: Duration) -> Verdict {
    let whats = std::iter::once(run()).chain(whats);
    let history: Vec<Record> = whats.map(|what| Record { time_ns: 0, what }).collect();
    within(&Run::of(&history).unwrap(), limit)
}

#[track_caller]
fn possible(whats: impl IntoIterator<Item = What>) {
    assert_eq!(judge(whats, Duration::from_secs(60)), Verdict::Holds);
}

#[track_caller]
fn impossible(whats: impl IntoIterator<Item = What>) {
    let verdict = judge(whats, Duration::from_secs(60));
    assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
}

#[test]
fn the_first_content_is_kept() {
    possible([
        ask(1, "aws", "a"),
        yes(1, "a", true),
        ask(2, "aws", "b"),
        no(2, "a"),
        ask(1, "aws", "a"),
        yes(1, "a", false),
    ]);
    impossible([ask(1, "aws", "a"), yes(1, "a", true), ask(2, "aws", "b"), yes(2, "b", true)]);
    impossible([ask(1, "aws", "a"), yes(1, "a", true), ask(2, "aws", "a"), yes(2, "a", true)]);
    impossible([ask(1, "aws", "a"), yes(1, "a", true), ask(2, "aws", "b"), no(2, "c")]);
}

#[test]
fn a_first_submission_is_new_unless_an_earlier_try_of_it_was_taken() {
    possible([ask(1, "aws", "a"), again(1, "a")]);
    impossible([ask(1, "aws", "a"), yes(1, "a", false)]);
}

#[test]
fn concurrent_submissions_have_one_winner() {
    let both = || [ask(1, "aws", "a"), ask(2, "aws", "b")];
    possible(both().into_iter().chain([no(1, "b"), yes(2, "b", true)]));
    impossible(both().into_iter().chain([no(1, "b"), no(2, "a")]));
    impossible(both().into_iter().chain([yes(1, "a", true), yes(2, "b", true)]));
}

#[test]
fn contents_come_from_other_clouds_only_after_they_were_submitted_there() {
    possible([ask(1, "azure", "a"), yes(1, "a", true), ask(2, "aws", "b"), no(2, "a")]);
    // Held beside the first one: then its content is known here too.
    possible([
        ask(1, "aws", "a"),
        yes(1, "a", true),
        ask(2, "azure", "b"),
        yes(2, "b", true),
        ask(2, "aws", "b"),
        yes(2, "b", false),
    ]);
    impossible([ask(2, "aws", "b"), no(2, "a"), ask(1, "azure", "a"), yes(1, "a", true)]);
    // What every cloud refused comes from nowhere.
    impossible([
        ask(1, "azure", "c"),
        yes(1, "c", true),
        ask(1, "azure", "a"),
        no(1, "c"),
        ask(2, "aws", "b"),
        no(2, "a"),
    ]);
}

#[test]
fn an_unanswered_submission_may_take_effect_at_any_time_or_never() {
    possible([ask(1, "aws", "a"), unknown(1), ask(2, "aws", "b"), yes(2, "b", true)]);
    possible([ask(1, "aws", "a"), unknown(1), ask(2, "aws", "b"), no(2, "a")]);
    possible([ask(1, "aws", "a"), ask(2, "aws", "b"), no(2, "a")]);
}

#[test]
fn a_lost_state_forgets_once_and_what_liars_answer_is_not_judged() {
    let lost =
        || What::FaultBegan { number: 1, fault: LOST_STATE.into(), on: vec!["aws".into()], detail: String::new() };
    let first = || [ask(1, "aws", "a"), yes(1, "a", true)];
    possible(first().into_iter().chain([lost(), ask(2, "aws", "b"), yes(2, "b", true)]));
    // Once it is over nothing is forgotten any more.
    let over = || What::FaultEnded { number: 1 };
    let after = |lost: [What; 2]| lost.into_iter().chain(first()).chain([ask(2, "aws", "b"), yes(2, "b", true)]);
    impossible(after([lost(), over()]));
    possible(first().into_iter().chain([lost(), ask(2, "aws", "b"), no(2, "a")]));
    impossible(first().into_iter().chain([
        lost(),
        ask(2, "aws", "b"),
        yes(2, "b", true),
        ask(2, "aws", "c"),
        yes(2, "c", true),
    ]));
    possible([ask(1, "gcp", "a"), yes(1, "a", true), ask(2, "gcp", "b"), yes(2, "b", true)]);
}

#[test]
fn no_time_is_no_pass() {
    let verdict = judge([ask(1, "aws", "a"), yes(1, "a", true)], Duration::ZERO);
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict:?}");
}
