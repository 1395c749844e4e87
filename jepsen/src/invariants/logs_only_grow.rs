//! Leaves, audits, proofs and flags are never taken back.

use super::{CloudView, Verdict};

pub fn check(before: &CloudView, after: &CloudView) -> Verdict {
    let cloud = &after.cloud;
    for (at, was) in &before.logs {
        let Some(is) = after.logs.get(at) else {
            return Err(format!("{cloud} forgot the log of {}", at.0));
        };
        if is.size < was.size || (is.size == was.size && is.root.is_some() && was.root.is_some() && is.root != was.root)
        {
            return Err(format!("the log of {} at {cloud} went from size {} to {}", at.0, was.size, is.size));
        }
        // The audits of a past epoch are not shown any more.
        let fell = |(by, size): (&_, &u64)| is.audits.get(by).is_some_and(|now| now < size);
        if let Some((by, size)) = was.audits.iter().find(|(by, size)| fell((*by, *size))) {
            return Err(format!("{by} had audited {size} leaves of {}, says {cloud}; now it is fewer", at.0));
        }
    }
    if !before.flagged.is_subset(&after.flagged) {
        return Err(format!("{cloud} no longer flags {:?}", before.flagged));
    }
    match before.evidence.keys().find(|id| !after.evidence.contains_key(id)) {
        None => Ok(()),
        Some(id) => Err(format!("{cloud} lost the evidence {id}")),
    }
}
