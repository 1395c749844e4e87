//! What is signed as it should be, and for something else: notes of an epoch or a federation that is
//! not this one, and signatures made over another kind of object.

use super::super::cluster::{key_of, node_key};
use super::super::port::SimPort;
use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::time::Duration;
use tercet_core::epochs::Opening;
use tercet_core::events::PackedBody;
use tercet_core::ids::{EpochId, FedId};
use tercet_core::mirrors::LogChunk;
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::tenants::{Confirm, TenantSignature, batch_message};
use tercet_core::wire::{Writer, domain, sha256};
use tercetd::federation::frames::{Answer, Reply, Request};

pub struct WrongEpoch;

impl Lying for WrongEpoch {
    fn sends(&mut self, hands: &mut Hands, _lane: &Lane, mut message: Message) -> Vec<(Duration, Message)> {
        match &mut message {
            Message::Reply(Reply::Chunk { chunk, .. }) if chunk.cloud == hands.cloud && hands.once_in(2) => {
                misplace(hands, chunk);
            }
            Message::Reply(Reply::Answer { answer: Answer::Openings(openings), .. }) => {
                openings.extend(invent(hands));
                hands.did("epochs that no root key certified");
            }
            Message::Reply(Reply::Welcome { openings, .. } | Reply::News { openings, .. }) => {
                openings.push(no_epoch(hands));
                hands.did("epochs announced that do not exist");
            }
            Message::Request(Request::Hello { fed, .. }) if hands.once_in(4) => {
                *fed = other_fed();
                hands.did("greetings of another federation");
            }
            _ => {}
        }
        vec![now(message)]
    }
}

fn other_fed() -> FedId {
    FedId(sha256(b"another federation").0)
}

/// An id that no epoch has.
fn no_epoch(hands: &mut Hands) -> EpochId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&hands.random.number().to_be_bytes());
    EpochId(id)
}

/// A chunk of the own log, signed again under another name.
fn misplace(hands: &mut Hands, chunk: &mut LogChunk) {
    let mut body = chunk.note.body.clone();
    let directory = hands.cluster.directory();
    let other = directory.openings.iter().find(|opening| opening.cloud != hands.cloud).expect("three clouds");
    let done = match hands.random.below(4) {
        0 => {
            body.origin.epoch = no_epoch(hands);
            chunk.epoch = body.origin.epoch;
            "notes of an epoch that does not exist"
        }
        1 => {
            body.origin.epoch = other.id(&hands.fed);
            "notes under another cloud's epoch"
        }
        2 => {
            body.origin.epoch = other.id(&hands.fed);
            chunk.epoch = body.origin.epoch;
            "chunks under another cloud's epoch"
        }
        _ => {
            body.origin.fed = other_fed();
            "notes of another federation"
        }
    };
    chunk.note = hands.sign(body);
    hands.did(done);
}

/// New epochs of each cloud, which only the liar's own node key certifies.
fn invent(hands: &Hands) -> Vec<Opening> {
    let own = hands.signers();
    let directory = hands.cluster.directory();
    let invented = directory.openings.iter().map(|known| {
        let keys = known.keys.iter().map(|(node, _)| (node.clone(), node_key(&own[0], 0).public())).collect();
        let mut opening = Opening { number: known.number + 1, keys, ..known.clone() };
        opening.root_signature = node_key(&own[0], 0).sign(&opening.bytes(&hands.fed));
        opening
    });
    invented.collect()
}

pub struct WrongDomain;

impl Lying for WrongDomain {
    fn sends(&mut self, hands: &mut Hands, _lane: &Lane, mut message: Message) -> Vec<(Duration, Message)> {
        match &mut message {
            Message::Reply(Reply::Chunk { chunk, .. }) if chunk.cloud == hands.cloud && hands.once_in(2) => {
                if hands.once_in(2) && !chunk.bodies.is_empty() {
                    for body in &mut chunk.bodies {
                        let mut forged = body.unpack().expect("an honest node packed it");
                        forged.signature = Some(tenant_signature(hands, &forged.content.hash()));
                        *body = PackedBody::of(&forged);
                        hands.did("tenants' signatures over another object");
                    }
                } else {
                    sign_elsewhere(hands, chunk);
                }
            }
            Message::Reply(Reply::Answer { answer: Answer::Openings(openings), .. }) => {
                for opening in openings.iter_mut().filter(|opening| opening.cloud == hands.cloud) {
                    opening.number += 1;
                    let root = key_of(&format!("root {}", hands.cloud));
                    let bytes = Writer::new(domain::CERTIFICATE).lp(&opening.bytes(&hands.fed)).finish();
                    opening.root_signature = root.sign(&bytes);
                    hands.did("epochs certified over another object");
                }
            }
            // Makes the others ask for openings.
            Message::Reply(Reply::Welcome { openings, .. }) => {
                openings.push(no_epoch(hands));
            }
            _ => {}
        }
        vec![now(message)]
    }
}

/// The right keys sign the right text as if it were something else.
fn sign_elsewhere(hands: &mut Hands, chunk: &mut LogChunk) {
    let domains = [domain::EPOCH, domain::LEAF, domain::CERTIFICATE, domain::EVIDENCE, domain::SUBMIT];
    let domain = *hands.random.choose(&domains);
    let text = chunk.note.body.text();
    let bytes = Writer::new(domain).lp(text.as_bytes()).finish();
    let sign = |key: &SigningKey| -> Signature { key.sign(&bytes) };
    for signed in &mut chunk.note.signatures {
        signed.signature = sign(&node_key(&signed.node, 0));
    }
    hands.did("notes signed as another object");
}

/// The stolen tenant key signs a content as a batch of one, and shows it as a single event.
fn tenant_signature(hands: &Hands, content: &tercet_core::ids::Hash) -> TenantSignature {
    let key = SimPort::tenant_key(Confirm::Auto);
    let message = batch_message(&hands.fed, 1, content);
    TenantSignature::Single { key: key.public(), signature: key.sign(&message) }
}
