//! The end of every run, in every layer: after the last fault is over, submit once more at each cloud,
//! wait until everything that can settle has settled, and write down what each cloud says then. Liars
//! are not asked.

use crate::history::{Recorder, Seen, What};
use crate::judge::{Judge, Says};
use crate::port::{Event, Head, Port, Proof};
use crate::workload::{World, is_contested, leases, submit_last};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tercet_core::tenants::Confirm;
use tokio::time::Instant;

/// How often the clouds are asked.
const POLL: Duration = Duration::from_millis(500);
/// How long everything may take to settle after the last fault: simulated, and with real processes.
pub const SIM_LIMIT: Duration = Duration::from_secs(120);
pub const REAL_LIMIT: Duration = Duration::from_secs(90);
/// The most events whose certificates are judged at the end of a run, beside those submitted last.
const MAX_CERTIFICATES: usize = 20;
/// How often evidence is asked for until a cloud tells it.
const TRIES: usize = 5;

/// One cloud's list of both tenants' events, and its heads.
struct Told {
    events: BTreeMap<String, Seen>,
    heads: Vec<Head>,
}

/// Waits, then writes `Listed`, `Head`, `Healed`, `Certified` and `Convicted`.
pub async fn settle(world: &Arc<World>, limit: Duration, judge: &Judge) {
    let begun = Instant::now();
    if let Err(why) = leases::settle(world, begun + limit).await {
        let invariant = "after healing every lease can be had".to_owned();
        world.recorder.write(What::Violated { invariant, why });
    }
    let last = submit_last(world, begun + limit, POLL).await;
    let (told, missing) = loop {
        let told = ask_all(world).await;
        let missing = match &told {
            Ok(told) => unsettled(world, told).or_else(|| last.clone().err()),
            Err(why) => Some(why.clone()),
        };
        if missing.is_none() || begun.elapsed() > limit {
            break (told, missing);
        }
        tokio::time::sleep(POLL).await;
    };
    let took_ms = begun.elapsed().as_millis() as u64;
    for (cloud, told) in told.iter().flatten() {
        for (id, seen) in &told.events {
            world.recorder.write(What::Listed { cloud: cloud.clone(), id: id.clone(), seen: seen.clone() });
        }
        for Head { of, size, root } in &told.heads {
            let (by, of, size, root) = (cloud.clone(), of.clone(), *size, root.clone());
            world.recorder.write(What::Head { by, of, size, root });
        }
    }
    let complete = missing.is_none();
    world.recorder.write(What::Healed { took_ms, within_ms: limit.as_millis() as u64, complete, missing });
    if let Ok(told) = told {
        certify(world, &told, &last.unwrap_or_default(), judge).await;
    }
    convict(&*world.port, &world.clouds, &world.recorder, judge).await;
}

async fn ask_all(world: &World) -> Result<BTreeMap<String, Told>, String> {
    let mut all = BTreeMap::new();
    for cloud in &world.clouds {
        let mut events = BTreeMap::new();
        for tenant in [Confirm::Auto, Confirm::Manual] {
            events.extend(world.port.list(cloud, tenant).await?);
        }
        let mut heads = world.port.heads(cloud).await?;
        heads.retain(|head| world.clouds.contains(&head.of));
        all.insert(cloud.clone(), Told { events, heads });
    }
    Ok(all)
}

/// What has not settled yet, if anything.
fn unsettled(world: &World, told: &BTreeMap<String, Told>) -> Option<String> {
    let nobody_lies = world.clouds.len() == world.port.clouds().len();
    let submitted = world.submitted.lock().expect("no thread panics while it adds an event");
    // What no cloud lists any more is for the checkers to judge: waiting does not bring it back.
    let ids: BTreeSet<&String> = told.values().flat_map(|told| told.events.keys()).collect();
    for id in ids {
        let all: Vec<_> = told.iter().map(|(cloud, told)| (cloud, told.events.get(id))).collect();
        if let Some((cloud, _)) = all.iter().find(|(_, seen)| seen.is_none()) {
            return Some(format!("{cloud} does not list {id}"));
        }
        let seen: Vec<_> = all.iter().filter_map(|(cloud, seen)| Some((cloud, (*seen)?))).collect();
        if let Some(pair) = seen.windows(2).find(|pair| !agree(pair[0].1, pair[1].1)) {
            return Some(format!("{id} is {:?} at {} and {:?} at {}", pair[0].1, pair[0].0, pair[1].1, pair[1].0));
        }
        // An operator may let an event wait for ever; what is FINAL goes on by itself.
        if let Some((cloud, _)) = seen.iter().find(|(_, seen)| nobody_lies && seen.level == "FINAL") {
            return Some(format!("{id} is only FINAL at {cloud}"));
        }
        let Some(reached) = least(submitted.get(id), nobody_lies) else { continue };
        if let Some((cloud, seen)) = seen.iter().find(|(_, seen)| !reached(seen)) {
            return Some(format!("{id} is {} at {cloud}", seen.level));
        }
    }
    let heads: Vec<_> = told.iter().map(|(cloud, told)| (cloud, &told.heads)).collect();
    let differ = heads.windows(2).find(|pair| pair[0].1 != pair[1].1)?;
    Some(format!("the heads differ: {} has {:?}, {} has {:?}", differ[0].0, differ[0].1, differ[1].0, differ[1].1))
}

/// Before a content is settled each cloud shows the one that it saw first.
fn agree(one: &Seen, other: &Seen) -> bool {
    let level = |seen: &Seen| (seen.level.clone(), seen.review, seen.conflict);
    level(one) == level(other) && (!one.is_final() || one.content == other.content)
}

/// What an event has to have reached, if anything: also one that its client was never answered about.
fn least(event: Option<&Event>, nobody_lies: bool) -> Option<fn(&Seen) -> bool> {
    let event = event.filter(|event| event.confirm == Confirm::Auto)?;
    match (is_contested(&event.id), nobody_lies) {
        (false, true) => Some(Seen::is_sealed),
        (false, false) => Some(Seen::is_final),
        (true, true) => Some(|seen| seen.is_sealed() || seen.level == "QUARANTINED"),
        (true, false) => None,
    }
}

/// Certificates of the last events and of a few others, from every cloud that says they are FINAL.
async fn certify(world: &World, told: &BTreeMap<String, Told>, last: &[Event], judge: &Judge) {
    let trust = world.port.trust();
    let mut events = last.to_vec();
    {
        let acknowledged = world.acknowledged.lock().expect("no thread panics while it adds an event");
        let step = (acknowledged.len() / MAX_CERTIFICATES).max(1);
        events.extend(acknowledged.values().step_by(step).take(MAX_CERTIFICATES).cloned());
    }
    let (mut asked, mut files) = (Vec::new(), Vec::new());
    for event in events {
        for (cloud, told) in told {
            if !told.events.get(&event.id).is_some_and(Seen::is_final) {
                continue;
            }
            let (cloud, event) = (cloud.clone(), event.clone());
            match world.port.certificate(&cloud, &event).await {
                // Voters of it were renewed since, so its votes stand in closed logs.
                Ok(None) if !last.contains(&event) => {}
                Ok(None) => {
                    let why = "there is none, and no cloud was renewed since it was submitted".to_owned();
                    certified(&world.recorder, cloud, &event, Err(why));
                }
                Ok(Some(bytes)) => {
                    asked.push((cloud, event));
                    files.push(bytes);
                }
                Err(why) => certified(&world.recorder, cloud, &event, Err(format!("it was not issued: {why}"))),
            }
        }
    }
    match judge.certificates(&files, &trust) {
        Err(why) => world.recorder.write(What::Unjudged { of: "certificates".into(), why }),
        Ok(judged) => {
            for ((cloud, event), judged) in asked.into_iter().zip(judged) {
                certified(&world.recorder, cloud, &event, judged);
            }
        }
    }
}

fn certified(recorder: &Recorder, cloud: String, event: &Event, judged: Result<Says, String>) {
    let is_it = |says: &Says| says.id == event.id && says.tenant == event.tenant().as_str();
    let judged = judged.and_then(|says| if is_it(&says) { Ok(says) } else { Err(format!("it is of {says:?}")) });
    let id = event.id.clone();
    recorder.write(match judged {
        Ok(Says { level, content, .. }) => {
            What::Certified { cloud, id, level, content: Some(content), valid: true, why: None }
        }
        Err(why) => What::Certified { cloud, id, level: String::new(), content: None, valid: false, why: Some(why) },
    });
}

/// The evidence that each cloud holds.
async fn convict(port: &dyn Port, clouds: &[String], recorder: &Recorder, judge: &Judge) {
    let (mut held, mut files) = (Vec::new(), Vec::new());
    for by in clouds {
        match proofs(port, by).await {
            Err(why) => recorder.write(What::Unjudged { of: format!("the evidence that {by} holds"), why }),
            Ok(proofs) => {
                for proof in proofs {
                    held.push((by.clone(), proof.against, proof.id));
                    files.push(proof.bytes);
                }
            }
        }
    }
    match judge.evidence(&files, &port.trust()) {
        Err(why) => recorder.write(What::Unjudged { of: "evidence".into(), why }),
        Ok(judged) => {
            for ((by, cloud, evidence), judged) in held.into_iter().zip(judged) {
                let valid = judged.is_ok_and(|proven| proven == cloud);
                recorder.write(What::Convicted { by, cloud, evidence, valid });
            }
        }
    }
}

async fn proofs(port: &dyn Port, by: &str) -> Result<Vec<Proof>, String> {
    let mut tries = 1;
    loop {
        match port.proofs(by).await {
            Err(_) if tries < TRIES => tries += 1,
            told => return told,
        }
        tokio::time::sleep(POLL).await;
    }
}
