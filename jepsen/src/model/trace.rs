//! The way to a state, for people: each step, and what the cloud that took it then says.

use super::deliver::What;
use super::federation::{NAMES, content_name};
use super::system::{Action, FinalityModel, System};
use crate::invariants::{CloudView, EventView};
use std::fmt::Write as _;

pub fn render(model: &FinalityModel, steps: &[(System, Option<Action>)]) -> String {
    let mut out = String::new();
    for (number, pair) in steps.windows(2).enumerate() {
        let [(before, Some(action)), (after, _)] = pair else { continue };
        let _ = writeln!(out, "{:>3}. {}", number + 1, describe(model, before, *action));
        for copy in 0..model.copies() as u8 {
            let at = usize::from(copy);
            if before.clouds[at] != after.clouds[at] {
                let (was, is) = (model.clouds.get(before.clouds[at]), model.clouds.get(after.clouds[at]));
                changes(&mut out, &model.label(copy), &was.view, &is.view);
            }
        }
    }
    if let Some(why) = steps.last().and_then(|(last, _)| model.judge(last)) {
        let _ = writeln!(out, "     {why}");
    }
    out
}

fn describe(model: &FinalityModel, before: &System, action: Action) -> String {
    let name = |copy: u8| model.label(copy);
    let log = |log: u8| NAMES[usize::from(log)];
    match action {
        Action::Submit { at, event, content } => {
            format!("a client submits e{event} = {} at {}", content_name(content.into()), name(at))
        }
        Action::Deliver { from, to, what } => match what {
            What::Log(which) | What::Overlap(which) if model.cloud_of(from) == usize::from(which) => {
                format!("{} sends its log to {}", name(from), name(to))
            }
            What::Log(which) | What::Overlap(which) => {
                format!("{} relays the log of {} to {}", name(from), log(which), name(to))
            }
            What::Bodies => format!("{} sends bodies to {}", name(from), name(to)),
            What::Proofs => format!("{} and {} compare what they were told", name(from), name(to)),
        },
        Action::Delay { from } => format!("{} sends its log, which arrives later", name(from)),
        Action::Arrive { to, what } => {
            let from = before.late.map_or_else(String::new, |(from, _)| name(from));
            let how = if matches!(what, What::Overlap(_)) { ", from its beginning" } else { "" };
            format!("what {from} sent earlier arrives at {}{how}", name(to))
        }
        Action::Lose { at } => format!("{} loses its state and its keys, and asks for a new epoch", name(at)),
        Action::Rotate { at } => format!("{} asks for a new epoch, with all its state", name(at)),
        Action::Announce { cloud, to } => format!("{} hears of the new epoch of {}", name(to), log(cloud)),
    }
}

fn changes(out: &mut String, label: &str, was: &CloudView, is: &CloudView) {
    for (key, event) in &is.events {
        if was.events.get(key) != Some(event) {
            let _ = writeln!(out, "       {label}: {} {}", key.1.id(), standing(event));
        }
    }
    for cloud in is.flagged.difference(&was.flagged) {
        let _ = writeln!(out, "       {label}: {cloud} is convicted");
    }
}

fn standing(event: &EventView) -> String {
    let marks = event.marks;
    let mut out = format!("{:?}", event.level).to_uppercase();
    for (set, mark) in [(marks.review, "REVIEW"), (marks.conflict, "CONFLICT"), (marks.dissent, "dissent")] {
        if set {
            out += &format!(" {mark}");
        }
    }
    if let Some(content) = event.settled {
        out += &format!(" with {}", short(&content.to_string()));
    }
    let votes: Vec<_> = event.votes.iter().map(|v| format!("{} {}", v.cloud, short(&v.content.to_string()))).collect();
    out + &format!(", votes: {}", votes.join(", "))
}

fn short(hash: &str) -> &str {
    hash.get(..6).unwrap_or(hash)
}
