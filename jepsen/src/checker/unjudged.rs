//! What could not be fetched or not be judged is not known, and that is no pass.

use super::{Run, Verdict};
use crate::history::What;

pub fn check(run: &Run<'_>) -> Verdict {
    let found = run.history.iter().find_map(|record| match &record.what {
        What::Unjudged { of, why } => Some(format!("{of}: {why}")),
        _ => None,
    });
    found.map_or(Verdict::Holds, Verdict::Unknown)
}
