//! Leases: three real clouds vote, candidates ask through the API as the client library does.

use super::fixture::{Answer, CLOUDS, Clouds, json_request};
use serde_json::{Value, json};
use std::time::Duration;
use tercet_core::ids::{HolderId, LeaseId, TenantId};
use tercet_core::leases::{Campaign, Grant, Look, Plan, Scope, SignedClaim, SignedVote, Spec, Vote, wait_for};
use tercet_core::signature::SigningKey;
use tercet_core::time::WallMillis;
use tokio::time::{Instant, sleep};

const LEASE: &str = "/v1/tenants/default/leases/primary";
const LASTS_MS: u32 = 3_000;

fn spec(scope: &str) -> Spec {
    Spec {
        tenant: TenantId::new("default").unwrap(),
        lease: LeaseId::new("primary").unwrap(),
        scope: scope.parse().unwrap(),
        duration_ms: LASTS_MS,
        preferred: None,
        frozen: false,
    }
}

async fn put(clouds: &Clouds, body: &Value) {
    for cloud in CLOUDS {
        clouds.call(&format!("{cloud}-1"), json_request("PUT", LEASE, body)).await.expect(200);
    }
}

async fn created(scope: &str, nodes_per_cloud: usize) -> Clouds {
    let clouds = Clouds::three(nodes_per_cloud).await;
    put(&clouds, &json!({"scope": scope, "durationMs": LASTS_MS})).await;
    clouds
}

/// A candidate with a clock that starts with the test.
struct Candidate<'c> {
    clouds: &'c Clouds,
    campaign: Campaign,
    born: Instant,
    name: &'static str,
}

impl<'c> Candidate<'c> {
    fn new(clouds: &'c Clouds, scope: &str, name: &'static str, key: u8) -> Self {
        let directory = &clouds.directory;
        let (genesis, openings) = (directory.genesis.clone(), directory.openings.clone());
        let key = SigningKey::from_seed(&[key; 32]);
        let campaign = Campaign::new(genesis, openings, spec(scope), HolderId::new(name).unwrap(), key);
        Self { clouds, campaign, born: Instant::now(), name }
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    async fn plan(&mut self, of: &[&str]) -> Plan {
        let mut looks = Vec::new();
        for cloud in of {
            let path = format!("{LEASE}?candidate={}", self.name);
            let lease = self.clouds.get(&format!("{cloud}-1"), &path).await.expect(200).json()["lease"].clone();
            let least_token = lease["leastToken"].as_u64().unwrap();
            looks.push(Look { cloud: cloud.parse().unwrap(), least_token, free_in_ms: lease["freeInMs"].as_u64() });
        }
        self.campaign.plan(&looks)
    }

    /// Asks these clouds once; what they answered.
    async fn ask(&mut self, of: &[&str]) -> Vec<Answer> {
        let signed = self.campaign.ask(self.now());
        let mut answers = Vec::new();
        for cloud in of {
            let answer = vote(self.clouds, &format!("{cloud}-1"), &signed).await;
            if answer.status == 200 {
                self.campaign.hear(signed_vote(&signed, &answer.json())).expect("an honest cloud's vote");
            }
            answers.push(answer);
        }
        answers
    }

    /// Waits as the clouds say, then asks.
    async fn acquire(&mut self, of: &[&str]) -> Grant {
        let plan = loop {
            match self.plan(of).await {
                Plan::Wait(wait) => sleep(wait).await,
                other => break other,
            }
        };
        assert_eq!(plan, Plan::Ask);
        self.ask(of).await;
        self.campaign.holds(self.now()).expect("enough clouds voted").clone()
    }

    async fn release(&mut self, of: &[&str], to: Option<&str>) {
        let release = self.campaign.release(to.map(|to| HolderId::new(to).unwrap())).expect("something was asked for");
        let body = json!({
            "token": release.token, "session": release.session, "to": release.to, "signature": release.signature,
        });
        for cloud in of {
            self.clouds.post(&format!("{cloud}-1"), &format!("{LEASE}/release"), &body).await.expect(200);
        }
    }
}

async fn vote(clouds: &Clouds, node: &str, SignedClaim { claim, signature }: &SignedClaim) -> Answer {
    let body = json!({
        "token": claim.token, "renewal": claim.renewal, "holder": claim.holder, "session": claim.session,
        "durationMs": claim.duration_ms, "signature": signature,
    });
    clouds.post(node, &format!("{LEASE}/votes"), &body).await
}

fn signed_vote(signed: &SignedClaim, view: &Value) -> SignedVote {
    let text = |name: &str| view[name].as_str().unwrap();
    let signatures = view["signatures"].as_array().unwrap().iter();
    let one = |signature: &Value| serde_json::from_value(signature["signature"].clone()).unwrap();
    SignedVote {
        vote: Vote {
            cloud: text("cloud").parse().unwrap(),
            epoch: text("epoch").parse().unwrap(),
            claim: signed.claim.clone(),
            scope: text("scope").parse::<Scope>().unwrap(),
            voted_at: WallMillis(view["votedAt"].as_u64().unwrap()),
        },
        signatures: signatures.map(|s| (s["node"].as_str().unwrap().parse().unwrap(), one(s))).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn two_clouds_grant_a_global_lease_and_a_third_party_verifies_it() {
    let clouds = created("global", 3).await;
    let mut first = Candidate::new(&clouds, "global", "first", 1);
    let grant = first.acquire(&["aws", "gcp"]).await;
    let text = grant.to_text();
    let granted = Grant::from_text(&text).unwrap().verify(&clouds.directory.genesis, &clouds.directory.openings);
    let granted = granted.unwrap();
    assert_eq!((granted.holder.as_str(), granted.fencing_token, granted.clouds.len()), ("first", 1, 2));
    for cloud in CLOUDS {
        let body = json!({"grant": text});
        let shown = clouds.call(&format!("{cloud}-2"), json_request("PUT", &format!("{LEASE}/grant"), &body)).await;
        shown.expect(200);
    }
    let held = clouds.get("gcp-3", LEASE).await.expect(200).json()["lease"].clone();
    assert_eq!((&held["holderIdentity"], &held["fencingToken"]), (&"first".into(), &1.into()));
    assert!(held["acquireTime"].is_string() && held["renewTime"].is_string(), "{held}");
    let history = clouds.get("azure-1", &format!("{LEASE}/history")).await.expect(200).json();
    let change = &history["changes"][0];
    assert!(change["time"].as_u64().is_some_and(|time| time > 0) && change["by"] == "first", "{change}");
    let acquired = &change["what"]["acquired"];
    assert_eq!((&acquired["holder"], &acquired["because"]), (&"first".into(), &"first".into()));
}

#[tokio::test(start_paused = true)]
async fn a_vote_goes_to_somebody_else_after_w_and_no_sooner() {
    let clouds = created("cloud:gcp", 3).await;
    let (mut first, mut second) =
        (Candidate::new(&clouds, "cloud:gcp", "first", 1), Candidate::new(&clouds, "cloud:gcp", "second", 2));
    first.acquire(&["gcp"]).await;
    let voted = Instant::now();
    sleep(Duration::from_millis(700)).await;
    second.campaign.at_least(2);
    let refused = second.ask(&["gcp"]).await.remove(0).expect(409).json();
    assert_eq!((&refused["code"], &refused["holder"]), (&"lease_held".into(), &"first".into()));
    let Plan::Wait(left) = second.plan(&["gcp"]).await else { panic!("the lease is held") };
    sleep(left - Duration::from_millis(2)).await;
    second.ask(&["gcp"]).await.remove(0).expect(409);
    assert!(first.campaign.holds(first.now()).is_none(), "the holder stopped before that");
    sleep(Duration::from_millis(2)).await;
    second.ask(&["gcp"]).await.remove(0).expect(200);
    let took = voted.elapsed();
    assert!(took >= wait_for(LASTS_MS) && took < wait_for(LASTS_MS) + Duration::from_millis(200), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_vote_of_a_lease_waits_too() {
    let clouds = created("cloud:gcp", 1).await;
    let mut first = Candidate::new(&clouds, "cloud:gcp", "first", 1);
    let refused = first.ask(&["gcp"]).await.remove(0).expect(409).json();
    assert_eq!((&refused["code"], &refused["retryable"]), (&"lease_held".into(), &true.into()));
    first.release(&["gcp"], None).await;
    first.acquire(&["gcp"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_the_others_out_and_a_release_lets_them_in_at_once() {
    let clouds = created("global", 1).await;
    let (mut first, mut second) =
        (Candidate::new(&clouds, "global", "first", 1), Candidate::new(&clouds, "global", "second", 2));
    first.acquire(&CLOUDS).await;
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        first.ask(&CLOUDS).await;
        assert!(first.campaign.is_granted());
        assert!(matches!(second.plan(&CLOUDS).await, Plan::Wait(_)));
    }
    first.release(&CLOUDS, None).await;
    assert_eq!(second.plan(&CLOUDS).await, Plan::Ask);
    second.ask(&CLOUDS).await;
    let grant = second.campaign.holds(second.now()).expect("it was free");
    assert!(grant.claim.token > 1);
    let stale = first.ask(&["aws"]).await.remove(0).expect(409).json();
    assert!(stale["code"] == "lease_held" || stale["code"] == "stale_token", "{stale}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_handed_over_is_free_for_its_successor_alone() {
    let clouds = created("global", 1).await;
    let (mut first, mut named, mut other) = (
        Candidate::new(&clouds, "global", "first", 1),
        Candidate::new(&clouds, "global", "named", 2),
        Candidate::new(&clouds, "global", "other", 3),
    );
    first.acquire(&CLOUDS).await;
    first.release(&CLOUDS, Some("named")).await;
    assert!(matches!(other.plan(&CLOUDS).await, Plan::Wait(_)));
    assert_eq!(named.plan(&CLOUDS).await, Plan::Ask);
    named.ask(&CLOUDS).await;
    assert!(named.campaign.is_granted());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_waits_for_a_full_lease_again() {
    let clouds = created("cloud:gcp", 3).await;
    let (mut first, mut second) =
        (Candidate::new(&clouds, "cloud:gcp", "first", 1), Candidate::new(&clouds, "cloud:gcp", "second", 2));
    first.acquire(&["gcp"]).await;
    let leader = clouds.leader("gcp").await;
    let alive = ["gcp-1", "gcp-2", "gcp-3"].into_iter().find(|node| *node != leader).unwrap();
    clouds.nodes[&leader].api.federation.stop().await;
    clouds.nodes[&leader].api.replica.stop().await;
    let elected = |answer: &Answer| answer.json()["leader"].as_str().is_some_and(|now| now != leader);
    clouds.until(alive, "GET", "/v1/status", elected).await;
    let path = format!("{LEASE}?candidate=second");
    let answer = clouds.until(alive, "GET", &path, |answer| answer.status == 200).await;
    let left = Duration::from_millis(answer.json()["lease"]["freeInMs"].as_u64().unwrap());
    assert!(left + Duration::from_millis(500) > wait_for(LASTS_MS), "a new leader knows nothing of the time before");
    second.campaign.at_least(2);
    sleep(left).await;
    // It asks another node than the first one, which may have been the leader.
    let signed = second.campaign.ask(second.now());
    let answer = vote(&clouds, alive, &signed).await.expect(200);
    second.campaign.hear(signed_vote(&signed, &answer.json())).unwrap();
    assert!(second.campaign.is_granted());
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_is_away_stops_a_strict_lease_and_no_global_one() {
    for (scope, granted) in [("strict", false), ("global", true)] {
        let clouds = created(scope, 1).await;
        let mut first = Candidate::new(&clouds, scope, "first", 1);
        let plan = first.plan(&["aws", "gcp"]).await;
        assert_eq!(matches!(plan, Plan::Wait(_)), granted, "{plan:?}");
        sleep(wait_for(LASTS_MS)).await;
        first.ask(&["aws", "gcp"]).await;
        assert_eq!(first.campaign.is_granted(), granted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_lease_keeps_its_holder_and_gets_no_other() {
    let clouds = created("global", 1).await;
    let (mut first, mut second) =
        (Candidate::new(&clouds, "global", "first", 1), Candidate::new(&clouds, "global", "second", 2));
    first.acquire(&CLOUDS).await;
    put(&clouds, &json!({"scope": "global", "durationMs": LASTS_MS, "frozen": true})).await;
    first.ask(&CLOUDS).await;
    assert!(first.campaign.is_granted());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(second.plan(&CLOUDS).await, Plan::Unreachable);
    second.campaign.at_least(2);
    assert_eq!(second.ask(&["gcp"]).await.remove(0).expect(409).json()["code"], "lease_frozen");
    second.campaign.release(None);
    put(&clouds, &json!({"scope": "global", "durationMs": LASTS_MS})).await;
    second.acquire(&CLOUDS).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_request_is_said() {
    let clouds = created("global", 1).await;
    let mut first = Candidate::new(&clouds, "global", "first", 1);
    first.acquire(&CLOUDS).await;
    let mut forged = first.campaign.ask(first.now());
    forged.claim.token += 1;
    assert_eq!(vote(&clouds, "gcp-1", &forged).await.expect(403).json()["code"], "bad_signature");
    let fed = clouds.directory.genesis.fed_id();
    let key = SigningKey::from_seed(&[9; 32]);
    let claim = |change: fn(&mut tercet_core::leases::Claim)| {
        let mut claim = forged.claim.clone();
        claim.session = key.public();
        change(&mut claim);
        claim.sign(&fed, &key)
    };
    let answer = vote(&clouds, "gcp-1", &claim(|claim| claim.duration_ms = 9_000)).await.expect(400);
    assert!(answer.json()["detail"].as_str().unwrap().contains("3000 ms"));
    sleep(Duration::from_secs(10)).await;
    let stale = vote(&clouds, "gcp-1", &claim(|claim| claim.token = 1)).await.expect(409).json();
    assert_eq!((&stale["code"], &stale["leastToken"]), (&"stale_token".into(), &2.into()));
    let gone = json!({"grant": "AAAA"});
    let grant = clouds.call("gcp-1", json_request("PUT", &format!("{LEASE}/grant"), &gone)).await;
    assert_eq!(grant.expect(422).json()["code"], "bad_grant");
    let fixed = json!({"scope": "strict", "durationMs": LASTS_MS});
    assert_eq!(
        clouds.call("gcp-1", json_request("PUT", LEASE, &fixed)).await.expect(409).json()["code"],
        "lease_fixed"
    );
    let unknown = clouds.get("gcp-1", "/v1/tenants/default/leases/other").await.expect(404).json();
    assert!(unknown["detail"].as_str().unwrap().contains("tercet role create"));
    let short = json!({"scope": "global", "durationMs": 10});
    let other = "/v1/tenants/default/leases/other";
    assert_eq!(
        clouds.call("gcp-1", json_request("PUT", other, &short)).await.expect(400).json()["code"],
        "invalid_request"
    );
}
