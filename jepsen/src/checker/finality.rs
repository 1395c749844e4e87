//! FINAL and SEALED are for ever. During a run a node that lags may show less for a while; after
//! healing no honest cloud may, whichever honest cloud has shown it, and none may list it no more. Without
//! a liar nothing that was FINAL was ever QUARANTINED.

use super::{Run, Verdict};
use crate::history::{Record, Seen, What};
use std::collections::{BTreeMap, BTreeSet};

pub fn check(run: &Run<'_>) -> Verdict {
    finality(run).into()
}

fn rank(seen: &Seen) -> u8 {
    u8::from(seen.is_final()) + u8::from(seen.is_sealed())
}

fn finality<'a>(run: &Run<'a>) -> Result<(), String> {
    let healed = run.healing.map_or(usize::MAX, |healing| healing.at);
    let mut highest: BTreeMap<&str, (&Seen, &str, u64)> = BTreeMap::new();
    for (at, record) in run.history.iter().enumerate() {
        let (What::Observed { cloud, id, seen } | What::Listed { cloud, id, seen }) = &record.what else { continue };
        if !run.is_honest(cloud) {
            continue;
        }
        let time = record.time_ms();
        if let Some((best, by, since)) = highest.get(id.as_str()) {
            let settled = at > healed || matches!(record.what, What::Listed { .. });
            let opposite = seen.level == "QUARANTINED" && run.liars.is_empty();
            if rank(seen) < rank(best) && (settled || opposite) {
                let (was, is) = (&best.level, &seen.level);
                return Err(format!("{id} was {was} at {by} at {since} ms; at {time} ms {cloud} calls it {is}"));
            }
        }
        let better = highest.get(id.as_str()).is_none_or(|(best, ..)| rank(seen) > rank(best));
        if better {
            highest.insert(id, (seen, cloud, time));
        }
    }
    if run.ended().is_err() {
        return Ok(());
    }
    let id_of = |record: &'a Record| match &record.what {
        What::Listed { id, .. } => Some(id.as_str()),
        _ => None,
    };
    let listed: BTreeSet<&str> = run.history.iter().filter_map(id_of).collect();
    match highest.iter().find(|(id, (best, ..))| best.is_final() && !listed.contains(*id)) {
        None => Ok(()),
        Some((id, (best, by, since))) => {
            Err(format!("{id} was {} at {by} at {since} ms; at the end no cloud lists it", best.level))
        }
    }
}
