//! One cloud lies. Its nodes are unmodified copies of the product: what is false is the world around
//! them (`twins.rs`, `clients.rs`), or what their messages become on the way (`tamper.rs`, and one
//! file a kind of lie).

mod accuse;
mod branch;
mod clients;
mod equivocate;
mod foreign;
mod forge;
mod leases;
mod replay;
mod tamper;
mod twins;
mod withhold;

use super::cluster::{CLOUDS, Cluster};
use super::monitor::Monitor;
use super::network::Seat;
use super::port::SimPort;
use super::swarm::Lie;
use crate::history::{Recorder, What};
use crate::port::{Answer, Event};
use crate::random::Random;
use equivocate::{Equivocate, Votes};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tamper::{Done, Hands, Lying, Tamperer};
use tercet_core::ids::CloudId;
use tercet_core::tenants::Confirm;
use tercet_core::transparency::Leaf;
use tokio::time::Instant;

/// Between two events that the liar's own clients submit.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(3_000));

/// How long the honest clouds may take until both have a leader again.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

pub struct Liar {
    pub cluster: Cluster,
    pub port: Arc<SimPort>,
    pub monitor: Arc<Monitor>,
    pub recorder: Arc<Recorder>,
    pub cloud: String,
}

impl Liar {
    fn others(&self) -> Vec<String> {
        CLOUDS.iter().filter(|cloud| **cloud != self.cloud).map(|cloud| (*cloud).to_owned()).collect()
    }

    /// Lies from some moment on, and does not stop when the faults do.
    pub async fn run(&self, lie: Lie, until: Instant) {
        let mut random = Random::new(self.cluster.seed, 3);
        match lie {
            Lie::Twins => return self.run_twins(until).await,
            Lie::TwoContents => {
                let clients = self.others();
                self.wait(&mut random, until).await;
                let told = self.tell_two_contents(&mut random, until, &clients, &Votes::default()).await;
                let lie = format!("its clients submitted {told} events with two contents, at it and at others");
                return self.lied(told, lie);
            }
            Lie::VoteTwice => {
                self.wait(&mut random, until).await;
                let told = self.vote_twice(&mut random, until).await;
                return self.lied(told, format!("it voted for two holders of a lease {told} times"));
            }
            _ => self.wait(&mut random, until).await,
        }
        let done = Done::default();
        let mut hands = Hands::new(&self.cluster, &self.cloud, &done);
        let (victim, votes) = (random.choose(&self.others()).clone(), Votes::default());
        let lying: Box<dyn Lying> = match lie {
            Lie::Twins | Lie::TwoContents | Lie::VoteTwice => unreachable!("told without changing messages"),
            Lie::Equivocate => Box::new(Equivocate::new(&hands, victim.clone(), votes.clone())),
            Lie::Withhold => Box::new(withhold::Withhold::new(&mut hands, self.others())),
            Lie::Forge => Box::new(forge::Forge),
            Lie::Replay => Box::new(replay::Replay::default()),
            Lie::WrongEpoch => Box::new(foreign::WrongEpoch),
            Lie::WrongDomain => Box::new(foreign::WrongDomain),
            Lie::FalseAccuse => Box::new(accuse::FalseAccuse::default()),
        };
        self.cluster.trace.note(|| format!("{} begins to lie: {}", self.cloud, lie.name()));
        let tamperer: Arc<Mutex<Tamperer>> = Arc::new(Mutex::new(Tamperer { hands, lying }));
        for seat in self.cluster.seats_of(&self.cloud) {
            self.cluster.network.tamper(&seat, tamperer.clone());
        }
        match lie {
            Lie::Equivocate => drop(self.tell_two_contents(&mut random, until, &[victim], &votes).await),
            _ => self.tell_the_same(&mut random, until).await,
        }
        let done = done.lock().unwrap_or_else(PoisonError::into_inner);
        let count: u64 = done.values().sum();
        let told: Vec<String> = done.iter().map(|(what, times)| format!("{times} {what}")).collect();
        self.lied(count, format!("{}: {}", lie.name(), told.join(", ")));
    }

    /// A lie that was never told is not written down, and so the run counts for nothing.
    fn lied(&self, count: u64, lie: String) {
        if count > 0 {
            self.recorder.write(What::Lied { cloud: self.cloud.clone(), lie, detectable: false });
        }
    }

    /// Nobody begins with a lie.
    async fn wait(&self, random: &mut Random, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(random.between(Duration::from_secs(1), left / 3)).await;
    }

    fn event(id: &str, content: usize) -> Event {
        let payload = format!("{id} as the liar tells it, version {content}");
        Event { confirm: Confirm::Auto, id: id.to_owned(), payload }
    }

    /// One of the liar's clients submits at these seats of one cloud.
    async fn submit(&self, seats: &[Seat], id: &str, content: usize) {
        let event = Self::event(id, content);
        let at = seats[0].split('-').next().unwrap_or_default().to_owned();
        let (client, cloud, id) = (900 + content as u64, at, id.to_owned());
        let asked = What::Invoked { client, cloud: cloud.clone(), id: id.clone(), content: event.content() };
        self.recorder.write(asked);
        let answer = self.port.submit_at(seats, &event).await;
        self.recorder.write(match answer {
            // What a liar acknowledges promises nothing.
            answer if cloud == self.cloud => {
                What::Unknown { client, cloud, id, why: format!("a liar's answer: {answer:?}") }
            }
            Answer::Acknowledged { cloud, content, new, repeated } => {
                What::Acknowledged { client, cloud, id, content, new, repeated }
            }
            Answer::Refused { code, first } => What::Refused { client, cloud, id, code, first },
            Answer::Unknown(why) => What::Unknown { client, cloud, id, why },
        });
    }

    /// Whether the two honest clouds hold different histories of the liar's log, once both have a leader to
    /// be asked. Once they talk, they must prove it.
    pub async fn note_detectable(&self) {
        let liar = CloudId::new(self.cloud.clone()).expect("a cloud's name");
        let others = self.others();
        let begun = Instant::now();
        let logs = loop {
            let logs: Vec<Vec<Leaf>> = others.iter().filter_map(|at| self.log(at, &liar)).collect();
            if logs.len() == others.len() {
                break logs;
            }
            if begun.elapsed() > PATIENCE {
                let why = format!("{others:?} do not both have a leader {} s after healing", PATIENCE.as_secs());
                return self.monitor.violated("the honest clouds can be asked for the liar's log", why);
            }
            tokio::time::sleep(LOOK).await;
        };
        let [one, other] = &logs[..] else { unreachable!("there are two other clouds") };
        if let Some(index) = one.iter().zip(other).position(|(a, b)| a != b) {
            let lie = format!("its log differs from leaf {index} on, at {} and {}", others[0], others[1]);
            self.recorder.write(What::Lied { cloud: self.cloud.clone(), lie, detectable: true });
        }
    }

    fn log(&self, at: &str, of: &CloudId) -> Option<Vec<Leaf>> {
        let running = self.cluster.running(&self.cluster.leader(&self.cluster.seats_of(at))?)?;
        let leaves = running.core.replica.read(|view| {
            let size = view.state.head(of).map_or(0, |head| head.size);
            (0..size).map(|index| view.state.leaf(view.records, of, index)).collect::<Result<Option<Vec<_>>, _>>()
        });
        leaves.ok().flatten()
    }
}
