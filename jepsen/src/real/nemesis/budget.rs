//! How much harm may be done at once. Tercet promises safety under any crash, pause, cut or slowness,
//! anywhere; so those may overlap freely, and only liveness waits for their end. It does not promise
//! to survive what no replicated system survives, so this is never asked of it:
//!
//! - A disk that lost what it had synced makes its node a liar to Raft. One node of a cloud may be
//!   so, once the two others have all it acknowledged, while all its peers can answer: a wiped node
//!   asks every one of them before it votes.
//! - A cloud that lost all disks comes back only if both other clouds hold its whole log and are there
//!   to close its old epoch. What only that cloud had (PENDING) is not promised, so no client may be
//!   told PENDING shortly before.

/// How much of the cluster a nemesis touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Crashes, cuts and slowness in one cloud: nothing that was synced is lost.
    OneCloud,
    /// A node of one cloud loses what it had synced.
    Damage,
    /// All clouds, or what needs all the others.
    Everything,
}

impl Reach {
    /// Whether both may be in force at the same time, in different clouds.
    pub fn goes_with(self, other: Self) -> bool {
        self != Self::Everything && other != Self::Everything
    }
}
