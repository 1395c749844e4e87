//! With at most one lying cloud nothing FINAL contradicts a SEALED, at any copy of any cloud; with
//! more, no other SEALED does.

use super::{Verdict, Views};
use tercet_core::events::Level;

pub fn check(views: &Views<'_>) -> Verdict {
    let least = if views.liars.len() <= 1 { Level::Final } else { Level::Sealed };
    for (at, key, sealed) in views.events().filter(|(_, _, event)| event.is_sealed()) {
        for other in views.clouds {
            let Some(event) = other.events.get(key) else { continue };
            if event.level >= least && event.settled != sealed.settled {
                let (level, id) = (event.level, key.1.id());
                return Err(format!(
                    "{id} is SEALED at {}, and {level:?} with another content at {}",
                    at.cloud, other.cloud
                ));
            }
            if views.liars.len() <= 1 && event.is_sealed() && event.marks.conflict {
                return Err(format!("{} is SEALED at {} and in conflict with another FINAL", key.1.id(), other.cloud));
            }
        }
    }
    Ok(())
}
