//! What must hold of the clouds' states, whoever brought them there: the model checker asks in every
//! state that it explores, the simulation every few seconds and at the end (`sim/views.rs`). One
//! invariant a file, all listed here.
//!
//! They see `Views`, a small picture of what each cloud holds, and nothing else.

mod agreement_settles;
mod conflicts_convict;
mod double_votes_are_flagged;
mod evidence_verifies;
mod finals_conflict_only_by_a_lie;
mod heads_agree;
mod honest_clouds_are_never_accused;
mod levels_agree;
mod levels_have_votes;
mod levels_never_fall;
mod logs_only_grow;
mod mirrors_are_prefixes;
mod one_vote_per_key;
mod sealed_never_conflicts;
mod views;

pub use views::{CloudView, EventView, LogView, Proof, Views, VoteView};

/// Holds, or says what broke it.
pub type Verdict = Result<(), String>;

/// An invariant of all clouds at one moment, by name.
pub type OfState = (&'static str, fn(&Views<'_>) -> Verdict);
/// An invariant of an honest cloud at rest, among all clouds at that moment, by name.
pub type OfOwner = (&'static str, fn(&CloudView, &Views<'_>) -> Verdict);
/// An invariant of what one cloud was and is, by name.
pub type OfChange = (&'static str, fn(&CloudView, &CloudView) -> Verdict);

/// What must hold in every state.
pub const ALWAYS: [OfState; 6] = [
    ("no honest cloud is ever accused", honest_clouds_are_never_accused::check),
    ("all evidence verifies offline", evidence_verifies::check),
    ("nothing contradicts a SEALED", sealed_never_conflicts::check),
    ("FINALs conflict only if a cloud lies", finals_conflict_only_by_a_lie::check),
    ("an honest cloud votes once for a key, ever", one_vote_per_key::check),
    ("a quorum of clouds voted for what is FINAL", levels_have_votes::check),
];

/// What must hold of each honest cloud at rest: its view holds everything that it has committed. Where
/// a cloud has several replicas, the one that was read may lag behind what others know of it already.
pub const AT_REST: [OfOwner; 1] = [("a mirror of an honest log is a prefix of it", mirrors_are_prefixes::check)];

/// What must hold between two states of one cloud that lost nothing in between: before, after.
pub const ON_CHANGE: [OfChange; 2] = [
    ("FINAL and SEALED never go back", levels_never_fall::check),
    ("logs, audits and proofs only grow", logs_only_grow::check),
];

/// What must hold once the honest clouds have told each other everything. Views are of honest
/// clouds only, all of those that are up.
pub const WHEN_QUIET: [OfState; 5] = [
    ("honest clouds agree on every level, mark and content", levels_agree::check),
    ("honest clouds hold the same honest logs", heads_agree::check),
    ("conflicting FINALs convict a liar", conflicts_convict::check),
    ("whoever answered a key twice is flagged", double_votes_are_flagged::check),
    ("what honest clouds agree on is settled", agreement_settles::check),
];

/// The name of an invariant that does not hold, and what broke it.
pub type Broken = (&'static str, String);

/// Every invariant of a state that does not hold.
pub fn broken(invariants: &[OfState], views: &Views<'_>) -> Vec<Broken> {
    invariants.iter().filter_map(|(name, check)| Some((*name, check(views).err()?))).collect()
}

/// Every invariant of a cloud at rest that does not hold.
pub fn broken_at_rest(owner: &CloudView, views: &Views<'_>) -> Vec<Broken> {
    AT_REST.iter().filter_map(|(name, check)| Some((*name, check(owner, views).err()?))).collect()
}

/// Every invariant of a change that does not hold.
pub fn broken_by(before: &CloudView, after: &CloudView) -> Vec<Broken> {
    ON_CHANGE.iter().filter_map(|(name, check)| Some((*name, check(before, after).err()?))).collect()
}
