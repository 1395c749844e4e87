//! The levels that a cloud's replicas showed of one event, by log index. A replica may lag: it shows
//! what others showed before. But behind an index at which the event was FINAL, nobody may show less.

use std::collections::BTreeMap;
use tercet_core::events::Level;

/// The first and the last log index after which each level was shown.
#[derive(Default)]
pub struct Levels(BTreeMap<Level, (u64, u64)>);

impl Levels {
    /// Takes what a replica showed after it had applied this index. If the log lets FINAL or SEALED
    /// fall: from which level and index, to which.
    pub fn show(&mut self, level: Level, index: u64) -> Result<(), String> {
        let fell = |was, at, is, then| format!("was {was:?} at log index {at} and is {is:?} at {then}");
        let higher = self.0.iter().find(|(was, (at, _))| **was >= Level::Final && **was > level && *at <= index);
        let lower = self.0.iter().find(|(is, (_, then))| level >= Level::Final && **is < level && *then >= index);
        let fallen = higher.map(|(was, (at, _))| fell(*was, *at, level, index));
        let fallen = fallen.or_else(|| lower.map(|(is, (_, then))| fell(level, index, *is, *then)));
        let (first, last) = self.0.entry(level).or_insert((index, index));
        (*first, *last) = ((*first).min(index), (*last).max(index));
        fallen.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Final, Pending, Quarantined, Sealed};

    fn shown(order: &[(Level, u64)]) -> Result<(), String> {
        let mut levels = Levels::default();
        order.iter().try_for_each(|(level, index)| levels.show(*level, *index))
    }

    #[test]
    fn a_replica_that_lags_shows_less() {
        assert_eq!(shown(&[(Pending, 3), (Final, 7), (Pending, 5), (Sealed, 9), (Final, 8), (Sealed, 9)]), Ok(()));
    }

    #[test]
    fn quarantine_may_end() {
        assert_eq!(shown(&[(Quarantined, 3), (Pending, 5), (Final, 7)]), Ok(()));
    }

    #[test]
    fn less_at_a_higher_index_is_a_fall() {
        for lower in [Pending, Quarantined] {
            shown(&[(Final, 7), (lower, 8)]).unwrap_err();
            shown(&[(Final, 7), (Sealed, 12), (lower, 7)]).unwrap_err();
        }
        shown(&[(Sealed, 7), (Final, 8)]).unwrap_err();
    }

    #[test]
    fn a_fall_is_seen_although_it_is_heard_of_first() {
        shown(&[(Pending, 8), (Final, 7)]).unwrap_err();
        shown(&[(Pending, 3), (Pending, 9), (Final, 12), (Final, 8)]).unwrap_err();
    }
}
