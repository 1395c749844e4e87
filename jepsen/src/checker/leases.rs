//! Leases: never two who may act at one moment, fencing tokens that only grow, and resources that take nothing below
//! the highest token they have seen. All times are the harness's; a tenure lasts from the moment at which its
//! holder counted enough votes until its own clock says that it is over, or it stopped.

use super::{Run, Verdict};
use crate::history::What;
use crate::workload::leases::tenures;
use std::collections::BTreeMap;

/// A run has at least one tenure for so much time before healing, in milliseconds.
const MS_PER_TENURE: u64 = 60_000;

/// One holder's stretch of time without a break.
#[derive(Debug, Clone, Copy)]
struct Stretch<'a> {
    session: &'a str,
    token: u64,
    from_ns: u64,
    until_ns: u64,
}

pub fn check(run: &Run<'_>) -> Verdict {
    let held = stretches(run);
    if held.is_empty() {
        return Verdict::Unknown("the history tells of no lease".into());
    }
    for (lease, held) in &held {
        if let Err(why) = one_holder(held).and_then(|()| tokens_grow(held)).and_then(|()| in_time(run, lease, held)) {
            return Verdict::Broken(format!("lease {lease}: {why}"));
        }
    }
    if let Err(why) = fenced(run) {
        return Verdict::Broken(why);
    }
    busy(run)
}

fn stretches<'a>(run: &Run<'a>) -> BTreeMap<&'a str, Vec<Stretch<'a>>> {
    let mut all: BTreeMap<&str, Vec<Stretch<'_>>> = BTreeMap::new();
    for record in run.history {
        match &record.what {
            What::Granted { lease, session, token, until_ns } => {
                let held = all.entry(lease).or_default();
                let now = record.time_ns;
                let same = |stretch: &&mut Stretch<'_>| (stretch.session, stretch.token) == (session, *token);
                match held.iter_mut().rev().find(same) {
                    Some(stretch) if stretch.until_ns >= now => stretch.until_ns = stretch.until_ns.max(*until_ns),
                    _ => held.push(Stretch { session, token: *token, from_ns: now, until_ns: *until_ns }),
                }
            }
            What::Stopped { lease, session } => {
                for stretch in all.entry(lease).or_default().iter_mut().filter(|stretch| stretch.session == session) {
                    stretch.until_ns = stretch.until_ns.min(record.time_ns);
                }
            }
            _ => {}
        }
    }
    all.into_iter().filter(|(_, held)| !held.is_empty()).collect()
}

fn one_holder(held: &[Stretch<'_>]) -> Result<(), String> {
    let mut in_order: Vec<&Stretch<'_>> = held.iter().filter(|stretch| stretch.from_ns < stretch.until_ns).collect();
    in_order.sort_by_key(|stretch| stretch.from_ns);
    let mut last: Option<&Stretch<'_>> = None;
    for stretch in in_order {
        if let Some(before) =
            last.filter(|before| before.session != stretch.session && before.until_ns > stretch.from_ns)
        {
            return Err(format!(
                "two hold it from {} ms to {} ms, with tokens {} and {}",
                stretch.from_ns / 1_000_000,
                before.until_ns.min(stretch.until_ns) / 1_000_000,
                before.token,
                stretch.token
            ));
        }
        last = last.filter(|before| before.until_ns > stretch.until_ns).or(Some(stretch));
    }
    Ok(())
}

fn tokens_grow(held: &[Stretch<'_>]) -> Result<(), String> {
    let mut granted: Vec<(u64, &str)> = Vec::new();
    for stretch in held {
        match granted.last() {
            Some((token, session)) if (*token, *session) == (stretch.token, stretch.session) => {}
            Some((token, _)) if *token >= stretch.token => {
                return Err(format!("token {} was granted after {token}", stretch.token));
            }
            _ => granted.push((stretch.token, stretch.session)),
        }
    }
    Ok(())
}

/// Whoever acts was granted the lease, and its time is not over.
fn in_time(run: &Run<'_>, of: &str, held: &[Stretch<'_>]) -> Result<(), String> {
    for record in run.history {
        let What::Acted { lease, session, token } = &record.what else { continue };
        let now = record.time_ns;
        let covers = |stretch: &Stretch<'_>| {
            (stretch.session, stretch.token) == (session, *token) && (stretch.from_ns..=stretch.until_ns).contains(&now)
        };
        if lease == of && !held.iter().any(covers) {
            return Err(format!("somebody acts at {} ms with token {token}, whose time is over", record.time_ms()));
        }
    }
    Ok(())
}

/// No write below the highest token that the resource took before.
fn fenced(run: &Run<'_>) -> Result<(), String> {
    let mut highest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for record in run.history {
        let What::Wrote { lease, session, token, accepted: true, .. } = &record.what else { continue };
        let known = highest.entry(lease).or_insert((*token, session));
        if *token < known.0 || (*token == known.0 && session != known.1) {
            return Err(format!("the resource of {lease} took token {token} after {} of another holder", known.0));
        }
        *known = (*token, session);
    }
    Ok(())
}

/// Whether enough happened, and what was asked for at the end was had.
fn busy(run: &Run<'_>) -> Verdict {
    // That the end is missing is for others to say.
    let Some(healing) = run.healing else { return Verdict::Holds };
    let needed = (healing.time_ms / MS_PER_TENURE).max(1) as usize;
    let of_global = tenures(run.history).get("primary").copied().unwrap_or(0);
    if of_global < needed {
        return Verdict::Rejected(format!("{of_global} tenures of the global lease, {needed} are needed"));
    }
    let wrote = |record: &crate::history::Record| matches!(record.what, What::Wrote { accepted: true, .. });
    if !run.history.iter().any(wrote) {
        return Verdict::Rejected("no guarded resource was written to".into());
    }
    Verdict::Holds
}
