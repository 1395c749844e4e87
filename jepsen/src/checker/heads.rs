//! At the end honest clouds hold the same log of each honest cloud: same sizes, same roots. What
//! they hold of a liar's log may be different branches.

use super::{Run, Verdict};
use crate::history::What;
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
    }
    Verdict::Holds
}
