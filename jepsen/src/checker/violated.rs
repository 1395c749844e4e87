//! What an invariant found that saw more than a history tells: inside the nodes of a simulation.

use super::{Run, Verdict};
use crate::history::What;

pub fn check(run: &Run<'_>) -> Verdict {
    let found = run.history.iter().find_map(|record| match &record.what {
        What::Violated { invariant, why } => Some(format!("at {} ms {invariant}: {why}", record.time_ms())),
        _ => None,
    });
    found.map_or(Verdict::Holds, Verdict::Broken)
}
