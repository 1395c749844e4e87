//! No acknowledged event is lost, doubled or changed. Where clients used an id with several
//! contents, clouds may acknowledge different ones; then each still lists the id once, with one of
//! those contents. A cloud that lost all its state owes only what it had passed on.

use super::run::Outcome;
use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

pub fn check(run: &Run<'_>) -> Verdict {
    match run.ended() {
        Ok(_) => told(run).and_then(|()| listed(run)).into(),
        Err(unknown) => unknown,
    }
}

/// A cloud acknowledges what it was asked for, nothing else.
fn told(run: &Run<'_>) -> Result<(), String> {
    for submission in &run.submissions {
        if let Outcome::Acknowledged { content, .. } = submission.outcome
            && content != submission.content
        {
            let (cloud, id, asked) = (submission.cloud, submission.id, submission.content);
            return Err(format!("{id} was submitted at {cloud} with content {asked}; it acknowledged {content}"));
        }
    }
    Ok(())
}

fn listed(run: &Run<'_>) -> Result<(), String> {
    for cloud in run.honest() {
        let mut listed: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for record in run.history {
            if let What::Listed { cloud: by, id, seen } = &record.what
                && by == cloud
                && listed.insert(id, seen.content.as_deref()).is_some()
            {
                return Err(format!("{cloud} lists {id} more than once; every event exists exactly once"));
            }
        }
        for owed in run.owed() {
            let (id, content) = (owed.id, owed.content);
            let told = format!("{id} was acknowledged by {} with content {content}", owed.cloud);
            let Some(found) = listed.get(id) else { return Err(format!("{told} and is lost at {cloud}")) };
            let Some(found) = found else { return Err(format!("{told}; {cloud} lists it without a content")) };
            if !run.is_contested(id) && *found != content {
                return Err(format!("{told}; {cloud} lists content {found}"));
            }
        }
    }
    Ok(())
}
