//! False accusations: the liar announces evidence against honest clouds, and hands out proofs that
//! look right. They are made of real notes and leaves of the accused, and of the liar's own
//! signatures; none may convict anybody.

use super::forge::impersonate;
use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::time::Duration;
use tercet_core::evidence::{Evidence, Statement};
use tercet_core::ids::{CloudId, Hash};
use tercet_core::transparency::{Leaf, SignedNote};
use tercet_core::wire::sha256;
use tercetd::federation::frames::{Answer, Reply};

/// One chunk in so many is followed by news of evidence.
const ONE_IN: usize = 4;
/// Earlier notes that are kept to be held against their cloud.
const MAX_NOTES: usize = 64;
/// Proofs handed out at a time.
const PROOFS: usize = 4;

#[derive(Default)]
pub struct FalseAccuse {
    /// Notes that honest clouds really signed.
    notes: Vec<SignedNote>,
}

impl Lying for FalseAccuse {
    fn sends(&mut self, hands: &mut Hands, lane: &Lane, mut message: Message) -> Vec<(Duration, Message)> {
        let mut news = None;
        match &mut message {
            Message::Reply(Reply::Welcome { evidence, .. } | Reply::News { evidence, .. }) => {
                evidence.push(invented(hands));
                hands.did("evidence announced");
            }
            Message::Reply(Reply::Chunk { .. }) if hands.once_in(ONE_IN) => {
                let evidence = vec![invented(hands)];
                news = Some(Message::Reply(Reply::News { openings: Vec::new(), evidence }));
                hands.did("evidence announced");
            }
            Message::Reply(Reply::Answer { answer: Answer::Evidence(found), .. }) => {
                found.extend((0..PROOFS).filter_map(|_| self.fabricate(hands, &lane.from)));
            }
            _ => {}
        }
        [Some(message), news].into_iter().flatten().map(now).collect()
    }
}

fn invented(hands: &mut Hands) -> Hash {
    sha256(&hands.random.number().to_be_bytes())
}

impl FalseAccuse {
    /// A proof against an honest cloud, from what one of the liar's nodes holds of it.
    fn fabricate(&mut self, hands: &mut Hands, seat: &str) -> Option<Evidence> {
        let clouds = hands.cluster.directory();
        let honest: Vec<&CloudId> = clouds.genesis.clouds().filter(|cloud| **cloud != hands.cloud).collect();
        let accused = (*hands.random.choose(&honest)).clone();
        let note = self.note(hands, seat, &accused)?;
        let kind = hands.random.below(8);
        let evidence = match kind {
            0 => Evidence::fork_at_size(note.clone(), impersonate(hands, &note, 0)),
            1 => {
                let mut body = note.body.clone();
                body.root = sha256(&body.root.0);
                Evidence::fork_at_size(note, hands.sign(body))
            }
            2 => {
                let mut other = note.clone();
                other.body.root = sha256(&other.body.root.0);
                Evidence::fork_at_size(note, other)
            }
            3 => {
                let earlier = self.notes.iter().find(|old| old.body.origin.cloud == accused);
                Evidence::fork_at_size(note, earlier?.clone())
            }
            4 => self.liars_own_fork(hands, seat, &accused)?,
            5 => {
                let real = statement(hands, seat, &note)?;
                let mut other = real.clone();
                let Leaf::Vote(vote) = &mut other.leaf else { return None };
                vote.content = sha256(&vote.content.0);
                other.note = impersonate(hands, &note, 0);
                Evidence::fork_at_index(real, other)
            }
            6 => {
                let (one, other) = (statement(hands, seat, &note)?, statement(hands, seat, &note)?);
                Evidence::double_vote(one, other)
            }
            _ => {
                let real = statement(hands, seat, &note)?;
                let mut other = real.clone();
                let Leaf::Vote(vote) = &mut other.leaf else { return None };
                vote.content = sha256(&vote.content.0);
                other.index = real.index.checked_sub(1)?;
                Evidence::double_vote(real, other)
            }
        };
        hands.did(KINDS[kind]);
        Some(evidence)
    }

    /// The latest note held of a cloud; earlier ones are remembered.
    fn note(&mut self, hands: &Hands, seat: &str, of: &CloudId) -> Option<SignedNote> {
        let running = hands.cluster.running(seat)?;
        let note = running.core.replica.read(|view| Ok(view.state.note(of).cloned())).ok().flatten()?;
        if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
            self.notes.push(note.clone());
        }
        Some(note)
    }

    /// A real fork, and really signed: by the liar. It is held against somebody else.
    fn liars_own_fork(&self, hands: &Hands, seat: &str, accused: &CloudId) -> Option<Evidence> {
        let running = hands.cluster.running(seat)?;
        let own = running.core.federation.signed_note().borrow().as_ref().map(|note| note.body.clone())?;
        let mut other = own.clone();
        other.root = sha256(&own.root.0);
        let mut evidence = Evidence::fork_at_size(hands.sign(own), hands.sign(other));
        evidence.cloud = accused.clone();
        Some(evidence)
    }
}

const KINDS: [&str; 8] = [
    "forks from notes under the liar's keys and the accused's names",
    "forks from notes under the liar's keys and names",
    "forks from real signatures under another root",
    "forks from two real notes",
    "forks of the liar's own log",
    "forks from a real leaf and an invented one",
    "double votes from two real votes",
    "double votes without a proof",
];

/// A leaf of the accused, drawn from all, with its proof.
fn statement(hands: &mut Hands, seat: &str, note: &SignedNote) -> Option<Statement> {
    let (cloud, size) = (&note.body.origin.cloud, note.body.size);
    let index = hands.random.below(usize::try_from(size).ok()?) as u64;
    let running = hands.cluster.running(seat)?;
    let found = running.core.replica.read(|view| {
        let leaf = view.state.leaf(view.records, cloud, index)?;
        Ok(leaf.zip(view.state.proof(view.records, cloud, index, size)?))
    });
    let (leaf, proof) = found.ok().flatten()?;
    Some(Statement { note: note.clone(), index, leaf, proof })
}
