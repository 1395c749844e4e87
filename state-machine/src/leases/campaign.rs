//! A candidate's side, without clock and network: which claim to send, which votes count, until when
//! to act. Time is what the caller read from `CLOCK_BOOTTIME`, which goes on while a machine sleeps.

use super::{
    Claim, Grant, NotVoted, Release, Scope, SignedClaim, SignedVote, Spec, TOKEN_SPREAD, TOKENS_BETWEEN_RENEWALS,
    token_floor,
};
use crate::epochs::Opening;
use crate::genesis::Genesis;
use crate::ids::{CloudId, HolderId};
use crate::signature::SigningKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a cloud says of a lease to somebody who wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    pub cloud: CloudId,
    /// The least token of a new tenure.
    pub least_token: u64,
    /// Milliseconds until this cloud gives its vote to this candidate; `None` while the lease is frozen or the
    /// cloud may not vote.
    pub free_in_ms: Option<u64>,
}

/// What to do next, from what the clouds said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Enough clouds are free: ask them.
    Ask,
    /// Not before then.
    Wait(Duration),
    /// Too few clouds answered, or may vote.
    Unreachable,
}

/// Why a vote does not count for this campaign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("the vote of {0} answers another claim")]
    OtherClaim(CloudId),
    #[error(transparent)]
    NotVoted(#[from] NotVoted),
}

/// One process's attempt to hold a lease, and its tenure.
#[derive(Clone)]
pub struct Campaign {
    genesis: Genesis,
    openings: Vec<Opening>,
    spec: Spec,
    holder: HolderId,
    key: SigningKey,
    token: u64,
    /// What was asked last, and when: votes count for it alone.
    round: Option<Round>,
    held: Option<(Grant, Duration)>,
}

#[derive(Clone)]
struct Round {
    asked_at: Duration,
    claim: Claim,
    votes: BTreeMap<CloudId, SignedVote>,
}

impl Campaign {
    /// `key` is fresh for each campaign: it tells this process from another one of the same name.
    pub fn new(genesis: Genesis, openings: Vec<Opening>, spec: Spec, holder: HolderId, key: SigningKey) -> Self {
        Self { genesis, openings, spec, holder, key, token: 1, round: None, held: None }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The federation opened another epoch.
    pub fn learn(&mut self, openings: Vec<Opening>) {
        self.openings = openings;
    }

    /// The clouds whose votes make a grant.
    pub fn voters(&self) -> Vec<CloudId> {
        match &self.spec.scope {
            Scope::Cloud(cloud) => vec![cloud.clone()],
            Scope::Global | Scope::Strict => self.genesis.clouds().cloned().collect(),
        }
    }

    /// Whether to ask now. Asking while too few clouds are free would only split their votes.
    pub fn plan(&mut self, looks: &[Look]) -> Plan {
        // A cloud that asks for tokens which the others would refuse is left out, or it could keep everybody out.
        // If all do, the federation opened an epoch that this candidate does not know.
        let mut usable: Vec<&Look> = looks.iter().filter(|look| self.may_be_granted(look.least_token)).collect();
        if usable.is_empty() {
            usable = looks.iter().collect();
        }
        match self.quorum(usable.iter().filter_map(|look| Some((look.free_in_ms?, &look.cloud)))) {
            None => Plan::Unreachable,
            Some(wait @ 1..) => Plan::Wait(Duration::from_millis(wait)),
            Some(0) => {
                // Not beyond what a cloud asks for that is not free: it may just have voted for another candidate, and
                // the one of the two who does not win has to leave a vote that can still join the other one's tenure.
                usable.retain(|look| look.free_in_ms == Some(0));
                // Nor far beyond what is enough, which may be a lie.
                let enough = self.quorum(usable.iter().map(|look| (look.least_token, &look.cloud))).unwrap_or_default();
                usable.retain(|look| look.least_token <= enough.saturating_add(TOKEN_SPREAD));
                usable.iter().for_each(|look| self.at_least(look.least_token));
                Plan::Ask
            }
        }
    }

    /// The least number that enough clouds do not exceed.
    fn quorum<'a>(&self, said: impl Iterator<Item = (u64, &'a CloudId)>) -> Option<u64> {
        let mut said: Vec<(u64, &CloudId)> = said.collect();
        said.sort_unstable();
        let mut clouds = BTreeSet::new();
        said.into_iter().find_map(|(number, cloud)| {
            clouds.insert(cloud);
            self.spec.scope.is_met(&self.genesis, &clouds).then_some(number)
        })
    }

    /// Whether clouds that know the same epochs may vote for this token.
    fn may_be_granted(&self, token: u64) -> bool {
        let newest = |cloud: &CloudId| {
            let epochs = self.openings.iter().filter(|opening| opening.cloud == *cloud);
            epochs.map(|opening| opening.number).max()
        };
        let floor = token_floor(self.genesis.clouds().filter_map(newest));
        token.saturating_sub(floor) < TOKENS_BETWEEN_RENEWALS
    }

    /// The token of the last claim, or of the tenure that ended last.
    pub fn last_token(&self) -> Option<u64> {
        match &self.round {
            Some(round) => Some(round.claim.token),
            None => self.token.checked_sub(1).filter(|token| *token > 0),
        }
    }

    /// A new tenure has to have at least this token.
    pub fn at_least(&mut self, token: u64) {
        if self.round.is_none() {
            self.token = self.token.max(token);
        }
    }

    /// The next claim, to all voters: the first of a tenure, or a renewal. `now` is read before it is sent.
    pub fn ask(&mut self, now: Duration) -> SignedClaim {
        let renewal = self.round.as_ref().map_or(0, |round| round.claim.renewal + 1);
        let claim = Claim {
            tenant: self.spec.tenant.clone(),
            lease: self.spec.lease.clone(),
            token: self.token,
            renewal,
            holder: self.holder.clone(),
            session: self.key.public(),
            duration_ms: self.spec.duration_ms,
        };
        self.round = Some(Round { asked_at: now, claim: claim.clone(), votes: BTreeMap::new() });
        claim.sign(&self.genesis.fed_id(), &self.key)
    }

    /// Takes a vote for the last claim. Answers to earlier ones do not count: their clock ran before.
    pub fn hear(&mut self, vote: SignedVote) -> Result<(), Unusable> {
        let cloud = vote.vote.cloud.clone();
        let Some(round) = self.round.as_mut() else { return Err(Unusable::OtherClaim(cloud)) };
        if (&vote.vote.claim, &vote.vote.scope) != (&round.claim, &self.spec.scope) {
            return Err(Unusable::OtherClaim(cloud));
        }
        vote.verify(&self.genesis, &self.openings)?;
        round.votes.insert(cloud, vote);
        if self.spec.scope.is_met(&self.genesis, &round.votes.keys().collect()) {
            let votes = round.votes.values().cloned().collect();
            let grant = Grant { claim: round.claim.clone(), scope: self.spec.scope.clone(), votes };
            let until = round.asked_at + Duration::from_millis(u64::from(self.spec.duration_ms));
            self.held = Some((grant, until));
        }
        Ok(())
    }

    /// The grant, if the holder may still act at `now`. Look before each act.
    pub fn holds(&self, now: Duration) -> Option<&Grant> {
        self.held.as_ref().filter(|(_, until)| now < *until || mutant!(LeaseHeldTooLong)).map(|(grant, _)| grant)
    }

    /// Until when the holder may act.
    pub fn until(&self) -> Option<Duration> {
        self.held.as_ref().map(|(_, until)| *until)
    }

    /// Whether the last claim got its votes.
    pub fn is_granted(&self) -> bool {
        let asked = self.round.as_ref().map(|round| &round.claim);
        self.held.as_ref().map(|(grant, _)| &grant.claim) == asked && asked.is_some()
    }

    /// Ends the tenure, or takes back votes that were too few. `None` if nothing was asked for. Who calls
    /// this has stopped to act.
    pub fn release(&mut self, to: Option<HolderId>) -> Option<Release> {
        let round = self.round.take()?;
        self.held = None;
        self.token = round.claim.token.saturating_add(1);
        Some(Release::sign(&self.genesis.fed_id(), &round.claim, to, &self.key))
    }
}
