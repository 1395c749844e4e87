//! Lanes: the faults by name, what liars did, and each node with its terms as leader and the faults
//! that hit it.

use super::chart::{self, LEFT, RIGHT, Scale, brief, escape};
use crate::checker::{Fault, Run};
use crate::history::What;
use std::fmt::Write as _;

/// The most rows of faults that are drawn beside each other, the most bars of a lane, and the most
/// marks of lies and convictions.
const MAX_FAULT_ROWS: usize = 8;
const MAX_BARS: usize = 600;
const MAX_MARKS: usize = 400;

const LANE: f64 = 22.0;
const GAP: f64 = 3.0;
/// A bar is never drawn narrower, so that short faults stay visible, and tells its name from here on.
const NARROWEST: f64 = 2.0;
const NAMED_FROM: f64 = 44.0;
/// About the width of a letter.
const LETTER: f64 = 6.4;

pub fn draw(body: &mut String, run: &Run<'_>, scale: &Scale) {
    body.push_str("<h2>What happened to the nodes</h2>\n");
    let marks = if run.liars.is_empty() { "" } else { " Orange: a lie; green: a conviction." };
    *body += &format!(
        "<p>Coloured: this node leads its cloud, with the term. Red: a fault that hits it. Dashed: healing begins.{marks}</p>\n"
    );
    let mut out = String::new();
    let mut y = 10.0;
    y = faults(&mut out, run, scale, y);
    y = lies(&mut out, run, scale, y);
    for (number, cloud) in run.clouds.iter().enumerate() {
        y += 6.0;
        for node in run.nodes_of(cloud) {
            lane(&mut out, run, scale, node, &format!("c{number}"), y);
            y += LANE + GAP;
        }
    }
    let mut axis = String::new();
    scale.axis(&mut axis, 4.0, y + 4.0);
    healing(&mut axis, run, scale, y + 4.0);
    chart::open(body, y + 30.0, "Faults, lies, leaders and nodes over time");
    // The grid lies under the lanes.
    body.push_str(&axis);
    body.push_str(&out);
    chart::close(body);
}

fn span_ns(run: &Run<'_>, scale: &Scale, fault: &Fault<'_>) -> (u64, u64) {
    let time = |at: usize| run.history[at].time_ns;
    (time(fault.began), fault.ended.map_or(scale.end_ns, time))
}

fn told(fault: &Fault<'_>) -> String {
    let proof = if fault.proven.is_some() { "" } else { ", not proven" };
    format!("{} on {}{proof}", fault.name, fault.on.join(", "))
}

/// Faults that overlap get rows of their own.
fn faults(out: &mut String, run: &Run<'_>, scale: &Scale, y: f64) -> f64 {
    let mut free_from = [0_u64; MAX_FAULT_ROWS];
    let mut rows = 0;
    for fault in run.faults.iter().take(MAX_BARS) {
        let (begin, end) = span_ns(run, scale, fault);
        let Some(row) = free_from.iter().position(|free| *free <= begin) else { continue };
        free_from[row] = end;
        rows = rows.max(row + 1);
        let y = y + row as f64 * (LANE + GAP);
        bar(out, scale, (begin, end), y, "fault", &told(fault));
        label(out, scale, (begin, end), y, fault.name);
    }
    if rows > 0 {
        name(out, "faults", y);
    }
    y + rows as f64 * (LANE + GAP)
}

fn name(out: &mut String, name: &str, y: f64) {
    let (x, y) = (LEFT - 8.0, y + LANE / 2.0 + 4.0);
    write!(out, "<text class=\"name\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", brief(name, 12))
        .expect("a string takes everything");
}

fn bar(out: &mut String, scale: &Scale, span_ns: (u64, u64), y: f64, class: &str, title: &str) {
    let x = scale.x(span_ns.0);
    let width = (scale.x(span_ns.1) - x).max(NARROWEST);
    let (title, when) = (escape(title), chart::duration(span_ns.0));
    write!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{LANE}\" rx=\"3\">\
         <title>{title}, at {when}</title></rect>"
    )
    .expect("a string takes everything");
}

/// The name of a bar, if it is wide enough; drawn after everything that may lie over the bar.
fn label(out: &mut String, scale: &Scale, span_ns: (u64, u64), y: f64, label: &str) {
    let x = scale.x(span_ns.0);
    let width = scale.x(span_ns.1) - x;
    if width >= NAMED_FROM {
        let (x, y) = (x + 6.0, y + LANE / 2.0 + 4.0);
        let label = brief(label, ((width - 10.0) / LETTER) as usize);
        write!(out, "<text class=\"on\" x=\"{x:.1}\" y=\"{y}\">{label}</text>").expect("a string takes everything");
    }
}

fn lies(out: &mut String, run: &Run<'_>, scale: &Scale, y: f64) -> f64 {
    let marks = run.history.iter().filter_map(|record| match &record.what {
        What::Lied { cloud, lie, .. } => Some((record.time_ns, "quarantined", format!("{cloud} lied: {lie}"))),
        What::Convicted { by, cloud, .. } => Some((record.time_ns, "sealed", format!("{by} convicted {cloud}"))),
        _ => None,
    });
    let mut any = false;
    for (time_ns, class, title) in marks.take(MAX_MARKS) {
        any = true;
        let (x, y) = (scale.x(time_ns), y + LANE / 2.0);
        write!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5\"><title>{}</title></circle>",
            escape(&title)
        )
        .expect("a string takes everything");
    }
    if !any {
        return y;
    }
    name(out, "lies, proofs", y);
    y + LANE + GAP
}

/// One node.
fn lane(out: &mut String, run: &Run<'_>, scale: &Scale, node: &str, class: &str, y: f64) {
    name(out, node, y);
    let width = RIGHT - LEFT;
    write!(out, "<rect class=\"lane\" x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{LANE}\" rx=\"3\"/>")
        .expect("a string takes everything");
    let mut terms = terms(run, scale, node);
    terms.truncate(MAX_BARS);
    for (begin, end, term) in &terms {
        bar(out, scale, (*begin, *end), y, class, &format!("{node} leads in term {term}"));
    }
    let cloud = crate::checker::cloud_of(node);
    let hits = run.faults.iter().filter(|fault| fault.on.iter().any(|on| on == node || on == cloud));
    for fault in hits.take(MAX_BARS) {
        bar(out, scale, span_ns(run, scale, fault), y, "hit", &told(fault));
    }
    for (begin, end, term) in &terms {
        label(out, scale, (*begin, *end), y, &format!("term {term}"));
    }
}

/// A leader is one until another leads its cloud.
fn terms(run: &Run<'_>, scale: &Scale, node: &str) -> Vec<(u64, u64, u64)> {
    let mut terms: Vec<(u64, u64, u64)> = Vec::new();
    let mut leads = false;
    for record in run.history {
        let What::Led { cloud, node: leader, term, .. } = &record.what else { continue };
        if cloud != crate::checker::cloud_of(node) {
            continue;
        }
        let same = leads && leader == node && terms.last().is_some_and(|(_, _, last)| last == term);
        if same {
            continue;
        }
        if leads && let Some((_, end, _)) = terms.last_mut() {
            *end = record.time_ns;
        }
        leads = leader == node;
        if leads {
            terms.push((record.time_ns, scale.end_ns, *term));
        }
    }
    terms
}

fn healing(out: &mut String, run: &Run<'_>, scale: &Scale, bottom: f64) {
    let Some(healing) = run.healing else { return };
    let end_ns = run.history[healing.at].time_ns;
    let x = scale.x(end_ns.saturating_sub(healing.took_ms * 1_000_000));
    write!(out, "<path class=\"mark\" d=\"M{x:.1} 4V{bottom}\"><title>healing begins</title></path>")
        .expect("a string takes everything");
}
