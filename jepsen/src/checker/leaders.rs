//! A Raft term has at most one leader. A cloud that lost its whole state counts terms from the
//! beginning again, which is another Raft group.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    leaders(run).into()
}

fn leaders(run: &Run<'_>) -> Result<(), String> {
    let mut leaders: BTreeMap<(&str, usize, u64), &str> = BTreeMap::new();
    for (at, record) in run.history.iter().enumerate() {
        let What::Led { cloud, node, term } = &record.what else { continue };
        // While a state is lost, an old copy of it and a new group may both have counted.
        if run.losses(cloud).any(|fault| fault.began < at && fault.ended.is_none_or(|ended| at < ended)) {
            continue;
        }
        let group = run.losses(cloud).filter(|fault| fault.began < at).count();
        let first = leaders.entry((cloud, group, *term)).or_insert(node);
        if first != node {
            let at = record.time_ms();
            return Err(format!("{first} led {cloud} in term {term}; at {at} ms {node} leads in the same term"));
        }
    }
    Ok(())
}
