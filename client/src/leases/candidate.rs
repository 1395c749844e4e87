//! Winning a lease and keeping it. What counts is decided by the pure `Campaign`; here are the
//! clock, the clouds and the waiting. No cloud that does not answer holds anything up.

use super::boottime;
use crate::client::{Client, Patience};
use crate::error::Error;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::leases::{Campaign, Grant, Look, Plan, Release, Scope, SignedVote, Spec, Unusable};
use tercet_core::signature::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// How long a candidate waits at most until it looks again: a holder may release.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a look at the clouds may take, and how long it waits for the others once enough have answered.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_GRACE: Duration = Duration::from_millis(50);
/// Pause after too few clouds answered, and the least one after a split vote.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(500);
const SPLIT_PAUSE: Duration = Duration::from_millis(50);
/// How long clouds are told of a grant or a release.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);
/// A lease is renewed so many times in its duration, and no round of votes takes longer than the time between two: a
/// cloud that hangs must not hold up the next one.
const RENEWALS: u32 = 3;
/// How often a holder looks at its clock at least. A timer stands still while the machine sleeps, this clock does not.
const CLOCK_LOOK: Duration = Duration::from_millis(100);

/// Somebody who wants a lease.
pub struct Candidate {
    shared: Arc<Shared>,
    waiting: watch::Sender<Waiting>,
    holder: HolderId,
    tenant: TenantId,
    lease: LeaseId,
}

/// Why a candidate does not hold the lease yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Somebody else holds it, or better candidates are given their turn.
    #[default]
    Turn,
    /// Too few clouds answer, or may vote: the last one's reason.
    Clouds(String),
    /// Nobody new gets a vote.
    Frozen,
}

struct Shared {
    client: Arc<Client>,
    trust: TrustBundle,
    campaign: Mutex<Campaign>,
    voters: Vec<CloudId>,
    duration: Duration,
    /// Clouds that have to be shown the grant again.
    unaware: Mutex<BTreeSet<CloudId>>,
    /// What was given back last.
    released: Mutex<Option<Arc<Release>>>,
    renewed: watch::Sender<()>,
}

/// The lease is over; nothing may be done in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease is lost: it could not be renewed in time")]
pub struct Lost;

/// A lease that is held and renewed in the background, until this is released or dropped.
pub struct Held {
    shared: Arc<Shared>,
    renewing: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Candidate {
    /// Learns from the clouds what lease that is. `trust` is what votes are verified with.
    pub async fn new(
        client: Arc<Client>,
        trust: TrustBundle,
        tenant: TenantId,
        lease: LeaseId,
        holder: HolderId,
    ) -> Result<Self, Error> {
        let spec = spec(&client, &trust, &tenant, &lease).await?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system has random bytes");
        let duration = Duration::from_millis(u64::from(spec.duration_ms));
        let (genesis, openings) = (trust.genesis.clone(), trust.openings.clone());
        let campaign = Campaign::new(genesis, openings, spec, holder.clone(), SigningKey::from_seed(&seed));
        let shared = Shared {
            client,
            trust,
            voters: campaign.voters(),
            campaign: Mutex::new(campaign),
            duration,
            unaware: Mutex::default(),
            released: Mutex::default(),
            renewed: watch::Sender::new(()),
        };
        Ok(Self { shared: Arc::new(shared), waiting: watch::Sender::default(), holder, tenant, lease })
    }

    /// How long the lease lasts.
    pub fn duration(&self) -> Duration {
        self.shared.duration
    }

    /// What `acquire` waits for, while it does.
    pub fn waiting(&self) -> watch::Receiver<Waiting> {
        self.waiting.subscribe()
    }

    /// Takes votes back that were too few, for whoever stops to wait.
    pub async fn withdraw(&self) {
        self.shared.give_back(None).await;
    }

    /// Waits until it is this candidate's turn, and wins the lease. Gives up after `patience`, if there is one. What is
    /// returned renews itself.
    pub async fn acquire(&self, patience: Option<Duration>) -> Result<Held, Error> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            let pause = match self.look().await {
                (Plan::Ask, _) => match self.shared.round().await {
                    true => break,
                    false => {
                        self.shared.give_back(None).await;
                        random(SPLIT_PAUSE.max(self.shared.duration / 2))
                    }
                },
                (Plan::Wait(wait), turn) => {
                    self.wait_for(turn);
                    wait.min(LOOK_AGAIN)
                }
                (Plan::Unreachable, why) => {
                    let pause = random(UNREACHABLE_PAUSE);
                    if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
                        return Err(Error::NoQuorum(match why {
                            Waiting::Clouds(why) => why,
                            _ => format!("lease {} is frozen", self.lease),
                        }));
                    }
                    self.wait_for(why);
                    pause
                }
            };
            if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
                let text = format!("lease {} was not free within {:?}", self.lease, patience.unwrap_or_default());
                return Err(Error::NoQuorum(text));
            }
            tokio::time::sleep(pause).await;
        }
        lock(&self.shared.unaware).extend(self.shared.voters.iter().cloned());
        self.shared.tell();
        let renewing = tokio::spawn(renew(self.shared.clone()));
        Ok(Held { shared: self.shared.clone(), renewing })
    }

    fn wait_for(&self, what: Waiting) {
        self.waiting.send_if_modified(|waiting| {
            let news = std::mem::discriminant(waiting) != std::mem::discriminant(&what);
            *waiting = what;
            news
        });
    }

    /// Asks all voters how the lease stands, and stops to wait as soon as enough are free, or soon after enough have
    /// said that they are not.
    async fn look(&self) -> (Plan, Waiting) {
        let patience = Patience::once(LOOK_TIMEOUT.min(self.shared.duration));
        let ask = |cloud| self.shared.client.lease(cloud, &self.tenant, &self.lease, Some(&self.holder), patience);
        let mut asked: FuturesUnordered<_> = self.shared.voters.iter().map(ask).collect();
        let (mut looks, mut frozen, mut why): (Vec<Look>, _, _) = (Vec::new(), false, None);
        let mut until = Instant::now() + LOOK_TIMEOUT;
        let mut plan = Plan::Unreachable;
        loop {
            let answer = match timeout_at(until, asked.next()).await {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(_) => {
                    why = why.or_else(|| Some(Error::NoQuorum("a cloud has not answered in time".into())));
                    break;
                }
            };
            match answer {
                Ok(view) => {
                    frozen |= view.frozen;
                    looks.push(view.look());
                }
                Err(error) => why = Some(error),
            }
            plan = self.shared.campaign().plan(&looks);
            match plan {
                Plan::Ask => break,
                Plan::Wait(_) => until = until.min(Instant::now() + LOOK_GRACE),
                Plan::Unreachable => {}
            }
        }
        let waiting = match (&plan, why) {
            (Plan::Ask | Plan::Wait(_), _) => Waiting::Turn,
            (Plan::Unreachable, None) if frozen => Waiting::Frozen,
            (Plan::Unreachable, why) => {
                Waiting::Clouds(why.map_or_else(|| "too few may vote now".to_owned(), |why| why.to_string()))
            }
        };
        (plan, waiting)
    }
}

/// What the lease is like, as a quorum of clouds says: one that lies could name itself as its only voter.
async fn spec(client: &Client, trust: &TrustBundle, tenant: &TenantId, lease: &LeaseId) -> Result<Spec, Error> {
    let patience = client.patience();
    let ask = |cloud| client.lease(cloud, tenant, lease, None, patience);
    let mut asked: FuturesUnordered<_> = client.clouds().iter().map(|cloud| ask(&cloud.name)).collect();
    let mut said: Vec<(CloudId, Spec)> = Vec::new();
    let mut why = Error::NoQuorum("too few clouds agree on what this lease is like".into());
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(view) => {
                let spec = view.spec();
                said.push((view.cloud, spec.clone()));
                let alike = said
                    .iter()
                    .filter(|(_, other)| (&other.scope, other.duration_ms) == (&spec.scope, spec.duration_ms));
                let clouds: BTreeSet<&CloudId> = alike.map(|(cloud, _)| cloud).collect();
                if Scope::Global.is_met(&trust.genesis, &clouds) {
                    return Ok(spec);
                }
            }
            // A cloud that refuses tells more than one that does not answer.
            Err(error) if !matches!(why, Error::Refused(_)) => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

impl Shared {
    fn campaign(&self) -> MutexGuard<'_, Campaign> {
        lock(&self.campaign)
    }

    /// Sends one claim to all voters, and returns as soon as enough have voted, all have answered, or it is time for
    /// another claim. Late votes are still heard until there is one.
    async fn round(self: &Arc<Self>) -> bool {
        let until = Instant::now() + self.duration / RENEWALS;
        let signed = Arc::new(self.campaign().ask(boottime()));
        let (answered, mut answers) = mpsc::unbounded_channel();
        for cloud in self.voters.clone() {
            let (shared, signed, answered) = (self.clone(), signed.clone(), answered.clone());
            tokio::spawn(async move {
                let vote = shared.client.vote_on_lease(&cloud, &signed, shared.duration).await;
                match vote {
                    Ok(vote) => {
                        let heard = shared.campaign().hear(vote.clone());
                        if let Err(Unusable::NotVoted(_)) = heard {
                            shared.learn().await;
                            // With the keys of a new epoch it may verify.
                            let _ = shared.campaign().hear(vote);
                        } else if let Some(release) = shared.released_meanwhile(&vote) {
                            // The release may have overtaken the claim.
                            let _ = shared.client.release_lease(&cloud, &release, TELL_TIMEOUT).await;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%cloud, %error, "no vote");
                        if error.code() == Some("stale_token") {
                            lock(&shared.unaware).insert(cloud);
                        }
                    }
                }
                // Nobody listens any more once enough have voted.
                let _ = answered.send(());
            });
        }
        drop(answered);
        while let Ok(Some(())) = timeout_at(until, answers.recv()).await {
            if self.campaign().is_granted() {
                return true;
            }
        }
        self.campaign().is_granted()
    }

    /// Takes over the epochs that the clouds know, if they are of the same federation.
    async fn learn(&self) {
        let trust = match self.client.trust().await {
            Ok(trust) if trust.genesis == self.trust.genesis && trust.check().is_ok() => trust,
            Ok(_) => return tracing::warn!("the clouds show the keys of another federation"),
            Err(error) => return tracing::debug!(%error, "no trust bundle"),
        };
        // What one cloud does not know is not forgotten.
        let mut openings = self.trust.openings.clone();
        openings.extend(trust.openings.into_iter().filter(|opening| !self.trust.openings.contains(opening)));
        self.campaign().learn(openings);
    }

    /// The release of this vote's tenure, if it was given back.
    fn released_meanwhile(&self, vote: &SignedVote) -> Option<Arc<Release>> {
        lock(&self.released).clone().filter(|release| release.token == vote.vote.claim.token)
    }

    /// Shows the grant to every cloud that may not know it.
    fn tell(self: &Arc<Self>) {
        let grant = self.campaign().holds(boottime()).cloned();
        let Some(grant) = grant.map(Arc::new) else { return };
        for cloud in std::mem::take(&mut *lock(&self.unaware)) {
            let (shared, grant) = (self.clone(), grant.clone());
            tokio::spawn(async move {
                if let Err(error) = shared.client.show_grant(&cloud, &grant, TELL_TIMEOUT).await {
                    tracing::debug!(%cloud, %error, "the grant was not shown");
                }
            });
        }
    }

    /// Gives back what was gained. Returns once enough clouds know it for a successor to be granted the lease, or
    /// when the time for telling is over.
    async fn give_back(self: &Arc<Self>, to: Option<HolderId>) {
        let Some(release) = self.campaign().release(to) else { return };
        let release: Arc<Release> = Arc::new(release);
        *lock(&self.released) = Some(release.clone());
        let (told, mut tellings) = mpsc::unbounded_channel();
        for cloud in self.voters.clone() {
            let (shared, release, told) = (self.clone(), release.clone(), told.clone());
            tokio::spawn(async move {
                match shared.client.release_lease(&cloud, &release, TELL_TIMEOUT).await {
                    Ok(()) => {
                        let _ = told.send(cloud);
                    }
                    Err(error) => tracing::debug!(%cloud, %error, "not released"),
                }
            });
        }
        drop(told);
        let mut know = BTreeSet::new();
        while let Some(cloud) = tellings.recv().await {
            know.insert(cloud);
            if self.campaign().spec().scope.is_met(&self.trust.genesis, &know.iter().collect()) {
                return;
            }
        }
    }
}

/// Renews until the time is over. A round that brought too few votes is followed by another one soon.
async fn renew(shared: Arc<Shared>) {
    let pause = shared.duration / RENEWALS;
    let mut granted = true;
    loop {
        tokio::time::sleep(if granted { pause } else { pause / RENEWALS }).await;
        if shared.campaign().holds(boottime()).is_none() {
            return;
        }
        granted = shared.round().await;
        if granted {
            shared.renewed.send_replace(());
        }
        shared.tell();
    }
}

impl Held {
    /// The grant, if this holder may still act. To be asked before each act.
    pub fn check(&self) -> Result<Grant, Lost> {
        self.shared.campaign().holds(boottime()).cloned().ok_or(Lost)
    }

    /// How long this holder may still act, if nothing is renewed.
    pub fn left(&self) -> Duration {
        self.shared.campaign().until().unwrap_or_default().saturating_sub(boottime())
    }

    /// Returns once less than `margin` is left: renewals have failed for a while.
    pub async fn ends_within(&self, margin: Duration) {
        let mut renewed = self.shared.renewed.subscribe();
        loop {
            let left = self.left();
            if left <= margin {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(CLOCK_LOOK.min(left - margin)) => {}
                _ = renewed.changed() => {}
            }
        }
    }

    /// Returns once the time is over.
    pub async fn lost(&self) {
        self.ends_within(Duration::ZERO).await;
    }

    /// Gives the lease back: to whoever comes, or to `to` alone. Who calls this has stopped to act.
    pub async fn release(self, to: Option<HolderId>) {
        self.renewing.abort();
        self.shared.give_back(to).await;
    }
}

fn random(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random bytes the pause is only less spread.
    let _ = getrandom::fill(&mut bytes);
    SPLIT_PAUSE + most.saturating_sub(SPLIT_PAUSE).mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
