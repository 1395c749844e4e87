//! Nobody holds more of an honest cloud's current log than that cloud itself, or another head of the
//! same size: nothing is signed that is not committed, and it never forks.

use super::{Verdict, Views};

pub fn check(views: &Views<'_>) -> Verdict {
    for owner in views.clouds.iter().filter(|view| views.is_honest(&view.cloud)) {
        let own = owner.logs.iter().filter(|((cloud, _), log)| *cloud == owner.cloud && log.root.is_some());
        for (at, own) in own {
            for holder in views.clouds {
                let Some(mirror) = holder.logs.get(at) else { continue };
                let differs = mirror.size == own.size && mirror.root.is_some_and(|root| Some(root) != own.root);
                if mirror.size > own.size || differs {
                    let (mirrored, size) = (mirror.size, own.size);
                    return Err(format!("{} holds {mirrored} leaves of {}, which has {size}", holder.cloud, at.0));
                }
            }
        }
    }
    Ok(())
}
