//! Cuts, slow links, and connections that are reset.

use super::{CLOUDS, FLAP, Fault, Harm, Nemesis, any_cloud};
use crate::random::Random;
use crate::sim::network::{Condition, Count, Seat, Way};
use std::time::Duration;
use tokio::time::Instant;

impl Nemesis {
    pub(super) async fn partition(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let Some((on, cuts)) = self.plan_partition(fault, random) else { return };
        // What a leader wrote alone and what it had applied are two things, also after a restart.
        let restarts = fault == Fault::IsolateLeader && random.below(2) == 0;
        let detail = if restarts { "and it restarts meanwhile" } else { "" };
        let (mut harm, before) = (self.begin(fault, &on, detail.into()), self.cluster.network.count(&cuts));
        cuts.iter().for_each(|(from, to)| self.cluster.network.cut(from, to));
        harm.cuts.clone_from(&cuts);
        tokio::time::sleep(storm / 2).await;
        if restarts && self.cluster.running(&on[0]).is_some() {
            self.cluster.kill(&on[0]);
            self.restart(&on[0]).await;
        }
        tokio::time::sleep(storm / 2).await;
        self.end_cuts(harm, &cuts, before);
    }

    /// Only what stood before these very cuts proves them.
    fn end_cuts(&self, mut harm: Harm, cuts: &[Way], before: Count) {
        let held = self.cluster.network.count(cuts).since(before).held;
        if held > 0 {
            self.prove(&mut harm, format!("{held} frames and dials stood before its {} cuts", cuts.len()));
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
                let seat = vec![self.any_running(random)?];
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
                let seats = vec![self.any_running(random)?];
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

    pub(super) async fn flap(&self, storm: Duration, random: &mut Random) {
        let Some((on, cuts)) = self.plan_partition(
            *random.choose(&[Fault::IsolateNode, Fault::CutClouds, Fault::OneWay, Fault::IsolateCloud]),
            random,
        ) else {
            return;
        };
        let (harm, before) = (self.begin(Fault::Flapping, &on, String::new()), self.cluster.network.count(&cuts));
        let until = Instant::now() + storm;
        while Instant::now() < until {
            cuts.iter().for_each(|(from, to)| self.cluster.network.cut(from, to));
            tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
            cuts.iter().for_each(|(from, to)| self.cluster.network.heal(from, to));
            tokio::time::sleep(random.between(FLAP.0, FLAP.1)).await;
        }
        self.end_cuts(harm, &cuts, before);
    }

    pub(super) async fn slow(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let Some(seat) = self.any_running(random) else { return };
        let mut harm = self.begin(fault, std::slice::from_ref(&seat), String::new());
        for other in self.plain_seats().into_iter().filter(|other| *other != seat) {
            for way in [(seat.clone(), other.clone()), (other.clone(), seat.clone())] {
                let more = match fault {
                    Fault::LossyLink => Condition { lost: 50 + random.below(300), ..Condition::default() },
                    _ => {
                        let delay = random.between(Duration::from_millis(50), Duration::from_millis(900));
                        Condition { delay, jitter: delay, lost: 0 }
                    }
                };
                self.cluster.network.slow(harm.number, &way, more);
                harm.slowed.push(way);
            }
        }
        let before = self.cluster.network.count(&harm.slowed);
        tokio::time::sleep(storm).await;
        let Count { slowed, lost, .. } = self.cluster.network.count(&harm.slowed).since(before);
        match fault {
            Fault::LossyLink if lost > 0 => self.prove(&mut harm, format!("{lost} of its frames had to be sent again")),
            Fault::SlowLink if slowed > 0 => self.prove(&mut harm, format!("{slowed} of its frames arrived late")),
            _ => {}
        }
        self.end(harm);
    }

    pub(super) fn reset(&self, random: &mut Random) {
        let connected = self.cluster.network.connected();
        if connected.is_empty() {
            return;
        }
        let (one, other) = random.choose(&connected).clone();
        let mut harm = self.begin(Fault::ResetConnections, &[one.clone(), other.clone()], String::new());
        let broken = self.cluster.network.reset(&one, &other);
        if broken > 0 {
            self.prove(&mut harm, format!("{broken} connections were reset"));
        }
        self.end(harm);
    }
}
