//! Cuts, slow links, and connections that are reset.

use super::{CLOUDS, FLAP, Fault, Harm, Nemesis, Way, any_cloud};
use crate::random::Random;
use crate::sim::network::{Condition, Seat};
use std::time::Duration;
use tokio::time::Instant;

impl Nemesis {
    pub(super) async fn partition(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let Some((on, cuts)) = self.plan_partition(fault, random) else { return };
        let mut harm = self.begin(fault, &on, String::new());
        for (from, to) in cuts {
            self.cluster.network.cut(&from, &to);
            harm.cuts.push((from, to));
        }
        tokio::time::sleep(storm / 2).await;
        // What a leader wrote alone and what it had applied are two things, also after a restart.
        if fault == Fault::IsolateLeader && random.below(2) == 0 && self.cluster.running(&on[0]).is_some() {
            self.cluster.kill(&on[0]);
            self.restart(&on[0]).await;
        }
        tokio::time::sleep(storm / 2).await;
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

    pub(super) async fn flap(&self, storm: Duration, random: &mut Random) {
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

    pub(super) async fn slow(&self, fault: Fault, storm: Duration, random: &mut Random) {
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

    pub(super) fn reset(&self, random: &mut Random) {
        let (one, other) = (self.any(random), self.any(random));
        let mut harm = self.begin(Fault::ResetConnections, &[one.clone(), other.clone()], String::new());
        let broken = self.cluster.network.reset(&one, &other);
        if broken > 0 {
            self.prove(&mut harm, format!("{broken} connections were reset"));
        }
        self.end(harm);
    }
}
