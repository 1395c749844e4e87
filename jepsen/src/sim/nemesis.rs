//! Harms the simulated cluster, one fault after the other and often several at once, as the seed
//! drew it. Every fault that began is ended, and says how it bit. What no such system survives is
//! not done: a cloud's nodes lose data one at a time, and the next only once the cloud is whole.

use super::cluster::{CLOUDS, Cluster};
use super::disk::Trouble;
use super::monitor::Monitor;
use super::network::{Condition, Seat};
use super::port::SimPort;
use super::swarm::{Fault, Swarm};
use crate::history::{Recorder, What};
use crate::random::Random;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most faults at once.
const MAX_AT_ONCE: usize = 3;
/// How long a nemesis waits for what it needs (a leader, a cloud at rest), then does without.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
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
    /// Clouds whose data is being harmed now, or whose epoch ended in this run.
    damaged: Arc<Mutex<BTreeSet<String>>>,
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
        Self { cluster, port, monitor, recorder, swarm, numbers: Arc::default(), damaged: Arc::default() }
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

    // ---- disks ----

    async fn spoil_disk(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let seat = self.any(random);
        if self.cluster.running(&seat).is_none() {
            return;
        }
        let disk = self.cluster.with(&seat, |place| place.disk.clone());
        let mut harm = self.begin(fault, std::slice::from_ref(&seat), String::new());
        let (before, written) = (disk.losses().0, disk.syncs());
        disk.set_trouble(match fault {
            Fault::SyncFails => Trouble { sync_fails: true, ..Trouble::default() },
            Fault::DiskFull => Trouble { full: true, ..Trouble::default() },
            _ => Trouble {
                slow: random.between(Duration::from_millis(20), Duration::from_millis(800)),
                ..Trouble::default()
            },
        });
        tokio::time::sleep(storm).await;
        disk.set_trouble(Trouble::default());
        let (failed, synced) = (disk.losses().0 - before, disk.syncs() - written);
        if failed > 0 || (fault == Fault::SlowDisk && synced > 0) {
            self.prove(&mut harm, format!("{failed} writes failed, {synced} syncs were made"));
        }
        self.restart(&seat).await;
        self.end(harm);
    }

    /// One node loses its applied state, or its whole disk, while the others of its cloud are whole.
    async fn damage(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let cloud = any_cloud(random);
        let seats = self.cluster.seats_of(cloud);
        if !self.take(cloud) {
            return;
        }
        if self.until(|| self.is_whole(&seats)).await {
            let seat = random.choose(&seats).clone();
            let mut harm = self.begin(fault, std::slice::from_ref(&seat), String::new());
            self.cluster.kill(&seat);
            let disk = self.cluster.with(&seat, |place| place.disk.clone());
            if fault == Fault::WipedNode {
                disk.wipe()
            } else {
                disk.lose_state()
            }
            self.prove(&mut harm, "its data is gone");
            tokio::time::sleep(storm / 4).await;
            self.restart(&seat).await;
            self.end(harm);
            // Not before it has caught up may another one lose data: until then it counts as lost.
            while !self.is_whole(&seats) {
                tokio::time::sleep(LOOK).await;
            }
        }
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(cloud);
    }

    fn take(&self, cloud: &str) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(cloud.to_owned())
    }

    /// All nodes run, have applied the same, and take part in votes.
    fn is_whole(&self, seats: &[Seat]) -> bool {
        let applied = |seat: &Seat| {
            let running = self.cluster.running(seat)?;
            running.core.replica.takes_part().then(|| *running.core.replica.applied().borrow())
        };
        let all: Option<BTreeSet<u64>> = seats.iter().map(applied).collect();
        all.is_some_and(|all| all.len() == 1 && !all.contains(&0)) && self.cluster.leader(seats).is_some()
    }

    async fn until(&self, done: impl Fn() -> bool) -> bool {
        let looking = async {
            while !done() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.is_ok()
    }

    /// A cloud loses every disk, or gets old copies of all of them back. Either way it must not be
    /// believed before the others have closed its epoch and given it back; its operator then opens a
    /// new one. PENDING promises to survive a minority only, so the nemesis waits until the others
    /// hold everything.
    async fn lose_cloud(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let cloud = any_cloud(random);
        let seats = self.cluster.seats_of(cloud);
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains("an epoch ended") || !self.take(cloud) {
            return;
        }
        let backups: Vec<_> = seats.iter().map(|seat| self.cluster.with(seat, |place| place.disk.backup())).collect();
        if fault == Fault::RestoredCloud {
            // Let it move on, so that the copy is old.
            tokio::time::sleep(storm).await;
        }
        self.port.keep_out(&seats);
        if self.until(|| self.is_mirrored(cloud)).await && self.take("an epoch ended") {
            let mut harm = self.begin(fault, &seats, String::new());
            seats.iter().for_each(|seat| self.cluster.kill(seat));
            self.monitor.forget(cloud);
            if fault == Fault::RestoredCloud {
                for (seat, backup) in seats.iter().zip(&backups) {
                    self.cluster.with(seat, |place| place.disk.restore(backup));
                    self.restart(seat).await;
                }
                // It must say nothing that it did not say before: convictions would show it.
                tokio::time::sleep(storm).await;
                seats.iter().for_each(|seat| self.cluster.kill(seat));
                self.monitor.forget(cloud);
            }
            seats.iter().for_each(|seat| self.cluster.with(seat, |place| place.disk.wipe()));
            self.prove(&mut harm, "every disk of the cloud was replaced");
            self.cluster.renew(cloud);
            tokio::time::sleep(storm / 4).await;
            for seat in &seats {
                self.restart(seat).await;
            }
            self.port.admit(&seats);
            let begun = Instant::now();
            while let Err(why) = self.port.put_tenants(cloud).await {
                self.cluster.trace.note(|| format!("tenants at {cloud}: {why}"));
                if begun.elapsed() > PATIENCE * 6 {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            self.end(harm);
        } else {
            self.port.admit(&seats);
        }
        // It stays among the damaged: what it lost once it need not survive again in this run.
    }

    /// Both other clouds hold this cloud's whole log, with the bodies.
    fn is_mirrored(&self, cloud: &str) -> bool {
        let id = self.cluster.with(&format!("{cloud}-1"), |place| place.cloud.clone());
        let size = |at: &str| {
            let running = self.cluster.running(&self.cluster.leader(&self.cluster.seats_of(at))?)?;
            let read = running.core.replica.read(|view| {
                let missing = !view.state.missing_bodies(1).is_empty();
                Ok(view.state.head(&id).map(|head| head.size).filter(|_| !missing))
            });
            read.ok().flatten()
        };
        let sizes = CLOUDS.map(size);
        sizes[0].is_some_and(|size| size > 0) && sizes.iter().all(|size| *size == sizes[0])
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

    // ---- links ----

    async fn partition(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let Some((on, cuts)) = self.plan_partition(fault, random) else { return };
        let mut harm = self.begin(fault, &on, String::new());
        for (from, to) in cuts {
            self.cluster.network.cut(&from, &to);
            harm.cuts.push((from, to));
        }
        tokio::time::sleep(storm).await;
        self.end_network(harm);
    }

    fn end_network(&self, mut harm: Harm) {
        let held = self.cluster.network.counts().1 - harm.held;
        if held > 0 {
            self.prove(&mut harm, format!("{held} frames and dials were held up"));
        }
        self.end(harm);
    }

    /// The directions to cut, and whom it is about.
    fn plan_partition(&self, fault: Fault, random: &mut Random) -> Option<(Vec<Seat>, Vec<Way>)> {
        let all = self.plain_seats();
        let between = |some: &[Seat], others: &[Seat]| {
            let both = |a: &Seat, b: &Seat| [(a.clone(), b.clone()), (b.clone(), a.clone())];
            some.iter()
                .flat_map(|a| others.iter().filter(move |b| *b != a).flat_map(move |b| both(a, b)))
                .collect::<Vec<_>>()
        };
        let without = |some: &[Seat]| all.iter().filter(|seat| !some.contains(seat)).cloned().collect::<Vec<_>>();
        Some(match fault {
            Fault::IsolateNode => {
                let seat = vec![self.any(random)];
                let cuts = between(&seat, &without(&seat));
                (seat, cuts)
            }
            Fault::IsolateLeader => {
                let seat = vec![self.some_leader(random)?];
                let cuts = between(&seat, &without(&seat));
                (seat, cuts)
            }
            Fault::IsolateCloud => {
                let seats = self.cluster.seats_of(any_cloud(random));
                let cuts = between(&seats, &without(&seats));
                (seats, cuts)
            }
            Fault::CutClouds => {
                let first = random.below(CLOUDS.len());
                let seats = [first, (first + 1) % CLOUDS.len()].map(|at| self.cluster.seats_of(CLOUDS[at]));
                (seats.concat(), between(&seats[0], &seats[1]))
            }
            Fault::OneWay => {
                let seats = vec![self.any(random)];
                let cuts = without(&seats).into_iter().map(|other| (seats[0].clone(), other)).collect();
                (seats, cuts)
            }
            // Inside a cloud everybody is cut from one neighbour: a majority exists, seen from nobody alike.
            Fault::Ring => {
                let cloud = self.cluster.seats_of(any_cloud(random));
                let cut = random.below(cloud.len());
                let pair = [cloud[cut].clone(), cloud[(cut + 1) % cloud.len()].clone()];
                (pair.to_vec(), between(&pair[..1], &pair[1..]))
            }
            // Two halves that only one cloud connects.
            Fault::Bridge => {
                let bridge = random.below(CLOUDS.len());
                let sides: Vec<_> =
                    (0..CLOUDS.len()).filter(|at| *at != bridge).map(|at| self.cluster.seats_of(CLOUDS[at])).collect();
                (self.cluster.seats_of(CLOUDS[bridge]), between(&sides[0], &sides[1]))
            }
            other => unreachable!("{} is no partition", other.name()),
        })
    }

    async fn flap(&self, storm: Duration, random: &mut Random) {
        let Some((on, cuts)) = self.plan_partition(
            *random.choose(&[Fault::IsolateNode, Fault::CutClouds, Fault::OneWay, Fault::IsolateCloud]),
            random,
        ) else {
            return;
        };
        let harm = self.begin(Fault::Flapping, &on, String::new());
        let until = Instant::now() + storm;
        while Instant::now() < until {
            cuts.iter().for_each(|(from, to)| self.cluster.network.cut(from, to));
            tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
            cuts.iter().for_each(|(from, to)| self.cluster.network.heal(from, to));
            tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
        }
        self.end_network(harm);
    }

    async fn slow(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let seat = self.any(random);
        let mut harm = self.begin(fault, std::slice::from_ref(&seat), String::new());
        let before = self.cluster.network.counts().0;
        for other in self.plain_seats().into_iter().filter(|other| *other != seat) {
            for (from, to) in [(&seat, &other), (&other, &seat)] {
                let usual = self.cluster.network.condition(from, to);
                let condition = match fault {
                    Fault::LossyLink => Condition { lost: 50 + random.below(300), ..usual },
                    _ => {
                        let delay = random.between(Duration::from_millis(50), Duration::from_millis(900));
                        Condition { delay, jitter: delay, lost: 0 }
                    }
                };
                self.cluster.network.set(from, to, Some(condition));
                harm.slowed.push((from.clone(), to.clone()));
            }
        }
        tokio::time::sleep(storm).await;
        let delivered = self.cluster.network.counts().0 - before;
        if delivered > 0 {
            self.prove(&mut harm, format!("{delivered} frames were delivered meanwhile"));
        }
        self.end(harm);
    }

    fn reset(&self, random: &mut Random) {
        let (one, other) = (self.any(random), self.any(random));
        let mut harm = self.begin(Fault::ResetConnections, &[one.clone(), other.clone()], String::new());
        let broken = self.cluster.network.reset(&one, &other);
        if broken > 0 {
            self.prove(&mut harm, format!("{broken} connections were reset"));
        }
        self.end(harm);
    }
}

fn any_cloud(random: &mut Random) -> &'static str {
    CLOUDS[random.below(CLOUDS.len())]
}
