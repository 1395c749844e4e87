//! Three clouds, two candidates, what is on its way between them, and everything that may happen next.

use super::super::clouds::{Clouds, Id};
use super::super::federation::{Federation, NAMES, id, tenant_id};
use super::{Config, Reach};
use stateright::Model as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tercet_core::agents::Election;
use tercet_core::command::Command;
use tercet_core::epochs;
use tercet_core::genesis::CLOUDS;
use tercet_core::ids::{HolderId, LeaseId};
use tercet_core::leases::{self, Ballot, Campaign, Lease, Plan, Release, SignedClaim, Spec, Vote, Waits};
use tercet_core::mirrors;
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;

pub(super) const CANDIDATES: usize = 2;
/// Half a lease, on a holder's clock that is slow by 1 %, and on a leader's that is fast by 1 %. So a holder may act in
/// the second step after the one in which it asked, where a leader has measured more than the lease, and less than W.
const HOLDERS_STEP: Duration = Duration::from_millis(495);
const LEADERS_STEP: Duration = Duration::from_millis(505);
const LASTS_MS: u32 = 1_000;
const LASTS: u32 = 3;
/// A leader that has known a vote for so many steps need not count on.
pub(super) const OLD: u8 = 3;
/// The cloud that lies, if one does.
pub(super) const LIAR: u8 = 2;
/// Entries of one cloud that are decided and not applied.
pub(super) const MAX_PENDING: usize = 2;

/// A process that wants the lease.
#[derive(Clone)]
pub(super) struct Candidate {
    /// What it is is told by the fields below: they alone make a state another one.
    pub(super) campaign: Arc<Campaign>,
    pub(super) session: u8,
    pub(super) asked: Option<Asked>,
    /// Its token, and until when it holds.
    pub(super) held: Option<(u64, u32)>,
    /// What it gave back, and where that has not arrived.
    pub(super) released: Option<(Arc<Release>, u8)>,
    /// An earlier claim, and where that has not arrived.
    pub(super) late: Option<(Arc<SignedClaim>, u8)>,
}

#[derive(Clone)]
pub(super) struct Asked {
    pub(super) at: u32,
    pub(super) claim: Arc<SignedClaim>,
    /// Clouds, as bits: where it has not arrived, and who voted for it.
    pub(super) pending: u8,
    pub(super) votes: u8,
}

/// A decided claim on its way through Raft.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) cloud: u8,
    pub(super) who: u8,
    pub(super) claim: Arc<SignedClaim>,
    pub(super) waited_out: Option<Ballot>,
}

#[derive(Clone)]
pub struct World {
    pub(super) now: u32,
    pub(super) clouds: [Id; CLOUDS],
    pub(super) waits: [Waits; CLOUDS],
    /// For how many steps each leader has known its cloud's latest vote, as `waits` has it.
    pub(super) known: [u8; CLOUDS],
    pub(super) candidates: [Candidate; CANDIDATES],
    pub(super) pending: Vec<Entry>,
    /// Asks, steps, elections, restarts, releases, lost votes and shown grants that are left.
    pub(super) left: [u8; 7],
    /// Token and session of the latest grant.
    pub(super) highest: (u64, (u8, u8)),
    pub(super) reached: u8,
    pub(super) broken: Option<Arc<str>>,
}

pub(super) const ASKS: usize = 0;
pub(super) const STEPS: usize = 1;
pub(super) const ELECTIONS: usize = 2;
pub(super) const RESTARTS: usize = 3;
pub(super) const RELEASES: usize = 4;
pub(super) const LOST: usize = 5;
pub(super) const SHOWS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Half a lease passes.
    Pass,
    /// A candidate looks at all clouds and asks, or a holder renews.
    Ask {
        who: u8,
    },
    /// A cloud decides and applies a claim; the candidate hears the vote, or does not.
    Vote {
        who: u8,
        cloud: u8,
        heard: bool,
    },
    /// A cloud gets a claim that was followed by others.
    Late {
        who: u8,
        cloud: u8,
    },
    Decide {
        who: u8,
        cloud: u8,
    },
    Apply {
        at: u8,
    },
    /// A cloud gets another leader, which has measured nothing.
    Elect {
        cloud: u8,
    },
    /// A process ends, and another one of its name begins.
    Restart {
        who: u8,
    },
    Release {
        who: u8,
    },
    Released {
        who: u8,
        cloud: u8,
    },
    Show {
        who: u8,
        cloud: u8,
    },
    /// The liar votes for a claim, whatever it said before.
    Lie {
        who: u8,
    },
}

pub struct LeaseModel {
    pub(super) config: Config,
    pub(super) clouds: Arc<Clouds>,
    pub(super) init: World,
    /// Whether one holder at a time is promised: not under `global` with a liar.
    pub promised: bool,
    /// Properties whose first example was found: later, longer ones are not asked for.
    found: AtomicU32,
}

fn holder(who: u8) -> HolderId {
    HolderId::new(["ada", "bob"][usize::from(who)]).expect("letters")
}

fn lease_id() -> LeaseId {
    LeaseId::new("primary").expect("letters")
}

fn spec(config: &Config) -> Spec {
    let (tenant, lease, scope) = (tenant_id(), lease_id(), config.scope.parse().expect("a scope"));
    Spec { tenant, lease, scope, duration_ms: LASTS_MS, preferred: None, frozen: false }
}

fn at(now: u32) -> Duration {
    HOLDERS_STEP * now
}

impl Candidate {
    pub(super) fn new(federation: &Federation, config: &Config, who: u8, session: u8) -> Self {
        let openings = federation.openings.iter().map(|openings| openings[0].clone()).collect();
        let key = SigningKey::from_seed(&[200 + 10 * who + session; 32]);
        let campaign = Campaign::new(federation.genesis.clone(), openings, spec(config), holder(who), key);
        Self { campaign: Arc::new(campaign), session, asked: None, held: None, released: None, late: None }
    }

    /// What has not arrived of the last claim may still arrive.
    pub(super) fn leave_claim(&mut self) {
        if let Some(asked) = self.asked.take().filter(|asked| asked.pending != 0) {
            self.late = Some((asked.claim, asked.pending));
        }
    }
}

impl World {
    /// What tells states apart: times are told from now.
    fn essence(&self) -> impl PartialEq + Hash + std::fmt::Debug + '_ {
        let key = |signed: &SignedClaim| (signed.claim.session.to_bytes(), signed.claim.token, signed.claim.renewal);
        let candidates = self.candidates.each_ref().map(|candidate| {
            let age = |at: u32| (self.now - at).min(LASTS);
            let asked = candidate.asked.as_ref();
            (
                candidate.session,
                candidate.campaign.last_token(),
                asked.map(|asked| (age(asked.at), key(&asked.claim), asked.pending, asked.votes)),
                candidate.held.map(|(token, until)| (token, until.saturating_sub(self.now))),
                candidate.released.as_ref().map(|(release, to)| (release.token, release.session.to_bytes(), *to)),
                candidate.late.as_ref().map(|(claim, to)| (key(claim), *to)),
            )
        });
        let pending = self.pending.iter().map(|entry| (entry.cloud, entry.who, key(&entry.claim), entry.waited_out));
        let pending: Vec<_> = pending.collect();
        (self.clouds, self.known, candidates, pending, self.left, self.highest, self.reached, self.broken.clone())
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.campaign.holds(at(self.now)).is_some())
    }

    fn reach(&mut self, reach: Reach) {
        self.reached |= 1 << reach as u8;
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.essence().fmt(f)
    }
}

impl LeaseModel {
    pub fn new(config: Config) -> Result<Self, Arc<str>> {
        let clouds = Arc::new(Clouds::new(Federation::new(1, 1), 0));
        let create = |cloud: usize| {
            let openings = &clouds.federation.openings;
            let open = Command::Epochs(epochs::Command::Open(openings[cloud][0].clone()));
            let introduce = |other: usize| Command::Mirrors(mirrors::Command::Introduce(openings[other][0].clone()));
            let others = (0..CLOUDS).filter(|other| *other != cloud).map(introduce);
            let put = Command::Leases(Box::new(leases::Command::Put(spec(&config), leases::Asked::default())));
            let all: Vec<Command> =
                [open].into_iter().chain(others).chain([clouds.federation.put_tenant(), put]).collect();
            clouds.create(cloud, &all)
        };
        let ids = [create(0)?, create(1)?, create(2)?];
        let Config { asks, steps, elections, restarts, releases, lost, shows, .. } = config;
        let init = World {
            now: 0,
            clouds: ids,
            waits: Default::default(),
            known: [0; CLOUDS],
            candidates: [0, 1].map(|who| Candidate::new(&clouds.federation, &config, who, 0)),
            pending: Vec::new(),
            left: [asks, steps, elections, restarts, releases, lost, shows],
            highest: (0, (0, 0)),
            reached: 0,
            broken: None,
        };
        let promised = config.scope == "strict" || !config.liar;
        let mut model = Self { config, clouds, init, promised, found: AtomicU32::default() };
        let left = std::mem::replace(&mut model.init.left, [u8::MAX; 7]);
        // The first vote waits as well; that is over.
        let unvoted = [Action::Pass; OLD as usize];
        let mut first = model.init.clone();
        model.measure(&mut first);
        model.init = first;
        for action in unvoted.iter().chain(config.past) {
            model.init = model.next_state(&model.init, *action).ok_or("a step of the past changes nothing")?;
        }
        model.init.left = left;
        Ok(model)
    }

    pub(super) fn lies(&self, cloud: u8) -> bool {
        self.config.liar && cloud == LIAR
    }

    pub(super) fn lease(&self, world: &World, cloud: u8) -> Lease {
        let cloud = self.clouds.get(world.clouds[usize::from(cloud)]);
        let lease = cloud.state.lease(&cloud.rows, &tenant_id(), &lease_id()).expect("it is in memory");
        lease.expect("it was put")
    }

    fn known_for(world: &World, cloud: u8) -> Duration {
        LEADERS_STEP * u32::from(world.known[usize::from(cloud)])
    }

    /// Each leader looks at its clock, and at its cloud's latest vote.
    pub(super) fn measure(&self, world: &mut World) {
        for cloud in 0..CLOUDS as u8 {
            let (lease, at) = (self.lease(world, cloud), usize::from(cloud));
            let known_for = world.waits[at].known_for(&lease, LEADERS_STEP * world.now);
            world.known[at] = (known_for.as_millis() / LEADERS_STEP.as_millis()).min(u128::from(OLD)) as u8;
        }
    }

    /// Applies a command at a cloud. The keys of its votes have to grow.
    fn apply(&self, world: &mut World, cloud: u8, command: leases::Command) {
        let before = self.lease(world, cloud);
        let at = &mut world.clouds[usize::from(cloud)];
        match self.clouds.apply(*at, &[Command::Leases(Box::new(command))]) {
            Ok(after) => *at = after,
            Err(broken) => world.broken = Some(broken),
        }
        let after = self.lease(world, cloud);
        if after.vote != before.vote {
            self.measure(world);
            if after.ballot() <= before.ballot() {
                let (was, is) = (before.ballot(), after.ballot());
                world.broken = Some(format!("{} voted for {is:?} after {was:?}", NAMES[usize::from(cloud)]).into());
            }
            let joins = before.vote.is_some_and(|vote| {
                let claim = &after.vote.as_ref().expect("it changed").claim;
                vote.claim.token == claim.token && vote.claim.holder != claim.holder
            });
            if joins {
                world.reach(Reach::Joined);
            }
        }
    }

    fn decide(&self, world: &World, cloud: u8, signed: &SignedClaim) -> Option<Option<Ballot>> {
        let held = self.clouds.get(world.clouds[usize::from(cloud)]);
        let (lease, known_for) = (self.lease(world, cloud), Self::known_for(world, cloud));
        held.state.judge_claim(&lease, &signed.claim, known_for).ok()
    }

    /// A decided claim is applied, and the vote reaches whoever asked if that one still waits for it.
    pub(super) fn vote(&self, world: &mut World, entry: &Entry, heard: bool) {
        let (claim, waited_out) = (entry.claim.claim.clone(), entry.waited_out);
        let command = leases::Command::Vote { claim, waited_out, voted_at: WallMillis(0) };
        self.apply(world, entry.cloud, command);
        let vote = self.lease(world, entry.cloud).vote.filter(|vote| vote.claim == entry.claim.claim);
        if let Some(vote) = vote.filter(|_| heard) {
            self.hear(world, entry.who, entry.cloud, vote);
        }
    }

    fn hear(&self, world: &mut World, who: u8, cloud: u8, vote: Vote) {
        let now = world.now;
        let candidate = &mut world.candidates[usize::from(who)];
        let mut campaign = Campaign::clone(&candidate.campaign);
        let heard = campaign.hear(self.clouds.federation.sign_lease_vote(vote)).is_ok();
        candidate.campaign = Arc::new(campaign);
        let Some(asked) = candidate.asked.as_mut().filter(|_| heard) else { return };
        asked.votes |= 1 << cloud;
        if !candidate.campaign.is_granted() {
            return;
        }
        let token = asked.claim.claim.token;
        candidate.held = Some((token, asked.at + LASTS));
        if candidate.campaign.holds(at(now)).is_none() {
            return;
        }
        let ((highest, of), me) = (world.highest, (who, candidate.session));
        if self.promised && (token < highest || (token == highest && of != me)) {
            world.broken = Some(format!("token {token} was granted after {highest}").into());
        }
        if token > highest {
            let gave_back =
                |who: &Candidate| who.released.as_ref().is_some_and(|(release, _)| release.token == highest);
            let released = world.candidates.iter().any(gave_back);
            world.highest = (token, me);
            world.reach(Reach::Granted);
            if highest > 0 {
                world.reach(if released { Reach::Released } else { Reach::Expired });
            }
        }
    }

    /// Notes that a claim is answered everywhere, and got some votes and too few.
    pub(super) fn note_split(world: &mut World, who: u8) {
        let candidate = &world.candidates[usize::from(who)];
        let split = |asked: &Asked| asked.pending == 0 && asked.votes != 0 && !candidate.campaign.is_granted();
        if candidate.asked.as_ref().is_some_and(split) {
            world.reach(Reach::Split);
        }
    }

    pub(super) fn ask(&self, world: &World, who: u8) -> Option<World> {
        let (mut next, candidate) = (world.clone(), &world.candidates[usize::from(who)]);
        let mut campaign = Campaign::clone(&candidate.campaign);
        let holds = campaign.holds(at(world.now)).is_some();
        if !holds {
            // Without the liar, whose look could be anything.
            let looks = (0..CLOUDS as u8).filter(|cloud| !self.lies(*cloud)).map(|cloud| {
                let held = self.clouds.get(world.clouds[usize::from(cloud)]);
                let (lease, known_for) = (self.lease(world, cloud), Self::known_for(world, cloud));
                held.state.look(&lease, Some(&holder(who)), &Election::default(), known_for)
            });
            let mut looks: Vec<_> = looks.collect();
            if self.config.liar {
                looks.push(leases::Look { cloud: id(usize::from(LIAR)), ..looks[0].clone() });
            }
            if campaign.plan(&looks) != Plan::Ask {
                return None;
            }
        }
        let claim = Arc::new(campaign.ask(at(world.now)));
        next.left[ASKS] -= 1;
        let me = &mut next.candidates[usize::from(who)];
        me.leave_claim();
        let asked = Asked { at: world.now, claim, pending: self.voters(), votes: 0 };
        (me.campaign, me.asked) = (Arc::new(campaign), Some(asked));
        Some(next)
    }

    /// The clouds that do not lie, as bits.
    fn voters(&self) -> u8 {
        (0..CLOUDS as u8).filter(|cloud| !self.lies(*cloud)).map(|cloud| 1 << cloud).sum()
    }

    /// A cloud's leader decides a claim that arrives, which is no news if it refuses.
    pub(super) fn arrive(&self, world: &World, who: u8, cloud: u8, heard: bool, later: bool) -> Option<World> {
        let mut next = world.clone();
        let asked = next.candidates[usize::from(who)].asked.as_mut()?;
        asked.pending &= !(1 << cloud);
        let claim = asked.claim.clone();
        next.left[LOST] -= u8::from(!heard);
        if let Some(waited_out) = self.decide(world, cloud, &claim) {
            let entry = Entry { cloud, who, claim, waited_out };
            if later {
                next.pending.push(entry);
            } else {
                self.vote(&mut next, &entry, heard);
            }
        } else if later || !heard {
            return None;
        }
        Self::note_split(&mut next, who);
        Some(next)
    }

    pub(super) fn late(&self, world: &World, who: u8, cloud: u8) -> Option<World> {
        let mut next = world.clone();
        let (claim, to) = next.candidates[usize::from(who)].late.take()?;
        let waited_out = self.decide(world, cloud, &claim)?;
        let left = to & !(1 << cloud);
        next.candidates[usize::from(who)].late = (left != 0).then(|| (claim.clone(), left));
        self.vote(&mut next, &Entry { cloud, who, claim, waited_out }, true);
        Some(next)
    }

    pub(super) fn release(&self, world: &World, who: u8) -> Option<World> {
        let mut next = world.clone();
        next.left[RELEASES] -= 1;
        let me = &mut next.candidates[usize::from(who)];
        let mut campaign = Campaign::clone(&me.campaign);
        let release = campaign.release(None)?;
        me.leave_claim();
        (me.campaign, me.held, me.released) = (Arc::new(campaign), None, Some((Arc::new(release), self.voters())));
        Some(next)
    }

    pub(super) fn released(&self, world: &World, who: u8, cloud: u8) -> Option<World> {
        let mut next = world.clone();
        let (release, to) = next.candidates[usize::from(who)].released.as_mut()?;
        *to &= !(1 << cloud);
        let command = leases::Command::Release(Release::clone(release), WallMillis(0));
        self.apply(&mut next, cloud, command);
        Some(next)
    }

    pub(super) fn show(&self, world: &World, who: u8, cloud: u8) -> Option<World> {
        let mut next = world.clone();
        next.left[SHOWS] -= 1;
        let grant = world.candidates[usize::from(who)].campaign.holds(at(world.now))?.clone();
        self.apply(&mut next, cloud, leases::Command::Show(grant, WallMillis(0)));
        (next.clouds != world.clouds).then_some(next)
    }

    pub(super) fn lie(&self, world: &World, who: u8) -> Option<World> {
        let mut next = world.clone();
        let claim = world.candidates[usize::from(who)].asked.as_ref()?.claim.claim.clone();
        let (cloud, epoch) = (id(usize::from(LIAR)), self.clouds.federation.epoch(usize::from(LIAR)));
        let scope = spec(&self.config).scope;
        self.hear(&mut next, who, LIAR, Vote { cloud, epoch, claim, scope, voted_at: WallMillis(0) });
        Self::note_split(&mut next, who);
        Some(next)
    }

    /// What is wrong with a state, if anything is.
    pub(super) fn judge(&self, world: &World) -> Option<String> {
        if let Some(broken) = &world.broken {
            return Some(broken.to_string());
        }
        (self.promised && world.holders().count() > 1).then(|| "two hold the lease at one moment".to_owned())
    }

    /// Whether this is the first state found that shows it.
    pub(super) fn reaches(&self, world: &World, reach: Reach) -> bool {
        let bit = 1 << reach as u32;
        let shows = match reach {
            Reach::TwoHolders => world.holders().count() > 1,
            _ => u32::from(world.reached) & bit != 0,
        };
        shows && self.found.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
