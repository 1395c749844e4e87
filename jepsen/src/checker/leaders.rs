//! Who led a cloud, term by term. openraft orders votes by term, then by node number, so a term may have
//! several leaders, and in any order: a node that granted a vote may grant a higher one of the same term,
//! and its first answer may be the last to arrive. But a process that starts has to be elected under a new
//! vote: one that went on under the vote of the process before it would give log ids again that were
//! given already. A cloud that lost its whole state counts terms from the beginning again: another Raft
//! group.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    leaders(run).into()
}

fn leaders(run: &Run<'_>) -> Result<(), String> {
    let mut led = BTreeMap::new();
    for (at, record) in run.history.iter().enumerate() {
        let What::Led { cloud, node, term, process } = &record.what else { continue };
        // While a state is lost, an old copy of it and a new group may both have counted.
        if run.losses(cloud).any(|fault| fault.began < at && fault.ended.is_none_or(|ended| at < ended)) {
            continue;
        }
        let group = run.losses(cloud).filter(|fault| fault.began < at).count();
        let first = led.entry((cloud, group, *term, node)).or_insert(process);
        if *first != process {
            let at = record.time_ms();
            return Err(format!(
                "{node} led {cloud} in term {term}, and at {at} ms another process of it leads it again"
            ));
        }
    }
    Ok(())
}
