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

    /// These cost a cloud what it promised to others, so they happen one after the other, and not
    /// beside a liar: with state lost and a liar among those who give it back, nothing is promised.
    pub fn ends_an_epoch(self) -> bool {
        matches!(self, Self::LostCloud | Self::RestoredCloud)
    }
}

/// How one cloud lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Lie {
    /// Two unmodified copies with one cloud's keys (Twins: Bano et al., OPODIS 2021).
    Twins,
    /// One cloud is told another history, under notes that are really signed.
    Equivocate,
    /// Its clients submit two contents for one key, with a stolen key.
    TwoContents,
    /// Some of what it holds reaches some clouds never, or late.
    Withhold,
    /// Signatures, leaves, proofs and bodies that do not verify.
    Forge,
    /// Old messages again, anywhere.
    Replay,
    /// Notes of another epoch or federation.
    WrongEpoch,
    /// Signatures made over another kind of object.
    WrongDomain,
    /// Evidence against honest clouds that looks right.
    FalseAccuse,
    /// Votes for two holders of one lease.
    VoteTwice,
}

impl Lie {
    pub const ALL: [Self; 10] = [
        Self::Twins,
        Self::Equivocate,
        Self::TwoContents,
        Self::Withhold,
        Self::Forge,
        Self::Replay,
        Self::WrongEpoch,
        Self::WrongDomain,
        Self::FalseAccuse,
        Self::VoteTwice,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Twins => "twins",
            Self::Equivocate => "equivocate",
            Self::TwoContents => "two-contents",
            Self::Withhold => "withhold",
            Self::Forge => "forge",
            Self::Replay => "replay",
            Self::WrongEpoch => "wrong-epoch",
            Self::WrongDomain => "wrong-domain",
            Self::FalseAccuse => "false-accuse",
            Self::VoteTwice => "vote-twice",
        }
    }
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
    /// `lie` is told in any case, if there is one.
    pub fn draw(seed: u64, lie: Option<Lie>) -> Self {
        let mut random = Random::new(seed, 1);
        let heartbeat = Duration::from_millis([100, 300, 500][random.below(3)]);
        let election_min = heartbeat * [4, 5, 6][random.below(3)];
        let snapshot_entries = [40, 200, 1000, 50_000][random.below(4)];
        let retention = Retention { snapshot_entries, kept_entries: snapshot_entries / [2, 4, 10][random.below(3)] };
        // The slower a sync, the more is lost when power goes.
        let sync = Duration::from_micros([300, 4_000, 30_000][random.below(3)]);
        let timers =
            Timers { heartbeat, election_min, election_max: election_min * 2, retention, sync: (sync / 2, sync * 3) };
        let mix = Mix {
            clients: 3 + random.below(4) as u64,
            pause: Duration::from_millis([3_000, 6_000, 12_000][random.below(3)]),
            repeats: random.below(30),
            contested: random.below(20),
            manual: random.below(15),
            look_pause: Duration::from_millis(4_000),
        };
        let mut liar = (random.below(3) == 0).then(|| super::cluster::CLOUDS[random.below(3)].to_owned());
        // What is told has a stream of its own: a new kind of lie leaves the seeds without a liar alone.
        let mut telling = Random::new(seed, 5);
        let told = lie.unwrap_or_else(|| *telling.choose(&Lie::ALL));
        if lie.is_some() && liar.is_none() {
            liar = Some((*telling.choose(&super::cluster::CLOUDS)).to_owned());
        }
        let liar = liar.map(|cloud| (cloud, told));
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
        let swarms: Vec<Swarm> = (0..100).map(|seed| Swarm::draw(seed, None)).collect();
        assert_eq!(format!("{:?}", Swarm::draw(7, None)), format!("{:?}", swarms[7]));
        let drawn: BTreeSet<Fault> = swarms.iter().flat_map(|swarm| swarm.faults.clone()).collect();
        assert_eq!(drawn, Fault::ALL.into_iter().collect());
        let liars: BTreeSet<_> = swarms.iter().filter_map(|swarm| swarm.liar.clone().map(|(cloud, _)| cloud)).collect();
        assert_eq!(liars.len(), 3, "every cloud lies in some run");
        for swarm in &swarms {
            let ends = swarm.faults.iter().any(|fault| fault.ends_an_epoch());
            assert!(swarm.liar.is_none() || !ends, "no state is lost beside a liar");
        }
    }

    #[test]
    fn about_one_run_in_three_has_a_liar_and_every_kind_of_lie_is_told() {
        let drawn: Vec<Lie> = (0..600).filter_map(|seed| Swarm::draw(seed, None).liar).map(|(_, lie)| lie).collect();
        assert!((150..250).contains(&drawn.len()), "{} of 600", drawn.len());
        assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>().len(), Lie::ALL.len());
        let swarm = Swarm::draw(1, Some(Lie::Forge));
        assert_eq!(swarm.liar.map(|(_, lie)| lie), Some(Lie::Forge));
        assert!(!swarm.faults.iter().any(|fault| fault.ends_an_epoch()));
    }
}
