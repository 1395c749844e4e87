//! The named configurations: who lies, what may happen how often, what must be reached so that the
//! run says anything, and what is expected to be found.

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
    /// A cloud votes in a later epoch than its first.
    Renewed,
    /// What is known to be wrong: if it is not found any more, `known` must go.
    Known,
}

/// An invariant that is known not to hold, under a condition, and why. It stays visible: the run
/// must find it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub invariant: &'static str,
    pub when: When,
    pub why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// An honest cloud has no proof against a cloud that lies.
    LiarAtLarge,
    /// A cloud has begun a new epoch.
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
            Reach::Known => "what is known to be wrong",
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
    /// How many steps from the start are explored unless said otherwise.
    pub depth: usize,
    pub reaches: &'static [Reach],
    pub known: &'static [Known],
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
    depth: 10,
    reaches: &[],
    known: &[],
    floor: 1_000,
};

pub const CONFIGS: [Config; 5] = [
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
];
