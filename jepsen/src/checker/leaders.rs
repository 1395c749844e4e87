//! Who led a cloud, term by term. openraft orders votes by term, then by node number, so a term may have
//! several leaders, and in any order: a node that granted a vote may grant a higher one of the same term,
//! and its first answer may be the last to arrive. But nobody begins to lead a term twice. A process that
//! starts has to be elected under a new vote; one that went on under the old one would give log ids again
//! that it gave before. A cloud that lost its whole state counts terms from the beginning again: another
//! Raft group.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeSet;

pub fn check(run: &Run<'_>) -> Verdict {
    leaders(run).into()
}

fn leaders(run: &Run<'_>) -> Result<(), String> {
    // Real nodes are asked one after the other, so they may be seen in another order than elected.
    if run.layer() != "sim" {
        return Ok(());
    }
    let mut led = BTreeSet::new();
    for (at, record) in run.history.iter().enumerate() {
        let What::Led { cloud, node, term } = &record.what else { continue };
        // While a state is lost, an old copy of it and a new group may both have counted.
        if run.losses(cloud).any(|fault| fault.began < at && fault.ended.is_none_or(|ended| at < ended)) {
            continue;
        }
        let group = run.losses(cloud).filter(|fault| fault.began < at).count();
        if !led.insert((cloud, group, *term, node)) {
            let at = record.time_ms();
            return Err(format!("{node} led {cloud} in term {term}, and at {at} ms begins to lead it again"));
        }
    }
    Ok(())
}
