//! What an honest cloud issues as a certificate convinces a stranger who holds public keys only, and
//! proves what that cloud lists: the content, and without a liar no lower level. It issues one for what is FINAL.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

/// What a certificate may say.
const LEVELS: [&str; 2] = ["FINAL", "SEALED"];

pub fn check(run: &Run<'_>) -> Verdict {
    let mut listed = BTreeMap::new();
    for record in run.history {
        if let What::Listed { cloud, id, seen } = &record.what {
            listed.insert((cloud, id), seen);
        }
    }
    let found = run.history.iter().find_map(|record| match &record.what {
        What::Certified { cloud, id, level, content, valid, why } if run.is_honest(cloud) => {
            let seen = listed.get(&(cloud, id));
            let why = match (why, seen) {
                (Some(why), _) => why.clone(),
                (None, _) if !valid => "the verifier gave no reason".into(),
                _ if !LEVELS.contains(&level.as_str()) => "no certificate is of that level".into(),
                (_, None) => "it does not list the event".into(),
                (_, Some(seen)) if seen.content != *content => format!("it lists content {:?}", seen.content),
                // The notes of a convicted cloud are not taken any more, so less can be shown then.
                (_, Some(seen)) if run.liars.is_empty() && seen.is_sealed() && level != "SEALED" => {
                    "it lists it as SEALED".into()
                }
                _ => return None,
            };
            let content = content.as_deref().unwrap_or("no content");
            Some(format!("at {} ms {cloud} certified {id} as {level} of {content}: {why}", record.time_ms()))
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
