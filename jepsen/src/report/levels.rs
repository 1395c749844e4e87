//! How events of each cloud went from PENDING to FINAL to SEALED, as its answers and its observers
//! tell. At the end every cloud lists all, so the last steps are complete.

use super::chart::{self, LEFT, RIGHT, Scale};
use crate::checker::Run;
use crate::history::What;
use std::collections::HashMap;
use std::fmt::Write as _;

/// So many moments are drawn.
const STEPS: usize = 240;
const HEIGHT: f64 = 96.0;
const GAP: f64 = 22.0;

/// From the bottom of the stack to its top.
const LEVELS: [(&str, &str); 4] =
    [("SEALED", "sealed"), ("FINAL", "final"), ("QUARANTINED", "quarantined"), ("PENDING", "pending")];

pub fn draw(body: &mut String, run: &Run<'_>, scale: &Scale) {
    body.push_str("<h2>From PENDING to FINAL to SEALED</h2>\n");
    body.push_str("<p>Events known to each cloud by level, as clients and observers were told.</p>\n");
    chart::legend(body, &LEVELS.map(|(name, class)| (class.to_owned(), name.to_owned())));
    let mut out = String::new();
    let bottom = 14.0 + run.clouds.len() as f64 * (HEIGHT + GAP) - GAP;
    scale.axis(&mut out, 8.0, bottom);
    for (number, cloud) in run.clouds.iter().enumerate() {
        let top = 14.0 + number as f64 * (HEIGHT + GAP);
        cloud_of(&mut out, &counts(run, scale, cloud), cloud, top);
    }
    chart::open(body, bottom + 26.0, "Events by level over time, a chart a cloud");
    body.push_str(&out);
    chart::close(body);
}

fn place(level: &str) -> usize {
    LEVELS.iter().position(|(name, _)| *name == level).unwrap_or(LEVELS.len() - 1)
}

/// How many events had each level, at each step.
fn counts(run: &Run<'_>, scale: &Scale, cloud: &str) -> Vec<[usize; 4]> {
    let mut levels: HashMap<&str, usize> = HashMap::new();
    let mut now = [0; 4];
    let mut steps = Vec::with_capacity(STEPS + 1);
    for record in run.history {
        let step = (u128::from(record.time_ns) * STEPS as u128 / u128::from(scale.end_ns)) as usize;
        while steps.len() < step {
            steps.push(now);
        }
        let (at, id, level) = match &record.what {
            What::Acknowledged { cloud, id, .. } => (cloud, id, None),
            What::Observed { cloud, id, seen } | What::Listed { cloud, id, seen } => (cloud, id, Some(&seen.level)),
            _ => continue,
        };
        if at != cloud {
            continue;
        }
        let known = levels.get(id.as_str()).copied();
        // An answer tells that the event is there, and nothing new of an event that is known.
        let Some(place) = level.map(|level| place(level)).or_else(|| known.is_none().then(|| place("PENDING"))) else {
            continue;
        };
        if let Some(known) = known {
            now[known] -= 1;
        }
        now[place] += 1;
        levels.insert(id, place);
    }
    steps.resize(STEPS + 1, now);
    steps[STEPS] = now;
    steps
}

fn cloud_of(out: &mut String, counts: &[[usize; 4]], cloud: &str, top: f64) {
    let most = counts.iter().map(|now| now.iter().sum::<usize>()).max().unwrap_or(0);
    let y = |count: usize| top + HEIGHT * (1.0 - count as f64 / most.max(1) as f64);
    let x = |step: usize| LEFT + (RIGHT - LEFT) * step as f64 / STEPS as f64;
    let mut below = vec![0; counts.len()];
    for (level, (_, class)) in LEVELS.iter().enumerate() {
        let above: Vec<usize> = counts.iter().zip(&below).map(|(now, below)| below + now[level]).collect();
        if above != below {
            let mut path = String::new();
            for (step, count) in above.iter().enumerate() {
                let letter = if step == 0 { 'M' } else { 'L' };
                write!(path, "{letter}{:.1} {:.1}", x(step), y(*count)).expect("a string takes everything");
            }
            for (step, count) in below.iter().enumerate().rev() {
                write!(path, "L{:.1} {:.1}", x(step), y(*count)).expect("a string takes everything");
            }
            write!(out, "<path class=\"{class}\" d=\"{path}Z\"/>").expect("a string takes everything");
        }
        below = above;
    }
    if most == 0 {
        let (x, y) = (LEFT + 12.0, top + HEIGHT / 2.0 + 4.0);
        write!(out, "<text x=\"{x}\" y=\"{y}\">nobody asked this cloud</text>").expect("a string takes everything");
    }
    let (end, name, number) = (LEFT - 8.0, top + HEIGHT / 2.0 + 4.0, top + 10.0);
    let (bottom, cloud) = (top + HEIGHT, chart::brief(cloud, 10));
    write!(
        out,
        "<path class=\"grid\" d=\"M{LEFT} {bottom}H{RIGHT}\"/>\
         <text class=\"name\" x=\"{end}\" y=\"{name}\" text-anchor=\"end\">{cloud}</text>\
         <text x=\"{end}\" y=\"{number}\" text-anchor=\"end\">{most}</text>\
         <text x=\"{end}\" y=\"{bottom}\" text-anchor=\"end\">0</text>"
    )
    .expect("a string takes everything");
}
