//! Honest clouds hold only what clients submitted, with a content that was submitted before, and
//! never what every cloud certainly refused. (A liar needs a tenant's signature for a content of its
//! own, so whoever plays it records that submission like a client's.)

use super::run::Outcome;
use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    invented(run).into()
}

fn invented(run: &Run<'_>) -> Result<(), String> {
    // When an id and a content may first have come into being.
    let mut possible: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for submission in &run.submissions {
        if !matches!(submission.outcome, Outcome::Refused { .. }) {
            let first = possible.entry((submission.id, submission.content)).or_insert(submission.invoked);
            *first = submission.invoked.min(*first);
        }
    }
    for (at, record) in run.history.iter().enumerate() {
        let (What::Listed { cloud, id, seen } | What::Observed { cloud, id, seen }) = &record.what else { continue };
        if !run.is_honest(cloud) {
            continue;
        }
        let time = record.time_ms();
        let Some(contents) = run.contents.get(id.as_str()) else {
            return Err(format!("at {time} ms {cloud} shows {id}, which nobody submitted"));
        };
        let Some(content) = seen.content.as_deref() else { continue };
        if !contents.contains(content) {
            return Err(format!("at {time} ms {cloud} shows {id} with content {content}; submitted were {contents:?}"));
        }
        match possible.get(&(id, content)) {
            None => return Err(format!("at {time} ms {cloud} shows {id} with content {content}, which was refused")),
            Some(first) if at < *first => {
                return Err(format!("at {time} ms {cloud} shows {id} with content {content}, submitted only later"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
