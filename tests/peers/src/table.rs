//! The table of what was measured, for people and for `docs/PERFORMANCE.md`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- peers:begin, written by `tercet bench peers --write docs` -->";
const END: &str = "<!-- peers:end -->";

pub struct Row {
    /// The name of its ratio.
    pub key: Option<&'static str>,
    pub what: String,
    pub measured: String,
    pub ratio: Option<f64>,
    pub goal: String,
    pub met: Option<bool>,
}

impl Row {
    pub fn plain(what: &str, measured: String, goal: &str) -> Self {
        Self { key: None, what: what.into(), measured, ratio: None, goal: goal.into(), met: None }
    }

    pub fn judged(self, met: bool) -> Self {
        Self { met: Some(met), ..self }
    }

    fn against(key: &'static str, what: String, (ours, theirs, unit): (f64, f64, &str)) -> Self {
        let measured = format!("{} against {} {unit}", figure(ours), figure(theirs));
        Self { key: Some(key), what, measured, ratio: Some(ours / theirs), goal: String::new(), met: None }
    }

    /// Ours should be at least so many times theirs.
    pub fn ratio(key: &'static str, what: String, measured: (f64, f64, &str), goal: f64) -> Self {
        let met = Some(measured.0 >= goal * measured.1);
        Self { goal: format!("at least {goal}"), met, ..Self::against(key, what, measured) }
    }

    /// Ours should be at most so many times theirs.
    pub fn at_most(key: &'static str, what: String, measured: (f64, f64, &str), goal: f64) -> Self {
        let met = Some(measured.0 <= goal * measured.1);
        Self { goal: format!("at most {goal}"), met, ..Self::against(key, what, measured) }
    }

    pub fn json(&self) -> Value {
        json!({ "key": self.key, "what": self.what, "measured": self.measured, "ratio": self.ratio, "goal": self.goal,
            "met": self.met })
    }
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

pub fn markdown(rows: &[Row]) -> String {
    let mut out = "| what | measured | ratio | goal | met |\n|---|---|---|---|---|\n".to_owned();
    for Row { what, measured, ratio, goal, met, .. } in rows {
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let met = met.map_or("-", |met| if met { "yes" } else { "no" });
        out.push_str(&format!("| {what} | {measured} | {ratio} | {goal} | {met} |\n"));
    }
    out
}

/// What it ran on.
pub fn machine(etcd: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model =
        model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = git.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let commit = if commit.is_empty() { String::new() } else { format!(" at {}", commit.trim()) };
    format!(
        "{cores} cores ({model}), {} GiB, Linux {}, everything on that machine; etcd {etcd}, Tercet {}{commit}.",
        kib >> 20,
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}

/// Whether the table can be written there, which is better known before an hour of measuring.
pub fn check(path: &Path) -> Result<()> {
    read(path)?;
    std::fs::File::options()
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}

/// A document, and where the table stands in it.
fn read(path: &Path) -> Result<(String, usize, usize)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        anyhow::bail!("{} lacks the lines between which the table stands:\n{BEGIN}\n{END}", path.display())
    };
    ensure!(begin < end, "the marks of the table in {} are the wrong way round", path.display());
    Ok((text, begin, end))
}

/// Rewrites what stands between the marks.
pub fn write(path: &Path, machine: &str, rows: &[Row]) -> Result<()> {
    let (text, begin, end) = read(path)?;
    let table = format!("{BEGIN}\n\n{machine}\n\n{}\n", markdown(rows));
    std::fs::write(path, [&text[..begin], &table, &text[end..]].concat())?;
    Ok(())
}
