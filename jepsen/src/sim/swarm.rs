//! What a seed is about: each draws its own mix of timers, load and faults, and leaves some kinds of
//! fault out. Bugs that one fault hides from another show in a run without the first (swarm testing:
//! Groce et al., ISSTA 2012).

use super::cluster::Timers;
use crate::random::Random;
use crate::workload::Mix;
use std::time::Duration;
use tercetd::raft::Retention;

/// One kind of harm that the simulation knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillNode,
    KillLeader,
    KillMajority,
    KillCloud,
    KillAll,
    CutPower,
    CutPowerCloud,
    IsolateNode,
    IsolateLeader,
    IsolateCloud,
    CutClouds,
    OneWay,
    Ring,
    Bridge,
    Flapping,
    ClientCut,
    SlowLink,
    LossyLink,
    ResetConnections,
    SyncFails,
    DiskFull,
    SlowDisk,
    LostState,
    WipedNode,
    ClockStep,
    LostCloud,
    RestoredCloud,
}

impl Fault {
    pub const ALL: [Self; 27] = [
        Self::KillNode,
        Self::KillLeader,
        Self::KillMajority,
        Self::KillCloud,
        Self::KillAll,
        Self::CutPower,
        Self::CutPowerCloud,
        Self::IsolateNode,
        Self::IsolateLeader,
        Self::IsolateCloud,
        Self::CutClouds,
        Self::OneWay,
        Self::Ring,
        Self::Bridge,
        Self::Flapping,
        Self::ClientCut,
        Self::SlowLink,
        Self::LossyLink,
        Self::ResetConnections,
        Self::SyncFails,
        Self::DiskFull,
        Self::SlowDisk,
        Self::LostState,
        Self::WipedNode,
        Self::ClockStep,
        Self::LostCloud,
        Self::RestoredCloud,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::KillNode => "kill-node",
            Self::KillLeader => "kill-leader",
            Self::KillMajority => "kill-majority",
            Self::KillCloud => "kill-cloud",
            Self::KillAll => "kill-all",
            Self::CutPower => "cut-power",
            Self::CutPowerCloud => "cut-power-cloud",
            Self::IsolateNode => "isolate-node",
            Self::IsolateLeader => "isolate-leader",
            Self::IsolateCloud => "isolate-cloud",
            Self::CutClouds => "cut-clouds",
            Self::OneWay => "one-way",
            Self::Ring => "ring",
            Self::Bridge => "bridge",
            Self::Flapping => "flapping",
            Self::ClientCut => "client-cut",
            Self::SlowLink => "slow-link",
            Self::LossyLink => "lossy-link",
            Self::ResetConnections => "reset-connections",
            Self::SyncFails => "sync-fails",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::LostState => "lost-node-state",
            Self::WipedNode => "wiped-node",
            Self::ClockStep => "clock-step",
            Self::LostCloud => "lost-state",
            Self::RestoredCloud => "lost-state-restored",
        }
    }

    /// These cost a cloud what it promised to others, so they happen at most once a run, and not
    /// beside a liar: with state lost and a liar among those who give it back, nothing is promised.
    pub fn ends_an_epoch(self) -> bool {
        matches!(self, Self::LostCloud | Self::RestoredCloud)
    }
}

/// How one cloud lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// Two unmodified copies with one cloud's keys (Twins: Bano et al., OPODIS 2021).
    Twins,
}

/// Everything that a seed draws for a run.
#[derive(Debug, Clone)]
pub struct Swarm {
    pub timers: Timers,
    pub mix: Mix,
    pub faults: Vec<Fault>,
    /// The calm between two faults, on average.
    pub calm: Duration,
    /// How long a fault lasts, on average.
    pub storm: Duration,
    pub liar: Option<(String, Lie)>,
}

impl Swarm {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let heartbeat = Duration::from_millis([100, 300, 500][random.below(3)]);
        let election_min = heartbeat * [4, 5, 6][random.below(3)];
        let snapshot_entries = [40, 200, 1000, 50_000][random.below(4)];
        let retention = Retention { snapshot_entries, kept_entries: snapshot_entries / [2, 4, 10][random.below(3)] };
        let timers = Timers { heartbeat, election_min, election_max: election_min * 2, retention };
        let mix = Mix {
            clients: 3 + random.below(4) as u64,
            pause: Duration::from_millis([3_000, 6_000, 12_000][random.below(3)]),
            repeats: random.below(30),
            contested: random.below(20),
            manual: random.below(15),
            look_pause: Duration::from_millis(4_000),
        };
        let liar = (random.below(3) == 0).then(|| {
            let cloud = super::cluster::CLOUDS[random.below(3)];
            (cloud.to_owned(), Lie::Twins)
        });
        let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| random.below(3) > 0).collect();
        faults.retain(|fault| liar.is_none() || !fault.ends_an_epoch());
        if faults.is_empty() {
            faults.push(Fault::KillLeader);
        }
        let calm = Duration::from_millis([1_000, 5_000, 15_000][random.below(3)]);
        let storm = Duration::from_millis([2_000, 6_000, 12_000][random.below(3)]);
        Self { timers, mix, faults, calm, storm, liar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_fixes_its_swarm_and_together_seeds_draw_everything() {
        let swarms: Vec<Swarm> = (0..100).map(Swarm::draw).collect();
        assert_eq!(format!("{:?}", Swarm::draw(7)), format!("{:?}", swarms[7]));
        let drawn: BTreeSet<Fault> = swarms.iter().flat_map(|swarm| swarm.faults.clone()).collect();
        assert_eq!(drawn, Fault::ALL.into_iter().collect());
        let liars: BTreeSet<_> = swarms.iter().filter_map(|swarm| swarm.liar.clone().map(|(cloud, _)| cloud)).collect();
        assert_eq!(liars.len(), 3, "every cloud lies in some run");
        for swarm in &swarms {
            let ends = swarm.faults.iter().any(|fault| fault.ends_an_epoch());
            assert!(swarm.liar.is_none() || !ends, "no state is lost beside a liar");
        }
    }
}
