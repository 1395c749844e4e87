//! If the honest clouds together hold two different answers of one cloud to one key, they flag it.

use super::{Verdict, Views};
use std::collections::BTreeMap;

pub fn check(views: &Views<'_>) -> Verdict {
    let mut answers = BTreeMap::new();
    for (_, key, event) in views.events() {
        for vote in &event.votes {
            let answer = (vote.verdict, vote.content);
            let first = *answers.entry((key, &vote.cloud)).or_insert(answer);
            let unaware = views.clouds.iter().find(|view| !view.flagged.contains(&vote.cloud));
            if let Some(view) = unaware.filter(|_| first != answer) {
                return Err(format!(
                    "{} answered {} twice, and {} does not flag it",
                    vote.cloud,
                    key.1.id(),
                    view.cloud
                ));
            }
        }
    }
    Ok(())
}
