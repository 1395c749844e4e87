//! Voting on claims. One vote a key, never two tenures at once: a vote for another tenure needs a
//! higher token, and that the one before is released or out of time, which only the leader can
//! measure. The entry says which vote the leader waited out; a newer one refuses it.

use super::{
    Asked, Ballot, Because, Change, Claim, Command, Grant, Lease, Look, MAX_DURATION_MS, MAX_HISTORY, MAX_LEASES,
    MIN_DURATION_MS, Release, Scope, Spec, TOKEN_SPREAD, TOKENS_BETWEEN_RENEWALS, Tenure, Vote, What, token_floor,
    wait_for,
};
use crate::agents::Election;
use crate::command::Reply;
use crate::evidence::{Evidence, convict};
use crate::fact::Fact;
use crate::ids::{HolderId, LeaseId, TenantId};
use crate::ledger::keys;
use crate::records::{Broken, Records};
use crate::rejection::Rejection;
use crate::state::{State, Tx};
use crate::time::{Millis, WallMillis};
use std::time::Duration;

type Answer = Result<Result<Reply, Rejection>, Broken>;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Answer {
    match command {
        Command::Put(spec, asked) => put(tx, spec, asked),
        Command::Vote { claim, waited_out, voted_at } => vote(tx, claim, *waited_out, *voted_at),
        Command::Release(release, at) => take_release(tx, release, *at),
        Command::Show(grant, at) => show(tx, grant, *at),
    }
}

fn put(tx: &mut Tx<'_>, spec: &Spec, asked: &Asked) -> Answer {
    if let Err(why) = asked.check() {
        return Ok(Err(Rejection::BadLease(why)));
    }
    if !tx.state.tenants.contains_key(&spec.tenant) {
        return Ok(Err(Rejection::UnknownTenant(spec.tenant.clone())));
    }
    if !(MIN_DURATION_MS..=MAX_DURATION_MS).contains(&spec.duration_ms) {
        return Ok(Err(Rejection::BadLease(format!(
            "a lease lasts {MIN_DURATION_MS} to {MAX_DURATION_MS} ms, not {}",
            spec.duration_ms
        ))));
    }
    if let Scope::Cloud(cloud) = &spec.scope
        && tx.state.genesis.voter(cloud).is_none()
    {
        return Ok(Err(Rejection::BadLease(format!("the scope names {cloud}, which is no cloud of this federation"))));
    }
    let Some(mut lease) = tx.state.lease(tx.records, &spec.tenant, &spec.lease)? else {
        if tx.state.leases(tx.records, &spec.tenant)?.len() >= MAX_LEASES {
            return Ok(Err(Rejection::TooManyLeases(spec.tenant.clone())));
        }
        let mut lease = Lease {
            spec: spec.clone(),
            vote: None,
            released: None,
            tenure: None,
            transitions: 0,
            vacant_ms: 0,
            changes: 0,
        };
        tx.change(&mut lease, asked.clone(), What::Created);
        return Ok(tx.keep_lease(&lease, Reply::Done));
    };
    if (&lease.spec.scope, lease.spec.duration_ms) != (&spec.scope, spec.duration_ms) {
        let Spec { tenant, lease, .. } = spec.clone();
        return Ok(Err(Rejection::LeaseFixed { tenant, lease }));
    }
    if lease.spec != *spec {
        lease.spec = spec.clone();
        let what = What::Changed { preferred: spec.preferred.clone(), frozen: spec.frozen };
        tx.change(&mut lease, asked.clone(), what);
    }
    Ok(tx.keep_lease(&lease, Reply::Done))
}

fn vote(tx: &mut Tx<'_>, claim: &Claim, waited_out: Option<Ballot>, voted_at: WallMillis) -> Answer {
    let mut lease = match tx.known_lease(&claim.tenant, &claim.lease)? {
        Ok(lease) => lease,
        Err(rejection) => return Ok(Err(rejection)),
    };
    if let Err(rejection) = tx.state.admits_claim(&lease, claim, waited_out) {
        return Ok(Err(rejection));
    }
    if tx.state.agent(tx.records, &claim.tenant, &claim.holder)?.is_some_and(|record| record.agent.witness) {
        return Ok(Err(Rejection::Witness(claim.holder.clone())));
    }
    if let Some(same) = lease.vote.as_ref().filter(|vote| vote.claim == *claim) {
        return Ok(Ok(Reply::LeaseVote(Box::new(same.clone()))));
    }
    let begins = lease.vote.as_ref().is_none_or(|vote| !vote.claim.is_of_tenure(claim));
    let me = tx.state.me.clone();
    let vote = Vote {
        epoch: tx.state.hot.current[&me],
        cloud: me,
        claim: claim.clone(),
        scope: lease.spec.scope.clone(),
        voted_at,
    };
    lease.vote = Some(vote.clone());
    lease.released = None;
    let now = tx.state.hot.now;
    if let Some(tenure) = lease.tenure.as_mut().filter(|tenure| tenure.is_of(claim)) {
        tenure.ends = Millis(now.0 + u64::from(claim.duration_ms));
    }
    if begins {
        let Claim { tenant, lease, token, holder, .. } = claim.clone();
        tx.facts.push(Fact::LeaseVoted { tenant, lease, token, holder });
    }
    Ok(tx.keep_lease(&lease, Reply::LeaseVote(Box::new(vote))))
}

impl State {
    /// What somebody who wants the lease has to know, given how long this leader has known the latest vote.
    pub fn look(&self, lease: &Lease, candidate: Option<&HolderId>, election: &Election, known_for: Duration) -> Look {
        let spec = &lease.spec;
        let elsewhere = matches!(&spec.scope, Scope::Cloud(cloud) if *cloud != self.me);
        let never = elsewhere || spec.frozen || !self.may_vote();
        let free = lease.is_free_for(candidate);
        let left = match free {
            true => Duration::ZERO,
            false => (wait_for(spec.duration_ms) + lease.courtesy(candidate, election)).saturating_sub(known_for),
        };
        // Rounded up: who comes too early has to come again.
        let left = left.as_nanos().div_ceil(1_000_000) as u64;
        Look { cloud: self.me.clone(), least_token: self.least_token(lease), free_in_ms: (!never).then_some(left) }
    }

    /// Whether the claim gets this cloud's vote, given how long this leader has known the latest vote; if so,
    /// the vote that was waited out, which the entry has to name. What was voted before this cloud lost its state nobody
    /// knows, so the first vote on a lease waits as well.
    pub fn judge_claim(&self, lease: &Lease, claim: &Claim, known_for: Duration) -> Result<Option<Ballot>, Rejection> {
        let left = lease.left(known_for);
        let waited_out = if left.is_zero() { lease.ballot() } else { None };
        self.admits_claim(lease, claim, waited_out)?;
        if lease.vote.is_none() && !left.is_zero() {
            return Err(Rejection::LeaseWaits { lease: lease.spec.lease.clone(), left_ms: left.as_millis() as u64 });
        }
        Ok(waited_out)
    }

    /// Whether the claim gets this cloud's vote, given the vote that the leader waited out.
    fn admits_claim(&self, lease: &Lease, claim: &Claim, waited_out: Option<Ballot>) -> Result<(), Rejection> {
        if !self.may_vote() {
            return Err(Rejection::EpochNotOpen);
        }
        let spec = &lease.spec;
        if let Scope::Cloud(cloud) = &spec.scope
            && *cloud != self.me
        {
            return Err(Rejection::BadLease(format!("{} is a lease of cloud {cloud} alone; ask that one", spec.lease)));
        }
        if claim.duration_ms != spec.duration_ms {
            let (asked, is) = (claim.duration_ms, spec.duration_ms);
            return Err(Rejection::BadLease(format!("{} lasts {is} ms, the claim asks for {asked}", spec.lease)));
        }
        let known = lease.vote.as_ref();
        if let Some(vote) = known.filter(|vote| vote.claim.is_of_tenure(claim)) {
            // A tenure that was released is over for good.
            if claim.renewal >= vote.claim.renewal && lease.released.is_none() {
                return Ok(());
            }
            return Err(Rejection::StaleToken { lease: spec.lease.clone(), least: self.least_token(lease) });
        }
        let least = self.least_token(lease);
        let floor = self.token_floor();
        // A cloud that was away when a tenure began, or voted for somebody else who did not win, may join it once it
        // was shown the grant: the quorum that voted for this token has no vote left for another claim with it. A
        // tenure from before a cloud was renewed it does not join: what came after that may be forgotten.
        let shown = lease.tenure.as_ref().is_some_and(|tenure| tenure.is_of(claim));
        let joins = shown && claim.token > floor && known.is_none_or(|vote| vote.claim.ballot() < claim.ballot());
        if claim.token < least && !joins {
            return Err(Rejection::StaleToken { lease: spec.lease.clone(), least });
        }
        // What is granted now has to lie below the floor of a cloud that is renewed later, and leave room for what follows.
        let most = least.saturating_add(2 * TOKEN_SPREAD).min(floor.saturating_add(TOKENS_BETWEEN_RENEWALS - 1));
        if !joins && claim.token > most {
            return Err(Rejection::BadLease(format!(
                "token {} of {} lies too far beyond those that this cloud knows; a new tenure may have {least}",
                claim.token, spec.lease
            )));
        }
        if spec.frozen {
            return Err(Rejection::LeaseFrozen(spec.lease.clone()));
        }
        let out_of_time = waited_out == lease.ballot() || mutant!(LeaseVoteNotNamed);
        match known {
            Some(vote) if !lease.is_free_for(Some(&claim.holder)) && !out_of_time => Err(Rejection::LeaseHeld {
                lease: spec.lease.clone(),
                holder: vote.claim.holder.clone(),
                token: vote.claim.token,
            }),
            _ => Ok(()),
        }
    }

    /// The least token of a new tenure: beyond every token voted for here.
    pub fn least_token(&self, lease: &Lease) -> u64 {
        let voted = lease.vote.as_ref().map_or(0, |vote| vote.claim.token);
        let shown = lease.tenure.as_ref().map_or(0, |tenure| tenure.token);
        let known = voted.max(shown).max(self.token_floor());
        if mutant!(LeaseTokenReused) {
            return known.max(1);
        }
        known.saturating_add(1)
    }

    /// A cloud that lost its state lost which tokens it voted for, so its new ones lie beyond all that could be
    /// granted before it was renewed.
    fn token_floor(&self) -> u64 {
        if mutant!(LeaseFloorIgnored) {
            return 0;
        }
        let openings = self.genesis.clouds().filter_map(|cloud| self.opening(cloud));
        token_floor(openings.map(|opening| opening.number))
    }

    pub fn lease(&self, records: &dyn Records, tenant: &TenantId, lease: &LeaseId) -> Result<Option<Lease>, Broken> {
        let bytes = records.get(&keys::lease(tenant, lease))?;
        bytes.map(|bytes| crate::codec::decode(&bytes).map_err(Broken::from)).transpose()
    }

    /// A tenant's leases by name.
    pub fn leases(&self, records: &dyn Records, tenant: &TenantId) -> Result<Vec<Lease>, Broken> {
        let (from, to) = keys::lease_range(tenant);
        let rows = records.scan(&from, &to, MAX_LEASES)?;
        rows.into_iter().map(|(_, bytes)| crate::codec::decode(&bytes).map_err(Broken::from)).collect()
    }

    /// The latest `limit` changes of a lease, the newest first.
    pub fn lease_history(&self, records: &dyn Records, lease: &Lease, limit: u64) -> Result<Vec<Change>, Broken> {
        let Spec { tenant, lease: name, .. } = &lease.spec;
        let oldest = lease.changes.saturating_sub(limit.min(MAX_HISTORY));
        let mut changes = Vec::new();
        for number in (oldest..lease.changes).rev() {
            let bytes = records.get(&keys::lease_change(tenant, name, number % MAX_HISTORY))?;
            let bytes = bytes.ok_or_else(|| Broken(format!("change {number} of lease {name} is not stored")))?;
            changes.push(crate::codec::decode(&bytes)?);
        }
        Ok(changes)
    }
}

fn take_release(tx: &mut Tx<'_>, release: &Release, at: WallMillis) -> Answer {
    let mut lease = match tx.known_lease(&release.tenant, &release.lease)? {
        Ok(lease) => lease,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let of_vote = |vote: &&Vote| (vote.claim.token, vote.claim.session) == (release.token, release.session);
    let Some(vote) = lease.vote.clone().filter(|vote| of_vote(&vote)) else {
        // Another tenure has the vote already, or this cloud never voted for that one.
        return Ok(Ok(Reply::Done));
    };
    if lease.released.is_some() {
        return Ok(Ok(Reply::Done));
    }
    lease.released = Some(release.to.clone());
    let holder = vote.claim.holder.clone();
    let now = tx.state.hot.now;
    if let Some(tenure) = lease.tenure.as_mut().filter(|tenure| tenure.is_of(&vote.claim)) {
        (tenure.ends, tenure.released) = (now, true);
        let what = What::Released { holder: holder.clone(), token: release.token, to: release.to.clone() };
        tx.change(&mut lease, Asked::by(&holder, at), what);
    }
    let Release { tenant, lease: name, token, to, .. } = release.clone();
    tx.facts.push(Fact::LeaseReleased { tenant, lease: name, token, holder, to });
    Ok(tx.keep_lease(&lease, Reply::Done))
}

/// Learns who holds the lease. Two grants with one token and different holders cannot both be honest.
fn show(tx: &mut Tx<'_>, grant: &Grant, at: WallMillis) -> Answer {
    let claim = &grant.claim;
    let mut lease = match tx.known_lease(&claim.tenant, &claim.lease)? {
        Ok(lease) => lease,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let known = lease.tenure.clone();
    // What is known, or over, is no news and needs no look at its signatures.
    if known.as_ref().is_some_and(|known| known.token > claim.token || known.is_of(claim)) {
        return Ok(Ok(Reply::Done));
    }
    let granted = match grant.verify(&tx.state.genesis, &tx.state.hot.openings) {
        Ok(granted) => granted,
        Err(error) => return Ok(Err(Rejection::BadGrant(error.to_string()))),
    };
    if grant.scope != lease.spec.scope {
        return Ok(Err(Rejection::BadGrant(format!(
            "it is of scope {}, the lease of {}",
            grant.scope, lease.spec.scope
        ))));
    }
    let now = tx.state.hot.now;
    if let Some(known) = known.as_ref().filter(|known| known.token == claim.token) {
        let contested = Some(claim.session);
        if known.contested == contested {
            return Ok(Ok(Reply::Done));
        }
        lease.tenure = Some(Tenure { contested, ..known.clone() });
        // Whoever voted for both has lied.
        let votes = known.votes.iter().flat_map(|a| grant.votes.iter().map(move |b| (a, b)));
        for evidence in votes.filter_map(|(a, b)| Evidence::of_lease_votes(a, b)) {
            convict(tx, evidence)?;
        }
        let (token, holder, other) = (claim.token, known.holder.clone(), claim.holder.clone());
        let what = What::SplitBrain { token, holder: holder.clone(), other: other.clone() };
        tx.change(&mut lease, Asked::by(&other, at), what);
        let Claim { tenant, lease: name, .. } = claim.clone();
        tx.facts.push(Fact::SplitBrain { tenant, lease: name, token, holder, other });
        return Ok(tx.keep_lease(&lease, Reply::Done));
    }
    let because = match &known {
        None => Because::First,
        Some(known) if known.released => Because::Released,
        Some(_) => Because::Expired,
    };
    let vacant_ms = known.as_ref().map(|known| now.0.saturating_sub(known.ends.0));
    if known.as_ref().is_some_and(|known| known.holder != claim.holder) {
        lease.transitions += 1;
    }
    lease.vacant_ms += vacant_ms.unwrap_or(0);
    // The release may have come first.
    let of_vote = lease.vote.as_ref().is_some_and(|vote| vote.claim.is_of_tenure(claim));
    let released = of_vote && lease.released.is_some();
    lease.tenure = Some(Tenure {
        holder: claim.holder.clone(),
        session: claim.session,
        token: claim.token,
        acquired_at: granted.acquired_at,
        released,
        ends: if released { now } else { Millis(now.0 + u64::from(claim.duration_ms)) },
        votes: grant.votes.clone(),
        contested: None,
    });
    let (holder, token) = (claim.holder.clone(), claim.token);
    let acquired_at = granted.acquired_at;
    let what = What::Acquired { holder: holder.clone(), token, acquired_at, because, vacant_ms };
    tx.change(&mut lease, Asked::by(&holder, at), what);
    let Claim { tenant, lease: name, .. } = claim.clone();
    tx.facts.push(Fact::LeaseAcquired { tenant, lease: name, token, holder, vacant_ms });
    Ok(tx.keep_lease(&lease, Reply::Done))
}

impl Tx<'_> {
    fn known_lease(&self, tenant: &TenantId, lease: &LeaseId) -> Result<Result<Lease, Rejection>, Broken> {
        let unknown = || Rejection::UnknownLease { tenant: tenant.clone(), lease: lease.clone() };
        Ok(self.state.lease(self.records, tenant, lease)?.ok_or_else(unknown))
    }

    fn keep_lease(&mut self, lease: &Lease, reply: Reply) -> Result<Reply, Rejection> {
        self.records.put(keys::lease(&lease.spec.tenant, &lease.spec.lease), crate::codec::encode(lease));
        Ok(reply)
    }

    fn change(&mut self, lease: &mut Lease, asked: Asked, what: What) {
        let number = lease.changes;
        lease.changes += 1;
        let Spec { tenant, lease: name, .. } = &lease.spec;
        if let What::Created | What::Changed { .. } = &what {
            self.facts.push(Fact::LeasePut { tenant: tenant.clone(), lease: name.clone() });
        }
        let Asked { by, why, at: time } = asked;
        let change = Change { number, at: self.state.hot.now, time, by, why, what };
        self.records.put(keys::lease_change(tenant, name, number % MAX_HISTORY), crate::codec::encode(&change));
    }
}
