//! Planted bugs: each is a mistake that somebody could really make, at the place where it would be
//! made. They show that the tests are worth trusting: whatever cannot find these cannot be believed
//! when it finds nothing.
//!
//! This module exists only with the feature `mutants`, which no release build can have. At most one
//! bug is on in a process: the one that [`switch_on`] or the variable `TERCET_MUTANT` names.

use std::sync::atomic::{AtomicU8, Ordering};

/// The variable that names the bug of this process.
pub const VARIABLE: &str = "TERCET_MUTANT";

/// What is expected to catch a bug first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The tests of this crate.
    Core,
    /// The tests of the node.
    Node,
    Model,
    Simulation,
}

macro_rules! planted {
    ($($name:ident, $layer:ident, $place:literal, $bug:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $bug] $name,)*
        }

        impl Mutant {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What is wrong while it is on.
            pub fn bug(self) -> &'static str {
                match self {
                    $(Self::$name => $bug,)*
                }
            }

            /// The file that it is planted in, from the workspace's root.
            pub fn place(self) -> &'static str {
                match self {
                    $(Self::$name => $place,)*
                }
            }

            pub fn expected(self) -> Layer {
                match self {
                    $(Self::$name => Layer::$layer,)*
                }
            }
        }
    };
}

planted! {
    // ---- one cloud: Raft, log, applied state ----
    AcknowledgeBeforeSync, Simulation, "node/src/raft/log_store.rs", "entries count as durable before they are synced";
    ReceivedVotesNotSynced, Simulation, "node/src/raft/log_store.rs", "what other clouds sent counts as durable before it is synced";
    VotesNotSynced, Node, "node/src/raft/log_store.rs", "a Raft vote is given before it is synced";
    CommitPointerAhead, Node, "node/src/raft/log_store.rs", "the committed pointer names the end of the log, whether or not that is committed";
    LeaderRestoreOn, Simulation, "node/src/raft/boot.rs", "a restarted leader goes on leading without an election";
    WipedNodeVotesAtOnce, Node, "node/src/raft/boot.rs", "a node that lost its log votes before it has caught up";
    ReadWithoutReadIndex, Node, "node/src/raft/mod.rs", "a read trusts the local state without asking whether this node still leads";
    WallClockForAt, Simulation, "node/src/raft/propose.rs", "the logged time is the leader's wall clock";
    FlushedWithoutLastApplied, Node, "node/src/raft/flush.rs", "a flush writes the state and forgets how far it goes";
    PurgedBeforeDurable, Node, "node/src/raft/snapshot.rs", "the log is purged up to what is applied, whether or not that is on disk";
    DedupOff, Core, "state-machine/src/events/apply.rs", "a repeated submission is taken as a new event";
    VotesTwice, Core, "state-machine/src/events/apply.rs", "an operator's second decision is a second vote";

    // ---- between clouds: signing, sending, verifying ----
    SignBeforeCommit, Node, "node/src/federation/sign.rs", "nodes sign what is in their log, committed or not";
    LongerHeadIgnored, Node, "node/src/federation/board.rs", "signing goes on although a peer holds more of the own log";
    SignatureCheckSkipped, Node, "node/src/federation/verify.rs", "the signatures of received notes are not verified";
    VoteWithoutTenantSignature, Node, "node/src/federation/verify.rs", "received contents are voted on without their tenant's signature";
    EvidenceNotSentOn, Node, "node/src/federation/serve.rs", "evidence is not announced to other clouds";
    ThresholdOneLess, Core, "state-machine/src/transparency/note.rs", "a note with one signature too few is valid";
    DomainIgnored, Core, "state-machine/src/wire.rs", "hashed and signed bytes do not begin with their domain";

    // ---- mirrors and audits ----
    AuditSkipped, Core, "state-machine/src/mirrors/apply.rs", "the root is not recomputed from the leaves before it is audited";
    DoubleVoteNotLookedFor, Core, "state-machine/src/mirrors/apply.rs", "a second, different vote of a cloud raises no suspicion";
    FlaggedStillAudited, Core, "state-machine/src/mirrors/apply.rs", "a convicted cloud is audited on";
    CursorSkipsALeaf, Node, "state-machine/src/mirrors/apply.rs", "the first leaf of a longer run is stored and its vote not taken";
    EpochIgnored, Core, "state-machine/src/mirrors/apply.rs", "leaves of a closed epoch are still taken";
    RejoinsWithoutClosings, Core, "state-machine/src/epochs/apply.rs", "a cloud that lost its state votes again without the others' closing statements";
    ClosingsFromOneVoter, Core, "state-machine/src/epochs/recovery.rs", "one closing statement is enough to open the next epoch";

    // ---- votes, levels, certificates ----
    RandomSalt, Core, "state-machine/src/events/apply.rs", "each leaf salts its content hash anew";
    ContentHashOverEnvelope, Core, "state-machine/src/events/apply.rs", "a vote's content hash covers the envelope";
    QuorumOfOne, Core, "state-machine/src/events/level.rs", "one vote of three is a quorum";
    FinalWithoutAudits, Core, "state-machine/src/events/level.rs", "votes count before anybody audited them";
    SealedWithoutTheThird, Core, "state-machine/src/events/level.rs", "SEALED does not wait for the third cloud's audit";
    FinalOverwritten, Core, "state-machine/src/events/level.rs", "a late vote for another content takes FINAL away";
    LevelDependsOnOrder, Core, "state-machine/src/events/level.rs", "only the two votes that arrived first count";
    NodeSignaturesAsClouds, Core, "state-machine/src/certificate/proof.rs", "a certificate's quorum counts signatures of nodes";

    // ---- leases ----
    LeaseWaitTooShort, Core, "state-machine/src/leases/mod.rs", "a cloud waits half a lease before it votes for somebody else";
    LeaseVoteNotNamed, Core, "state-machine/src/leases/apply.rs", "a vote is given away although it is newer than the one that was waited out";
    LeaseSessionIgnored, Core, "state-machine/src/leases/mod.rs", "a restarted holder goes on with its predecessor's token and votes";
    LeaseTokenReused, Core, "state-machine/src/leases/apply.rs", "a new tenure may have the token of the one before";
    LeaseFloorIgnored, Core, "state-machine/src/leases/apply.rs", "a renewed cloud votes for tokens that were granted before it lost its state";
    LeaseOfOneVote, Core, "state-machine/src/leases/grant.rs", "one cloud's vote is a grant of a global lease";
    LeaseSignaturesNotChecked, Core, "state-machine/src/leases/grant.rs", "the signatures of lease votes are not verified";
    ReportMacNotChecked, Core, "state-machine/src/agents/apply.rs", "an agent's report is taken without its MAC";
    ReportsReplayed, Core, "state-machine/src/agents/apply.rs", "an agent's old report is taken again";
    StaleAgentsLead, Core, "state-machine/src/agents/election.rs", "an agent that has not reported for long is still elected";
    LeaseHeldTooLong, Core, "state-machine/src/leases/campaign.rs", "a holder acts on after its time is over";
}

/// The variable was not looked at yet.
const UNREAD: u8 = 0;
const NONE: u8 = 1;
/// The first bug; the others follow.
const FIRST: u8 = 2;

static ON: AtomicU8 = AtomicU8::new(UNREAD);

/// Switches this bug on, and every other off, in the whole process.
pub fn switch_on(mutant: Mutant) {
    ON.store(FIRST + mutant as u8, Ordering::SeqCst);
}

pub fn is_on(mutant: Mutant) -> bool {
    let on = match ON.load(Ordering::Relaxed) {
        UNREAD => read_variable(),
        on => on,
    };
    on == FIRST + mutant as u8
}

/// The bug that is on.
pub fn on() -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| is_on(*mutant))
}

/// The bug of this name.
pub fn find(name: &str) -> Option<Mutant> {
    Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
}

#[expect(clippy::disallowed_methods, reason = "test builds only: replicas of one run share the variable")]
fn read_variable() -> u8 {
    let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let on = named.map_or(NONE, |name| {
        let mutant = find(&name).unwrap_or_else(|| panic!("{VARIABLE}={name} names no planted bug"));
        FIRST + mutant as u8
    });
    // `switch_on` may have been first.
    match ON.compare_exchange(UNREAD, on, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => on,
        Err(set) => set,
    }
}
