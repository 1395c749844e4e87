//! Harms the simulated cluster, one fault after the other and often several at once, as the seed
//! drew it. Every fault that began is ended, and says how it bit. What no such system survives is
//! not done: a cloud's nodes lose data one at a time, and the next only once the cloud is whole.

mod links;
mod loss;

use super::cluster::{CLOUDS, Cluster};
use super::disk::{Disk, Trouble};
use super::monitor::Monitor;
use super::network::{Seat, Way};
use super::port::SimPort;
use super::swarm::{Fault, Swarm};
use crate::history::{Recorder, What};
use crate::random::Random;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercetd::env::WallClock as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most faults at once.
const MAX_AT_ONCE: usize = 3;
/// How long a nemesis waits for what it needs (a leader, a cloud at rest), then does without.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a cloud may take until it is whole again, with other faults coming and going.
const RECOVERY: Duration = Duration::from_secs(1200);
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

/// What a fault did so far.
struct Harm {
    number: u64,
    /// Directions that it cut, and such that it made slow.
    cuts: Vec<Way>,
    slowed: Vec<Way>,
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
            Fault::KillNode => {
                if let Some(seat) = self.any_running(&mut random) {
                    self.kill(fault, vec![seat], storm).await;
                }
            }
            Fault::KillLeader => {
                if let Some(leader) = self.some_leader(&mut random) {
                    self.kill(fault, vec![leader], storm).await;
                }
            }
            Fault::KillMajority => {
                let mut seats = self.cluster.seats_of(any_cloud(&mut random));
                seats.remove(random.below(seats.len()));
                self.kill(fault, seats, storm).await;
            }
            Fault::KillCloud => self.kill(fault, self.cluster.seats_of(any_cloud(&mut random)), storm).await,
            Fault::KillAll => self.kill(fault, self.plain_seats(), storm.min(Duration::from_secs(5))).await,
            Fault::CutPower => {
                if let Some(seat) = self.any_running(&mut random) {
                    self.cut_power(fault, vec![seat], storm, &mut random).await;
                }
            }
            Fault::CutPowerCloud => {
                let seats = self.cluster.seats_of(any_cloud(&mut random));
                self.cut_power(fault, seats, storm, &mut random).await;
            }
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
        Harm { number, cuts: Vec::new(), slowed: Vec::new(), proven: false }
    }

    fn prove(&self, harm: &mut Harm, how: impl Into<String>) {
        harm.proven = true;
        self.recorder.write(What::FaultProven { number: harm.number, how: how.into() });
    }

    fn end(&self, harm: Harm) {
        for (from, to) in &harm.cuts {
            self.cluster.network.heal(from, to);
        }
        for way in &harm.slowed {
            self.cluster.network.relieve(harm.number, way);
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

    /// A fault that hits a node which is down anyway proves nothing.
    fn any_running(&self, random: &mut Random) -> Option<Seat> {
        let running = self.running(self.plain_seats());
        (!running.is_empty()).then(|| random.choose(&running).clone())
    }

    fn running(&self, seats: Vec<Seat>) -> Vec<Seat> {
        seats.into_iter().filter(|seat| self.cluster.running(seat).is_some()).collect()
    }

    fn some_leader(&self, random: &mut Random) -> Option<Seat> {
        self.cluster.leader(&self.cluster.seats_of(any_cloud(random)))
    }

    // ---- processes ----

    async fn kill(&self, fault: Fault, seats: Vec<Seat>, storm: Duration) {
        let alive = self.running(seats);
        if alive.is_empty() {
            return;
        }
        let harm = self.begin(fault, &alive, String::new());
        alive.iter().for_each(|seat| self.cluster.kill(seat));
        self.revive(harm, &alive, "", storm).await;
    }

    /// Power fails; half of the time while syncs are late, so that much is written and not durable, and
    /// sometimes in the middle of an election.
    async fn cut_power(&self, fault: Fault, seats: Vec<Seat>, storm: Duration, random: &mut Random) {
        let alive = self.running(seats);
        if alive.is_empty() {
            return;
        }
        let (late, elects) = (random.below(2) == 0, random.below(2) == 0);
        let detail = match (late, elects) {
            (true, true) => "while its disks are slow, and after its leader, if it is one of them, was killed",
            (true, false) => "while its disks are slow",
            _ => "",
        };
        let harm = self.begin(fault, &alive, detail.into());
        if late {
            let slow = random.between(Duration::from_millis(200), Duration::from_millis(3_000));
            self.disks(&alive, |disk| disk.add_trouble(harm.number, Trouble { slow, ..Trouble::default() }));
            tokio::time::sleep(random.between(slow / 2, slow * 2)).await;
            if let Some(leader) = self.cluster.leader(&alive).filter(|_| elects) {
                self.cluster.kill(&leader);
                // The moment at which the next one leads.
                let begun = Instant::now();
                while self.cluster.leader(&alive).is_none() && begun.elapsed() < self.swarm.timers.election_max * 4 {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        let lost = || alive.iter().map(|seat| self.cluster.with(seat, |place| place.disk.losses().lost_changes));
        let before: u64 = lost().sum();
        alive.iter().for_each(|seat| self.cluster.cut_power(seat));
        self.disks(&alive, |disk| disk.take_trouble(harm.number));
        let lost = lost().sum::<u64>() - before;
        self.revive(harm, &alive, &format!(", with {lost} changes that were written and not synced"), storm).await;
    }

    fn disks(&self, seats: &[Seat], change: impl Fn(&Disk)) {
        seats.iter().for_each(|seat| self.cluster.with(seat, |place| change(&place.disk)));
    }

    /// These ran a moment ago. Whoever is down now is started again after the storm.
    async fn revive(&self, mut harm: Harm, gone: &[Seat], with: &str, storm: Duration) {
        let down = gone.len() - self.running(gone.to_vec()).len();
        if down > 0 {
            self.prove(&mut harm, format!("{down} of {} processes that ran are gone{with}", gone.len()));
        }
        tokio::time::sleep(storm).await;
        for seat in gone {
            self.restart(seat).await;
        }
        self.end(harm);
    }

    // ---- clocks and clients ----

    fn step_clock(&self, random: &mut Random) {
        let by_ms = random.below(1_200_000) as i64 - 600_000;
        let Some(seat) = self.any_running(random) else { return };
        let mut harm = self.begin(Fault::ClockStep, std::slice::from_ref(&seat), format!("by {by_ms} ms"));
        let (before, after) = self.cluster.with(&seat, |place| {
            let before = place.wall.now().0;
            place.wall.step(by_ms);
            (before, place.wall.now().0)
        });
        if before != after {
            self.prove(&mut harm, format!("the running node's wall clock went from {before} to {after} ms"));
        }
        self.end(harm);
    }

    async fn cut_clients(&self, storm: Duration, random: &mut Random) {
        let seats = self.cluster.seats_of(any_cloud(random));
        let mut harm = self.begin(Fault::ClientCut, &seats, String::new());
        let before = self.port.refused(&seats);
        self.port.keep_out(&seats);
        tokio::time::sleep(storm).await;
        self.port.admit(&seats);
        let refused = self.port.refused(&seats) - before;
        if refused > 0 {
            self.prove(&mut harm, format!("{refused} calls did not reach nodes that ran"));
        }
        self.end(harm);
    }
}

fn any_cloud(random: &mut Random) -> &'static str {
    CLOUDS[random.below(CLOUDS.len())]
}
