//! Building the smallest certificate of the highest level that notes and votes prove.

use super::proof::head_in;
use super::{Certificate, ProvenVote};
use crate::content::{Content, Envelope, TenantSecret};
use crate::events::Level;
use crate::genesis::{CLOUDS, Genesis};
use crate::ids::Hash;
use crate::transparency::SignedNote;
use std::collections::BTreeSet;

/// What a certificate discloses of an event: its body, and the salts that tie it to the leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disclosed {
    pub content: Content,
    pub envelope: Envelope,
    pub key_salt: Hash,
    pub content_salt: Hash,
    pub envelope_salt: Hash,
}

impl Disclosed {
    pub fn new(content: Content, envelope: Envelope, secret: &TenantSecret) -> Self {
        let content_hash = content.hash();
        Self {
            key_salt: secret.key_salt(&content.key),
            content_salt: secret.content_salt(&content_hash),
            envelope_salt: secret.envelope_salt(&envelope.hash(&content_hash)),
            content,
            envelope,
        }
    }
}

impl Certificate {
    /// The certificate of the highest level that follows, `None` if none does. `notes` are at most
    /// one a cloud, their signatures verified; `votes` are the confirming votes for this content,
    /// with a proof for every size that a note names. What is not needed is left out.
    pub fn build(genesis: &Genesis, disclosed: &Disclosed, notes: &[SignedNote], votes: &[ProvenVote]) -> Option<Self> {
        for level in [Level::Sealed, Level::Final] {
            for chosen in subsets(votes) {
                let certificate = assemble(level, disclosed, notes, &chosen);
                if certificate.prove(genesis).is_ok_and(|proven| proven.level == level) {
                    return Some(certificate);
                }
            }
        }
        None
    }
}

/// The parts that this level needs for these votes, as far as they are there.
fn assemble(level: Level, disclosed: &Disclosed, notes: &[SignedNote], votes: &[&ProvenVote]) -> Certificate {
    let needed =
        |note: &&SignedNote| level == Level::Sealed || votes.iter().any(|vote| vote.cloud == note.body.origin.cloud);
    let mut notes: Vec<SignedNote> = notes.iter().filter(needed).cloned().collect();
    notes.sort_by(|a, b| a.body.origin.cmp(&b.body.origin));
    let mut votes: Vec<ProvenVote> = votes.iter().map(|vote| trim(vote, &notes)).collect();
    votes.sort_by(|a, b| a.cloud.cmp(&b.cloud));
    let Disclosed { content, envelope, key_salt, content_salt, envelope_salt } = disclosed.clone();
    Certificate { level, content, envelope, key_salt, content_salt, envelope_salt, notes, votes }
}

/// The vote with only the proofs for sizes that these notes name.
fn trim(vote: &ProvenVote, notes: &[SignedNote]) -> ProvenVote {
    let sizes: BTreeSet<u64> = notes.iter().filter_map(|note| head_in(note, vote)).map(|(size, _)| size).collect();
    let find = |size| vote.proofs.iter().find(|proof| proof.size == size).cloned();
    ProvenVote { proofs: sizes.into_iter().filter_map(find).collect(), ..vote.clone() }
}

/// Every choice of two or more votes, small ones first. A lying cloud may have two votes for one
/// content; more than a few cannot help, since only one epoch's can be in its latest note.
fn subsets(votes: &[ProvenVote]) -> Vec<Vec<&ProvenVote>> {
    const MAX_VOTES: usize = 2 * CLOUDS;
    let votes = &votes[..votes.len().min(MAX_VOTES)];
    let mut chosen: Vec<Vec<&ProvenVote>> = (0_u32..1 << votes.len())
        .filter(|mask| (2..=CLOUDS as u32).contains(&mask.count_ones()))
        .map(|mask| votes.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, vote)| vote).collect())
        .collect();
    chosen.sort_by_key(Vec::len);
    chosen
}
