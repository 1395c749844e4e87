//! FINAL is for ever: whatever any cloud called FINAL or SEALED at any moment is so at every cloud
//! at the end, with that content, and was never anything that contradicts it.

use crate::history::{Record, What};
use std::collections::BTreeMap;

pub fn check(history: &[Record]) -> Result<(), String> {
    let mut finals: BTreeMap<&str, &str> = BTreeMap::new();
    for record in history {
        let (What::Observed { cloud, id, seen } | What::Listed { cloud, id, seen }) = &record.what else {
            continue;
        };
        let (at, level) = (record.time_ms(), &seen.level);
        if seen.is_final() {
            let Some(content) = &seen.content else {
                return Err(format!("at {at} ms {cloud} calls {id} {level} without a content"));
            };
            let first = finals.entry(id).or_insert(content);
            if *first != content {
                return Err(format!("{id} was FINAL with content {first}; at {at} ms {cloud} says {content}"));
            }
        } else if finals.contains_key(id.as_str()) {
            // A node that lags behind says PENDING for a while; at the end it must not.
            let settled = matches!(record.what, What::Listed { .. }) || level == "QUARANTINED";
            if settled {
                return Err(format!("{id} was FINAL; at {at} ms {cloud} calls it {level}"));
            }
        }
    }
    Ok(())
}
