//! What an honest cloud issues as a certificate convinces a stranger who holds public keys only.

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
    found.map_or(Verdict::Holds, Verdict::Broken)
}
