//! Harms real processes with `kill -9`, in an order that the seed fixes, and restores them: in every
//! round a leader of one cloud, and a whole cloud.

use crate::history::{Harm, Recorder, What};
use crate::random::Random;
use std::time::{Duration, Instant};
use tercet_tests::{CLOUDS, Cluster};

/// How long work goes on between harms, and how long a harm lasts.
const CALM: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(2000));
const STORM: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_millis(4500));

/// One harm that is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub calm: Duration,
    pub harm: Harm,
    pub cloud: &'static str,
    pub storm: Duration,
}

/// What the seed plans for that long; at least one round of both harms.
pub fn plan(seed: u64, time: Duration) -> Vec<Plan> {
    let mut random = Random::new(seed, 0);
    let (mut plans, mut total) = (Vec::new(), Duration::ZERO);
    while plans.is_empty() || total < time {
        let leader_first = random.below(2) == 0;
        let harms = [Harm::KillLeader, Harm::KillCloud];
        for harm in if leader_first { harms } else { [harms[1], harms[0]] } {
            let (calm, storm) = (random.between(CALM.0, CALM.1), random.between(STORM.0, STORM.1));
            plans.push(Plan { calm, harm, cloud: CLOUDS[random.below(CLOUDS.len())], storm });
            total += calm + storm;
        }
    }
    plans
}

/// Carries out the plan, and leaves every node running. Rounds that no longer fit are left out, but
/// never the first one.
pub fn harm(cluster: &mut Cluster, recorder: &Recorder, seed: u64, time: Duration) {
    let begun = Instant::now();
    for (number, Plan { calm, harm, cloud, storm }) in plan(seed, time).into_iter().enumerate() {
        if number >= 2 && begun.elapsed() + calm + storm > time {
            break;
        }
        std::thread::sleep(calm);
        let nodes = match harm {
            Harm::KillLeader => vec![cluster.leader(cloud)],
            Harm::KillCloud => cluster.nodes(cloud),
        };
        match harm {
            Harm::KillLeader => cluster.kill(&nodes[0]),
            Harm::KillCloud => cluster.kill_cloud(cloud),
        }
        recorder.write(What::Harmed { how: harm, cloud: cloud.to_owned(), nodes });
        std::thread::sleep(storm);
        cluster.run_cloud(cloud);
        recorder.write(What::Restored { cloud: cloud.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_plan_and_every_plan_holds_both_harms() {
        let time = Duration::from_secs(30);
        for seed in 0..50 {
            let found = plan(seed, time);
            assert_eq!(found, plan(seed, time));
            for harm in [Harm::KillLeader, Harm::KillCloud] {
                assert!(found[..2].iter().any(|plan| plan.harm == harm), "seed {seed}");
            }
        }
        assert!((0..50).any(|seed| plan(seed, time) != plan(seed + 1, time)));
    }
}
