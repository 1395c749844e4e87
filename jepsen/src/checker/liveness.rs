//! After healing everything that can settle is settled, within the bound and with no operator.
//!
//! - No liar: an event with one content becomes SEALED, whether two clouds voted for it by policy or
//!   by hand; where contents compete it becomes SEALED, or QUARANTINED if all three votes differ.
//! - One liar: it can withhold its audits, and is not audited once convicted, but the two honest
//!   clouds are a quorum: their equal votes become FINAL.
//! - Two liars: one honest cloud settles nothing alone.

use super::run::{Outcome as Submitted, Submission};
use super::{Run, Verdict};
use crate::history::{Outcome, What};
use crate::workload::is_manual;
use std::collections::{BTreeMap, BTreeSet};

/// A quorum of the three clouds.
const QUORUM: usize = 2;

pub fn check(run: &Run<'_>) -> Verdict {
    let Some(healing) = run.healing else {
        return Verdict::Unknown("the history does not tell how healing ended".into());
    };
    let Some(limit) = run.limit_ms() else {
        return Verdict::Rejected(format!("nothing is known of how long the layer {} may take", run.layer()));
    };
    let (took, within) = (healing.took_ms, healing.within_ms.min(limit));
    if !healing.complete || took > within {
        let missing = healing.missing.unwrap_or("what was missing is not told");
        return Verdict::Broken(format!("not settled {took} ms after healing, {within} ms are allowed: {missing}"));
    }
    settled(run).into()
}

fn settled(run: &Run<'_>) -> Result<(), String> {
    let decided = decisions(run);
    // Also what its client was never answered about: if it is listed, it happened.
    let happened = |submission: &&Submission<'_>| !matches!(submission.outcome, Submitted::Refused { .. });
    let at_honest = run.submissions.iter().filter(happened).filter(|submission| run.is_honest(submission.cloud));
    let submitted: BTreeSet<&str> = at_honest.map(|submission| submission.id).collect();
    for record in run.history {
        let What::Listed { cloud, id, seen } = &record.what else { continue };
        if !run.is_honest(cloud) || !submitted.contains(id.as_str()) {
            continue;
        }
        let wanted = wanted(run, id, decided.get(id.as_str()));
        if let Some(wanted) = wanted
            && !wanted.contains(&seen.level.as_str())
        {
            return Err(format!("{cloud} lists {id} as {}, and it must be {}", seen.level, wanted.join(" or ")));
        }
    }
    Ok(())
}

/// The levels that an event may end with; `None` if any.
fn wanted(run: &Run<'_>, id: &str, decided: Option<&Decisions<'_>>) -> Option<&'static [&'static str]> {
    let by_hand = decided.is_some() || is_manual(id);
    let confirmed = decided.is_some_and(|decided| decided.confirmed.len() >= QUORUM);
    let rejected = decided.is_some_and(|decided| decided.rejected.len() >= QUORUM);
    match run.liars.len() {
        0 if run.is_contested(id) => (!by_hand).then_some(&["SEALED", "QUARANTINED"]),
        0 if rejected => Some(&["QUARANTINED"]),
        0 if confirmed || !by_hand => Some(&["SEALED"]),
        1 if !run.is_contested(id) && (confirmed || !by_hand) => Some(&["FINAL", "SEALED"]),
        _ => None,
    }
}

/// Which honest clouds certainly voted how, by hand.
#[derive(Default)]
struct Decisions<'a> {
    confirmed: BTreeSet<&'a str>,
    rejected: BTreeSet<&'a str>,
}

fn decisions<'a>(run: &Run<'a>) -> BTreeMap<&'a str, Decisions<'a>> {
    let mut all: BTreeMap<&str, Decisions<'_>> = BTreeMap::new();
    for record in run.history {
        let What::Decided { cloud, id, confirm, outcome, .. } = &record.what else { continue };
        let of = all.entry(id).or_default();
        if *outcome == Outcome::Done && run.is_honest(cloud) {
            let clouds = if *confirm { &mut of.confirmed } else { &mut of.rejected };
            clouds.insert(cloud);
        }
    }
    all
}
