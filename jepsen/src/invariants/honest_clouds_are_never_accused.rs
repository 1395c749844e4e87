//! No cloud holds a proof against an honest cloud, or flags it.

use super::{Verdict, Views};

pub fn check(views: &Views<'_>) -> Verdict {
    for view in views.clouds {
        let accused = view.evidence.values().map(|proof| &proof.cloud).chain(&view.flagged);
        if let Some(accused) = accused.into_iter().find(|cloud| views.is_honest(cloud)) {
            return Err(format!("{} accuses {accused}, which never lied", view.cloud));
        }
    }
    Ok(())
}
