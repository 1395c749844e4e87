//! Whatever epoch it is in and whatever it lost: an honest cloud gives one answer to a key. A cloud that
//! goes on from a backup is not asked: what it answers there it must not sign.

use super::{Verdict, Views};
use std::collections::BTreeMap;

pub fn check(views: &Views<'_>) -> Verdict {
    let mut answers = BTreeMap::new();
    for (_, key, event) in views.events() {
        for vote in event.votes.iter().filter(|vote| views.is_honest(&vote.cloud)) {
            let answer = (vote.verdict, vote.content);
            let first = *answers.entry((key, &vote.cloud)).or_insert(answer);
            if first != answer {
                return Err(format!("{} answered {} in two ways", vote.cloud, key.1.id()));
            }
        }
    }
    Ok(())
}
