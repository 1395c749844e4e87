//! While all clouds are honest, no two FINALs of one event differ.

use super::{Verdict, Views};
use std::collections::BTreeMap;

pub fn check(views: &Views<'_>) -> Verdict {
    if !views.liars.is_empty() {
        return Ok(());
    }
    let mut finals = BTreeMap::new();
    for (view, key, event) in views.events().filter(|(_, _, event)| event.is_final()) {
        let (first, at) = finals.entry(key).or_insert((event.settled, &view.cloud));
        if *first != event.settled || event.marks.conflict {
            return Err(format!("{} is FINAL with different contents at {at} and at {}", key.1.id(), view.cloud));
        }
    }
    Ok(())
}
