//! A level is a function of the set of facts, and after healing honest clouds have the same facts:
//! they list the same events with the same levels and marks, and what is settled with the same content.

use super::{Run, Verdict};
use crate::history::What;
use std::collections::BTreeMap;

/// Level, review, conflict, and what is settled: before that each cloud shows the content that it saw first.
type Standing<'a> = (&'a str, bool, bool, Option<&'a str>);

pub fn check(run: &Run<'_>) -> Verdict {
    match run.ended() {
        Ok(_) => levels(run).into(),
        Err(unknown) => unknown,
    }
}

fn levels(run: &Run<'_>) -> Result<(), String> {
    let mut listed: BTreeMap<&str, BTreeMap<&str, Standing<'_>>> = BTreeMap::new();
    for record in run.history {
        if let What::Listed { cloud, id, seen } = &record.what
            && run.is_honest(cloud)
        {
            let settled = seen.content.as_deref().filter(|_| seen.is_final());
            listed.entry(id).or_default().insert(cloud, (&seen.level, seen.review, seen.conflict, settled));
        }
    }
    for (id, standings) in &listed {
        for cloud in run.honest() {
            if !standings.contains_key(cloud) {
                let holders: Vec<_> = standings.keys().collect();
                return Err(format!("{id} is listed by {holders:?} and not by {cloud}"));
            }
        }
        let mut distinct: Vec<_> = standings.values().collect();
        distinct.dedup();
        if distinct.len() != 1 {
            return Err(format!("clouds differ about {id} (level, review, conflict, content): {standings:?}"));
        }
    }
    Ok(())
}
