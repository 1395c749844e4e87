//! FINAL and SEALED name a content, and clouds of a quorum's weight confirmed it. This counts votes
//! only; it does not ask the code that computes levels.

use super::{Verdict, Views};
use std::collections::BTreeSet;

pub fn check(views: &Views<'_>) -> Verdict {
    for (view, key, event) in views.events().filter(|(_, _, event)| event.is_final()) {
        let (at, id, level) = (&view.cloud, key.1.id(), event.level);
        let Some(content) = event.settled else {
            return Err(format!("{id} is {level:?} at {at}, and nobody knows with what content"));
        };
        let voters: BTreeSet<_> = event.votes.iter().filter(|vote| vote.confirms(content)).map(|v| &v.cloud).collect();
        let weight: u64 = voters.iter().map(|cloud| views.genesis.weight(cloud)).sum();
        if weight < u64::from(views.genesis.quorum) {
            return Err(format!("{id} is {level:?} at {at}, and only {voters:?} confirmed its content"));
        }
    }
    Ok(())
}
