//! What an honest cloud issues as a certificate convinces a stranger who holds public keys only; and it
//! issues one for what is FINAL.

use super::{Run, Verdict};
use crate::history::What;

/// What a certificate may say.
const LEVELS: [&str; 2] = ["FINAL", "SEALED"];

pub fn check(run: &Run<'_>) -> Verdict {
    let found = run.history.iter().find_map(|record| match &record.what {
        What::Certified { cloud, id, level, valid, why } if run.is_honest(cloud) => {
            let why = match why {
                _ if *valid && LEVELS.contains(&level.as_str()) => return None,
                _ if *valid => "no certificate is of that level",
                Some(why) => why,
                None => "the verifier gave no reason",
            };
            Some(format!("at {} ms {cloud} certified {id} as {level}: {why}", record.time_ms()))
        }
        _ => None,
    });
    if let Some(why) = found {
        return Verdict::Broken(why);
    }
    // With two liars nothing becomes FINAL at the honest cloud.
    if run.liars.len() >= 2 || run.healing.is_none_or(|healing| !healing.complete) {
        return Verdict::Holds;
    }
    let certified = |by: &str| {
        run.history.iter().any(|record| matches!(&record.what, What::Certified { cloud, .. } if cloud == by))
    };
    match run.honest().find(|cloud| !certified(cloud)) {
        Some(cloud) => Verdict::Rejected(format!("{cloud} was asked for no certificate")),
        None => Verdict::Holds,
    }
}
