//! Silence, chosen well: some of what the liar holds never reaches some clouds, or reaches them late.
//! Nobody can prove it, and nobody needs to: two honest clouds go on without the third.

use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::time::Duration;
use tercet_core::mirrors::LogChunk;
use tercetd::federation::frames::{Answer, Reply};

/// How much later than usual late messages are.
const LATE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Nothing more of its own log.
    OwnLog,
    /// Its log goes on, one chunk in three is left out.
    SomeChunks,
    /// No logs of the others either, and no bodies.
    Everything,
    /// Whole, but much later.
    Late,
}

pub struct Withhold {
    /// Clouds that are kept in the dark, and how.
    victims: Vec<(String, Silence)>,
}

impl Withhold {
    pub fn new(hands: &mut Hands, mut others: Vec<String>) -> Self {
        if hands.once_in(2) {
            let spared = hands.random.below(others.len());
            others.remove(spared);
        }
        let kinds = [Silence::OwnLog, Silence::SomeChunks, Silence::Everything, Silence::Late];
        let victims = others.into_iter().map(|cloud| (cloud, *hands.random.choose(&kinds))).collect();
        Self { victims }
    }

    fn hides(hands: &mut Hands, silence: Silence, chunk: &LogChunk) -> bool {
        match silence {
            Silence::OwnLog => chunk.cloud == hands.cloud,
            Silence::SomeChunks => chunk.cloud == hands.cloud && hands.once_in(3),
            Silence::Everything => true,
            Silence::Late => false,
        }
    }
}

impl Lying for Withhold {
    fn sends(&mut self, hands: &mut Hands, lane: &Lane, message: Message) -> Vec<(Duration, Message)> {
        let victim = self.victims.iter().find(|(cloud, _)| lane.to.split('-').next() == Some(cloud));
        let Some((_, silence)) = victim.cloned() else { return vec![now(message)] };
        match &message {
            Message::Reply(Reply::Chunk { .. }) if silence == Silence::Late => {
                hands.did("chunks sent late");
                vec![(hands.random.between(LATE.0, LATE.1), message)]
            }
            Message::Reply(Reply::Chunk { chunk, .. }) if Self::hides(hands, silence, chunk) => {
                hands.did("chunks withheld");
                Vec::new()
            }
            Message::Reply(Reply::Answer { answer: Answer::Bodies(_), .. }) if silence == Silence::Everything => {
                hands.did("bodies withheld");
                Vec::new()
            }
            _ => vec![now(message)],
        }
    }
}
