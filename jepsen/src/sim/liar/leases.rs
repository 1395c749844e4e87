//! A liar that votes for everybody who wants a lease. Under `global` two may hold it then, and the two
//! grants convict it wherever both are shown. Under `strict` it can help nobody to what another one has.

use super::super::cluster::node_key;
use super::tamper::{Done, Hands};
use super::{Liar, PAUSE};
use crate::history::What;
use crate::random::Random;
use crate::workload::leases::{look, put, show, specs, tell_release, vote};
use std::time::Duration;
use tercet_core::ids::{HolderId, LeaseId};
use tercet_core::leases::{Campaign, Grant, Scope, SignedClaim, SignedVote, Spec, Vote};
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;
use tokio::time::Instant;

const LASTS_MS: u32 = 2_000;
/// How long a round of votes may take.
const ROUND: Duration = Duration::from_secs(1);

/// Nobody else wants these.
fn spec(name: &str, scope: Scope) -> Spec {
    let template = specs().swap_remove(0);
    Spec { lease: LeaseId::new(name).expect("letters"), scope, duration_ms: LASTS_MS, ..template }
}

impl Liar {
    /// Returns how often two were helped to one lease with the same token.
    pub(super) async fn vote_twice(&self, random: &mut Random, until: Instant) -> u64 {
        let hands = Hands::new(&self.cluster, &self.cloud, &Done::default());
        let (others, begun) = (self.others(), Instant::now());
        let (spoils, crown) = (spec("spoils", Scope::Global), spec("crown", Scope::Strict));
        let (mut told, mut shown) = (0, false);
        while self.pause(random, until).await {
            for (spec, cloud) in [&spoils, &crown].into_iter().flat_map(|spec| others.iter().map(move |at| (spec, at)))
            {
                // Which may be down; the next round asks again.
                let _ = self.port().call(cloud, put(spec)).await;
            }
            // Each honest cloud is asked by another candidate.
            let mut two = self.candidates(random, &spoils).await;
            for (campaign, cloud) in two.iter_mut().zip(&others) {
                let signed = campaign.ask(begun.elapsed());
                self.collect(&hands, campaign, &signed, cloud).await;
            }
            let grants: Vec<Grant> = two.iter().filter_map(|two| two.holds(begun.elapsed()).cloned()).collect();
            if let [a, b] = &grants[..]
                && a.claim.token == b.claim.token
            {
                told += 1;
                for cloud in &others {
                    shown |= show(self.port(), cloud, a).await && show(self.port(), cloud, b).await;
                }
            }
            self.give_back(&mut two, &others).await;
            // Both ask everybody, in one order or the other at each cloud.
            let mut two = self.candidates(random, &crown).await;
            let claims: Vec<SignedClaim> = two.iter_mut().map(|campaign| campaign.ask(begun.elapsed())).collect();
            let first = random.below(2);
            for cloud in &others {
                for at in [first, 1 - first] {
                    self.collect(&hands, &mut two[at], &claims[at], cloud).await;
                }
            }
            if two.iter().all(|campaign| campaign.holds(begun.elapsed()).is_some()) {
                let why = format!("two hold {} at once, with the votes of {}", crown.lease, self.cloud);
                self.monitor.violated("a strict lease has one holder beside a liar", why);
            }
            self.give_back(&mut two, &others).await;
        }
        if shown {
            let lie = "it voted for two holders of one lease with one token, and an honest cloud was shown both".into();
            self.recorder.write(What::Lied { cloud: self.cloud.clone(), lie, detectable: true });
        }
        told
    }

    fn port(&self) -> &dyn crate::port::Port {
        &*self.port
    }

    /// Two processes that want the lease, and know which token may be asked for.
    async fn candidates(&self, random: &mut Random, spec: &Spec) -> Vec<Campaign> {
        let directory = self.cluster.directory();
        let mut two: Vec<Campaign> = ["x0", "x1"]
            .into_iter()
            .map(|name| {
                let holder = HolderId::new(name).expect("letters and digits");
                let (genesis, openings) = (directory.genesis.clone(), directory.openings.clone());
                Campaign::new(genesis, openings, spec.clone(), holder, SigningKey::from_seed(&random.seed()))
            })
            .collect();
        let anybody = HolderId::new("x0").expect("letters and digits");
        for cloud in self.others() {
            if let Some(look) = look(self.port(), &cloud, &spec.lease, &anybody).await {
                two.iter_mut().for_each(|campaign| campaign.at_least(look.least_token));
            }
        }
        two
    }

    /// An honest cloud's vote, and the liar's in any case.
    async fn collect(&self, hands: &Hands, campaign: &mut Campaign, signed: &SignedClaim, cloud: &str) {
        if let Ok(Some(vote)) = tokio::time::timeout(ROUND, vote(self.port(), cloud, signed)).await {
            // One that came late answers an earlier claim.
            let _ = campaign.hear(vote);
        }
        let scope = campaign.spec().scope.clone();
        campaign.hear(hands.lease_vote(signed, scope)).expect("the liar signs with its own keys");
    }

    async fn give_back(&self, campaigns: &mut [Campaign], clouds: &[String]) {
        for release in campaigns.iter_mut().filter_map(|campaign| campaign.release(None)) {
            for cloud in clouds {
                tell_release(self.port(), cloud, &release).await;
            }
        }
        tokio::time::sleep(PAUSE.0).await;
    }
}

impl Hands {
    fn lease_vote(&self, signed: &SignedClaim, scope: Scope) -> SignedVote {
        let (cloud, epoch, claim) = (self.cloud.clone(), self.opening().id(&self.fed), signed.claim.clone());
        let vote = Vote { cloud, epoch, claim, scope, voted_at: WallMillis(0) };
        let sign = |node| {
            let signature = vote.sign(&self.fed, &node_key(&node, super::tamper::EPOCH));
            (node, signature)
        };
        let mut signatures: Vec<_> = self.signers().into_iter().map(sign).collect();
        signatures.sort_by(|a, b| a.0.cmp(&b.0));
        SignedVote { vote, signatures }
    }
}
