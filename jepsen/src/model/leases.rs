//! Votes on one lease in every interleaving within bounds: the product's own clouds (`State::apply`) and
//! candidates (`Campaign`). Time goes in steps of half a lease, on holders' clocks that are as slow as is
//! allowed and leaders' clocks that are as fast.

mod system;
mod world;

pub use world::{Action, LeaseModel, World};

use super::run::{Limits, Outcome, Progress, explore};

/// What a run must have reached at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Granted,
    /// The lease went to somebody else after the holder before ran out of time.
    Expired,
    Released,
    /// A claim that brought one vote, and will bring no more.
    Split,
    /// A cloud votes for a tenure after it voted for another one with its token.
    Joined,
    /// Two hold at one moment, which a liar can bring about under `global`.
    TwoHolders,
}

impl Reach {
    pub fn name(self) -> &'static str {
        match self {
            Self::Granted => "a grant",
            Self::Expired => "a grant after another ran out",
            Self::Released => "a grant after a release",
            Self::Split => "a split vote",
            Self::Joined => "a cloud joins the winner",
            Self::TwoHolders => "two holders by a lie",
        }
    }
}

/// Which interleavings are explored. The numbers say how often something may happen at most.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub name: &'static str,
    pub about: &'static str,
    pub scope: &'static str,
    /// Whether `gcp` votes for everybody.
    pub liar: bool,
    /// Claims, steps of time, changes of leaders, restarts of candidates, releases, votes that are lost on their way
    /// to the candidate, and grants that are shown.
    pub asks: u8,
    pub steps: u8,
    pub elections: u8,
    pub restarts: u8,
    pub releases: u8,
    pub lost: u8,
    pub shows: u8,
    /// Whether decided claims are applied later, with others between.
    pub pending: bool,
    /// What happened before the first state; it uses up nothing.
    pub past: &'static [Action],
    pub depth: usize,
    pub floor: usize,
    pub reaches: &'static [Reach],
}

/// Ada was granted the lease by the first two clouds.
const GRANTED: &[Action] = &[Action::Ask { who: 0 }, VOTE_0, VOTE_1];
/// The same, and her time is over everywhere.
const OVER: &[Action] = &[Action::Ask { who: 0 }, VOTE_0, VOTE_1, Action::Pass, Action::Pass, Action::Pass];
/// Both ask at once. The first two clouds vote for Ada, the last one for Bob.
const SPLIT: &[Action] =
    &[Action::Ask { who: 0 }, Action::Ask { who: 1 }, VOTE_0, VOTE_1, Action::Vote { who: 1, cloud: 2, heard: true }];
const VOTE_0: Action = Action::Vote { who: 0, cloud: 0, heard: true };
const VOTE_1: Action = Action::Vote { who: 0, cloud: 1, heard: true };

const NOTHING: Config = Config {
    name: "",
    about: "",
    scope: "global",
    liar: false,
    asks: 3,
    steps: 3,
    elections: 0,
    restarts: 0,
    releases: 0,
    lost: 0,
    shows: 0,
    pending: false,
    past: &[],
    depth: 9,
    floor: 1_000,
    reaches: &[],
};

pub const CONFIGS: [Config; 6] = [
    Config {
        name: "lease-time",
        about: "holders run out of time, and a cloud changes its leader",
        elections: 1,
        floor: 250_000,
        reaches: &[Reach::Granted, Reach::Expired, Reach::Split],
        ..NOTHING
    },
    Config {
        name: "lease-restart",
        about: "a candidate starts again under its name, and a vote does not reach it",
        restarts: 1,
        lost: 1,
        past: GRANTED,
        depth: 8,
        floor: 80_000,
        reaches: &[Reach::Granted, Reach::Expired, Reach::Split],
        ..NOTHING
    },
    Config {
        name: "lease-release",
        about: "holders give a lease back, and who lost a split vote is left for the winner",
        steps: 1,
        releases: 2,
        shows: 2,
        past: SPLIT,
        depth: 8,
        floor: 120_000,
        reaches: &[Reach::Granted, Reach::Released, Reach::Split, Reach::Joined],
        ..NOTHING
    },
    Config {
        name: "lease-pending",
        about: "claims are decided and applied later, after other votes",
        asks: 2,
        steps: 1,
        pending: true,
        past: OVER,
        depth: 10,
        floor: 130_000,
        reaches: &[Reach::Granted, Reach::Expired],
        ..NOTHING
    },
    Config {
        name: "lease-strict",
        about: "a lease that needs all three clouds, one of which votes for everybody",
        scope: "strict",
        liar: true,
        depth: 11,
        floor: 35_000,
        reaches: &[Reach::Granted, Reach::Expired, Reach::Split],
        ..NOTHING
    },
    Config {
        name: "lease-liar",
        about: "a lease that needs two clouds, one of which votes for everybody: two may hold it then",
        liar: true,
        steps: 2,
        depth: 8,
        floor: 15_000,
        reaches: &[Reach::Granted, Reach::TwoHolders],
        ..NOTHING
    },
];

pub fn run(config: Config, limits: Limits, progress: impl FnMut(Progress) + Send) -> Outcome {
    match LeaseModel::new(config) {
        Ok(model) => explore(model, limits, progress),
        Err(broken) => Outcome::broken(config.name, config.about, format!("the clouds cannot even meet: {broken}")),
    }
}
