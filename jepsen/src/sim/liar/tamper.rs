//! Between a liar's nodes and the other clouds: reads every federation message that they send, lets
//! one kind of lie change it, and writes it again. The nodes themselves are the product's, unchanged.
//! What was really done is counted, since a lie that never met a message proves nothing.

use super::super::cluster::{Cluster, node_key};
use super::super::lane::{Lane, Tamper};
use crate::random::Random;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tercet_core::codec;
use tercet_core::epochs::Opening;
use tercet_core::ids::{CloudId, FedId, NodeId};
use tercet_core::transparency::{NoteBody, SignedNote};
use tercetd::federation::frames::{Reply, Request};

/// The epoch of every cloud in a run with a liar: nobody loses state beside one.
pub(super) const EPOCH: u32 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Reply(Reply),
}

impl Message {
    /// `None` for what is no message of this direction.
    pub fn decode(lane: &Lane, frame: &Bytes) -> Option<Self> {
        match lane.dialled {
            true => codec::decode(frame).ok().map(Self::Request),
            false => codec::decode(frame).ok().map(Self::Reply),
        }
    }

    pub fn encode(&self) -> Bytes {
        Bytes::from(match self {
            Self::Request(request) => codec::encode(request),
            Self::Reply(reply) => codec::encode(reply),
        })
    }

    /// The notes in a greeting.
    pub fn greeting(&mut self) -> Option<&mut Vec<SignedNote>> {
        match self {
            Self::Request(Request::Hello { notes, .. }) | Self::Reply(Reply::Welcome { notes, .. }) => Some(notes),
            _ => None,
        }
    }
}

/// What was done, by kind.
pub type Done = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// What every kind of lie works with.
pub struct Hands {
    pub cluster: Cluster,
    pub cloud: CloudId,
    pub fed: FedId,
    pub random: Random,
    done: Done,
}

impl Hands {
    pub fn new(cluster: &Cluster, cloud: &str, done: &Done) -> Self {
        let (fed, random) = (cluster.fed(), Random::new(cluster.seed, 4));
        let cloud = CloudId::new(cloud).expect("a cloud's name");
        Self { cluster: cluster.clone(), cloud, fed, random, done: done.clone() }
    }

    pub fn did(&self, what: &'static str) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    pub fn once_in(&mut self, times: usize) -> bool {
        self.random.below(times) == 0
    }

    /// The liar's epoch.
    pub fn opening(&self) -> Opening {
        let directory = self.cluster.directory();
        directory.openings.iter().find(|opening| opening.cloud == self.cloud).expect("each has one").clone()
    }

    /// The liar's nodes that sign its notes: as many as the threshold asks for.
    pub fn signers(&self) -> Vec<NodeId> {
        let opening = self.opening();
        opening.keys.iter().map(|(node, _)| node.clone()).take(opening.threshold as usize).collect()
    }

    /// Signs whatever the liar wants to have said, with its own nodes' keys.
    pub fn sign(&self, body: NoteBody) -> SignedNote {
        let signatures = self.signers().iter().map(|node| body.sign(node, &node_key(node, EPOCH))).collect();
        SignedNote { body, signatures }
    }
}

/// One kind of lie.
pub trait Lying: Send {
    /// What goes out in place of a message, each so much later than usual.
    fn sends(&mut self, hands: &mut Hands, lane: &Lane, message: Message) -> Vec<(Duration, Message)>;
    /// What the liar's own node is let hear.
    fn hears(&mut self, _hands: &mut Hands, _lane: &Lane, message: Message) -> Message {
        message
    }
}

pub fn now(message: Message) -> (Duration, Message) {
    (Duration::ZERO, message)
}

pub struct Tamperer {
    pub hands: Hands,
    pub lying: Box<dyn Lying>,
}

impl Tamper for Tamperer {
    fn sends(&mut self, lane: &Lane, frame: Bytes) -> Vec<(Duration, Bytes)> {
        let Some(message) = Message::decode(lane, &frame) else { return vec![(Duration::ZERO, frame)] };
        let sent = self.lying.sends(&mut self.hands, lane, message);
        sent.into_iter().map(|(later, message)| (later, message.encode())).collect()
    }

    fn hears(&mut self, lane: &Lane, frame: Bytes) -> Bytes {
        match Message::decode(lane, &frame) {
            Some(message) => self.lying.hears(&mut self.hands, lane, message).encode(),
            None => frame,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::run::{Options, run};
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Changes nothing, and counts the messages that reading and writing gives back, and those that it
    /// does not. Tokio would swallow a panic here.
    #[derive(Default)]
    struct Honest {
        same: Arc<AtomicU64>,
        other: Arc<AtomicU64>,
    }

    impl Honest {
        fn again(&self, lane: &Lane, frame: Bytes) -> Bytes {
            if frame.len() == 1 {
                return frame;
            }
            let written = Message::decode(lane, &frame).map(|message| message.encode());
            let count = if written.as_ref() == Some(&frame) { &self.same } else { &self.other };
            count.fetch_add(1, Ordering::Relaxed);
            frame
        }
    }

    impl Tamper for Honest {
        fn sends(&mut self, lane: &Lane, frame: Bytes) -> Vec<(Duration, Bytes)> {
            vec![(Duration::ZERO, self.again(lane, frame))]
        }

        fn hears(&mut self, lane: &Lane, frame: Bytes) -> Bytes {
            self.again(lane, frame)
        }
    }

    #[test]
    fn messages_that_nobody_changes_are_written_as_they_were_read() {
        let (same, other) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (counting, missing) = (same.clone(), other.clone());
        let prepare: crate::sim::run::Prepare = Box::new(move |cluster: &Cluster| {
            for seat in cluster.seats() {
                let honest = Honest { same: counting.clone(), other: missing.clone() };
                cluster.network.tamper(&seat, Arc::new(Mutex::new(honest)));
            }
        });
        let sim_time = Duration::from_secs(20);
        run(Options { seed: 5, sim_time, trace: None, frames: false, liar: None, prepare: Some(prepare) });
        assert!(same.load(Ordering::Relaxed) > 100, "messages between clouds were read");
        assert_eq!(other.load(Ordering::Relaxed), 0, "a message changed");
    }
}
