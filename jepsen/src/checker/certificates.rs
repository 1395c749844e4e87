//! What an honest cloud issues as a certificate convinces a stranger who holds public keys only; and it
//! issues one for what is FINAL.

use super::{Run, Verdict};
use crate::history::What;

pub fn check(run: &Run<'_>) -> Verdict {
    let found = run.history.iter().find_map(|record| match &record.what {
        What::Certified { cloud, id, level, valid: false, why } if run.is_honest(cloud) => {
            let why = why.as_deref().unwrap_or("the verifier gave no reason");
            Some(format!("at {} ms {cloud} certified {id} as {level}: {why}", record.time_ms()))
        }
        _ => None,
    });
    let certified = || run.history.iter().any(|record| matches!(record.what, What::Certified { .. }));
    match found {
        Some(why) => Verdict::Broken(why),
        // With two liars nothing becomes FINAL at the honest cloud.
        None if run.liars.len() < 2 && run.healing.is_some_and(|healing| healing.complete) && !certified() => {
            Verdict::Rejected("no certificate was asked for".into())
        }
        None => Verdict::Holds,
    }
}
