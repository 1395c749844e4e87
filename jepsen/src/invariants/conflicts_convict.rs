//! Two FINALs of one event that differ are possible if a cloud lies; then it is proven who lied.

use super::{Verdict, Views};

pub fn check(views: &Views<'_>) -> Verdict {
    for (view, key, _) in views.events().filter(|(_, _, event)| event.marks.conflict) {
        let proven = view.evidence.values().any(|proof| proof.verified.is_ok() && view.flagged.contains(&proof.cloud));
        if !proven {
            return Err(format!("{} is in conflict at {}, and nobody is proven to have lied", key.1.id(), view.cloud));
        }
    }
    Ok(())
}
