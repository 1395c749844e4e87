//! At the end all clouds hold the same logs: same sizes, same roots.

use super::CLOUDS;
use crate::history::{Record, What};
use std::collections::BTreeMap;

pub fn check(history: &[Record]) -> Result<(), String> {
    let mut heads: BTreeMap<&str, BTreeMap<&str, (u64, &str)>> = BTreeMap::new();
    for record in history {
        if let What::Head { by, of, size, root } = &record.what {
            heads.entry(of).or_default().insert(by, (*size, root));
        }
    }
    for cloud in CLOUDS {
        let held = heads.get(cloud).ok_or_else(|| format!("nobody told the head of {cloud}"))?;
        if held.len() != CLOUDS.len() {
            return Err(format!("not every cloud told the head of {cloud}: {held:?}"));
        }
        let mut distinct: Vec<_> = held.values().collect();
        distinct.dedup();
        if distinct.len() != 1 {
            return Err(format!("the log of {cloud} differs: {held:?}"));
        }
    }
    Ok(())
}
