//! Harms the simulated cluster, one fault after the other and often several at once, as the seed
//! drew it. Every fault that began is ended, and says how it bit. What no such system survives is
//! not done: a cloud's nodes lose data one at a time, and the next only once the cloud is whole.

mod links;
mod loss;

use super::cluster::{CLOUDS, Cluster};
use super::disk::Trouble;
use super::monitor::Monitor;
use super::network::Seat;
use super::port::SimPort;
use super::swarm::{Fault, Swarm};
use crate::history::{Recorder, What};
use crate::random::Random;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most faults at once.
const MAX_AT_ONCE: usize = 3;
/// How long a nemesis waits for what it needs (a leader, a cloud at rest), then does without.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// The most epochs that end in one run: often more than one of the same cloud.
const MAX_ENDED: usize = 4;
/// Flapping links change so fast.
const FLAP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2_500));

#[derive(Clone)]
pub struct Nemesis {
    pub cluster: Cluster,
    pub port: Arc<SimPort>,
    pub monitor: Arc<Monitor>,
    pub recorder: Arc<Recorder>,
    pub swarm: Arc<Swarm>,
    pub numbers: Arc<AtomicU64>,
    /// Clouds whose data is being harmed now.
    damaged: Arc<Mutex<BTreeSet<String>>>,
    /// How many epochs ended so far, and whether one is ending now.
    ended: Arc<Mutex<(usize, bool)>>,
}

/// One direction of a link.
type Way = (Seat, Seat);

/// What a fault did so far.
struct Harm {
    number: u64,
    /// Directions that it cut, and links that it made slow.
    cuts: Vec<Way>,
    slowed: Vec<Way>,
    held: u64,
    proven: bool,
}

impl Nemesis {
    pub fn new(
        cluster: Cluster,
        port: Arc<SimPort>,
        monitor: Arc<Monitor>,
        recorder: Arc<Recorder>,
        swarm: Arc<Swarm>,
    ) -> Self {
        let (numbers, damaged, ended) = Default::default();
        Self { cluster, port, monitor, recorder, swarm, numbers, damaged, ended }
    }

    /// Harms until the time is over, then ends what still lasts.
    pub async fn run(&self, until: Instant) {
        let mut random = Random::new(self.cluster.seed, 2);
        let mut storms = JoinSet::new();
        let mut number = 0;
        loop {
            let calm = random.between(self.swarm.calm / 4, self.swarm.calm * 7 / 4);
            if Instant::now() + calm >= until {
                break;
            }
            tokio::time::sleep(calm).await;
            while storms.len() >= MAX_AT_ONCE {
                storms.join_next().await;
            }
            while storms.try_join_next().is_some() {}
            let fault = *random.choose(&self.swarm.faults);
            let storm = random.between(self.swarm.storm / 4, self.swarm.storm * 7 / 4);
            let (this, own) = (self.clone(), Random::new(self.cluster.seed, 10_000 + number));
            number += 1;
            let left = until.saturating_duration_since(Instant::now());
            storms.spawn(async move { this.harm(fault, storm.min(left), own).await });
        }
        tokio::time::sleep_until(until).await;
        while storms.join_next().await.is_some() {}
    }

    /// After the last fault: every place runs a process again.
    pub async fn restart_all(&self) {
        for seat in self.cluster.seats() {
            self.cluster.with(&seat, |place| place.disk.set_trouble(Trouble::default()));
            self.restart(&seat).await;
        }
    }

    async fn restart(&self, seat: &Seat) {
        if self.cluster.running(seat).is_none()
            && let Err(why) = self.cluster.start(seat).await
        {
            self.monitor.violated("a node starts from what its disk kept", why);
        }
    }

    async fn harm(&self, fault: Fault, storm: Duration, mut random: Random) {
        match fault {
            Fault::KillNode => self.kill(fault, vec![self.any(&mut random)], storm, false).await,
            Fault::KillLeader => {
                if let Some(leader) = self.some_leader(&mut random) {
                    self.kill(fault, vec![leader], storm, false).await;
                }
            }
            Fault::KillMajority => {
                let seats = self.cluster.seats_of(any_cloud(&mut random));
                self.kill(fault, seats[..2].to_vec(), storm, false).await;
            }
            Fault::KillCloud => self.kill(fault, self.cluster.seats_of(any_cloud(&mut random)), storm, false).await,
            Fault::KillAll => self.kill(fault, self.plain_seats(), storm.min(Duration::from_secs(5)), false).await,
            Fault::CutPower => self.kill(fault, vec![self.any(&mut random)], storm, true).await,
            Fault::CutPowerCloud => self.kill(fault, self.cluster.seats_of(any_cloud(&mut random)), storm, true).await,
            Fault::SyncFails | Fault::DiskFull | Fault::SlowDisk => self.spoil_disk(fault, storm, &mut random).await,
            Fault::LostState | Fault::WipedNode => self.damage(fault, storm, &mut random).await,
            Fault::ClockStep => self.step_clock(&mut random),
            Fault::ClientCut => self.cut_clients(storm, &mut random).await,
            Fault::ResetConnections => self.reset(&mut random),
            Fault::SlowLink | Fault::LossyLink => self.slow(fault, storm, &mut random).await,
            Fault::Flapping => self.flap(storm, &mut random).await,
            Fault::LostCloud | Fault::RestoredCloud => self.lose_cloud(fault, storm, &mut random).await,
            _ => self.partition(fault, storm, &mut random).await,
        }
    }

    // ---- what is written down ----

    fn begin(&self, fault: Fault, on: &[Seat], detail: String) -> Harm {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let name = fault.name().to_owned();
        self.cluster.trace.note(|| format!("fault {number} {name} on {on:?} {detail}"));
        self.recorder.write(What::FaultBegan { number, fault: name, on: on.to_vec(), detail });
        Harm { number, cuts: Vec::new(), slowed: Vec::new(), held: self.cluster.network.counts().1, proven: false }
    }

    fn prove(&self, harm: &mut Harm, how: impl Into<String>) {
        harm.proven = true;
        self.recorder.write(What::FaultProven { number: harm.number, how: how.into() });
    }

    fn end(&self, harm: Harm) {
        for (from, to) in &harm.cuts {
            self.cluster.network.heal(from, to);
        }
        for (from, to) in &harm.slowed {
            self.cluster.network.set(from, to, None);
        }
        self.cluster.trace.note(|| format!("fault {} ends", harm.number));
        self.recorder.write(What::FaultEnded { number: harm.number });
        if !harm.proven {
            self.recorder.write(What::FaultMissed { number: harm.number, why: "nothing met it".into() });
        }
    }

    // ---- targets ----

    fn plain_seats(&self) -> Vec<Seat> {
        CLOUDS.iter().flat_map(|cloud| self.cluster.seats_of(cloud)).collect()
    }

    fn any(&self, random: &mut Random) -> Seat {
        random.choose(&self.plain_seats()).clone()
    }

    fn some_leader(&self, random: &mut Random) -> Option<Seat> {
        self.cluster.leader(&self.cluster.seats_of(any_cloud(random)))
    }

    // ---- processes ----

    async fn kill(&self, fault: Fault, seats: Vec<Seat>, storm: Duration, power: bool) {
        let alive: Vec<Seat> = seats.into_iter().filter(|seat| self.cluster.running(seat).is_some()).collect();
        if alive.is_empty() {
            return;
        }
        let mut harm = self.begin(fault, &alive, String::new());
        for seat in &alive {
            if power { self.cluster.cut_power(seat) } else { self.cluster.kill(seat) }
        }
        self.prove(&mut harm, format!("{} processes are gone", alive.len()));
        tokio::time::sleep(storm).await;
        for seat in &alive {
            self.restart(seat).await;
        }
        self.end(harm);
    }

    // ---- clocks and clients ----

    fn step_clock(&self, random: &mut Random) {
        let seat = self.any(random);
        let by_ms = random.below(1_200_000) as i64 - 600_000;
        let mut harm = self.begin(Fault::ClockStep, std::slice::from_ref(&seat), format!("by {by_ms} ms"));
        self.cluster.with(&seat, |place| place.wall.step(by_ms));
        self.prove(&mut harm, "its wall clock is wrong from now on");
        self.end(harm);
    }

    async fn cut_clients(&self, storm: Duration, random: &mut Random) {
        let seats = self.cluster.seats_of(any_cloud(random));
        let mut harm = self.begin(Fault::ClientCut, &seats, String::new());
        self.port.keep_out(&seats);
        self.prove(&mut harm, "clients reach none of its nodes");
        tokio::time::sleep(storm).await;
        self.port.admit(&seats);
        self.end(harm);
    }
}

fn any_cloud(random: &mut Random) -> &'static str {
    CLOUDS[random.below(CLOUDS.len())]
}
