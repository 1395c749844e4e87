//! What happens when, drawn from the seed: first every chosen nemesis once, in a random order, then
//! any of them; now and then two at once in different clouds, where the budget allows that.

use super::cluster::CLOUDS;
use super::nemesis::{Nemesis, Reach};
use crate::random::Random;

/// One in so many single-cloud faults has company.
const PAIRED: usize = 3;

pub type Slot = Vec<(&'static Nemesis, &'static str)>;

pub struct Schedule {
    all: Vec<&'static Nemesis>,
    /// What is left of the round in which each comes once.
    first: Vec<&'static Nemesis>,
    random: Random,
}

impl Schedule {
    pub fn new(all: Vec<&'static Nemesis>, seed: u64) -> Self {
        let mut random = Random::new(seed, 300);
        let (mut left, mut first) = (all.clone(), Vec::new());
        while !left.is_empty() {
            first.push(left.swap_remove(random.below(left.len())));
        }
        Self { all, first, random }
    }

    /// Whether each has had its turn.
    pub fn round_is_over(&self) -> bool {
        self.first.is_empty()
    }

    /// What comes next, each with the cloud that it may touch.
    pub fn next(&mut self) -> Slot {
        let nemesis = self.first.pop().unwrap_or_else(|| *self.random.choose(&self.all));
        let at = self.random.below(CLOUDS.len());
        let mut slot = vec![(nemesis, CLOUDS[at])];
        if nemesis.reach != Reach::Everything && self.random.below(PAIRED) == 0 {
            let elsewhere = CLOUDS[(at + 1 + self.random.below(CLOUDS.len() - 1)) % CLOUDS.len()];
            slot.extend(self.company(nemesis).map(|company| (company, elsewhere)));
        }
        slot
    }

    fn company(&mut self, of: &'static Nemesis) -> Option<&'static Nemesis> {
        let fits = |other: &&Nemesis| of.reach.goes_with(other.reach);
        if let Some(at) = self.first.iter().position(&fits) {
            return Some(self.first.remove(at));
        }
        let fitting: Vec<_> = self.all.iter().copied().filter(|other| fits(other)).collect();
        (!fitting.is_empty()).then(|| *self.random.choose(&fitting))
    }
}

#[cfg(test)]
mod tests {
    use super::super::nemesis::ALL;
    use super::*;

    fn slots(seed: u64) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut schedule = Schedule::new(ALL.iter().collect(), seed);
        let slot = |slot: Slot| slot.iter().map(|(nemesis, cloud)| (nemesis.name, *cloud)).collect();
        (0..200).map(|_| slot(schedule.next())).collect()
    }

    #[test]
    fn a_seed_fixes_the_schedule_and_every_nemesis_has_its_turn_first() {
        assert_eq!(slots(1), slots(1));
        assert_ne!(slots(1), slots(2));
        for seed in 0..20 {
            let mut schedule = Schedule::new(ALL.iter().collect(), seed);
            let mut seen = Vec::new();
            while !schedule.round_is_over() {
                seen.extend(schedule.next().iter().map(|(nemesis, _)| nemesis.name));
            }
            assert!(ALL.iter().all(|nemesis| seen.contains(&nemesis.name)), "seed {seed}");
        }
    }

    #[test]
    fn two_faults_are_never_in_one_cloud_nor_beside_one_that_needs_all() {
        let mut pairs = 0;
        for seed in 0..50 {
            let mut schedule = Schedule::new(ALL.iter().collect(), seed);
            for _ in 0..100 {
                let slot = schedule.next();
                if let [(a, here), (b, there)] = slot[..] {
                    pairs += 1;
                    assert!(here != there && a.reach != Reach::Everything && b.reach != Reach::Everything);
                }
                assert!((1..=2).contains(&slot.len()));
            }
        }
        assert!(pairs > 500, "{pairs} pairs");
    }
}
