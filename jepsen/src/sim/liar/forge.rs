//! Messages that are not what they claim to be: signatures that do not verify, too few of them or one
//! node's twice, notes of other clouds under the liar's own keys, leaves, roots, proofs and bodies
//! that do not belong together. All of it must be dropped, and nobody honest blamed for it.

use super::super::cluster::node_key;
use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::time::Duration;
use tercet_core::events::PackedBody;
use tercet_core::ids::Hash;
use tercet_core::mirrors::LogChunk;
use tercet_core::transparency::{Leaf, SignedNote};
use tercet_core::wire::sha256;
use tercetd::federation::frames::{Answer, Reply};

/// How far ahead a forged note claims a log to be.
const AHEAD: u64 = 10;

pub struct Forge;

impl Lying for Forge {
    fn sends(&mut self, hands: &mut Hands, _lane: &Lane, mut message: Message) -> Vec<(Duration, Message)> {
        if let Some(notes) = message.greeting() {
            forge_notes(hands, notes);
            return vec![now(message)];
        }
        match &mut message {
            Message::Reply(Reply::Chunk { chunk, .. }) if hands.once_in(2) => forge_chunk(hands, chunk),
            Message::Reply(Reply::Answer { answer, .. }) if hands.once_in(2) => forge_answer(hands, answer),
            _ => {}
        }
        vec![now(message)]
    }
}

fn flip(hash: &Hash) -> Hash {
    sha256(&hash.0)
}

/// Notes of the other clouds, their own among them, at a size that they never had.
fn forge_notes(hands: &mut Hands, notes: &mut [SignedNote]) {
    for note in notes.iter_mut().filter(|note| note.body.origin.cloud != hands.cloud) {
        *note = impersonate(hands, note, AHEAD);
        hands.did("notes of others under the liar's keys");
    }
}

/// A note of another cloud as only the liar's keys can sign it, under the names of that cloud's nodes.
pub fn impersonate(hands: &Hands, note: &SignedNote, ahead: u64) -> SignedNote {
    let mut body = note.body.clone();
    (body.size, body.root) = (body.size + ahead, flip(&body.root));
    let named = note.signatures.iter().zip(hands.signers());
    let signatures = named.map(|(signed, own)| body.sign(&signed.node, &node_key(&own, 0))).collect();
    SignedNote { body, signatures }
}

fn forge_chunk(hands: &mut Hands, chunk: &mut LogChunk) {
    let done = match hands.random.below(9) {
        0 => {
            chunk.note.signatures[0].signature.0[7] ^= 1;
            "signatures altered"
        }
        1 => {
            chunk.note.signatures.truncate(1);
            "notes with too few signatures"
        }
        2 => {
            chunk.note.signatures[1] = chunk.note.signatures[0].clone();
            "notes with one node's signature twice"
        }
        3 if chunk.cloud != hands.cloud => {
            chunk.note = impersonate(hands, &chunk.note, 0);
            "notes of others under the liar's keys"
        }
        4 => {
            chunk.note.body.root = flip(&chunk.note.body.root);
            "roots altered under real signatures"
        }
        5 => match chunk.leaves.last_mut() {
            Some(Leaf::Vote(vote)) => {
                vote.content = flip(&vote.content);
                "leaves altered under a real note"
            }
            _ => return,
        },
        6 => match chunk.consistency.first_mut() {
            Some(first) => {
                *first = flip(first);
                "consistency proofs altered"
            }
            None => {
                chunk.consistency.push(chunk.note.body.root);
                "consistency proofs lengthened"
            }
        },
        7 if !chunk.leaves.is_empty() => {
            chunk.first_index += 1;
            "chunks moved by one leaf"
        }
        _ if !chunk.bodies.is_empty() => forge_bodies(hands, &mut chunk.bodies),
        _ => return,
    };
    hands.did(done);
}

/// Bodies that their tenant never signed so.
fn forge_bodies(hands: &mut Hands, bodies: &mut [PackedBody]) -> &'static str {
    let unsigned = hands.once_in(2);
    for packed in bodies {
        let mut body = packed.unpack().expect("an honest node packed it");
        if unsigned {
            body.signature = None;
        } else {
            body.content.payload.extend_from_slice(b", as the liar has it");
        }
        *packed = PackedBody::of(&body);
    }
    if unsigned { "bodies without a signature" } else { "bodies with another payload" }
}

fn forge_answer(hands: &mut Hands, answer: &mut Answer) {
    let done = match answer {
        Answer::Bodies(bodies) if !bodies.is_empty() => forge_bodies(hands, bodies),
        Answer::Note(Some(note)) if note.body.origin.cloud != hands.cloud => {
            **note = impersonate(hands, note, AHEAD);
            "notes of others under the liar's keys"
        }
        Answer::Root(Some(root)) => {
            *root = flip(root);
            "roots invented"
        }
        Answer::Leaf(Some((Leaf::Vote(vote), _))) => {
            vote.content = flip(&vote.content);
            "leaves altered in answers"
        }
        _ => return,
    };
    hands.did(done);
}
