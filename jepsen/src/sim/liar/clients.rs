//! The liar's own clients. They hold a stolen tenant key, so they can say two things under one name
//! at two clouds. That alone makes no cloud a liar: each votes for what it saw first.

use super::equivocate::Votes;
use super::{Liar, PAUSE};
use crate::random::Random;
use crate::sim::port::SimPort;
use std::sync::PoisonError;
use tercet_core::tenants::Confirm;
use tokio::time::Instant;

impl Liar {
    /// The same id with one content at the liar and another at a victim, at the same time. `votes`
    /// learns what the victim was told. Returns how many events there were.
    pub(super) async fn tell_two_contents(
        &self,
        random: &mut Random,
        until: Instant,
        victims: &[String],
        votes: &Votes,
    ) -> u64 {
        let own = self.cluster.seats_of(&self.cloud);
        let mut number = 0;
        while self.pause(random, until).await {
            let (id, victim) = (format!("t{number}"), random.choose(victims).clone());
            number += 1;
            let event = Self::event(&id, 1);
            let tenant = SimPort::tenant(Confirm::Auto);
            let tag = tenant.secret.tag(&self.cluster.fed(), &tenant.id, &event.draft().key);
            let content = event.draft().content(&tenant.id).expect("a valid draft").hash();
            let salted = tenant.secret.salted_content(&content);
            votes.lock().unwrap_or_else(PoisonError::into_inner).insert(tag, salted);
            let theirs = self.cluster.seats_of(&victim);
            tokio::join!(self.submit(&own, &id, 0), self.submit(&theirs, &id, 1));
        }
        number
    }

    /// Events of its own, so that its log has something to say.
    pub(super) async fn tell_the_same(&self, random: &mut Random, until: Instant) {
        let own = self.cluster.seats_of(&self.cloud);
        let mut number = 0;
        while self.pause(random, until).await {
            self.submit(&own, &format!("t{number}"), 0).await;
            number += 1;
        }
    }

    /// Whether there is time for another event.
    pub(super) async fn pause(&self, random: &mut Random, until: Instant) -> bool {
        tokio::time::sleep(random.between(PAUSE.0, PAUSE.1)).await;
        Instant::now() < until
    }
}
