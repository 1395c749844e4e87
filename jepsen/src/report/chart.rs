//! What all charts share: the axis of time, escaping, durations.

use std::fmt::Write as _;

/// The width of a chart, and where its plot begins and ends.
pub const WIDTH: f64 = 1000.0;
pub const LEFT: f64 = 84.0;
pub const RIGHT: f64 = WIDTH - 16.0;

/// The most labels of an axis of time.
const MAX_TICKS: u64 = 10;

/// Where a moment lies on the axis of time.
pub struct Scale {
    pub end_ns: u64,
}

impl Scale {
    pub fn of_time(end_ns: u64) -> Self {
        Self { end_ns: end_ns.max(1) }
    }

    pub fn x(&self, time_ns: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * time_ns as f64 / self.end_ns as f64
    }

    /// Vertical lines with times below `bottom`.
    pub fn axis(&self, out: &mut String, top: f64, bottom: f64) {
        let step = self.step_ns();
        for tick in 0..=self.end_ns / step {
            let (x, label) = (self.x(tick * step), duration(tick * step));
            let y = bottom + 16.0;
            write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"
            )
            .expect("a string takes everything");
        }
    }

    fn step_ns(&self) -> u64 {
        const SECONDS: [u64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
        let fits = |step: &u64| self.end_ns / (step * 1_000_000_000) <= MAX_TICKS;
        let hours = || 3600 * (self.end_ns / (3600 * 1_000_000_000 * MAX_TICKS) + 1);
        SECONDS.into_iter().find(fits).unwrap_or_else(hours) * 1_000_000_000
    }
}

pub fn open(out: &mut String, height: f64, label: &str) {
    let label = escape(label);
    write!(out, "<div class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\">")
        .expect("a string takes everything");
}

pub fn close(out: &mut String) {
    out.push_str("</svg></div>\n");
}

/// Small squares with names.
pub fn legend(out: &mut String, entries: &[(String, String)]) {
    out.push_str("<div class=\"legend\">");
    for (class, name) in entries {
        let square =
            format!("<svg viewBox=\"0 0 12 12\"><rect class=\"{class}\" width=\"12\" height=\"12\" rx=\"2\"/></svg>");
        write!(out, "<span>{square}{}</span>", escape(name)).expect("a string takes everything");
    }
    out.push_str("</div>\n");
}

pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other if other.is_control() && other != '\n' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// At most so many letters of a text, escaped.
pub fn brief(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return escape(text);
    }
    escape(&text.chars().take(letters).collect::<String>()) + "…"
}

pub fn duration(ns: u64) -> String {
    let ms = ns / 1_000_000;
    match ms {
        0 => "0".into(),
        1..1000 => format!("{ms} ms"),
        1000..10_000 if !ms.is_multiple_of(1000) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..7_200_000 if ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        60_000..7_200_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}
