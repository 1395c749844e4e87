//! What is FINAL stays FINAL, what is SEALED stays SEALED; only QUARANTINED may end, when a lying
//! cloud votes again. Another content takes the place of a FINAL one only as an open conflict.

use super::{CloudView, Verdict};
use tercet_core::events::Level;

pub fn check(before: &CloudView, after: &CloudView) -> Verdict {
    for (key, was) in &before.events {
        let (cloud, id) = (&after.cloud, key.1.id());
        let Some(is) = after.events.get(key) else {
            return Err(format!("{cloud} forgot {id}"));
        };
        if is.level < was.level && was.level != Level::Quarantined {
            return Err(format!("{id} fell from {:?} to {:?} at {cloud}", was.level, is.level));
        }
        if was.is_final() && is.settled != was.settled && !is.marks.conflict {
            return Err(format!("{id} is {:?} at {cloud} with another content than before", is.level));
        }
    }
    Ok(())
}
