//! Who led a cloud, term by term. openraft orders votes by term, then by node number, so a term may have
//! several leaders one after the other, each with a higher number: whoever was elected with the higher
//! vote has a majority that refuses every lower one. A lower one after it would be two votes of one
//! node. A cloud that lost its whole state counts terms from the beginning again: another Raft group.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    leaders(run).into()
}

fn leaders(run: &Run<'_>) -> Result<(), String> {
    // Real nodes are asked one after the other, so they may be seen in another order than elected.
    if run.layer() != "sim" {
        return Ok(());
    }
    let mut highest: BTreeMap<(&str, usize, u64), &str> = BTreeMap::new();
    for (at, record) in run.history.iter().enumerate() {
        let What::Led { cloud, node, term } = &record.what else { continue };
        // While a state is lost, an old copy of it and a new group may both have counted.
        if run.losses(cloud).any(|fault| fault.began < at && fault.ended.is_none_or(|ended| at < ended)) {
            continue;
        }
        let group = run.losses(cloud).filter(|fault| fault.began < at).count();
        let before = highest.insert((cloud, group, *term), node);
        if let Some(before) = before.filter(|before| *before > node.as_str()) {
            let at = record.time_ms();
            return Err(format!(
                "{before} led {cloud} in term {term}; at {at} ms {node} begins to lead in the same term"
            ));
        }
    }
    Ok(())
}
