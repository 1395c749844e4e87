//! Reads a finished history, and nothing else. One invariant a file, all listed here. An invariant
//! holds or is broken; a run that proves nothing is rejected, and what could not be decided in time
//! is unknown. Only `Holds` is a pass.

mod accused;
mod acknowledged;
mod caught;
mod certificates;
mod conflicts;
mod finality;
mod heads;
mod invented;
mod leaders;
mod leases;
mod levels;
mod linearizable;
mod liveness;
mod meaningful;
mod run;
mod unjudged;
mod violated;
pub mod wgl;

pub use run::{Fault, Outcome, Run, Submission, cloud_of};

use crate::history::Record;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    Holds,
    /// The system did what it promises never to do.
    Broken(String),
    /// The run did too little to prove anything.
    Rejected(String),
    /// It could not be decided, for lack of time or of records.
    Unknown(String),
}

impl Verdict {
    pub fn holds(&self) -> bool {
        *self == Self::Holds
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Broken(_) => "BROKEN",
            Self::Rejected(_) => "REJECTED",
            Self::Unknown(_) => "UNKNOWN",
        }
    }

    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Holds => None,
            Self::Broken(why) | Self::Rejected(why) | Self::Unknown(why) => Some(why),
        }
    }
}

impl From<Result<(), String>> for Verdict {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Broken, |()| Self::Holds)
    }
}

pub type Invariant = fn(&Run<'_>) -> Verdict;

/// What judges a history.
pub const INVARIANTS: [(&str, Invariant); 16] = [
    ("the run really harmed and really worked", meaningful::check),
    ("every acknowledged event exists exactly once in every honest cloud, with its content", acknowledged::check),
    ("no cloud holds an event that nobody submitted", invented::check),
    ("what a cloud called FINAL or SEALED never falls back", finality::check),
    ("FINAL contradicts FINAL only with proof of who lied, and nothing contradicts SEALED", conflicts::check),
    ("honest clouds agree on every event and its level", levels::check),
    ("honest clouds hold the same heads of honest logs", heads::check),
    ("no honest cloud is ever convicted", accused::check),
    ("every detectable lie is proven by every honest cloud", caught::check),
    ("everything that can settle is settled soon after healing", liveness::check),
    ("no process leads a term that another process of its node led", leaders::check),
    ("no lease has two holders, tokens grow, and resources take no lower one", leases::check),
    ("every certificate verifies with public keys only, and is of what its cloud lists", certificates::check),
    ("whatever was to be judged could be judged", unjudged::check),
    ("no invariant that watches the running system was violated", violated::check),
    ("submissions of one id at one cloud are linearizable", linearizable::check),
];

/// What one invariant says of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub invariant: &'static str,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The verdict of every invariant, in the order of `INVARIANTS`.
pub fn check(history: &[Record]) -> Vec<Judged> {
    let run = Run::of(history);
    let judge = |(invariant, check): &(&'static str, Invariant)| {
        let verdict = match &run {
            Ok(run) => check(run),
            Err(why) => Verdict::Rejected(why.clone()),
        };
        Judged { invariant, verdict }
    };
    INVARIANTS.iter().map(judge).collect()
}

/// Every invariant that is not shown to hold, with its verdict and why.
pub fn failures(history: &[Record]) -> Vec<(&'static str, String)> {
    let told =
        |judged: Judged| Some((judged.invariant, format!("{}: {}", judged.verdict.name(), judged.verdict.why()?)));
    check(history).into_iter().filter_map(told).collect()
}

/// Whether the run was worth something and nothing was found.
pub fn passed(judged: &[Judged]) -> bool {
    judged.len() == INVARIANTS.len() && judged.iter().all(|judged| judged.verdict.holds())
}

#[cfg(test)]
mod tests;
