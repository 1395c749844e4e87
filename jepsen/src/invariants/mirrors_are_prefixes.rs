//! Nobody holds more of an honest cloud's current log than that cloud itself, or another head of the
//! same size: nothing is signed that is not committed, and it never forks.

use super::{CloudView, Verdict, Views};

pub fn check(owner: &CloudView, views: &Views<'_>) -> Verdict {
    for (at, own) in owner.logs.iter().filter(|((cloud, _), log)| *cloud == owner.cloud && log.root.is_some()) {
        for holder in views.clouds {
            let Some(mirror) = holder.logs.get(at) else { continue };
            let differs = mirror.size == own.size && mirror.root.is_some_and(|root| Some(root) != own.root);
            if mirror.size > own.size || differs {
                let (mirrored, size) = (mirror.size, own.size);
                return Err(format!("{} holds {mirrored} leaves of {}, which has {size}", holder.cloud, at.0));
            }
        }
    }
    Ok(())
}
