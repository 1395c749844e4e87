//! What a cloud answers to claims, releases and grants: one rule each.

#[path = "../clouds/mod.rs"]
mod clouds;
mod history;

use clouds::{Clouds, NAMES, id};
use std::time::Duration;
use tercet_core::command::{Command, Reply};
use tercet_core::fact::Fact;
use tercet_core::ids::{HolderId, LeaseId, TenantId};
use tercet_core::leases::{
    self, Asked, Ballot, Because, Campaign, Claim, Grant, Lease, Look, MAX_HISTORY, Plan, Release, SignedVote, Spec,
    Unusable, Vote, Waits, What, wait_for,
};
use tercet_core::rejection::Rejection;
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;

const LASTS_MS: u32 = 1_000;
/// How many tokens there are until a cloud is renewed.
const BLOCK: u64 = 1 << 32;

fn name(who: &str) -> HolderId {
    HolderId::new(who).unwrap()
}

fn key(of: &str) -> SigningKey {
    SigningKey::from_seed(&tercet_core::wire::sha256(of.as_bytes()).0)
}

fn spec(scope: &str) -> Spec {
    Spec {
        tenant: TenantId::new("shop").unwrap(),
        lease: LeaseId::new("primary").unwrap(),
        scope: scope.parse().unwrap(),
        duration_ms: LASTS_MS,
        preferred: None,
        frozen: false,
    }
}

fn claim(who: &str, token: u64, renewal: u64) -> Claim {
    let Spec { tenant, lease, duration_ms, .. } = spec("global");
    Claim { tenant, lease, token, renewal, holder: name(who), session: key(who).public(), duration_ms }
}

/// Three clouds that know the lease.
struct World(Clouds);

impl World {
    fn new(scope: &str) -> Self {
        let mut world = Self(Clouds::default());
        for cloud in NAMES {
            world.must(cloud, leases::Command::Put(spec(scope), Asked::default()));
        }
        world
    }

    fn apply(&mut self, cloud: &str, command: leases::Command) -> (Result<Reply, Rejection>, Vec<Fact>) {
        self.0.apply(cloud, Command::Leases(Box::new(command)))
    }

    fn must(&mut self, cloud: &str, command: leases::Command) -> Vec<Fact> {
        let (reply, facts) = self.apply(cloud, command);
        reply.expect("accepted");
        facts
    }

    fn vote(&mut self, cloud: &str, claim: &Claim, waited_out: Option<Ballot>) -> Result<Vote, Rejection> {
        let voted_at = WallMillis(self.0.clouds[cloud].0.index);
        match self.apply(cloud, leases::Command::Vote { claim: claim.clone(), waited_out, voted_at }).0? {
            Reply::LeaseVote(vote) => Ok(*vote),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// The code of a refusal.
    fn refused(&mut self, cloud: &str, claim: &Claim, waited_out: Option<Ballot>) -> &'static str {
        self.vote(cloud, claim, waited_out).unwrap_err().code().as_str()
    }

    fn release(&mut self, cloud: &str, of: &Claim, to: Option<&str>) {
        let release = Release::sign(&self.0.fed, of, to.map(name), &key(of.holder.as_str()));
        self.must(cloud, leases::Command::Release(release, WallMillis(5)));
    }

    fn lease(&self, cloud: &str) -> Lease {
        let (entry, state) = &self.0.clouds[cloud];
        let Spec { tenant, lease, .. } = spec("global");
        state.lease(&entry.records, &tenant, &lease).unwrap().expect("it was put")
    }

    fn sign(&self, vote: Vote) -> SignedVote {
        let label = vote.cloud.as_str();
        let opening = self.0.openings.iter().find(|opening| opening.id(&self.0.fed) == vote.epoch).unwrap();
        let signature = vote.sign(&self.0.fed, &self.0.clouds[label].0.key);
        SignedVote { signatures: vec![(opening.keys[0].0.clone(), signature)], vote }
    }

    /// A grant by these clouds, whether or not they would vote.
    fn grant(&self, claim: &Claim, scope: &str, voters: &[&str]) -> Grant {
        let scope: leases::Scope = scope.parse().unwrap();
        let vote = |name: &&str| {
            let epoch = self.0.clouds[*name].1.opening(&id(name)).unwrap().id(&self.0.fed);
            let (cloud, claim, scope) = (id(name), claim.clone(), scope.clone());
            self.sign(Vote { cloud, epoch, claim, scope, voted_at: WallMillis(7) })
        };
        Grant { claim: claim.clone(), scope: scope.clone(), votes: voters.iter().map(vote).collect() }
    }

    fn show(&mut self, cloud: &str, claim: &Claim) -> Vec<Fact> {
        let grant = self.grant(claim, "global", &["aws", "azure"]);
        self.must(cloud, leases::Command::Show(grant, WallMillis(5)))
    }

    /// The newest first.
    fn history(&self, cloud: &str) -> Vec<What> {
        let (entry, state) = &self.0.clouds[cloud];
        let changes = state.lease_history(&entry.records, &self.lease(cloud), u64::MAX).unwrap();
        changes.into_iter().map(|change| change.what).collect()
    }

    /// gcp loses its state, and votes again in its next epoch.
    fn renew_gcp(&mut self) {
        self.0.exchange(&NAMES);
        self.0.lose("gcp");
        for cloud in ["aws", "azure"] {
            self.0.introduce_all(cloud);
        }
        self.0.reopen("gcp");
        self.0.exchange(&NAMES);
        let scope = self.lease("aws").spec.scope.to_string();
        self.must("gcp", leases::Command::Put(spec(&scope), Asked::default()));
    }

    fn campaign(&self, scope: &str, who: &str) -> Campaign {
        Campaign::new(self.0.genesis.clone(), self.0.openings.clone(), spec(scope), name(who), key(who))
    }
}

#[test]
fn the_same_claim_gets_the_same_vote_again() {
    let mut world = World::new("global");
    let first = world.vote("aws", &claim("ada", 1, 0), None).unwrap();
    assert_eq!(world.vote("aws", &claim("ada", 1, 0), None), Ok(first.clone()), "the time of the vote included");
    let later = world.vote("aws", &claim("ada", 1, 1), None).unwrap();
    assert_eq!((later.claim.renewal, world.lease("aws").vote), (1, Some(later)));
}

#[test]
fn an_earlier_renewal_is_refused() {
    let mut world = World::new("global");
    world.vote("aws", &claim("ada", 1, 5), None).unwrap();
    assert_eq!(world.refused("aws", &claim("ada", 1, 4), None), "stale_token");
}

#[test]
fn a_new_tenure_needs_a_higher_token_and_that_the_vote_before_is_out_of_time() {
    let mut world = World::new("global");
    let ada = claim("ada", 3, 0);
    world.vote("aws", &ada, None).unwrap();
    for token in [1, 3] {
        assert_eq!(world.refused("aws", &claim("bob", token, 0), Some(ada.ballot())), "stale_token");
    }
    assert_eq!(world.refused("aws", &claim("bob", 4, 0), None), "lease_held");
    world.vote("aws", &claim("bob", 4, 0), Some(ada.ballot())).unwrap();
    assert_eq!(world.refused("aws", &claim("ada", 3, 1), Some(Ballot { token: 4, renewal: 0 })), "stale_token");
}

#[test]
fn a_restarted_holder_does_not_go_on_with_its_predecessors_token() {
    let mut world = World::new("global");
    let ada = claim("ada", 1, 0);
    world.vote("aws", &ada, None).unwrap();
    let again = Claim { session: key("ada again").public(), renewal: 1, ..ada.clone() };
    assert_eq!(world.refused("aws", &again, None), "stale_token");
    assert_eq!(world.refused("aws", &Claim { token: 2, ..again }, None), "lease_held");
}

#[test]
fn a_released_tenure_is_over_for_good() {
    let mut world = World::new("global");
    let ada = claim("ada", 1, 0);
    world.vote("aws", &ada, None).unwrap();
    world.release("aws", &ada, None);
    for renewal in [0, 1] {
        assert_eq!(world.refused("aws", &claim("ada", 1, renewal), Some(ada.ballot())), "stale_token");
    }
    world.vote("aws", &claim("bob", 2, 0), None).expect("free for everybody");
    world.release("aws", &ada, None);
    assert_eq!(world.lease("aws").released, None, "a late release says nothing of the next tenure");
}

#[test]
fn a_release_to_somebody_lets_that_one_in_and_the_others_after_the_wait() {
    let mut world = World::new("global");
    let ada = claim("ada", 1, 0);
    for cloud in ["aws", "gcp"] {
        world.vote(cloud, &ada, None).unwrap();
        world.release(cloud, &ada, Some("bob"));
    }
    assert_eq!(world.refused("aws", &claim("eve", 2, 0), None), "lease_held");
    world.vote("aws", &claim("bob", 2, 0), None).unwrap();
    world.vote("gcp", &claim("eve", 2, 0), Some(ada.ballot())).unwrap();
}

#[test]
fn a_frozen_lease_keeps_its_holder_and_lets_nobody_new_in() {
    let mut world = World::new("global");
    let ada = claim("ada", 1, 0);
    world.vote("aws", &ada, None).unwrap();
    world.must("aws", leases::Command::Put(Spec { frozen: true, ..spec("global") }, Asked::default()));
    world.vote("aws", &claim("ada", 1, 1), None).unwrap();
    world.release("aws", &ada, None);
    assert_eq!(world.refused("aws", &claim("bob", 2, 0), None), "lease_frozen");
    world.must("aws", leases::Command::Put(spec("global"), Asked::default()));
    world.vote("aws", &claim("bob", 2, 0), None).unwrap();
}

#[test]
fn a_cloud_that_was_away_joins_a_tenure_once_it_was_shown_the_grant() {
    let mut world = World::new("global");
    let (bob, ada) = (claim("bob", 2, 0), claim("ada", 3, 4));
    world.vote("gcp", &bob, None).unwrap();
    world.show("gcp", &claim("ada", 3, 0));
    assert_eq!(world.refused("gcp", &claim("eve", 3, 0), Some(bob.ballot())), "stale_token");
    assert_eq!(world.refused("gcp", &ada, None), "lease_held");
    world.vote("gcp", &ada, Some(bob.ballot())).unwrap();
    // One that has voted for somebody later does not go back.
    world.vote("azure", &claim("eve", 4, 0), None).unwrap();
    world.show("azure", &ada);
    assert_eq!(world.refused("azure", &ada, Some(Ballot { token: 4, renewal: 0 })), "stale_token");
}

#[test]
fn a_cloud_that_voted_for_who_lost_a_split_vote_joins_the_winner() {
    let mut world = World::new("global");
    let (bob, ada) = (claim("bob", 3, 0), claim("ada", 3, 1));
    world.vote("gcp", &bob, None).unwrap();
    assert_eq!(world.refused("gcp", &ada, Some(bob.ballot())), "stale_token");
    world.show("gcp", &claim("ada", 3, 0));
    assert_eq!(world.refused("gcp", &ada, None), "lease_held");
    world.release("gcp", &bob, None);
    assert_eq!(world.refused("gcp", &claim("ada", 3, 0), None), "stale_token", "its key was Bob's");
    world.vote("gcp", &ada, None).unwrap();
    assert_eq!(world.refused("gcp", &claim("bob", 3, 2), Some(ada.ballot())), "stale_token");
}

#[test]
fn a_candidate_asks_for_no_higher_token_than_the_clouds_that_are_free() {
    let world = World::new("global");
    let look = |name: &str, least_token, free_in_ms| Look { cloud: id(name), least_token, free_in_ms };
    let mut campaign = world.campaign("global", "ada");
    let looks = [look("aws", 3, Some(0)), look("azure", 4, Some(900)), look("gcp", 2, Some(0))];
    assert_eq!(campaign.plan(&looks), Plan::Ask);
    assert_eq!(campaign.ask(Duration::ZERO).claim.token, 3);
}

#[test]
fn a_lease_of_one_cloud_is_voted_on_there_alone() {
    let mut world = World::new("cloud:gcp");
    assert_eq!(world.refused("aws", &claim("ada", 1, 0), None), "invalid_request");
    world.vote("gcp", &claim("ada", 1, 0), None).unwrap();
    assert_eq!(world.campaign("cloud:gcp", "ada").voters(), [id("gcp")]);
}

#[test]
fn a_renewed_cloud_joins_no_tenure_from_before() {
    let mut world = World::new("global");
    let (ada, bob) = (claim("ada", 1, 0), claim("bob", 2, 0));
    for cloud in ["aws", "gcp"] {
        world.vote(cloud, &ada, None).unwrap();
    }
    let old = world.grant(&ada, "global", &["aws", "gcp"]);
    // Bob's tenure comes after Ada's; aws does not hear of it.
    world.vote("gcp", &bob, Some(ada.ballot())).unwrap();
    world.vote("azure", &bob, None).unwrap();
    world.renew_gcp();
    world.must("gcp", leases::Command::Show(old, WallMillis(5)));
    assert_eq!(world.refused("gcp", &claim("ada", 1, 1), None), "stale_token");
}

#[test]
fn no_token_reaches_the_floor_of_a_cloud_that_is_renewed_later() {
    let mut world = World::new("global");
    for token in [BLOCK, u64::MAX] {
        assert_eq!(world.refused("gcp", &claim("ada", token, 0), None), "invalid_request");
    }
    world.show("gcp", &claim("ada", BLOCK - 2, 0));
    world.vote("gcp", &claim("ada", BLOCK - 1, 0), None).unwrap();
    world.renew_gcp();
    assert_eq!(world.refused("gcp", &claim("bob", BLOCK - 1, 0), None), "stale_token");
    world.vote("gcp", &claim("bob", BLOCK + 1, 0), None).unwrap();
    world.vote("aws", &claim("bob", BLOCK + 1, 0), None).expect("aws knows of the renewal");
}

#[test]
fn a_candidate_that_asks_for_a_token_far_beyond_gets_no_vote() {
    let mut world = World::new("global");
    let most = 1 + (2 << 16);
    assert_eq!(world.refused("gcp", &claim("ada", most + 1, 0), None), "invalid_request");
    world.vote("gcp", &claim("ada", most, 0), None).unwrap();
    // What a quorum granted may lie anywhere.
    world.show("azure", &claim("ada", BLOCK / 2, 0));
    world.vote("azure", &claim("ada", BLOCK / 2, 1), None).unwrap();
}

#[test]
fn a_cloud_that_asks_for_absurd_tokens_keeps_nobody_out() {
    let world = World::new("global");
    let look = |name: &str, least_token| Look { cloud: id(name), least_token, free_in_ms: Some(0) };
    let mut campaign = world.campaign("global", "ada");
    assert_eq!(campaign.plan(&[look("aws", u64::MAX), look("azure", 3)]), Plan::Unreachable);
    assert_eq!(campaign.plan(&[look("aws", u64::MAX), look("azure", 3), look("gcp", 5)]), Plan::Ask);
    assert_eq!(campaign.ask(Duration::ZERO).claim.token, 5);
    // Nor may it use up what there is, by asking for much or little.
    for lie in [BLOCK - 1, 1] {
        let mut campaign = world.campaign("global", "eve");
        assert_eq!(campaign.plan(&[look("aws", lie), look("azure", 300_000), look("gcp", 300_002)]), Plan::Ask);
        assert_eq!(campaign.ask(Duration::ZERO).claim.token, 300_002);
    }
    // The clouds know of an epoch, this candidate does not yet.
    let mut late = world.campaign("global", "bob");
    assert_eq!(late.plan(&[look("aws", BLOCK + 1), look("azure", BLOCK + 1)]), Plan::Ask);
    assert_eq!(late.ask(Duration::ZERO).claim.token, BLOCK + 1);
}

#[test]
fn two_grants_of_one_token_stand_in_the_history_and_change_no_holder() {
    let mut world = World::new("global");
    world.show("gcp", &claim("ada", 1, 0));
    let facts = world.show("gcp", &claim("bob", 1, 0));
    assert!(facts.iter().any(|fact| matches!(fact, Fact::SplitBrain { token: 1, .. })), "{facts:?}");
    let split = What::SplitBrain { token: 1, holder: name("ada"), other: name("bob") };
    assert_eq!(world.history("gcp")[0], split);
    assert_eq!(world.lease("gcp").tenure.unwrap().holder, name("ada"));
    // Both clouds voted for both.
    let (entry, state) = &world.0.clouds["gcp"];
    let evidence = state.evidence(&entry.records).unwrap();
    let convicted: Vec<_> = evidence.iter().map(|evidence| (evidence.cloud.as_str(), evidence.kind())).collect();
    assert_eq!(convicted, [("aws", "double-lease-vote"), ("azure", "double-lease-vote")]);
    for proof in &evidence {
        proof.verify(&world.0.genesis, &world.0.openings).expect("it convinces anybody");
    }
    assert!(world.show("gcp", &claim("bob", 1, 0)).is_empty(), "told once");
    world.show("gcp", &claim("bob", 2, 0));
    world.show("gcp", &claim("eve", 2, 3));
    let (entry, state) = &world.0.clouds["gcp"];
    assert_eq!(state.evidence(&entry.records).unwrap().len(), 2, "a later renewal is no contradiction");
}

#[test]
fn a_grant_that_proves_nothing_is_refused_with_its_reason() {
    let world = World::new("global");
    let ada = claim("ada", 1, 0);
    let good = world.grant(&ada, "global", &["aws", "gcp"]);
    let verify = |grant: &Grant| grant.verify(&world.0.genesis, &world.0.openings);
    verify(&good).unwrap();
    let reason = |grant: Grant| verify(&grant).unwrap_err().to_string();
    let changed = |change: fn(&mut Grant)| {
        let mut grant = good.clone();
        change(&mut grant);
        reason(grant)
    };
    let mut foreign = good.clone();
    foreign.votes[0].signatures[0].1 = key("stranger").sign(&foreign.votes[0].vote.message(&world.0.fed));
    let mut elsewhere = good.clone();
    elsewhere.votes[0].signatures = elsewhere.votes[1].signatures.clone();
    let unsigned = "the vote of aws is not signed by exactly 1 of its nodes";
    assert_eq!(reason(foreign), unsigned);
    assert_eq!(reason(elsewhere), unsigned);
    assert_eq!(changed(|grant| grant.votes[0].signatures.clear()), unsigned);
    assert_eq!(changed(|grant| grant.votes[0].vote.voted_at.0 += 1), unsigned);
    let form = "its votes are not sorted by cloud, are not all for its claim and scope, or a cloud votes twice";
    assert_eq!(changed(|grant| grant.votes.swap(0, 1)), form);
    assert_eq!(changed(|grant| grant.votes[1] = grant.votes[0].clone()), form);
    assert_eq!(changed(|grant| grant.claim.renewal += 1), form);
    assert_eq!(changed(|grant| grant.scope = leases::Scope::Strict), form);
    assert!(changed(|grant| grant.votes[0].vote.epoch.0[0] ^= 1).contains("is not in the trust bundle"));
    let few = |scope: &str, voters: &[&str]| reason(world.grant(&ada, scope, voters));
    assert_eq!(few("global", &[]), "the votes of nobody are no grant of a lease with scope global");
    assert_eq!(few("global", &["gcp"]), "the votes of gcp are no grant of a lease with scope global");
    assert_eq!(few("strict", &["aws", "gcp"]), "the votes of aws and gcp are no grant of a lease with scope strict");
    assert_eq!(
        few("cloud:azure", &["aws", "gcp"]),
        "the votes of aws and gcp are no grant of a lease with scope cloud:azure"
    );
}

#[test]
fn a_cloud_is_shown_grants_of_the_leases_scope_alone() {
    let mut world = World::new("strict");
    let grant = world.grant(&claim("ada", 1, 0), "cloud:gcp", &["gcp"]);
    let refused = world.apply("aws", leases::Command::Show(grant, WallMillis(5))).0.unwrap_err();
    assert_eq!(refused.code().as_str(), "bad_grant");
    assert_eq!(world.lease("aws").tenure, None);
}

#[test]
fn a_grant_has_one_form_as_bytes_and_as_text() {
    let world = World::new("global");
    let grant = world.grant(&claim("ada", 1, 0), "global", &["aws", "gcp"]);
    assert_eq!(Grant::from_text(&grant.to_text()), Ok(grant.clone()));
    assert!(Grant::from_text(&format!("{}=", grant.to_text())).is_err());
    let bytes = grant.bytes();
    assert!(Grant::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= mask;
            if let Ok(decoded) = Grant::decode(&changed) {
                assert_eq!(decoded.bytes(), changed, "what is accepted is what would be written");
            }
        }
    }
}

#[test]
fn a_campaign_counts_votes_for_its_last_claim_alone() {
    let mut world = World::new("global");
    let mut campaign = world.campaign("global", "ada");
    let first = campaign.ask(Duration::from_millis(100)).claim;
    let late = ["aws", "azure"].map(|cloud| world.vote(cloud, &first, None).map(|vote| world.sign(vote)).unwrap());
    let second = campaign.ask(Duration::from_millis(900)).claim;
    for vote in late {
        let cloud = vote.vote.cloud.clone();
        assert_eq!(campaign.hear(vote), Err(Unusable::OtherClaim(cloud)));
    }
    assert_eq!(campaign.holds(Duration::from_millis(900)), None);
    for cloud in ["aws", "azure"] {
        let vote = world.vote(cloud, &second, None).unwrap();
        campaign.hear(world.sign(vote)).unwrap();
    }
    // The time runs from before the question.
    assert_eq!(campaign.until(), Some(Duration::from_millis(1_900)));
    assert!(campaign.holds(Duration::from_millis(1_899)).is_some());
    assert_eq!(campaign.holds(Duration::from_millis(1_900)), None);
}

#[test]
fn a_leader_measures_the_latest_vote_alone() {
    let mut world = World::new("global");
    let (mut waits, at) = (Waits::default(), Duration::from_millis);
    assert_eq!(waits.known_for(&world.lease("aws"), at(50)), at(0), "what was before it does not know");
    assert_eq!(waits.known_for(&world.lease("aws"), at(90)), at(40));
    world.vote("aws", &claim("ada", 1, 0), None).unwrap();
    assert_eq!(waits.known_for(&world.lease("aws"), at(100)), at(0));
    assert_eq!(waits.known_for(&world.lease("aws"), at(700)), at(600));
    world.vote("aws", &claim("ada", 1, 1), None).unwrap();
    assert_eq!(waits.known_for(&world.lease("aws"), at(800)), at(0));
    assert_eq!(Waits::default().known_for(&world.lease("aws"), at(9_000)), at(0), "a new leader");
    // 1000 ms by a clock that is slow by 1 % end within the wait of one that is fast by 1 %.
    assert_eq!(wait_for(1_000), at(1_021));
}

#[test]
fn a_first_vote_waits_as_well() {
    let world = World::new("global");
    let (lease, state) = (world.lease("aws"), &world.0.clouds["aws"].1);
    let early = state.judge_claim(&lease, &claim("ada", 1, 0), wait_for(LASTS_MS) - Duration::from_millis(1));
    assert_eq!(early.unwrap_err(), Rejection::LeaseWaits { lease: lease.spec.lease.clone(), left_ms: 1 });
    assert_eq!(state.judge_claim(&lease, &claim("ada", 1, 0), wait_for(LASTS_MS)), Ok(None));
}
