//! A level is a function of the facts, not of their order: clouds that know the same facts say the
//! same level, marks and content of every event.

use super::{EventView, Verdict, Views};
use std::collections::BTreeMap;

pub fn check(views: &Views<'_>) -> Verdict {
    let mut standings = BTreeMap::new();
    for (view, key, event) in views.events() {
        standings.entry(key).or_insert_with(Vec::new).push((&view.cloud, event));
    }
    for (key, held) in standings {
        let (first, standing) = held[0];
        let says = |event: &EventView| (event.level, event.marks, event.settled);
        if let Some((other, event)) = held.iter().find(|(_, event)| says(event) != says(standing)) {
            let (id, a, b) = (key.1.id(), says(standing), says(event));
            return Err(format!("{first} says {a:?} of {id}, {other} says {b:?}"));
        }
        if held.len() < views.clouds.len() {
            return Err(format!("only {} of {} clouds know {}", held.len(), views.clouds.len(), key.1.id()));
        }
    }
    Ok(())
}
