//! How long clients waited: a dot for an acknowledged submission, a cross for one whose outcome
//! stayed unknown, on a logarithmic scale over the bands of the faults.

use super::chart::{self, LEFT, RIGHT, Scale};
use crate::checker::{Outcome, Run};
use std::fmt::Write as _;

/// The most dots, and the most crosses.
const MAX_POINTS: usize = 6000;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 272.0;

/// A submission on the plot, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at_ns: u64,
    took_ns: u64,
}

pub fn draw(body: &mut String, run: &Run<'_>, scale: &Scale) {
    let mut acknowledged: Vec<(usize, Vec<Point>)> = Vec::new();
    for (number, cloud) in run.clouds.iter().enumerate() {
        let is_it = |outcome: Outcome<'_>| matches!(outcome, Outcome::Acknowledged { .. });
        acknowledged.push((number, points(run, |of, outcome| of == *cloud && is_it(outcome))));
    }
    let unknown = points(run, |_, outcome| outcome == Outcome::Unknown);
    let all: usize = acknowledged.iter().map(|(_, points)| points.len()).sum();
    let mut times: Vec<u64> = acknowledged.iter().flat_map(|(_, points)| points).map(|point| point.took_ns).collect();
    times.sort_unstable();
    body.push_str("<h2>How long clients waited</h2>\n");
    let quantile = |of: usize| times.get((times.len() * of / 100).min(times.len().saturating_sub(1))).copied();
    if let (Some(half), Some(most), Some(worst)) = (quantile(50), quantile(99), times.last()) {
        let [half, most, worst] = [half, most, *worst].map(precise);
        *body += &format!(
            "<p>Of {all} acknowledged: half within {half}, 99 of 100 within {most}, the slowest {worst}.</p>\n"
        );
    }
    let mut entries: Vec<_> =
        run.clouds.iter().enumerate().map(|(number, cloud)| (format!("c{number}"), (*cloud).to_owned())).collect();
    entries.push(("fault".into(), format!("{} of unknown outcome", unknown.len())));
    chart::legend(body, &entries);
    chart::open(body, BOTTOM + 26.0, "Time until the answer, of each submission");
    let range = Range::of(acknowledged.iter().flat_map(|(_, points)| points).chain(&unknown));
    bands(body, run, scale);
    scale.axis(body, TOP, BOTTOM);
    range.axis(body);
    for (number, points) in &acknowledged {
        dots(body, scale, &range, &thinned(points, MAX_POINTS / run.clouds.len().max(1)), &format!("dots c{number}"));
    }
    crosses(body, scale, &range, &thinned(&unknown, MAX_POINTS));
    chart::close(body);
    let most = MAX_POINTS / run.clouds.len().max(1);
    if acknowledged.iter().any(|(_, points)| points.len() > most) || unknown.len() > MAX_POINTS {
        body.push_str("<p>Thinned out: of each moment the slowest and the fastest are drawn.</p>\n");
    }
}

fn points(run: &Run<'_>, is: impl Fn(&str, Outcome<'_>) -> bool) -> Vec<Point> {
    let chosen = run.submissions.iter().filter(|of| is(of.cloud, of.outcome));
    let point = |of: &crate::checker::Submission<'_>| {
        let (begin, end) = (run.history[of.invoked].time_ns, run.history[of.returned?].time_ns);
        Some(Point { at_ns: begin, took_ns: end - begin })
    };
    chosen.filter_map(point).collect()
}

/// At most `most` points: of each stretch of time the slowest and the fastest.
fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let size = points.len().div_ceil((most / 2).max(1));
    let ends = |stretch: &[Point]| {
        let slowest = stretch.iter().max_by_key(|point| point.took_ns).copied();
        let fastest = stretch.iter().min_by_key(|point| point.took_ns).copied();
        [slowest, fastest].into_iter().flatten().collect::<Vec<_>>()
    };
    points.chunks(size).flat_map(ends).collect()
}

/// The powers of ten, in microseconds, between which all points lie.
struct Range {
    low: u32,
    high: u32,
}

impl Range {
    fn of<'a>(points: impl Iterator<Item = &'a Point>) -> Self {
        let us = |point: &Point| (point.took_ns / 1000).max(1);
        let (mut low, mut high) = (u64::MAX, 1);
        for point in points {
            (low, high) = (low.min(us(point)), high.max(us(point)));
        }
        let low = low.min(high).ilog10();
        Self { low, high: (high.ilog10() + 1).max(low + 1) }
    }

    fn y(&self, took_ns: u64) -> f64 {
        let power = (took_ns as f64 / 1000.0).max(1.0).log10();
        let share = (power - f64::from(self.low)) / f64::from(self.high - self.low);
        BOTTOM - (BOTTOM - TOP) * share
    }

    fn axis(&self, out: &mut String) {
        for power in self.low..=self.high {
            let took_ns = 10_u64.pow(power) * 1000;
            let (y, label) = (self.y(took_ns), precise(took_ns));
            let (end, text) = (LEFT - 8.0, y + 4.0);
            write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
                 <text x=\"{end}\" y=\"{text:.1}\" text-anchor=\"end\">{label}</text>"
            )
            .expect("a string takes everything");
        }
    }
}

fn precise(ns: u64) -> String {
    if ns < 1_000_000 { format!("{} µs", ns / 1000) } else { chart::duration(ns) }
}

fn bands(out: &mut String, run: &Run<'_>, scale: &Scale) {
    for (begin, end) in merged(run, scale) {
        let (x, height) = (scale.x(begin), BOTTOM - TOP);
        let width = (scale.x(end) - x).max(1.0);
        write!(out, "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>")
            .expect("a string takes everything");
    }
}

/// When any fault was active. Faults are in the order of their beginnings.
fn merged(run: &Run<'_>, scale: &Scale) -> Vec<(u64, u64)> {
    let time = |at: usize| run.history[at].time_ns;
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for fault in &run.faults {
        let (begin, end) = (time(fault.began), fault.ended.map_or(scale.end_ns, time));
        match spans.last_mut() {
            Some((_, last)) if *last >= begin => *last = end.max(*last),
            _ => spans.push((begin, end)),
        }
    }
    spans
}

fn dots(out: &mut String, scale: &Scale, range: &Range, points: &[Point], class: &str) {
    write!(out, "<path class=\"{class}\" d=\"").expect("a string takes everything");
    for point in points {
        write!(out, "M{:.1} {:.1}h0", scale.x(point.at_ns), range.y(point.took_ns)).expect("a string takes everything");
    }
    out.push_str("\"/>");
}

fn crosses(out: &mut String, scale: &Scale, range: &Range, points: &[Point]) {
    out.push_str("<path class=\"cross\" d=\"");
    for point in points {
        let (x, y) = (scale.x(point.at_ns) - 3.0, range.y(point.took_ns) - 3.0);
        write!(out, "M{x:.1} {y:.1}l6 6m0-6l-6 6").expect("a string takes everything");
    }
    out.push_str("\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_slowest_and_stays_in_its_bound() {
        let mut points: Vec<Point> = (0..10_000).map(|at| Point { at_ns: at, took_ns: 5 }).collect();
        points[7777].took_ns = 900;
        let thin = thinned(&points, 300);
        assert!(thin.len() <= 300 && thin.contains(&points[7777]), "{}", thin.len());
        assert_eq!(thinned(&points[..300], 300), points[..300]);
    }

    #[test]
    fn the_range_holds_all_points() {
        let point = |took_ns| Point { at_ns: 0, took_ns };
        for took_ns in [1, 999, 1000, 1_000_000, 12_345_678_900] {
            let range = Range::of([point(took_ns)].iter());
            assert!((TOP..=BOTTOM).contains(&range.y(took_ns)), "{took_ns}");
        }
        assert!(Range::of([].iter()).low < Range::of([].iter()).high);
    }
}
