//! At the end honest clouds hold the same log of each honest cloud: same sizes, same roots, and no fewer
//! leaves than that cloud owes votes for what it acknowledged in this log. What they hold of a liar's log
//! may be different branches.

use super::{Run, Verdict};
use crate::history::What;
use crate::workload::is_manual;
use std::collections::{BTreeMap, BTreeSet};

pub fn check(run: &Run<'_>) -> Verdict {
    let mut held: BTreeMap<(&str, &str), BTreeSet<(u64, &str)>> = BTreeMap::new();
    for record in run.history {
        if let What::Head { by, of, size, root } = &record.what {
            held.entry((of, by)).or_default().insert((*size, root));
        }
    }
    for of in run.honest() {
        let mut first: Option<(&str, &BTreeSet<_>)> = None;
        for by in run.honest() {
            let Some(heads) = held.get(&(of, by)) else {
                return Verdict::Unknown(format!("{by} did not tell what it holds of the log of {of}"));
            };
            match first {
                None => first = Some((by, heads)),
                Some((_, same)) if same == heads => {}
                Some((other, differ)) => {
                    return Verdict::Broken(format!("of the log of {of}, {other} holds {differ:?} and {by} {heads:?}"));
                }
            }
        }
        let least = voted(run, of);
        if let Some((size, _)) = first.and_then(|(_, heads)| heads.iter().find(|(size, _)| *size < least)) {
            return Verdict::Broken(format!("the log of {of} has {size} leaves, and {of} acknowledged {least} events"));
        }
    }
    Verdict::Holds
}

/// The events that a cloud acknowledged since it last lost its state, and votes for by policy.
fn voted(run: &Run<'_>, cloud: &str) -> u64 {
    let lost = run.losses(cloud).map(|fault| fault.ended.unwrap_or(usize::MAX)).max().unwrap_or(0);
    let owed = run.owed().filter(|of| of.cloud == cloud && of.invoked > lost && !is_manual(of.id));
    owed.map(|of| of.id).collect::<BTreeSet<_>>().len() as u64
}
