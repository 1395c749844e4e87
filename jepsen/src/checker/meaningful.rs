//! A run proves something only if its faults and lies really happened, clients were served all the
//! time, also under faults where that was possible, and observers saw events become FINAL.

use super::run::{Fault, Outcome};
use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeSet;

/// The least acknowledged events: three for each of three clouds. A short run with a light load has
/// little more; longer ones are asked for more below.
const LEAST_EVENTS: usize = 9;
/// The lightest load of the simulation brings an acknowledged event in some five seconds; a run with
/// fewer than half of that spent its time waiting.
const MS_PER_EVENT: u64 = 10_000;
/// At least one submission in so many is acknowledged.
const MOST_TRIES: usize = 4;
/// The same while faults last and some honest cloud has a majority of its nodes untouched: more
/// patient, since elections and timeouts take their part.
const MS_PER_EVENT_UNDER_FAULTS: u64 = 20_000;
/// Of the faults of a run at most one in so many may have met nothing; where few began, chance decides.
const MOST_MISSED: usize = 3;
const LEAST_FAULTS: usize = 6;
/// The least sightings of a FINAL event. With two liars one honest cloud may never see any.
const LEAST_FINAL_SEEN: usize = 5;

pub fn check(run: &Run<'_>) -> Verdict {
    let judged = harmed(run).and_then(|()| worked(run)).and_then(|()| worked_under_faults(run));
    judged.and_then(|()| watched(run)).map_or_else(Verdict::Rejected, |()| Verdict::Holds)
}

fn harmed(run: &Run<'_>) -> Result<(), String> {
    let lied = run.history.iter().any(|record| matches!(record.what, What::Lied { .. }));
    if !run.liars.is_empty() && !lied {
        return Err(format!("{:?} may lie in this run, and never did", run.liars));
    }
    if run.faults.is_empty() && !lied {
        return Err("nothing was done to the system: no fault began".into());
    }
    for fault in run.faults.iter().filter(|fault| !fault.missed) {
        if fault.how.is_none_or(str::is_empty) {
            let (number, name, on) = (fault.number, fault.name, fault.on);
            return Err(format!("nothing proves that fault {number} ({name} on {on:?}) really happened"));
        }
    }
    let missed = run.faults.iter().filter(|fault| fault.missed).count();
    let begun = run.faults.len();
    if missed * MOST_MISSED > begun && begun >= LEAST_FAULTS {
        return Err(format!("{missed} of {begun} faults met nothing"));
    }
    // Processes and disks are real there: whatever was chosen must have bitten at least once.
    let names: BTreeSet<&str> = run.faults.iter().map(|fault| fault.name).collect();
    let bit = |name: &str| run.faults.iter().any(|fault| fault.name == name && !fault.missed);
    match names.into_iter().find(|name| run.layer() == "real" && !bit(name)) {
        None => Ok(()),
        Some(name) => Err(format!("no fault of the kind {name} met anything")),
    }
}

fn is_acknowledged(run: &Run<'_>, at: usize) -> bool {
    matches!(&run.history[at].what, What::Acknowledged { cloud, .. } if run.is_honest(cloud))
}

fn worked(run: &Run<'_>) -> Result<(), String> {
    let acknowledged = run.submissions.iter().filter(|of| matches!(of.outcome, Outcome::Acknowledged { .. }));
    let acknowledged: Vec<_> = acknowledged.filter(|of| run.is_honest(of.cloud)).collect();
    let mut ids: Vec<&str> = acknowledged.iter().map(|of| of.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let first = run.submissions.first().map_or(0, |of| run.time_ms(of.invoked));
    let last = run.submissions.last().map_or(0, |of| run.time_ms(of.invoked));
    let needed = LEAST_EVENTS.max(((last - first) / MS_PER_EVENT) as usize);
    if ids.len() < needed {
        let (found, over) = (ids.len(), last - first);
        return Err(format!("{found} events were acknowledged in {over} ms, at least {needed} are needed"));
    }
    let tried = run.submissions.iter().filter(|of| run.is_honest(of.cloud)).count();
    if acknowledged.len() * MOST_TRIES < tried {
        return Err(format!("of {tried} submissions {} were acknowledged", acknowledged.len()));
    }
    for cloud in run.honest() {
        if !acknowledged.iter().any(|of| of.cloud == cloud) {
            return Err(format!("{cloud} acknowledged nothing in the whole run"));
        }
    }
    Ok(())
}

/// Between any two beginnings or ends of faults the same faults are active.
fn worked_under_faults(run: &Run<'_>) -> Result<(), String> {
    let last = run.healing.map_or(run.history.len() - 1, |healing| healing.at);
    let mut places: Vec<usize> =
        run.faults.iter().flat_map(|fault| [fault.began, fault.ended.unwrap_or(last)]).collect();
    places.sort_unstable();
    let (mut under_ms, mut served) = (0, 0);
    for pair in places.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let lasts = |fault: &&Fault<'_>| !fault.missed && fault.began <= from && fault.ended.unwrap_or(last) >= to;
        let mut active = run.faults.iter().filter(lasts).peekable();
        if active.peek().is_none() {
            continue;
        }
        let on: Vec<&str> = active.flat_map(|fault| fault.on).map(String::as_str).collect();
        if run.honest().all(|cloud| is_out(run, cloud, &on)) {
            continue;
        }
        under_ms += run.time_ms(to) - run.time_ms(from);
        served += (from..to).filter(|at| is_acknowledged(run, *at)).count() as u64;
    }
    let needed = under_ms / MS_PER_EVENT_UNDER_FAULTS;
    if served < needed {
        return Err(format!(
            "{served} submissions were acknowledged in {under_ms} ms under faults, {needed} are needed"
        ));
    }
    Ok(())
}

/// Whether faults on these nodes and clouds leave a cloud without an untouched majority.
fn is_out(run: &Run<'_>, cloud: &str, on: &[&str]) -> bool {
    let (all, hit) = (run.nodes_of(cloud).count(), run.nodes_of(cloud).filter(|node| on.contains(node)).count());
    on.contains(&cloud) || 2 * hit >= all
}

fn watched(run: &Run<'_>) -> Result<(), String> {
    let is_final = |what: &What| match what {
        What::Observed { cloud, seen, .. } => seen.is_final() && run.is_honest(cloud),
        _ => false,
    };
    let seen = run.history.iter().filter(|record| is_final(&record.what)).count();
    if run.liars.len() < 2 && seen < LEAST_FINAL_SEEN {
        return Err(format!("observers saw {seen} events that were FINAL, at least {LEAST_FINAL_SEEN} are needed"));
    }
    Ok(())
}
