//! What one cloud answers about one id is linearizable: its Raft group keeps the contents of an id in
//! the order in which they came. A submission finds none and is the first (`new`), finds its own
//! content, or is refused with the first. Contents also come from other clouds, at any time after
//! they were submitted there, and an unanswered submission may take effect at any time or never.

use super::run::{Outcome, Submission};
use super::wgl::{self, Linearizable, Model, Operation};
use super::{Run, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::time::{Duration, Instant};
use tercet_core::events::MAX_CONTENTS;

/// How long all keys of a history may take together.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A refusal for this reason says something about the contents; every other one is free.
const ID_REUSE: &str = "id_reuse";

pub fn check(run: &Run<'_>) -> Verdict {
    within(run, TIME_LIMIT)
}

fn within(run: &Run<'_>, limit: Duration) -> Verdict {
    let deadline = Instant::now() + limit;
    let mut by_id: BTreeMap<&str, Vec<&Submission<'_>>> = BTreeMap::new();
    for submission in &run.submissions {
        by_id.entry(submission.id).or_default().push(submission);
    }
    let mut undecided = Vec::new();
    for (id, submissions) in &by_id {
        for cloud in run.honest() {
            let unnamed = |of: &&&Submission<'_>| {
                of.cloud == cloud && matches!(of.outcome, Outcome::Refused { code: ID_REUSE, first: None })
            };
            if submissions.iter().any(|of| unnamed(&of)) {
                return Verdict::Broken(format!("{id} at {cloud}: refused for another content, and not told which"));
            }
            match wgl::check(&Contents(PhantomData), operations(run, cloud, submissions), deadline) {
                Linearizable::Yes => {}
                Linearizable::No(why) => return Verdict::Broken(format!("{id} at {cloud}: {why}")),
                Linearizable::Unknown => undecided.push(format!("{id} at {cloud}")),
            }
        }
    }
    match undecided.first() {
        None => Verdict::Holds,
        Some(first) => Verdict::Unknown(format!(
            "{} keys took more than {limit:?} or too much memory; first {first}",
            undecided.len()
        )),
    }
}

/// What happens to the contents of an id at one cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'a> {
    Acknowledged {
        content: &'a str,
        new: bool,
        repeated: bool,
    },
    /// Refused, since this content was the first.
    Reused {
        content: &'a str,
        first: &'a str,
    },
    /// Came from another cloud, or from a client that was never answered.
    Arrived(&'a str),
    /// The whole cloud lost its state.
    Lost,
}

fn operations<'a>(run: &Run<'a>, cloud: &str, submissions: &[&Submission<'a>]) -> Vec<Operation<Step<'a>>> {
    let mut operations = Vec::new();
    let mut arrives: BTreeMap<&str, usize> = BTreeMap::new();
    for submission in submissions {
        let (content, invoked) = (submission.content, submission.invoked);
        let what = match submission.outcome {
            Outcome::Acknowledged { new, repeated, .. } if submission.cloud == cloud => {
                Step::Acknowledged { content, new, repeated }
            }
            Outcome::Refused { code: ID_REUSE, first: Some(first) } if submission.cloud == cloud => {
                Step::Reused { content, first }
            }
            Outcome::Refused { .. } => continue,
            Outcome::Acknowledged { .. } | Outcome::Unknown => {
                let first = arrives.entry(content).or_insert(invoked);
                *first = invoked.min(*first);
                continue;
            }
        };
        operations.push(Operation { what, invoked, returned: submission.returned });
    }
    if operations.is_empty() {
        return operations;
    }
    let optional = |what, invoked| Operation { what, invoked, returned: None };
    operations.extend(arrives.iter().map(|(content, invoked)| optional(Step::Arrived(content), *invoked)));
    for loss in run.losses(cloud) {
        operations.push(Operation { what: Step::Lost, invoked: loss.began, returned: loss.ended });
        // What it had passed on comes back.
        let contents: BTreeSet<&str> = submissions.iter().map(|submission| submission.content).collect();
        for content in contents {
            let first = submissions.iter().filter(|of| of.content == content).map(|of| of.invoked).min();
            operations.push(optional(Step::Arrived(content), loss.began.max(first.unwrap_or(0))));
        }
    }
    operations
}

/// The contents of one id at one cloud, in the order in which they came.
struct Contents<'a>(PhantomData<&'a str>);

impl<'a> Model for Contents<'a> {
    type Operation = Step<'a>;
    type State = Vec<&'a str>;

    fn initial(&self) -> Self::State {
        Vec::new()
    }

    fn step(&self, contents: &Self::State, step: &Step<'a>) -> Option<Self::State> {
        let with = |content| {
            let mut more = contents.clone();
            more.push(content);
            more
        };
        match *step {
            Step::Acknowledged { content, new: true, .. } => contents.is_empty().then(|| with(content)),
            // A client asks the next node when one does not answer: its own first try may have done it.
            Step::Acknowledged { content, repeated: true, .. } if contents.is_empty() => Some(with(content)),
            Step::Acknowledged { content, .. } => contents.contains(&content).then(|| contents.clone()),
            Step::Reused { content, first } => {
                (contents.first() == Some(&first) && !contents.contains(&content)).then(|| contents.clone())
            }
            Step::Arrived(content) if contents.contains(&content) || contents.len() >= MAX_CONTENTS => None,
            Step::Arrived(content) => Some(with(content)),
            Step::Lost => Some(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
