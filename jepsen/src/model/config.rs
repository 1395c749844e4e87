//! The named configurations: who lies, what may happen how often, what must be reached so that the
//! run says anything, and what is expected to be found.

use super::deliver::What;
use super::system::Action;

/// What a run must have reached at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Final,
    Sealed,
    Quarantined,
    /// Two honest clouds call different contents of one event FINAL.
    Conflict,
    /// An honest cloud holds a proof against a liar.
    Convicted,
    /// A cloud votes in a later epoch than it began with.
    Renewed,
}

impl Reach {
    pub fn name(self) -> &'static str {
        match self {
            Reach::Final => "FINAL",
            Reach::Sealed => "SEALED",
            Reach::Quarantined => "QUARANTINED",
            Reach::Conflict => "FINAL against FINAL",
            Reach::Convicted => "a liar convicted",
            Reach::Renewed => "a vote in a new epoch",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub name: &'static str,
    pub about: &'static str,
    /// Clouds that lie: two unmodified copies run with the same keys. By number, `gcp` is 2.
    pub liars: &'static [usize],
    pub events: usize,
    pub contents: usize,
    /// How often clients submit, clouds lose their state, renew their epoch without a loss, and a
    /// message is kept back to arrive later.
    pub submits: u8,
    pub losses: u8,
    pub rotations: u8,
    pub late: u8,
    /// Clouds that may lose state or rotate.
    pub unlucky: &'static [usize],
    /// Whether bodies travel apart from their logs, too: more interleavings of harmless steps.
    pub bodies: bool,
    /// What happened before the first state, where everything is told: these steps count as well.
    pub past: &'static [Action],
    /// How many steps from the start are explored unless said otherwise.
    pub depth: usize,
    pub reaches: &'static [Reach],
    /// Fewer unique states than this mean that the model did not run.
    pub floor: usize,
}

const NOTHING: Config = Config {
    name: "",
    about: "",
    liars: &[],
    events: 1,
    contents: 2,
    submits: 2,
    losses: 0,
    rotations: 0,
    late: 0,
    unlucky: &[],
    bodies: false,
    past: &[],
    depth: 10,
    reaches: &[],
    floor: 1_000,
};

pub const CONFIGS: [Config; 6] = [
    Config {
        name: "honest",
        about: "no cloud lies; clients want three contents for one event, and a message is late",
        contents: 3,
        submits: 3,
        late: 1,
        bodies: true,
        depth: 7,
        floor: 300_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Quarantined],
        ..NOTHING
    },
    Config {
        name: "one-liar",
        about: "gcp runs twice with one set of keys",
        liars: &[2],
        depth: 7,
        floor: 180_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Conflict, Reach::Convicted],
        ..NOTHING
    },
    Config {
        name: "two-liars",
        about: "azure and gcp both run twice",
        liars: &[1, 2],
        depth: 6,
        floor: 120_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Convicted],
        ..NOTHING
    },
    Config {
        name: "lost-state",
        about: "gcp loses all it had and its keys, and comes back in a new epoch",
        losses: 1,
        unlucky: &[2],
        depth: 7,
        floor: 80_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Renewed],
        ..NOTHING
    },
    Config {
        name: "rotation",
        about: "gcp opens a new epoch with fresh keys and loses nothing",
        rotations: 1,
        unlucky: &[2],
        depth: 7,
        floor: 70_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Renewed],
        ..NOTHING
    },
    Config {
        name: "lost-state-again",
        about: "gcp has lost its state once, with an answer that only aws knew, and loses all it has once more",
        submits: 3,
        losses: 2,
        unlucky: &[2],
        past: &[
            Action::Submit { at: 2, event: 0, content: 0 },
            Action::Deliver { from: 2, to: 0, what: What::Log(2) },
            Action::Lose { at: 2 },
        ],
        events: 2,
        depth: 7,
        floor: 80_000,
        reaches: &[Reach::Final, Reach::Sealed, Reach::Renewed],
        ..NOTHING
    },
];
