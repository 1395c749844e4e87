//! What a run looked like, for a reader who was not there: one self-contained HTML page (no script,
//! nothing loaded from elsewhere, dark and light) and `repro.sh`. Everything that grows with a
//! history is thinned out, so that a page stays below `MAX_BYTES`.

mod chart;
mod latency;
mod levels;
mod tables;
mod timeline;

use crate::checker::{Judged, Run, Verdict};
use crate::history::{Record, What};
use chart::{Scale, escape};
use std::fmt::Write as _;
use std::path::Path;

/// The most bytes of a page.
pub const MAX_BYTES: usize = 2_000_000;

/// What the history itself does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The command that repeats the run, word for word.
    pub command: Vec<String>,
    /// What was in use: names with versions.
    pub versions: Vec<(String, String)>,
}

impl Meta {
    /// With what this machine says of itself.
    pub fn here(command: Vec<String>) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let versions = [
            ("jepsen", env!("CARGO_PKG_VERSION").to_owned()),
            ("kernel", kernel.trim().to_owned()),
            ("machine", format!("{} on {cores} cores", std::env::consts::ARCH)),
        ];
        Self { command, versions: versions.map(|(name, version)| (name.to_owned(), version)).to_vec() }
    }

    /// The command as a shell reads it.
    pub fn command_line(&self) -> String {
        self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes `report.html` and `repro.sh` into a folder that exists.
pub fn write(folder: &Path, history: &[Record], judged: &[Judged], meta: &Meta) -> std::io::Result<()> {
    std::fs::write(folder.join("report.html"), page(history, judged, meta))?;
    let path = folder.join("repro.sh");
    std::fs::write(&path, repro(history, meta))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn repro(history: &[Record], meta: &Meta) -> String {
    let mut script =
        String::from("#!/bin/sh\n# Repeats this run. Call it inside a checkout of the version named here.\n");
    if let Some(Record { what: What::Run { layer, seed, version, .. }, .. }) = history.first() {
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        let (layer, version) = (one_line(layer), one_line(version));
        writeln!(script, "# layer {layer}, seed {seed}, version {version}").expect("a string takes everything");
    }
    script + "set -eu\nexec " + &meta.command_line() + " \"$@\"\n"
}

fn page(history: &[Record], judged: &[Judged], meta: &Meta) -> String {
    let mut body = String::new();
    let title = match Run::of(history) {
        Ok(run) => {
            let end_ns = history.last().map_or(0, |record| record.time_ns);
            let scale = Scale::of_time(end_ns);
            let title = head(&mut body, &run, judged, meta);
            tables::verdicts(&mut body, judged);
            timeline::draw(&mut body, &run, &scale);
            levels::draw(&mut body, &run, &scale);
            latency::draw(&mut body, &run, &scale);
            tables::faults(&mut body, &run);
            tables::lies(&mut body, &run);
            title
        }
        Err(why) => {
            body += &format!("<h1>No run</h1><p>{}</p>", escape(&why));
            tables::verdicts(&mut body, judged);
            "No run".into()
        }
    };
    tables::versions(&mut body, history, meta);
    let style = include_str!("page.css");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// The one word for a run: the worst that any invariant said.
fn word(judged: &[Judged]) -> (&'static str, &'static str) {
    let any = |is: fn(&Verdict) -> bool| judged.iter().any(|judged| is(&judged.verdict));
    if any(|verdict| matches!(verdict, Verdict::Broken(_))) {
        ("Broken", "broken")
    } else if any(|verdict| matches!(verdict, Verdict::Rejected(_))) {
        ("Rejected: this run proves nothing", "rejected")
    } else if any(|verdict| matches!(verdict, Verdict::Unknown(_))) || judged.is_empty() {
        ("Unknown", "unknown")
    } else {
        ("Every invariant holds", "holds")
    }
}

fn head(body: &mut String, run: &Run<'_>, judged: &[Judged], meta: &Meta) -> String {
    let (word, class) = word(judged);
    let What::Run { layer, seed, .. } = &run.history[0].what else { unreachable!("Run::of saw the first record") };
    let title = format!("{} run, seed {seed}", escape(layer));
    let took_ns = run.history.last().map_or(0, |record| record.time_ns);
    let count = |is: fn(&What) -> bool| run.history.iter().filter(|record| is(&record.what)).count();
    let mut facts = vec![
        (chart::duration(took_ns), "of its own time"),
        (run.submissions.len().to_string(), "submissions"),
        (count(|what| matches!(what, What::Acknowledged { .. })).to_string(), "acknowledged"),
        (run.faults.len().to_string(), "faults"),
    ];
    if !run.liars.is_empty() {
        let lies = count(|what| matches!(what, What::Lied { .. }));
        facts.push((lies.to_string(), "lies"));
    }
    let facts: String =
        facts.iter().map(|(value, name)| format!("<div><b>{value}</b><span>{name}</span></div>")).collect();
    *body += &format!(
        "<header><h1>{title}</h1><p class=\"verdict {class}\">{word}</p><div class=\"facts\">{facts}</div>\
         <p>Again: </p><pre>{}</pre></header>\n",
        escape(&meta.command_line())
    );
    title
}

#[cfg(test)]
mod tests;
