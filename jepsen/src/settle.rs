//! The end of every run, in every layer: after the last fault is over, submit once more at each cloud,
//! wait until everything that can settle has settled, and write down what each cloud says then. Liars
//! are not asked.

use crate::history::{Recorder, Seen, What};
use crate::port::{Event, Head, Port};
use crate::workload::{World, submit_last};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tercet_core::tenants::Confirm;
use tokio::time::Instant;

/// How often the clouds are asked.
const POLL: Duration = Duration::from_millis(500);
/// The most events whose certificates are judged at the end of a run, beside those submitted last.
const MAX_CERTIFICATES: usize = 5;

/// What a certificate and a proof are worth to somebody who has public keys only.
pub trait Judge {
    /// The level that the certificate proves, or why it proves none.
    fn certificate(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String>;
    /// The cloud that the evidence convicts, or why it convicts none.
    fn evidence(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String>;
}

/// One cloud's list of both tenants' events, and its heads.
struct Told {
    events: BTreeMap<String, Seen>,
    heads: Vec<Head>,
}

/// Waits, then writes `Listed`, `Head`, `Healed`, `Certified` and `Convicted`.
pub async fn settle(world: &World, limit: Duration, judge: &(dyn Judge + Sync)) {
    let begun = Instant::now();
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
    let acknowledged = world.acknowledged.lock().expect("no thread panics while it adds an event");
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
        let plain = acknowledged.get(id).is_some_and(|event| event.confirm == Confirm::Auto && !is_contested(event));
        let reached = |seen: &Seen| if nobody_lies { seen.is_sealed() } else { seen.is_final() };
        if let Some((cloud, seen)) = seen.iter().find(|(_, seen)| plain && !reached(seen)) {
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

/// Whether several clients use this id, with contents of their own.
fn is_contested(event: &Event) -> bool {
    event.id.starts_with('x')
}

/// Certificates of the last events and of a few others, from every cloud that says they are FINAL.
async fn certify(world: &World, told: &BTreeMap<String, Told>, last: &[Event], judge: &(dyn Judge + Sync)) {
    let trust = world.port.trust();
    let mut events = last.to_vec();
    {
        let acknowledged = world.acknowledged.lock().expect("no thread panics while it adds an event");
        let step = (acknowledged.len() / MAX_CERTIFICATES).max(1);
        let plain = acknowledged.values().filter(|event| !is_contested(event));
        events.extend(plain.step_by(step).take(MAX_CERTIFICATES).cloned());
    }
    for event in events {
        for (cloud, told) in told {
            if !told.events.get(&event.id).is_some_and(Seen::is_final) {
                continue;
            }
            let judged = match world.port.certificate(cloud, &event).await {
                // Voters of it were renewed since, so its votes stand in closed logs.
                Ok(None) if !last.contains(&event) => continue,
                Ok(None) => Err("there is none, and no cloud was renewed since it was submitted".to_owned()),
                Ok(Some(bytes)) => judge.certificate(&bytes, &trust),
                Err(why) => Err(format!("it was not issued: {why}")),
            };
            let (valid, level, why) = match judged {
                Ok(level) => (true, level, None),
                Err(why) => (false, String::new(), Some(why)),
            };
            world.recorder.write(What::Certified { cloud: cloud.clone(), id: event.id.clone(), level, valid, why });
        }
    }
}

/// The evidence that each cloud holds.
pub async fn convict(port: &dyn Port, clouds: &[String], recorder: &Recorder, judge: &(dyn Judge + Sync)) {
    let trust = port.trust();
    for by in clouds {
        for proof in port.proofs(by).await.unwrap_or_default() {
            let valid = judge.evidence(&proof.bytes, &trust).is_ok_and(|cloud| cloud == proof.against);
            let (by, cloud, evidence) = (by.clone(), proof.against, proof.id);
            recorder.write(What::Convicted { by, cloud, evidence, valid });
        }
    }
}
