//! Runs the readable scripts in `tests/roles/`: agents that report and are elected, candidates that
//! hold, lose and hand over leases. `UPDATE_GOLDENFILES=1` rewrites the expected output.

mod clouds;

use clouds::{Clouds, NAMES, id};
use goldenscript::Command;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;
use tercet_core::agents::{self, Agent, AgentSecret, Election, Report, Standing, elect};
use tercet_core::command::{Command as Entry, Reply};
use tercet_core::ids::{Hash, HolderId, LeaseId, TenantId};
use tercet_core::leases::{self, Campaign, Claim, Lease, Plan, SignedVote, Spec, Waits, What};
use tercet_core::rejection::Rejection;
use tercet_core::signature::SigningKey;
use tercet_core::time::{Millis, WallMillis};

#[derive(Default)]
struct Script {
    clouds: Clouds,
    waits: BTreeMap<String, Waits>,
    campaigns: BTreeMap<String, Campaign>,
    /// Campaigns so far: each has a key of its own.
    begun: u64,
    sequences: BTreeMap<String, u64>,
    /// Where a cut-off candidate still gets through.
    reach: BTreeMap<String, Vec<String>>,
}

type Outcome = Result<String, Box<dyn Error>>;

fn tenant() -> TenantId {
    TenantId::new("shop").expect("valid")
}

fn secret(of: &str) -> AgentSecret {
    AgentSecret(tercet_core::wire::sha256(of.as_bytes()).0)
}

fn option<T: std::str::FromStr>(command: &Command, key: &str, otherwise: T) -> Result<T, Box<dyn Error>> {
    let Some(argument) = command.args.iter().find(|argument| argument.key.as_deref() == Some(key)) else {
        return Ok(otherwise);
    };
    argument.value.parse().map_err(|_| format!("{key}={} is not valid", argument.value).into())
}

fn word(command: &Command, at: usize) -> Result<String, Box<dyn Error>> {
    let plain: Vec<_> = command.args.iter().filter(|argument| argument.key.is_none()).collect();
    Ok(plain.get(at).ok_or_else(|| format!("{} needs {} arguments", command.name, at + 1))?.value.clone())
}

fn has(command: &Command, flag: &str) -> bool {
    command.args.iter().any(|argument| argument.key.is_none() && argument.value == flag)
}

impl Script {
    fn now(&self) -> Duration {
        Duration::from_millis(self.clouds.passed)
    }

    /// The same entry at every cloud; all have to answer alike.
    fn everywhere(&mut self, entry: &Entry) -> Outcome {
        let answers: Vec<_> = NAMES.iter().map(|cloud| self.clouds.apply(cloud, entry.clone()).0).collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        Ok(answer(&answers[0]))
    }

    fn lease(&self, cloud: &str, name: &str) -> Result<Lease, Box<dyn Error>> {
        let (entry, state) = &self.clouds.clouds[cloud];
        let lease = state.lease(&entry.records, &tenant(), &LeaseId::new(name)?)?;
        lease.ok_or_else(|| format!("no lease {name}").into())
    }

    fn election(&self, cloud: &str, lease: &Lease) -> Result<Election, Box<dyn Error>> {
        let (entry, state) = &self.clouds.clouds[cloud];
        let now = Millis(entry.index + self.clouds.passed);
        Ok(elect(&state.agents(&entry.records, &tenant())?, lease, now))
    }

    fn reachable(&self, who: &str) -> Vec<String> {
        self.reach.get(who).cloned().unwrap_or_else(|| NAMES.map(String::from).to_vec())
    }

    /// What a candidate does when it wants a lease: looks, and asks if enough clouds are free.
    fn campaign(&mut self, who: &str, name: &str) -> Outcome {
        if !self.campaigns.contains_key(who) {
            self.begun += 1;
            let key = SigningKey::from_seed(&tercet_core::wire::sha256(format!("session {}", self.begun).as_bytes()).0);
            let spec = self.lease("gcp", name)?.spec;
            let (genesis, openings) = (self.clouds.genesis.clone(), self.clouds.openings.clone());
            self.campaigns.insert(who.to_owned(), Campaign::new(genesis, openings, spec, HolderId::new(who)?, key));
        }
        let mut looks = Vec::new();
        for cloud in self.reachable(who) {
            let lease = self.lease(&cloud, name)?;
            let known_for = self
                .waits
                .entry(cloud.clone())
                .or_default()
                .known_for(&lease, Duration::from_millis(self.clouds.passed));
            let election = self.election(&cloud, &lease)?;
            looks.push(self.clouds.clouds[&cloud].1.look(&lease, Some(&HolderId::new(who)?), &election, known_for));
        }
        let campaign = self.campaigns.get_mut(who).expect("just made");
        match campaign.plan(&looks) {
            Plan::Wait(wait) => Ok(format!("{who} waits {} ms\n", wait.as_millis())),
            Plan::Unreachable => Ok(format!("{who} finds too few clouds\n")),
            Plan::Ask => self.ask(who),
        }
    }

    /// Sends the next claim to every cloud in reach.
    fn ask(&mut self, who: &str) -> Outcome {
        let now = self.now();
        let campaign = self.campaigns.get_mut(who).ok_or("no campaign")?;
        let signed = campaign.ask(now);
        let name = signed.claim.lease.as_str().to_owned();
        let mut out = String::new();
        for cloud in self.reachable(who) {
            match self.vote(&cloud, &name, &signed.claim)? {
                Ok(vote) => self.campaigns.get_mut(who).expect("it asked").hear(vote)?,
                Err(rejection) => writeln!(out, "{cloud}: {}", rejection.code().as_str())?,
            }
        }
        let campaign = &self.campaigns[who];
        match campaign.is_granted() {
            true => writeln!(out, "{who} holds {name} with token {}", signed.claim.token)?,
            false => writeln!(out, "{who} has too few votes")?,
        }
        if let Some(grant) = campaign.holds(now).cloned() {
            for cloud in self.reachable(who) {
                self.clouds
                    .apply(&cloud, Entry::Leases(Box::new(leases::Command::Show(grant.clone(), WallMillis(0)))))
                    .0?;
            }
        }
        Ok(out)
    }

    fn vote(
        &mut self,
        cloud: &str,
        name: &str,
        claim: &Claim,
    ) -> Result<Result<SignedVote, Rejection>, Box<dyn Error>> {
        let lease = self.lease(cloud, name)?;
        let waits = self.waits.entry(cloud.to_owned()).or_default();
        let known_for = waits.known_for(&lease, Duration::from_millis(self.clouds.passed));
        let waited_out = match self.clouds.clouds[cloud].1.judge_claim(&lease, claim, known_for) {
            Ok(waited_out) => waited_out,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let command =
            leases::Command::Vote { claim: claim.clone(), waited_out, voted_at: WallMillis(self.clouds.passed) };
        let vote = match self.clouds.apply(cloud, Entry::Leases(Box::new(command))).0 {
            Ok(Reply::LeaseVote(vote)) => *vote,
            Ok(other) => return Err(format!("{other:?}").into()),
            Err(rejection) => return Ok(Err(rejection)),
        };
        let lease = self.lease(cloud, name)?;
        self.waits.entry(cloud.to_owned()).or_default().known_for(&lease, Duration::from_millis(self.clouds.passed));
        let node =
            self.clouds.openings.iter().rev().find(|o| o.cloud == id(cloud)).expect("an epoch").keys[0].0.clone();
        let signature = vote.sign(&self.clouds.fed, &self.clouds.clouds[cloud].0.key);
        Ok(Ok(SignedVote { vote, signatures: vec![(node, signature)] }))
    }
}

fn answer(answer: &Result<Reply, Rejection>) -> String {
    match answer {
        Ok(_) => "done\n".to_owned(),
        Err(rejection) => format!("{}\n", rejection.code().as_str()),
    }
}

impl goldenscript::Runner for Script {
    fn run(&mut self, command: &Command) -> Outcome {
        let mut out = String::new();
        match command.name.as_str() {
            // lease NAME [scope=global] [ms=3000] [preferred=AGENT] [frozen]
            "lease" => {
                let preferred = option(command, "preferred", String::new())?;
                let spec = Spec {
                    tenant: tenant(),
                    lease: LeaseId::new(word(command, 0)?)?,
                    scope: option(command, "scope", leases::Scope::Global)?,
                    duration_ms: option(command, "ms", 3_000)?,
                    preferred: (!preferred.is_empty()).then(|| HolderId::new(preferred)).transpose()?,
                    frozen: has(command, "frozen"),
                };
                return self.everywhere(&Entry::Leases(Box::new(leases::Command::Put(spec, leases::Asked::default()))));
            }
            // agent NAME [weight=1] [stale=300000] [witness]
            "agent" => {
                let name = word(command, 0)?;
                let agent = Agent {
                    tenant: tenant(),
                    agent: HolderId::new(&name)?,
                    secret: secret(&name),
                    weight: option(command, "weight", 1)?,
                    witness: has(command, "witness"),
                    stale_ms: option(command, "stale", agents::DEFAULT_STALE_MS)?,
                };
                return self.everywhere(&Entry::Agents(Box::new(agents::Command::Put(agent))));
            }
            // report AGENT LEASE [epoch=0] [boot=1] [sequence=NEXT] [key=AGENT] [unready]: signed with somebody's key.
            "report" => {
                let (agent, lease) = (word(command, 0)?, word(command, 1)?);
                let sequence = self.sequences.entry(agent.clone()).or_default();
                *sequence = option(command, "sequence", *sequence + 1)?;
                let standing = Standing {
                    lease: LeaseId::new(lease)?,
                    epoch: option(command, "epoch", 0)?,
                    ready: !has(command, "unready"),
                    owns: None,
                };
                let report = Report {
                    tenant: tenant(),
                    agent: HolderId::new(&agent)?,
                    boot: option(command, "boot", 1)?,
                    sequence: *sequence,
                    sent_at: WallMillis(self.clouds.passed),
                    standing: vec![standing],
                    mac: Hash([0; 32]),
                };
                let report = report.sign(&self.clouds.fed, &secret(&option(command, "key", agent)?));
                return self.everywhere(&Entry::Agents(Box::new(agents::Command::Report(report))));
            }
            // agents: how each stands.
            "agents" => {
                let (entry, state) = &self.clouds.clouds["gcp"];
                let now = Millis(entry.index + self.clouds.passed);
                for record in state.agents(&entry.records, &tenant())? {
                    writeln!(out, "{} {:?}", record.agent.agent, record.status(now))?;
                }
            }
            // elect LEASE: the candidates, the best one first.
            "elect" => {
                let lease = self.lease("gcp", &word(command, 0)?)?;
                for candidate in self.election("gcp", &lease)?.candidates {
                    let ready = if candidate.ready { "" } else { " (not ready)" };
                    writeln!(out, "{} epoch {} weight {}{ready}", candidate.agent, candidate.epoch, candidate.weight)?;
                }
            }
            // pass MS: time, for everybody alike.
            "pass" => self.clouds.passed += word(command, 0)?.parse::<u64>()?,
            // reach WHO CLOUD...: the clouds that a candidate gets through to.
            "reach" => {
                let clouds = (1..command.args.len()).map(|at| word(command, at)).collect::<Result<_, _>>()?;
                self.reach.insert(word(command, 0)?, clouds);
            }
            // campaign WHO LEASE: looks, and asks if enough clouds are free.
            "campaign" => return self.campaign(&word(command, 0)?, &word(command, 1)?),
            // renew WHO: asks again, with the same token.
            "renew" => return self.ask(&word(command, 0)?),
            // ask WHO CLOUD...: asks these without a look.
            "ask" => {
                let who = word(command, 0)?;
                let clouds = (1..command.args.len()).map(|at| word(command, at)).collect::<Result<_, _>>()?;
                let before = self.reach.insert(who.clone(), clouds);
                let asked = self.ask(&who);
                match before {
                    Some(before) => self.reach.insert(who, before),
                    None => self.reach.remove(&who),
                };
                return asked;
            }
            // restart WHO: the same name, another process.
            "restart" => drop(self.campaigns.remove(&word(command, 0)?)),
            // release WHO [to=AGENT]
            "release" => {
                let (who, to) = (word(command, 0)?, option(command, "to", String::new())?);
                let to = (!to.is_empty()).then(|| HolderId::new(to)).transpose()?;
                let campaign = self.campaigns.get_mut(&who).ok_or("no campaign")?;
                let release = campaign.release(to).ok_or("nothing to release")?;
                for cloud in self.reachable(&who) {
                    self.clouds
                        .apply(
                            &cloud,
                            Entry::Leases(Box::new(leases::Command::Release(release.clone(), WallMillis(0)))),
                        )
                        .0?;
                }
            }
            // act WHO: what a holder looks at before each act.
            "act" => {
                let who = word(command, 0)?;
                match self.campaigns.get(&who).and_then(|campaign| campaign.holds(self.now())) {
                    Some(grant) => writeln!(out, "{who} acts with token {}", grant.claim.token)?,
                    None => writeln!(out, "not-leader")?,
                }
            }
            // history CLOUD LEASE: the oldest first.
            "history" => {
                let cloud = word(command, 0)?;
                let lease = self.lease(&cloud, &word(command, 1)?)?;
                let (entry, state) = &self.clouds.clouds[&cloud];
                for change in state.lease_history(&entry.records, &lease, 100)?.into_iter().rev() {
                    match change.what {
                        What::Acquired { holder, token, because, vacant_ms, .. } => {
                            let vacant =
                                vacant_ms.map_or(String::new(), |ms| format!(" after {ms} ms without a holder"));
                            writeln!(out, "{holder} acquired it with token {token}: {because:?}{vacant}")?;
                        }
                        What::Released { holder, token, to } => {
                            let to = to.map_or(String::new(), |to| format!(" to {to}"));
                            writeln!(out, "{holder} released token {token}{to}")?;
                        }
                        other => writeln!(out, "{other:?}")?,
                    }
                }
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(out)
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!("tests/roles/", stringify!($name), ".script");
            goldenscript::run(&mut Script::default(), path).expect("the script runs as written");
        })*

        #[test]
        fn every_script_is_run() {
            let listed = [$(concat!(stringify!($name), ".script")),*];
            for entry in std::fs::read_dir("tests/roles").expect("the folder exists") {
                let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
                assert!(listed.contains(&name.as_str()), "{name} is not listed in roles.rs");
            }
        }
    };
}

scripts!(
    the_highest_epoch_leads,
    ties_go_by_weight_and_then_by_alphabet,
    stale_agents_are_no_candidates,
    reports_are_taken_once_and_from_their_agent,
    a_holder_is_promoted_demoted_and_promoted_again,
    a_planned_handover_leaves_no_gap,
    a_paused_holder_wakes_up_and_is_refused,
    a_restarted_holder_waits_for_its_predecessor,
    a_frozen_lease_has_no_election,
    an_unreachable_cloud_does_not_stop_a_global_lease,
    a_split_vote_is_taken_back,
    nobody_waits_for_who_did_not_renew,
);
