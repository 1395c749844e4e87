//! The honest clouds' logs are everywhere the same in the end.

use super::{Verdict, Views};
use std::collections::BTreeMap;

pub fn check(views: &Views<'_>) -> Verdict {
    let mut heads = BTreeMap::new();
    for view in views.clouds {
        for (at, log) in view.logs.iter().filter(|((cloud, _), log)| views.is_honest(cloud) && log.root.is_some()) {
            let (first, by) = *heads.entry(at).or_insert(((log.size, log.root), &view.cloud));
            if first != (log.size, log.root) {
                let (cloud, sizes) = (&at.0, (first.0, log.size));
                return Err(format!("{by} and {} hold different logs of {cloud}, of sizes {sizes:?}", view.cloud));
            }
        }
    }
    Ok(())
}
