//! Liveness once all is delivered: what honest clouds of a quorum confirm is FINAL, and SEALED if no
//! cloud lies. Without a liar nothing stays PENDING, unless an operator is to answer and does not: what
//! waits for operators is QUARANTINED at the latest when every cloud's has answered.

use super::{Verdict, Views};
use std::collections::{BTreeMap, BTreeSet};
use tercet_core::events::Level;
use tercet_core::ids::CloudId;

pub fn check(views: &Views<'_>) -> Verdict {
    let everybody = views.genesis.clouds().all(|cloud| views.clouds.iter().any(|view| view.cloud == *cloud));
    for (view, key, event) in views.events() {
        let mut voters: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for vote in event.votes.iter().filter(|vote| views.is_honest(&vote.cloud) && vote.confirms(vote.content)) {
            voters.entry(vote.content).or_default().insert(&vote.cloud);
        }
        let weight = |clouds: &BTreeSet<&CloudId>| clouds.iter().map(|cloud| views.genesis.weight(cloud)).sum::<u64>();
        let agreed = voters.values().any(|clouds| weight(clouds) >= u64::from(views.genesis.quorum));
        let answered = views.genesis.clouds().all(|cloud| event.votes.iter().any(|vote| vote.cloud == *cloud));
        let least = match (agreed, everybody) {
            (true, true) => Level::Sealed,
            (true, false) => Level::Final,
            (false, true) if !event.by_hand || answered => Level::Quarantined,
            (false, _) => Level::Pending,
        };
        if event.level < least {
            let (id, level) = (key.1.id(), event.level);
            return Err(format!("all is told, and {} still says {level:?} of {id}; it must be {least:?}", view.cloud));
        }
    }
    Ok(())
}
