//! Two contents of one id are never both FINAL unless a cloud lied, and then honest clouds can prove
//! who: each of them holds evidence. CONFLICT and REVIEW are said on evidence only. Nothing contradicts
//! SEALED while at most one cloud lies; with two, no other SEALED does.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    conflicts(run).into()
}

/// A content that was called FINAL or SEALED: by whom first, and whether it ever was SEALED.
struct Claim<'a> {
    by: &'a str,
    at_ms: u64,
    sealed: bool,
}

fn conflicts(run: &Run<'_>) -> Result<(), String> {
    // Evidence does not name every event that a fork is about, so any against a liar counts; but each cloud
    // has to hold some itself.
    let convictions = run.convictions();
    let convicts = |by: &str| convictions.keys().any(|(holder, liar)| *holder == by && !run.is_honest(liar));
    let unaware = run.honest().find(|by| !convicts(by));
    for (id, claims) in claims(run) {
        let told = claims
            .iter()
            .map(|(content, claim)| {
                let level = if claim.sealed { "SEALED" } else { "FINAL" };
                format!("{level} with content {content} at {} at {} ms", claim.by, claim.at_ms)
            })
            .collect::<Vec<_>>()
            .join(", and ");
        let sealed = claims.values().filter(|claim| claim.sealed).count();
        if claims.len() > 1 && (sealed > 1 || (sealed == 1 && run.liars.len() < 2)) {
            return Err(format!("SEALED was contradicted: {id} was {told}"));
        }
        if claims.len() > 1 && run.liars.is_empty() {
            return Err(format!("no cloud lied, and {id} was {told}"));
        }
        if claims.len() > 1
            && let Some(unaware) = unaware
        {
            return Err(format!("{unaware} convicts nobody, and {id} was {told}"));
        }
    }
    for record in run.history {
        if let What::Observed { cloud, id, seen } | What::Listed { cloud, id, seen } = &record.what
            && (seen.conflict || seen.review)
            && run.is_honest(cloud)
            && !convicts(cloud)
        {
            let mark = if seen.conflict { "CONFLICT" } else { "REVIEW" };
            return Err(format!("at {} ms {cloud} marks {id} {mark}, and it convicts nobody", record.time_ms()));
        }
    }
    Ok(())
}

fn claims<'a>(run: &Run<'a>) -> BTreeMap<&'a str, BTreeMap<&'a str, Claim<'a>>> {
    let mut claims: BTreeMap<&str, BTreeMap<&str, Claim<'_>>> = BTreeMap::new();
    for record in run.history {
        let (What::Observed { cloud, id, seen } | What::Listed { cloud, id, seen }) = &record.what else { continue };
        if let Some(content) = &seen.content
            && seen.is_final()
            && run.is_honest(cloud)
        {
            let new = Claim { by: cloud, at_ms: record.time_ms(), sealed: false };
            let claim = claims.entry(id).or_default().entry(content).or_insert(new);
            claim.sealed |= seen.is_sealed();
        }
    }
    claims
}
