//! Leases under fire: candidates whose clocks run wrong win, renew, release, crash, restart and oversleep, and write to
//! resources that take a write only with the highest fencing token they have seen. Times in the history are
//! the harness's own.

use super::World;
use crate::history::What;
use crate::port::{AUTO_TENANT, Port};
use crate::random::Random;
use axum::http::Method;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercet::http::Call;
use tercet::leases::{FencedResource, LeaseView};
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::leases::{Campaign, Grant, Look, Plan, Release, Scope, SignedClaim, SignedVote, Spec, Unusable, Vote};
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;
use tokio::time::Instant;

/// Candidates of each lease.
pub const CANDIDATES: u64 = 2;
/// How wrong a candidate's clock runs, at most, in parts of a million: r = 1 %.
const DRIFT_PPM: i64 = 10_000;
/// How long a look at a cloud may take.
const LOOK: Duration = Duration::from_secs(1);
/// How long a write may be on its way.
const SLOWEST_WRITE: Duration = Duration::from_secs(12);
/// Between two attempts of a candidate.
const PAUSE: Duration = Duration::from_millis(400);

/// The leases of every run: name, scope and duration.
const LEASES: [(&str, &str, u32); 3] =
    [("primary", "global", 4_000), ("vault", "strict", 6_000), ("cron", "cloud:gcp", 3_000)];

fn tenant() -> TenantId {
    TenantId::new(AUTO_TENANT).expect("a tenant's name of letters")
}

/// What an operator puts on every cloud, and again on one that lost its state.
pub fn specs() -> Vec<Spec> {
    let spec = |(name, scope, duration_ms): (&str, &str, u32)| Spec {
        tenant: tenant(),
        lease: LeaseId::new(name).expect("letters"),
        scope: scope.parse().expect("a scope"),
        duration_ms,
        preferred: None,
        frozen: false,
    };
    LEASES.into_iter().map(spec).collect()
}

fn path(lease: &LeaseId, more: Option<&'static str>) -> Vec<String> {
    let path = ["v1", "tenants", AUTO_TENANT, "leases", lease.as_str()];
    path.into_iter().chain(more).map(ToOwned::to_owned).collect()
}

fn call(method: Method, path: &[String]) -> Call {
    Call::new(method, &path.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The request that puts a lease on a cloud.
pub fn put(spec: &Spec) -> Call {
    let body = json!({ "scope": spec.scope, "durationMs": spec.duration_ms });
    call(Method::PUT, &path(&spec.lease, None)).json(&body)
}

/// How a cloud says that the lease stands, for this candidate.
pub async fn look(port: &dyn Port, cloud: &str, lease: &LeaseId, holder: &HolderId) -> Option<Look> {
    let call = call(Method::GET, &path(lease, None)).query("candidate", holder);
    let answer = tokio::time::timeout(LOOK, port.call(cloud, call)).await.ok()?.ok()?;
    let view: LeaseView = serde_json::from_value(answer["lease"].clone()).ok()?;
    Some(view.look())
}

/// Asks a cloud for its vote.
pub async fn vote(port: &dyn Port, cloud: &str, signed: &SignedClaim) -> Option<SignedVote> {
    let claim = &signed.claim;
    let body = json!({
        "token": claim.token, "renewal": claim.renewal, "holder": claim.holder, "session": claim.session,
        "durationMs": claim.duration_ms, "signature": signed.signature,
    });
    let call = call(Method::POST, &path(&claim.lease, Some("votes"))).json(&body);
    let view = port.call(cloud, call).await.ok()?;
    let signature = |one: &Value| {
        let node = one["node"].as_str()?.parse().ok()?;
        Some((node, serde_json::from_value(one["signature"].clone()).ok()?))
    };
    let signatures = view["signatures"].as_array()?.iter().map(signature).collect::<Option<_>>()?;
    let vote = Vote {
        cloud: CloudId::new(view["cloud"].as_str()?).ok()?,
        epoch: view["epoch"].as_str()?.parse().ok()?,
        claim: claim.clone(),
        scope: view["scope"].as_str()?.parse().ok()?,
        voted_at: WallMillis(view["votedAt"].as_u64()?),
    };
    Some(SignedVote { vote, signatures })
}

/// Shows a cloud who holds the lease. Whether it took that.
pub async fn show(port: &dyn Port, cloud: &str, grant: &Grant) -> bool {
    let call = call(Method::PUT, &path(&grant.claim.lease, Some("grant"))).json(&json!({ "grant": grant.to_text() }));
    matches!(tokio::time::timeout(LOOK, port.call(cloud, call)).await, Ok(Ok(_)))
}

pub async fn tell_release(port: &dyn Port, cloud: &str, release: &Release) {
    let Release { lease, token, session, to, signature, .. } = release;
    let body = json!({ "token": token, "session": session, "to": to, "signature": signature });
    let call = call(Method::POST, &path(lease, Some("release"))).json(&body);
    let _ = tokio::time::timeout(LOOK, port.call(cloud, call)).await;
}

/// What candidates of one lease share.
pub struct Stand {
    spec: Spec,
    /// What only the holder may write to.
    resource: Mutex<FencedResource>,
    trust: Mutex<TrustBundle>,
}

impl Stand {
    /// The leases that can be held in this world: none that needs a cloud which may lie, since those are not asked.
    pub fn all(world: &World) -> Vec<Arc<Self>> {
        let trust: TrustBundle = serde_json::from_slice(&world.port.trust()).expect("a trust bundle");
        let honest = world.clouds.len() == world.port.clouds().len();
        let possible = |spec: &Spec| match &spec.scope {
            Scope::Global => true,
            Scope::Strict => honest,
            Scope::Cloud(cloud) => world.clouds.iter().any(|name| name == cloud.as_str()),
        };
        let stand = |spec: Spec| {
            let resource =
                FencedResource::new(trust.clone(), spec.tenant.clone(), spec.lease.clone(), spec.scope.clone());
            Arc::new(Self { spec, resource: Mutex::new(resource), trust: Mutex::new(trust.clone()) })
        };
        specs().into_iter().filter(possible).map(stand).collect()
    }

    pub fn name(&self) -> &str {
        self.spec.lease.as_str()
    }
}

/// A candidate's CLOCK_BOOTTIME: from an offset of its own, and up to 1 % fast or slow.
#[derive(Debug, Clone, Copy)]
struct Clock {
    begun: Instant,
    offset: Duration,
    ppm: i64,
}

impl Clock {
    fn draw(random: &mut Random, begun: Instant) -> Self {
        let ppm = random.below(2 * DRIFT_PPM as usize + 1) as i64 - DRIFT_PPM;
        Self { begun, offset: Duration::from_secs(random.below(1_000_000) as u64), ppm }
    }

    fn now(&self) -> Duration {
        let ran = self.begun.elapsed().as_nanos() as i128 * i128::from(1_000_000 + self.ppm) / 1_000_000;
        self.offset + Duration::from_nanos(ran as u64)
    }

    /// When this clock shows `at`, in nanoseconds since the run began.
    fn true_ns(&self, at: Duration) -> u64 {
        let ran = at.saturating_sub(self.offset).as_nanos() as i128;
        (ran * 1_000_000 / i128::from(1_000_000 + self.ppm)) as u64 + 1
    }
}

/// One process that wants a lease: its clock outlives it, its key does not.
struct Candidate {
    world: Arc<World>,
    stand: Arc<Stand>,
    holder: HolderId,
    clock: Clock,
    campaign: Mutex<Campaign>,
    session: String,
}

/// One candidate of one lease, until the world is over.
pub async fn stand_for(world: Arc<World>, stand: Arc<Stand>, number: u64) {
    let actor = LEASES.iter().position(|(name, ..)| *name == stand.name()).unwrap_or(0) as u64 * CANDIDATES + number;
    let mut random = Random::new(world.seed, 300 + actor);
    let clock = Clock::draw(&mut random, world.recorder.begun());
    let mut noted = None;
    while !world.is_over() {
        super::pause(&mut random, PAUSE).await;
        let candidate = Arc::new(Candidate::new(&world, &stand, number, clock, &mut random));
        // A process that starts again may believe that it goes on where the one before it ended.
        let resumed = match noted.take() {
            Some(token) if random.below(2) == 0 => candidate.resume(token).await,
            _ => false,
        };
        if resumed || candidate.win(&mut random).await {
            candidate.hold(&mut random).await;
            noted = lock(&candidate.campaign).last_token();
        }
    }
}

/// After healing: every lease can be had, and its resource written to. Says which cannot.
pub async fn settle(world: &Arc<World>, deadline: Instant) -> Result<(), String> {
    for stand in Stand::all(world) {
        let mut random = Random::new(world.seed, 390);
        let clock = Clock::draw(&mut random, world.recorder.begun());
        loop {
            if Instant::now() > deadline {
                return Err(format!("lease {} is granted to nobody", stand.name()));
            }
            let candidate = Arc::new(Candidate::new(world, &stand, CANDIDATES, clock, &mut random));
            if candidate.round_when_free(&mut random).await {
                candidate.stop();
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

impl Candidate {
    fn new(world: &Arc<World>, stand: &Arc<Stand>, number: u64, clock: Clock, random: &mut Random) -> Self {
        let key = SigningKey::from_seed(&random.seed());
        let session = key.public().to_string();
        let holder = HolderId::new(format!("c{number}")).expect("letters and digits");
        let trust = lock(&stand.trust).clone();
        let campaign = Campaign::new(trust.genesis, trust.openings, stand.spec.clone(), holder.clone(), key);
        let (world, stand, campaign) = (world.clone(), stand.clone(), Mutex::new(campaign));
        Self { world, stand, holder, clock, campaign, session }
    }

    /// The voters that may be asked.
    fn voters(&self) -> Vec<String> {
        let voters = lock(&self.campaign).voters();
        voters.iter().map(ToString::to_string).filter(|cloud| self.world.clouds.contains(cloud)).collect()
    }

    /// Asks with a token that another process was granted, which must lead to nothing.
    async fn resume(self: &Arc<Self>, token: u64) -> bool {
        lock(&self.campaign).at_least(token);
        let granted = self.round().await;
        if !granted {
            self.release(None).await;
        }
        granted
    }

    /// Waits until the lease is won, or gives up for now.
    async fn win(self: &Arc<Self>, random: &mut Random) -> bool {
        while !self.world.is_over() {
            if self.round_when_free(random).await {
                return true;
            }
            super::pause(random, PAUSE).await;
            // A candidate may be started again before it had any success.
            if random.below(40) == 0 {
                return false;
            }
        }
        false
    }

    /// Looks, and asks if enough clouds are free. Votes that are too few are given back.
    async fn round_when_free(self: &Arc<Self>, random: &mut Random) -> bool {
        let voters = self.voters();
        let look = |cloud| look(&*self.world.port, cloud, &self.stand.spec.lease, &self.holder);
        let asked: FuturesUnordered<_> = voters.iter().map(|cloud| look(cloud)).collect();
        let looks: Vec<_> = asked.filter_map(std::future::ready).collect().await;
        let plan = lock(&self.campaign).plan(&looks);
        match plan {
            Plan::Ask => {}
            Plan::Wait(wait) => {
                tokio::time::sleep(wait.min(PAUSE)).await;
                return false;
            }
            Plan::Unreachable => return false,
        }
        if self.round().await {
            return true;
        }
        self.release(None).await;
        let most = Duration::from_millis(u64::from(self.stand.spec.duration_ms) / 2);
        tokio::time::sleep(random.between(Duration::from_millis(50), most)).await;
        false
    }

    /// Asks all voters at once, and goes on as soon as enough have voted. Late votes are still heard.
    async fn round(self: &Arc<Self>) -> bool {
        let signed = Arc::new(lock(&self.campaign).ask(self.clock.now()));
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for cloud in self.voters() {
            let (this, signed, answered) = (self.clone(), signed.clone(), answered.clone());
            tokio::spawn(async move {
                let within = Duration::from_millis(u64::from(this.stand.spec.duration_ms));
                if let Ok(Some(vote)) = tokio::time::timeout(within, vote(&*this.world.port, &cloud, &signed)).await {
                    let heard = lock(&this.campaign).hear(vote.clone());
                    if let Err(Unusable::NotVoted(_)) = heard {
                        this.learn(&cloud).await;
                        let _ = lock(&this.campaign).hear(vote);
                    }
                }
                let _ = answered.send(());
            });
        }
        drop(answered);
        let mut granted = false;
        while !granted && answers.recv().await.is_some() {
            granted = self.note_grant();
        }
        if granted {
            self.show();
        }
        granted
    }

    /// Writes down that the last claim was granted, and until when it holds.
    fn note_grant(&self) -> bool {
        let campaign = lock(&self.campaign);
        let Some(grant) = campaign.holds(self.clock.now()).filter(|_| campaign.is_granted()) else { return false };
        let until_ns = self.clock.true_ns(campaign.until().unwrap_or_default());
        let (lease, session, token) = (self.stand.name().to_owned(), self.session.clone(), grant.claim.token);
        self.world.recorder.write(What::Granted { lease, session, token, until_ns });
        true
    }

    /// Takes over the epochs that a cloud knows.
    async fn learn(&self, cloud: &str) {
        let Ok(Ok(trust)) = tokio::time::timeout(LOOK, self.world.port.call(cloud, Call::get(&["v1", "trust"]))).await
        else {
            return;
        };
        let Ok(trust) = serde_json::from_value::<TrustBundle>(trust) else { return };
        let mut known = lock(&self.stand.trust);
        if trust.genesis == known.genesis && trust.check().is_ok() && trust.openings.len() > known.openings.len() {
            lock(&self.campaign).learn(trust.openings.clone());
            lock(&self.stand.resource).learn(trust.clone());
            *known = trust;
        }
    }

    /// Tells every cloud who holds the lease, in the background.
    fn show(self: &Arc<Self>) {
        let Some(grant) = self.grant() else { return };
        for cloud in self.voters() {
            let (this, grant) = (self.clone(), grant.clone());
            tokio::spawn(async move { show(&*this.world.port, &cloud, &grant).await });
        }
    }

    fn grant(&self) -> Option<Grant> {
        lock(&self.campaign).holds(self.clock.now()).cloned()
    }

    /// It acts no more.
    fn stop(&self) {
        let (lease, session) = (self.stand.name().to_owned(), self.session.clone());
        self.world.recorder.write(What::Stopped { lease, session });
    }

    async fn release(&self, to: Option<HolderId>) {
        let Some(release) = lock(&self.campaign).release(to) else { return };
        let voters = self.voters();
        let tell = |cloud| tell_release(&*self.world.port, cloud, &release);
        let mut told: FuturesUnordered<_> = voters.iter().map(|cloud| tell(cloud)).collect();
        while told.next().await.is_some() {}
    }

    /// Holds the lease, until it is lost, or this candidate has had enough.
    async fn hold(self: &Arc<Self>, random: &mut Random) {
        let third = Duration::from_millis(u64::from(self.stand.spec.duration_ms) / 3);
        loop {
            self.act(random);
            tokio::time::sleep(random.between(third / 2, third)).await;
            if self.world.is_over() || self.grant().is_none() {
                break;
            }
            match random.below(24) {
                // It stops in good order.
                0 => {
                    self.stop();
                    let to = (random.below(2) == 0)
                        .then(|| HolderId::new(format!("c{}", random.below(CANDIDATES as usize))));
                    return self.release(to.and_then(Result::ok)).await;
                }
                // It dies without a word.
                1 => return self.stop(),
                // It sleeps longer than its lease, and looks before it acts.
                2 => tokio::time::sleep(third * 4).await,
                _ => drop(self.round().await),
            }
        }
        self.stop();
        self.release(None).await;
    }

    /// Looks whether it holds the lease, and writes. The write may take longer than the lease.
    fn act(self: &Arc<Self>, random: &mut Random) {
        let Some(grant) = self.grant() else { return };
        let (lease, session, token) = (self.stand.name().to_owned(), self.session.clone(), grant.claim.token);
        self.world.recorder.write(What::Acted { lease, session, token });
        let slow = random.below(4) == 0;
        let most = if slow { SLOWEST_WRITE } else { PAUSE };
        let (delay, this) = (random.between(Duration::ZERO, most), self.clone());
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let mut resource = lock(&this.stand.resource);
            let admitted = resource.admit(&grant.to_text());
            let why = admitted.as_ref().err().map(ToString::to_string);
            let (lease, session, token) = (this.stand.name().to_owned(), this.session.clone(), grant.claim.token);
            // Under the resource's lock: the history has the order in which it decided.
            this.world.recorder.write(What::Wrote { lease, session, token, accepted: admitted.is_ok(), why });
        });
    }
}

/// Tenures by lease, as far as the history tells.
pub fn tenures(history: &[crate::history::Record]) -> BTreeMap<&str, usize> {
    let mut sessions: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for record in history {
        if let What::Granted { lease, session, .. } = &record.what {
            sessions.entry(lease).or_default().insert(session);
        }
    }
    sessions.into_iter().map(|(lease, sessions)| (lease, sessions.len())).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
