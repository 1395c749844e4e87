//! Evidence: a self-contained proof that a cloud lied, verifiable by a stranger from the evidence
//! and the federation's public keys. It never expires, and it convicts only by signed bodies.

mod apply;
mod bytes;

pub(crate) use apply::{apply, convict, touch_unsettled};

use crate::epochs::Opening;
use crate::genesis::Genesis;
use crate::ids::{CloudId, Hash};
use crate::leases::SignedVote;
use crate::transparency::{Leaf, SignedNote, Vote, leaf_hash, root_from_inclusion};
use serde::{Deserialize, Serialize};

/// What HTTP calls evidence.
pub const MEDIA_TYPE: &str = "application/vnd.tercet.evidence";

/// "This leaf stands at this index of the log that this note signs."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub note: SignedNote,
    pub index: u64,
    pub leaf: Leaf,
    pub proof: Vec<Hash>,
}

/// The lie. The two parts are ordered by their bytes, so that each lie has one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lie {
    /// Two different votes for one tag, at two places: in any epochs, at any indexes.
    DoubleVote(Box<Statement>, Box<Statement>),
    /// Two notes of one epoch with the same size and another root.
    ForkAtSize(Box<SignedNote>, Box<SignedNote>),
    /// Two leaves at one index of one epoch.
    ForkAtIndex(Box<Statement>, Box<Statement>),
    /// Two notes of one epoch, neither of which grew from the other: each says less than the other of
    /// something that only grows.
    DivergingNotes(Box<SignedNote>, Box<SignedNote>),
    /// Two votes on a lease with one key (lease, token, renewal) for different claims.
    DoubleLeaseVote(Box<SignedVote>, Box<SignedVote>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub cloud: CloudId,
    pub lie: Lie,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this evidence convicts nobody: {0}")]
pub struct NotEvidence(pub String);

impl Evidence {
    /// Two votes of one cloud for one tag. If they claim the same place of one log, the lie is a
    /// fork at that index: each lie has one form.
    pub fn double_vote(a: Statement, b: Statement) -> Self {
        if a.place() == b.place() {
            return Self::fork_at_index(a, b);
        }
        let cloud = a.note.body.origin.cloud.clone();
        let (a, b) = ordered(a, b, Statement::bytes);
        Self { cloud, lie: Lie::DoubleVote(Box::new(a), Box::new(b)) }
    }

    pub fn fork_at_size(a: SignedNote, b: SignedNote) -> Self {
        let cloud = a.body.origin.cloud.clone();
        let (a, b) = ordered(a, b, |note| note.text().into_bytes());
        Self { cloud, lie: Lie::ForkAtSize(Box::new(a), Box::new(b)) }
    }

    pub fn diverging_notes(a: SignedNote, b: SignedNote) -> Self {
        let cloud = a.body.origin.cloud.clone();
        let (a, b) = ordered(a, b, |note| note.text().into_bytes());
        Self { cloud, lie: Lie::DivergingNotes(Box::new(a), Box::new(b)) }
    }

    pub fn double_lease_vote(a: SignedVote, b: SignedVote) -> Self {
        let cloud = a.vote.cloud.clone();
        let (a, b) = ordered(a, b, SignedVote::bytes);
        Self { cloud, lie: Lie::DoubleLeaseVote(Box::new(a), Box::new(b)) }
    }

    /// What two votes on a lease prove, if no honest cloud gives both.
    pub(crate) fn of_lease_votes(a: &SignedVote, b: &SignedVote) -> Option<Self> {
        let lies = a.vote.cloud == b.vote.cloud && contradict(a, b).is_ok();
        lies.then(|| Self::double_lease_vote(a.clone(), b.clone()))
    }

    /// What two notes of one epoch prove, if no honest cloud signs both.
    pub(crate) fn of_notes(a: &SignedNote, b: &SignedNote) -> Option<Self> {
        let forks = a.body.origin == b.body.origin && a.body.size == b.body.size && a.body.root != b.body.root;
        let (first, second) = (a.clone(), b.clone());
        if forks {
            return Some(Self::fork_at_size(first, second));
        }
        a.body.diverges_from(&b.body).then(|| Self::diverging_notes(first, second))
    }

    pub fn fork_at_index(a: Statement, b: Statement) -> Self {
        let cloud = a.note.body.origin.cloud.clone();
        let (a, b) = ordered(a, b, Statement::bytes);
        Self { cloud, lie: Lie::ForkAtIndex(Box::new(a), Box::new(b)) }
    }

    /// Names the evidence: a hash of its bytes.
    pub fn id(&self) -> Hash {
        crate::wire::sha256(&self.bytes())
    }

    /// Checks every signature, proof and the contradiction itself. `openings` are the epochs that
    /// the verifier knows, each checked against the genesis.
    pub fn verify(&self, genesis: &Genesis, openings: &[Opening]) -> Result<(), NotEvidence> {
        for note in self.notes() {
            note.verify_among(genesis, openings).map_err(|error| NotEvidence(error.to_string()))?;
            if note.body.origin.cloud != self.cloud {
                return refuse(format!("a note is of {}, not of {}", note.body.origin.cloud, self.cloud));
            }
        }
        for signed in self.lease_votes() {
            signed.verify(genesis, openings).map_err(|error| NotEvidence(error.to_string()))?;
            if signed.vote.cloud != self.cloud {
                return refuse(format!("a vote is of {}, not of {}", signed.vote.cloud, self.cloud));
            }
        }
        if !self.is_ordered() {
            return refuse("its two parts are not in order".into());
        }
        match &self.lie {
            Lie::DoubleVote(a, b) => verify_double_vote(a, b),
            Lie::ForkAtSize(a, b) => verify_fork_at_size(a, b),
            Lie::ForkAtIndex(a, b) => verify_fork_at_index(a, b),
            Lie::DivergingNotes(a, b) => verify_diverging_notes(a, b),
            Lie::DoubleLeaseVote(a, b) => contradict(a, b),
        }
    }

    /// What the lie is called in listings.
    pub fn kind(&self) -> &'static str {
        match self.lie {
            Lie::DoubleVote(..) => "double-vote",
            Lie::ForkAtSize(..) => "fork-at-size",
            Lie::ForkAtIndex(..) => "fork-at-index",
            Lie::DivergingNotes(..) => "diverging-notes",
            Lie::DoubleLeaseVote(..) => "double-lease-vote",
        }
    }

    pub(crate) fn notes(&self) -> Vec<&SignedNote> {
        match &self.lie {
            Lie::DoubleVote(a, b) | Lie::ForkAtIndex(a, b) => vec![&a.note, &b.note],
            Lie::ForkAtSize(a, b) | Lie::DivergingNotes(a, b) => vec![a, b],
            Lie::DoubleLeaseVote(..) => Vec::new(),
        }
    }

    pub(crate) fn lease_votes(&self) -> Vec<&SignedVote> {
        match &self.lie {
            Lie::DoubleLeaseVote(a, b) => vec![a, b],
            _ => Vec::new(),
        }
    }

    fn is_ordered(&self) -> bool {
        match &self.lie {
            Lie::DoubleVote(a, b) | Lie::ForkAtIndex(a, b) => a.bytes() < b.bytes(),
            Lie::ForkAtSize(a, b) | Lie::DivergingNotes(a, b) => a.text() < b.text(),
            Lie::DoubleLeaseVote(a, b) => a.bytes() < b.bytes(),
        }
    }
}

impl Statement {
    /// The log and the index: what a cloud may fill once.
    fn place(&self) -> (&crate::transparency::Origin, u64) {
        (&self.note.body.origin, self.index)
    }

    /// Whether the leaf stands where the statement says.
    fn is_proven(&self) -> bool {
        let leaf = leaf_hash(&self.leaf.bytes());
        root_from_inclusion(leaf, self.index, self.note.body.size, &self.proof) == Some(self.note.body.root)
    }

    /// Checks the note's signatures and the proof.
    pub fn verify(&self, genesis: &Genesis, openings: &[Opening]) -> Result<(), NotEvidence> {
        self.note.verify_among(genesis, openings).map_err(|error| NotEvidence(error.to_string()))?;
        if self.is_proven() { Ok(()) } else { refuse("the leaf is not in the log that its note signs".into()) }
    }

    fn vote(&self) -> Option<&Vote> {
        match &self.leaf {
            Leaf::Vote(vote) => Some(vote),
            Leaf::Open(_) | Leaf::Held { .. } => None,
        }
    }
}

fn verify_double_vote(a: &Statement, b: &Statement) -> Result<(), NotEvidence> {
    let (Some(first), Some(second)) = (a.vote(), b.vote()) else {
        return refuse("a leaf is not a vote".into());
    };
    if first.tag != second.tag {
        return refuse("the votes are for different tags".into());
    }
    // The envelope is what a cloud happened to see first: it is no part of its answer.
    if first.verdict == second.verdict && first.content == second.content {
        return refuse("the votes say the same".into());
    }
    if a.place() == b.place() {
        return refuse("the votes claim one place of one log; that is a fork at an index".into());
    }
    verify_proofs(a, b)
}

/// Bodies are compared, never signatures: other signers or other audits are no contradiction.
fn verify_fork_at_size(a: &SignedNote, b: &SignedNote) -> Result<(), NotEvidence> {
    if a.body.origin != b.body.origin {
        return refuse("the notes are of different epochs".into());
    }
    if a.body.size != b.body.size {
        return refuse("the notes are of different sizes".into());
    }
    if a.body.root == b.body.root {
        return refuse("the notes have the same root".into());
    }
    Ok(())
}

fn verify_diverging_notes(a: &SignedNote, b: &SignedNote) -> Result<(), NotEvidence> {
    if a.body.origin != b.body.origin {
        return refuse("the notes are of different epochs".into());
    }
    if a.body.size == b.body.size && a.body.root != b.body.root {
        return refuse("the notes have one size and two roots; that is a fork at a size".into());
    }
    if !a.body.diverges_from(&b.body) {
        return refuse("one of the notes grew from the other".into());
    }
    Ok(())
}

fn verify_fork_at_index(a: &Statement, b: &Statement) -> Result<(), NotEvidence> {
    if a.note.body.origin != b.note.body.origin {
        return refuse("the leaves are of different epochs".into());
    }
    if a.index != b.index {
        return refuse("the leaves are at different indexes".into());
    }
    if a.leaf == b.leaf {
        return refuse("the leaves are the same".into());
    }
    verify_proofs(a, b)
}

/// A cloud's votes on one lease have growing keys, so each key is of one claim. Only the time of day may differ.
fn contradict(a: &SignedVote, b: &SignedVote) -> Result<(), NotEvidence> {
    let key = |signed: &SignedVote| {
        let claim = &signed.vote.claim;
        (claim.tenant.clone(), claim.lease.clone(), claim.ballot())
    };
    if key(a) != key(b) {
        return refuse("the votes have different keys".into());
    }
    if (&a.vote.claim, &a.vote.scope) == (&b.vote.claim, &b.vote.scope) {
        return refuse("the votes say the same".into());
    }
    Ok(())
}

fn verify_proofs(a: &Statement, b: &Statement) -> Result<(), NotEvidence> {
    match [a, b].into_iter().find(|statement| !statement.is_proven()) {
        None => Ok(()),
        Some(Statement { note, index, .. }) => {
            refuse(format!("leaf {index} is not in the log of {} leaves that its note signs", note.body.size))
        }
    }
}

fn refuse(why: String) -> Result<(), NotEvidence> {
    Err(NotEvidence(why))
}

fn ordered<T>(a: T, b: T, bytes: impl Fn(&T) -> Vec<u8>) -> (T, T) {
    if bytes(&b) < bytes(&a) { (b, a) } else { (a, b) }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Evidence whose signatures the proposing leader has verified.
    Accuse(Box<Evidence>),
    /// A vote of a flagged cloud from a branch of its log that this cloud does not mirror.
    Testify(Box<Statement>),
}
