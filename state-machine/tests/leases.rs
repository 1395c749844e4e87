//! Leases against clocks that run wrong, messages that come late, leaders that change and holders that
//! restart: never two holders at one moment, and tokens that only grow.

mod clouds;

use clouds::{Clouds, NAMES, id};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tercet_core::agents::Election;
use tercet_core::command::{Command, Reply};
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::leases::{
    self, Asked, Campaign, Claim, Grant, Lease, Plan, Release, SignedClaim, SignedVote, Spec, Waits,
};
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;

const LASTS_MS: u32 = 1_000;
const CANDIDATES: usize = 3;
/// The most that a clock runs wrong, in parts of 1000.
const DRIFT: i64 = 10;

/// A clock with an offset of its own, that is up to 1 % fast or slow.
#[derive(Debug, Clone, Copy)]
struct Clock {
    offset_ms: u64,
    rate: i64,
}

impl Clock {
    fn at(self, true_us: u64) -> Duration {
        let ran = i128::from(true_us) * i128::from(1000 + self.rate) / 1000;
        Duration::from_millis(self.offset_ms) + Duration::from_micros(ran as u64)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    /// A candidate looks, and asks if it may: all at once, at the clouds of a mask.
    Round {
        who: usize,
        reach: u8,
    },
    /// It asks without a look, and its claims are on their way.
    Ask {
        who: usize,
    },
    /// Some message arrives: a claim, a vote or a release.
    Arrive {
        which: usize,
    },
    Lose {
        which: usize,
    },
    Release {
        who: usize,
        to: Option<usize>,
    },
    /// The same name, another process.
    Restart {
        who: usize,
    },
    /// A cloud gets another leader, which has measured nothing.
    Elect {
        cloud: usize,
    },
    /// A cloud is shown a grant, of now or of earlier.
    Show {
        which: usize,
        cloud: usize,
    },
    Freeze {
        frozen: bool,
    },
    /// A cloud loses its state, and votes again in its next epoch.
    Renew {
        cloud: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..CANDIDATES;
    let step = prop_oneof![
        6 => (1u64..700).prop_map(Step::Pass),
        2 => (900u64..1_100).prop_map(Step::Pass),
        6 => (who.clone(), prop_oneof![Just(7u8), 1u8..8]).prop_map(|(who, reach)| Step::Round { who, reach }),
        2 => who.clone().prop_map(|who| Step::Ask { who }),
        5 => (0usize..20).prop_map(|which| Step::Arrive { which }),
        1 => (0usize..20).prop_map(|which| Step::Lose { which }),
        2 => (who.clone(), prop::option::of(who.clone())).prop_map(|(who, to)| Step::Release { who, to }),
        1 => who.clone().prop_map(|who| Step::Restart { who }),
        1 => (0usize..3).prop_map(|cloud| Step::Elect { cloud }),
        3 => (0usize..20, 0usize..3).prop_map(|(which, cloud)| Step::Show { which, cloud }),
        1 => prop::bool::weighted(0.3).prop_map(|frozen| Step::Freeze { frozen }),
        1 => (0usize..12).prop_map(|cloud| if cloud < 3 { Step::Renew { cloud } } else { Step::Pass(1) }),
    ];
    prop::collection::vec(step, 1..160)
}

fn clocks() -> impl Strategy<Value = Vec<Clock>> {
    let clock = (0u64..1_000_000, -DRIFT..=DRIFT).prop_map(|(offset_ms, rate)| Clock { offset_ms, rate });
    prop::collection::vec(clock, 3 + CANDIDATES)
}

enum Message {
    Claim {
        cloud: usize,
        signed: SignedClaim,
    },
    /// What a leader decided, on its way through Raft.
    Entry {
        cloud: usize,
        command: leases::Command,
    },
    Vote {
        who: usize,
        vote: SignedVote,
    },
    Release {
        cloud: usize,
        release: Release,
    },
}

struct World {
    clouds: Clouds,
    lease: LeaseId,
    /// Of the clouds' leaders, then of the candidates.
    clocks: Vec<Clock>,
    waits: Vec<Waits>,
    campaigns: Vec<Campaign>,
    begun: u8,
    true_us: u64,
    messages: Vec<Message>,
    grants: Vec<Grant>,
    /// By token: the session that was granted it.
    granted: BTreeMap<u64, [u8; 32]>,
    votes: BTreeMap<(usize, u64, u64), Claim>,
}

fn tenant() -> TenantId {
    TenantId::new("shop").unwrap()
}

fn holder(who: usize) -> HolderId {
    HolderId::new(["ada", "bob", "eve"][who]).unwrap()
}

fn spec(scope: &str) -> Spec {
    Spec {
        tenant: tenant(),
        lease: LeaseId::new("primary").unwrap(),
        scope: scope.parse().unwrap(),
        duration_ms: LASTS_MS,
        preferred: None,
        frozen: false,
    }
}

impl World {
    fn new(scope: &str, clocks: Vec<Clock>) -> Self {
        let mut clouds = Clouds::default();
        for cloud in NAMES {
            clouds.must(cloud, Command::Leases(Box::new(leases::Command::Put(spec(scope), Asked::default()))));
        }
        let mut world = Self {
            clouds,
            lease: spec(scope).lease,
            clocks,
            waits: (0..3).map(|_| Waits::default()).collect(),
            campaigns: Vec::new(),
            begun: 0,
            true_us: 0,
            messages: Vec::new(),
            grants: Vec::new(),
            granted: BTreeMap::new(),
            votes: BTreeMap::new(),
        };
        for who in 0..CANDIDATES {
            let campaign = world.campaign(who, scope);
            world.campaigns.push(campaign);
        }
        world
    }

    fn campaign(&mut self, who: usize, scope: &str) -> Campaign {
        self.begun += 1;
        let key = SigningKey::from_seed(&[self.begun; 32]);
        let (genesis, openings) = (self.clouds.genesis.clone(), self.clouds.openings.clone());
        Campaign::new(genesis, openings, spec(scope), holder(who), key)
    }

    fn boottime(&self, who: usize) -> Duration {
        self.clocks[3 + who].at(self.true_us)
    }

    fn lease(&self, cloud: usize) -> Lease {
        let (entry, state) = &self.clouds.clouds[NAMES[cloud]];
        state.lease(&entry.records, &tenant(), &self.lease).unwrap().expect("it was put")
    }

    /// How long the cloud's leader has known its latest vote.
    fn known_for(&mut self, cloud: usize) -> Duration {
        let (lease, now) = (self.lease(cloud), self.clocks[cloud].at(self.true_us));
        self.waits[cloud].known_for(&lease, now)
    }

    /// What a cloud's leader does with a claim.
    fn decide(&mut self, cloud: usize, signed: &SignedClaim) -> Option<leases::Command> {
        signed.verify(&self.clouds.fed).ok()?;
        let known_for = self.known_for(cloud);
        let (claim, lease) = (signed.claim.clone(), self.lease(cloud));
        let waited_out = self.clouds.clouds[NAMES[cloud]].1.judge_claim(&lease, &claim, known_for).ok()?;
        Some(leases::Command::Vote { claim, waited_out, voted_at: WallMillis(self.true_us) })
    }

    fn vote(&mut self, cloud: usize, signed: &SignedClaim) -> Option<SignedVote> {
        let command = self.decide(cloud, signed)?;
        self.commit(cloud, command)
    }

    fn commit(&mut self, cloud: usize, command: leases::Command) -> Option<SignedVote> {
        let Ok(Reply::LeaseVote(vote)) = self.clouds.apply(NAMES[cloud], Command::Leases(Box::new(command))).0 else {
            return None;
        };
        self.known_for(cloud);
        let claim = vote.claim.clone();
        let first = self.votes.entry((cloud, claim.token, claim.renewal)).or_insert_with(|| claim.clone());
        assert_eq!(*first, claim, "{} voted twice for one key", NAMES[cloud]);
        let opening = self.clouds.openings.iter().find(|opening| opening.id(&self.clouds.fed) == vote.epoch);
        let node = opening.expect("its epoch is known").keys[0].0.clone();
        let signature = vote.sign(&self.clouds.fed, &self.clouds.clouds[NAMES[cloud]].0.key);
        Some(SignedVote { vote: *vote, signatures: vec![(node, signature)] })
    }

    fn hear(&mut self, who: usize, vote: SignedVote) {
        // A vote for another claim of this name, or of its predecessor, is refused.
        let _ = self.campaigns[who].hear(vote);
        let now = self.boottime(who);
        let Some(grant) = self.campaigns[who].holds(now) else { return };
        grant.verify(&self.clouds.genesis, &self.clouds.openings).expect("what is held verifies");
        let (token, session) = (grant.claim.token, grant.claim.session.to_bytes());
        self.grants.push(grant.clone());
        let last = self.granted.last_key_value().map(|(token, session)| (*token, *session));
        match last {
            Some((highest, of)) if token <= highest => {
                assert_eq!((token, session), (highest, of), "token {token} was granted after {highest}");
            }
            _ => drop(self.granted.insert(token, session)),
        }
    }

    fn round(&mut self, who: usize, reach: u8) {
        let reached: Vec<usize> = (0..3).filter(|cloud| reach & (1 << cloud) != 0).collect();
        let now = self.boottime(who);
        if self.campaigns[who].holds(now).is_none() {
            let mut looks = Vec::new();
            for &cloud in &reached {
                let (known_for, lease) = (self.known_for(cloud), self.lease(cloud));
                let state = &self.clouds.clouds[NAMES[cloud]].1;
                looks.push(state.look(&lease, Some(&holder(who)), &Election::default(), known_for));
            }
            if self.campaigns[who].plan(&looks) != Plan::Ask {
                return;
            }
        }
        let now = self.boottime(who);
        let signed = self.campaigns[who].ask(now);
        for cloud in reached {
            if let Some(vote) = self.vote(cloud, &signed) {
                self.hear(who, vote);
            }
        }
    }

    fn arrive(&mut self, which: usize) {
        if self.messages.is_empty() {
            return;
        }
        let which = which % self.messages.len();
        match self.messages.swap_remove(which) {
            Message::Claim { cloud, signed } => {
                if let Some(command) = self.decide(cloud, &signed) {
                    self.messages.push(Message::Entry { cloud, command });
                }
            }
            Message::Entry { cloud, command } => {
                if let Some(vote) = self.commit(cloud, command) {
                    let who = (0..CANDIDATES).find(|who| holder(*who) == vote.vote.claim.holder).unwrap();
                    self.messages.push(Message::Vote { who, vote });
                }
            }
            Message::Vote { who, vote } => self.hear(who, vote),
            Message::Release { cloud, release } => {
                self.clouds
                    .must(NAMES[cloud], Command::Leases(Box::new(leases::Command::Release(release, WallMillis(0)))));
            }
        }
    }

    fn renew(&mut self, scope: &str, cloud: usize) {
        let lost = NAMES[cloud];
        self.clouds.exchange(&NAMES);
        self.clouds.lose(lost);
        for other in NAMES.iter().filter(|other| **other != lost) {
            self.clouds.introduce_all(other);
        }
        self.clouds.reopen(lost);
        self.clouds.exchange(&NAMES);
        self.clouds.must(lost, Command::Leases(Box::new(leases::Command::Put(spec(scope), Asked::default()))));
        // With its Raft log everything is gone that was on its way through it.
        self.messages.retain(|message| !matches!(message, Message::Entry { cloud: of, .. } if *of == cloud));
        self.waits[cloud] = Waits::default();
        for campaign in &mut self.campaigns {
            campaign.learn(self.clouds.openings.clone());
        }
    }

    fn step(&mut self, scope: &str, step: &Step) {
        match *step {
            Step::Pass(ms) => {
                self.true_us += ms * 1000;
                self.clouds.passed += ms;
            }
            Step::Round { who, reach } => self.round(who, reach),
            Step::Ask { who } => {
                let now = self.boottime(who);
                let signed = self.campaigns[who].ask(now);
                self.messages.extend((0..3).map(|cloud| Message::Claim { cloud, signed: signed.clone() }));
            }
            Step::Arrive { which } => self.arrive(which),
            Step::Lose { which } if !self.messages.is_empty() => {
                drop(self.messages.swap_remove(which % self.messages.len()));
            }
            Step::Lose { .. } => {}
            Step::Release { who, to } => {
                if let Some(release) = self.campaigns[who].release(to.map(holder)) {
                    let release = |cloud| Message::Release { cloud, release: release.clone() };
                    self.messages.extend((0..3).map(release));
                }
            }
            Step::Restart { who } => self.campaigns[who] = self.campaign(who, scope),
            Step::Elect { cloud } => self.waits[cloud] = Waits::default(),
            Step::Show { which, cloud } if !self.grants.is_empty() => {
                let grant = self.grants[which % self.grants.len()].clone();
                self.clouds.must(NAMES[cloud], Command::Leases(Box::new(leases::Command::Show(grant, WallMillis(0)))));
            }
            Step::Show { .. } => {}
            Step::Freeze { frozen } => {
                for cloud in NAMES {
                    let put = leases::Command::Put(Spec { frozen, ..spec(scope) }, Asked::default());
                    self.clouds.must(cloud, Command::Leases(Box::new(put)));
                }
            }
            Step::Renew { cloud } => self.renew(scope, cloud),
        }
        let holders: Vec<usize> =
            (0..CANDIDATES).filter(|who| self.campaigns[*who].holds(self.boottime(*who)).is_some()).collect();
        assert!(holders.len() <= 1, "{holders:?} hold {} at one moment", self.lease);
    }

    fn tenures(&self) -> usize {
        self.granted.len()
    }
}

/// How many tenures there were.
fn run(scope: &str, clocks: Vec<Clock>, steps: &[Step]) -> usize {
    let mut world = World::new(scope, clocks);
    // The first votes wait: the leaders have to have seen the lease.
    for cloud in 0..3 {
        world.known_for(cloud);
    }
    world.step(scope, &Step::Pass(1_100));
    for step in steps {
        world.step(scope, step);
    }
    world.tenures()
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_global_lease_never_has_two_holders(clocks in clocks(), steps in steps()) {
        run("global", clocks, &steps);
    }

    #[test]
    fn a_strict_lease_never_has_two_holders(clocks in clocks(), steps in steps()) {
        run("strict", clocks, &steps);
    }

    #[test]
    fn a_lease_of_one_cloud_never_has_two_holders(clocks in clocks(), steps in steps()) {
        run("cloud:gcp", clocks, &steps);
    }
}

#[test]
fn in_most_of_these_runs_a_lease_changes_hands() {
    let mut runner = TestRunner::deterministic();
    let (clocks, steps) = (clocks(), steps());
    for (scope, least) in [("global", 40), ("strict", 25), ("cloud:gcp", 40)] {
        let sample = |runner: &mut TestRunner| {
            let clocks = clocks.new_tree(runner).unwrap().current();
            run(scope, clocks, &steps.new_tree(runner).unwrap().current())
        };
        let changed = (0..100).filter(|_| sample(&mut runner) >= 2).count();
        assert!(changed >= least, "{scope}: in {changed} of 100 runs");
    }
}

/// One candidate after the other, without any drift.
fn exact() -> Vec<Clock> {
    vec![Clock { offset_ms: 0, rate: 0 }; 3 + CANDIDATES]
}

fn started(scope: &str) -> World {
    let mut world = World::new(scope, exact());
    for cloud in 0..3 {
        world.known_for(cloud);
    }
    world.step(scope, &Step::Pass(1_100));
    world
}

#[test]
fn a_newer_vote_than_the_one_waited_out_refuses_the_entry() {
    let mut world = started("cloud:gcp");
    world.round(0, 7);
    let old = world.lease(2).ballot();
    world.step("cloud:gcp", &Step::Pass(2_000));
    let now = world.boottime(0);
    let renewal = world.campaigns[0].ask(now);
    world.vote(2, &renewal).expect("its own tenure");
    let now = world.boottime(1);
    world.campaigns[1].at_least(9);
    let claim = world.campaigns[1].ask(now).claim;
    // A leader that did not know of the renewal decided on the vote before it.
    let late = leases::Command::Vote { claim, waited_out: old, voted_at: WallMillis(0) };
    let answer = world.clouds.apply("gcp", Command::Leases(Box::new(late))).0;
    assert_eq!(answer.unwrap_err().code().as_str(), "lease_held");
}

#[test]
fn a_renewed_cloud_grants_no_token_that_was_granted_before() {
    let mut world = started("global");
    // aws and gcp grant several tenures; then gcp loses its state and is renewed.
    for who in [0, 1, 0] {
        world.round(who, 0b101);
        world.step("global", &Step::Pass(1_100));
    }
    let highest = *world.granted.last_key_value().expect("there were tenures").0;
    world.step("global", &Step::Renew { cloud: 2 });
    world.known_for(2);
    world.step("global", &Step::Pass(1_100));
    // azure never voted and gcp forgot: together they are a quorum.
    let forgetful = world.clouds.clouds["gcp"].1.least_token(&world.lease(2));
    assert!(forgetful > highest, "{forgetful} after {highest} was granted");
}

#[test]
fn a_grant_with_anything_changed_is_refused() {
    let mut world = started("global");
    world.round(0, 0b101);
    let now = world.boottime(0);
    let grant = world.campaigns[0].holds(now).expect("two clouds voted").clone();
    let (genesis, openings) = (world.clouds.genesis.clone(), world.clouds.openings.clone());
    assert_eq!(grant.verify(&genesis, &openings).unwrap().clouds, [id("aws"), id("gcp")]);
    let bytes = grant.bytes();
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let verified = leases::Grant::decode(&changed).ok().map(|grant| grant.verify(&genesis, &openings));
            assert!(!matches!(verified, Some(Ok(_))), "bit {bit:#x} of byte {at} does not matter");
        }
        assert!(leases::Grant::decode(&bytes[..at]).is_err(), "{at} bytes are a grant");
    }
    let refused = |change: &dyn Fn(&mut leases::Grant)| {
        let mut changed = grant.clone();
        change(&mut changed);
        changed.verify(&genesis, &openings).unwrap_err().to_string()
    };
    assert!(refused(&|grant| drop(grant.votes.pop())).contains("no grant"));
    assert!(refused(&|grant| grant.votes.swap(0, 1)).contains("sorted"));
    assert!(refused(&|grant| grant.claim.token += 1).contains("its claim"));
    assert!(refused(&|grant| grant.votes[0].signatures.clear()).contains("signed"));
    let clouds: BTreeSet<CloudId> = genesis.clouds().cloned().collect();
    assert!(!"strict".parse::<leases::Scope>().unwrap().is_met(&genesis, &clouds.iter().take(2).collect()));
}
