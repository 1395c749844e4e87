//! The processes that look for a planted bug: this program itself, and the product's own tests.

use super::{Effort, Layer, Work};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tercet_core::mutants::{Mutant, VARIABLE};
use tokio::process::{Child, Command};

/// The longest description of what was found.
const MAX_FOUND_CHARS: usize = 160;
/// What our own commands exit with if something does not hold.
const BROKEN: i32 = 1;

/// Built once, run many times.
pub struct Programs {
    jepsen: PathBuf,
    core: Vec<TestProgram>,
    node: Vec<TestProgram>,
}

struct TestProgram {
    path: PathBuf,
    /// The folder of its crate: tests read files from there.
    folder: PathBuf,
}

/// What a process did within its limit.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// It was killed because it took too long.
    late: bool,
}

impl Programs {
    /// Builds what these layers need, with the feature and in the profile of this program.
    pub async fn prepare(layers: &[Layer]) -> Result<Self> {
        let jepsen = std::env::current_exe().context("finding this program")?;
        let folder = jepsen.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        let profile = if folder == "debug" { "dev" } else { folder };
        let tests = |layer, package: &'static str| async move {
            if layers.contains(&layer) { build_tests(package, profile).await } else { Ok(Vec::new()) }
        };
        let core = tests(Layer::Core, "tercet-core").await?;
        let node = tests(Layer::Node, "tercetd").await?;
        if layers.contains(&Layer::Real) {
            build_nodes(profile).await?;
        }
        Ok(Self { core, node, jepsen })
    }

    /// The first test that fails.
    pub(super) async fn tests(
        &self,
        layer: Layer,
        mutant: Option<Mutant>,
        limit: Duration,
    ) -> Result<(Work, Option<String>)> {
        let programs = if layer == Layer::Core { &self.core } else { &self.node };
        let mut count = 0;
        let found = |count, what: String| Ok((Work::Tests(count), Some(what)));
        for TestProgram { path, folder } in programs {
            let mut command = Command::new(path);
            command.current_dir(folder);
            let ended = run(command, mutant, limit).await?;
            count += ended.stdout.lines().filter(|line| line.starts_with("test ")).count();
            let failed = ended.stdout.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
            if let Some(test) = failed {
                return found(count, test.to_owned());
            }
            if ended.late {
                return found(count, format!("a test hangs for {limit:?}"));
            }
            if ended.code != Some(0) {
                return found(count, format!("{} ended with {:?}", path.display(), ended.code));
            }
        }
        Ok((Work::Tests(count), None))
    }

    /// `jepsen model`: the first configuration that is not green.
    pub(super) async fn model(&self, mutant: Option<Mutant>, limit: Duration) -> Result<(Work, Option<String>)> {
        let ended = self.jepsen(&["model", "--config", "all", "--fail-fast", "-o", "json"], mutant, limit).await?;
        let outcomes: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap_or_default();
        let states = outcomes.iter().filter_map(|outcome| outcome["unique"].as_u64()).sum();
        let first = outcomes.iter().find_map(|outcome| Some((&outcome["config"], outcome["failures"].get(0)?)));
        let red = first.map(|(config, _)| config.as_str().unwrap_or_default().to_owned());
        let why = first.map(|(_, failure)| failure.as_str().unwrap_or_default().to_owned());
        Ok((Work::Model { states, red }, ended.found(why, limit)?))
    }

    /// `jepsen sim`: every seed, also after one has failed.
    pub(super) async fn sim(&self, mutant: Option<Mutant>, effort: &Effort) -> Result<(Work, Option<String>)> {
        let (seeds, time) = (format!("0..{}", effort.seeds), &effort.sim_time);
        let histories = format!("target/jepsen/mutants/{}", mutant.map_or("none", Mutant::name));
        let args = ["sim", "--seeds", &seeds, "--sim-time", time, "--threads", "1", "--out", &histories, "-o", "json"];
        let ended = self.jepsen(&args, mutant, effort.limit).await?;
        let told = serde_json::from_str::<Value>(&ended.stdout).unwrap_or_default();
        let work = Work::Seeds { run: told["seeds"].as_u64().unwrap_or(0), broken: broken_seeds(&told) };
        Ok((work, ended.found_broken(effort.limit)?))
    }

    /// `jepsen real`: one run. The planted bug reaches the nodes through their environment.
    pub(super) async fn real(&self, mutant: Option<Mutant>, effort: &Effort) -> Result<(Work, Option<String>)> {
        let args = ["real", "--time", &effort.real_time, "--nemesis", &effort.nemesis, "--seed", "1", "-o", "json"];
        let mut command = Command::new(&self.jepsen);
        // Beside this program lie the nodes that have the planted bugs.
        command.args(args).env("TERCET_PROGRAMS", self.jepsen.parent().context("a program lies in a folder")?);
        let ended = run(command, mutant, effort.limit).await?;
        Ok((Work::Real { time: effort.real_time.clone() }, ended.found_broken(effort.limit)?))
    }

    async fn jepsen(&self, args: &[&str], mutant: Option<Mutant>, limit: Duration) -> Result<Ended> {
        let mut command = Command::new(&self.jepsen);
        command.args(args);
        run(command, mutant, limit).await
    }
}

impl Ended {
    /// The same for a command that tells its verdicts as JSON.
    fn found_broken(&self, limit: Duration) -> Result<Option<String>> {
        match serde_json::from_str::<Value>(&self.stdout) {
            Ok(told) if self.code == Some(BROKEN) => Ok(broken_invariant(&told).map(|name| shorten(&name))),
            _ => self.found(None, limit),
        }
    }

    /// What one of our own commands found: `why`, or else its last words. A command that could not do
    /// its work is an error, and never a find.
    fn found(&self, why: Option<String>, limit: Duration) -> Result<Option<String>> {
        let last = self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word of why");
        let panicked = || self.stderr.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        match self.code {
            _ if self.late => Ok(Some(format!("no end within {limit:?}"))),
            Some(0) => Ok(None),
            Some(BROKEN) => Ok(Some(shorten(why.as_deref().unwrap_or(last)))),
            Some(101) => Ok(Some(shorten(&format!("panic: {}", panicked().unwrap_or(last))))),
            Some(code) => bail!("a layer could not run (exit code {code}): {last}"),
            None => bail!("a layer was killed by a signal: {last}"),
        }
    }
}

/// The first invariant that is broken, in whatever a layer tells. One that a run was rejected by, or
/// that could not be decided, found no bug.
fn broken_invariant(told: &Value) -> Option<String> {
    match told {
        Value::Object(fields) => match fields.get("invariant").and_then(Value::as_str) {
            Some(name) => {
                let is = |field: &str, word: &str| {
                    fields.get(field).and_then(Value::as_str).is_some_and(|text| text.starts_with(word))
                };
                (is("verdict", "broken") || is("why", "BROKEN")).then(|| name.to_owned())
            }
            None => fields.values().find_map(broken_invariant),
        },
        Value::Array(items) => items.iter().find_map(broken_invariant),
        _ => None,
    }
}

/// How many seeds broke an invariant, in what `jepsen sim` tells.
fn broken_seeds(told: &Value) -> u64 {
    let failed = told["failed"].as_array().map_or(&[][..], Vec::as_slice);
    failed.iter().filter(|seed| broken_invariant(seed).is_some()).count() as u64
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(MAX_FOUND_CHARS).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

async fn run(mut command: Command, mutant: Option<Mutant>, limit: Duration) -> Result<Ended> {
    command.env(VARIABLE, mutant.map_or("", Mutant::name)).env("RUST_BACKTRACE", "0");
    // What a planted bug fails is no regression to keep.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().with_context(|| format!("cannot run {:?}", command.as_std().get_program()))?;
    let _group = Group::of(&child);
    match tokio::time::timeout(limit, child.wait_with_output()).await {
        Err(_) => Ok(Ended { code: None, stdout: String::new(), stderr: String::new(), late: true }),
        Ok(output) => {
            let output = output?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            Ok(Ended { code: output.status.code(), stdout, stderr, late: false })
        }
    }
}

/// A process and what it started: a simulation that takes too long must not go on without its parent.
struct Group(Pid);

impl Group {
    fn of(child: &Child) -> Option<Self> {
        let id = i32::try_from(child.id()?).ok()?;
        Some(Self(Pid::from_raw(id)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Usually nothing is left of it.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `tercetd` with the planted bugs, and `tercet`.
async fn build_nodes(profile: &str) -> Result<()> {
    eprintln!("building tercetd and tercet (profile {profile})");
    let mut command = cargo();
    command.args(["build", "-p", "tercetd", "-p", "tercet", "--bins", "--features", "tercetd/mutants"]);
    let status = command.args(["--profile", profile]).status().await.context("running cargo")?;
    if status.success() { Ok(()) } else { bail!("tercetd does not build with planted bugs") }
}

/// The test programs of a package, without the one that tests the planted bugs themselves.
async fn build_tests(package: &'static str, profile: &str) -> Result<Vec<TestProgram>> {
    eprintln!("building the tests of {package} (profile {profile})");
    let mut command = cargo();
    command.args(["test", "-p", package, "--lib", "--features", "mutants", "--profile", profile, "--no-run"]);
    if package == "tercet-core" {
        command.args(["--test", "*"]);
    }
    command.args(["--message-format", "json"]).stderr(Stdio::inherit());
    let output = command.output().await.context("running cargo; the gate builds the product's tests with it")?;
    if !output.status.success() {
        bail!("the tests of {package} do not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = |message: Value| {
        let is_test = message["profile"]["test"].as_bool()? && message["target"]["name"] != "mutants";
        let path = PathBuf::from(message["executable"].as_str().filter(|_| is_test)?);
        Some(TestProgram { path, folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned() })
    };
    let programs: Vec<TestProgram> = messages.filter_map(program).collect();
    if programs.is_empty() {
        bail!("cargo built no test of {package}");
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, stderr: &str) -> Ended {
        Ended { code: Some(code), stdout: String::new(), stderr: stderr.into(), late: false }
    }

    #[test]
    fn only_a_broken_invariant_a_panic_or_a_hang_counts_as_found() {
        let limit = Duration::from_secs(1);
        assert_eq!(ended(0, "").found(Some("ignored".into()), limit).unwrap(), None);
        assert_eq!(ended(1, "x\nlast\n").found(None, limit).unwrap(), Some("last".into()));
        assert_eq!(ended(1, "last").found(Some("why".into()), limit).unwrap(), Some("why".into()));
        let panic = ended(101, "thread 'main' panicked at a.rs:1:\nit broke\nnote: run with\n");
        assert_eq!(panic.found(None, limit).unwrap(), Some("panic: it broke".into()));
        assert!(ended(2, "unexpected argument").found(None, limit).is_err());
        let late = Ended { late: true, ..ended(0, "") };
        assert!(late.found(None, limit).unwrap().is_some());
    }

    #[test]
    fn only_what_is_broken_counts_and_a_rejected_run_does_not() {
        let parse = |text| broken_invariant(&serde_json::from_str(text).unwrap());
        let sim = r#"{"failed": [{"seed": 2, "failures": [
            {"invariant": "work", "why": "REJECTED: too little"}, {"invariant": "heads", "why": "BROKEN: x"}]}]}"#;
        assert_eq!(parse(sim), Some("heads".into()));
        let real = r#"{"verdicts": [{"invariant": "work", "verdict": "holds"}, {"invariant": "sealed", "verdict": "broken", "why": "x"}]}"#;
        assert_eq!(parse(real), Some("sealed".into()));
        assert_eq!(parse(r#"[{"invariant": "work", "verdict": "rejected", "why": "x"}]"#), None);
        let rejected = Ended { stdout: r#"{"invariant": "work", "why": "REJECTED: x"}"#.into(), ..ended(1, "") };
        assert_eq!(rejected.found_broken(Duration::from_secs(1)).unwrap(), None);
    }

    #[test]
    fn a_seed_counts_once_however_much_it_broke_and_not_if_it_was_only_rejected() {
        let told = serde_json::json!({ "seeds": 4, "failed": [
            { "seed": 0, "failures": [{ "invariant": "heads", "why": "BROKEN: x" }, { "invariant": "work", "why": "BROKEN: y" }] },
            { "seed": 2, "failures": [{ "invariant": "work", "why": "REJECTED: too little" }] },
            { "seed": 3, "failures": [{ "invariant": "the run comes to its end", "why": "BROKEN: panic" }] },
        ]});
        assert_eq!(broken_seeds(&told), 2);
        assert_eq!(broken_seeds(&Value::Null), 0);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).args(["-c", "sleep 600 & echo $! > child; wait"]);
        let ended = run(command, None, Duration::from_millis(500)).await.unwrap();
        assert!(ended.late);
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
        let gone = || tercet_tests::wait::check(!tercet_tests::process::is_alive(child), || format!("{child} runs"));
        tercet_tests::eventually("the child is gone", Duration::from_secs(5), gone);
    }
}
