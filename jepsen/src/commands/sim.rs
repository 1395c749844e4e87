//! `jepsen sim`: many seeds, several at once, each in a process of its own (`jepsen replay`): so a
//! seed's run depends on nothing that ran before it, and a run that dies takes no other with it.

use super::duration::{self, parse_seeds};
use super::{Output, not_shown};
use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jepsen::sim::summary::{Failure, Summary};
use jepsen::sim::swarm::Lie;
use jepsen::sim::views::Checks;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked whether all is done.
const TICK: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(30);
/// What a seed breaks whose process dies before it could tell anything.
const COMES_TO_ITS_END: &str = "a run comes to its end";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen sim --seeds 0..200 --sim-time 10m
  jepsen sim --seeds random:50 --sim-time 5m      # new seeds each time; they are printed
  jepsen replay --seed 17 --sim-time 10m --trace  # the story of one seed")]
pub struct Args {
    /// Which seeds: A..B, one number, or random:N for N new ones
    #[arg(long, default_value = "0..20", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Simulated time of each seed until the last fault (30s, 10m, 1h)
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    sim_time: Duration,
    /// Seeds at once
    #[arg(long, value_name = "N", default_value_t = cores(), value_parser = super::count::<usize>)]
    threads: usize,
    /// Let a cloud tell this kind of lie in every seed; else each seed decides
    #[arg(long, value_name = "KIND")]
    liar: Option<Lie>,
    /// Begin no further seed after so long (real time)
    #[arg(long, value_parser = duration::parse)]
    within: Option<Duration>,
    /// Run every seed twice and demand the same digest
    #[arg(long)]
    twice: bool,
    /// Where histories and reports of failing seeds go
    #[arg(long, value_name = "DIR", default_value = "target/jepsen")]
    out: PathBuf,
    /// Stop at the first seed that fails
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    output: Output,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The seeds that are still to run, and what became of the others.
struct Batch<'a> {
    args: &'a Args,
    begun: Instant,
    next: Mutex<Range<u64>>,
    done: Mutex<Vec<Summary>>,
    bar: ProgressBar,
}

pub fn run(args: &Args) -> Result<()> {
    super::make_writable(&args.out)?;
    let bar = ProgressBar::new(args.seeds.end - args.seeds.start);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} seeds {bar:30} {elapsed} {msg}")?);
    let next = Mutex::new(args.seeds.clone());
    let batch = Batch { args, begun: Instant::now(), next, done: Mutex::default(), bar };
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(|| batch.work())).collect();
        batch.watch(&threads);
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    batch.bar.finish_and_clear();
    let mut all = batch.done.into_inner().expect("no panic while it was held");
    all.sort_by_key(|summary| summary.seed);
    summarise(&all, batch.begun.elapsed(), args)
}

impl Batch<'_> {
    /// Until the workers are done. Off a terminal nobody sees the bar, so a line tells now and then.
    fn watch(&self, workers: &[ScopedJoinHandle<'_, Result<()>>]) {
        let terminal = std::io::stderr().is_terminal();
        let mut logged = Instant::now();
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            if !terminal && logged.elapsed() >= LOG_EVERY {
                let (of, after) = (self.args.seeds.end - self.args.seeds.start, self.begun.elapsed().as_secs());
                let done = self.done.lock().expect("no panic while it is held");
                eprintln!("sim: {after} s  {} of {of} seeds  {}", done.len(), self.speed(&done));
                logged = Instant::now();
            }
            std::thread::sleep(TICK);
        }
    }

    fn speed(&self, done: &[Summary]) -> String {
        format!("{:.0} x real time", simulated_s(done) / self.begun.elapsed().as_secs_f64())
    }

    fn work(&self) -> Result<()> {
        while let Some(seed) = self.take() {
            let mut summary = self.replay(seed)?;
            if self.args.twice {
                let again = self.replay(seed)?;
                if again.digest != summary.digest {
                    let why = format!("the first run gave {}, the second {}", summary.digest, again.digest);
                    summary.failures.push(Failure { invariant: "the same seed gives the same run".into(), why });
                }
            }
            if !summary.failures.is_empty() {
                self.bar.suspend(|| eprintln!("{}", failure(&summary, self.args)));
                if self.args.fail_fast {
                    self.next.lock().expect("no panic while it is held").start = self.args.seeds.end;
                }
            }
            self.bar.inc(1);
            let mut done = self.done.lock().expect("no panic while it is held");
            done.push(summary);
            self.bar.set_message(self.speed(&done));
        }
        Ok(())
    }

    fn take(&self) -> Option<u64> {
        if self.args.within.is_some_and(|within| self.begun.elapsed() > within) {
            return None;
        }
        self.next.lock().expect("no panic while it is held").next()
    }

    fn replay(&self, seed: u64) -> Result<Summary> {
        let program = std::env::current_exe().context("the system tells where this program is")?;
        let folder = self.args.out.join(format!("sim-{seed}"));
        let time = format!("{}s", self.args.sim_time.as_secs());
        let output = Command::new(program)
            .args(["replay", "--seed", &seed.to_string(), "--sim-time", &time, "-o", "json", "--only-failed", "--out"])
            .arg(folder)
            .args(self.args.liar.iter().flat_map(|lie| ["--liar", lie.name()]))
            .stderr(Stdio::piped())
            .output()
            .context("cannot run this program again")?;
        if let Ok(summary) = serde_json::from_slice(&output.stdout) {
            return Ok(summary);
        }
        let why = format!("seed {seed} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        // It told what it could not do, or it died of what it ran.
        if output.status.code() == Some(2) { bail!(why) } else { Ok(died(seed, why)) }
    }
}

fn died(seed: u64, why: String) -> Summary {
    let failure = Failure { invariant: COMES_TO_ITS_END.to_owned(), why: format!("BROKEN: {why}") };
    Summary {
        seed,
        digest: String::new(),
        simulated_s: 0.0,
        real_s: 0.0,
        frames: 0,
        acknowledged: 0,
        tenures: 0,
        refused_writes: 0,
        liar: None,
        convictions: 0,
        conflicts: 0,
        faults: BTreeMap::new(),
        missed: 0,
        invariant_checks: Checks::default(),
        failures: vec![failure],
    }
}

fn failure(summary: &Summary, args: &Args) -> String {
    let mut text = format!("seed {}: FAILED (liar: {})", summary.seed, summary.liar.as_deref().unwrap_or("none"));
    for Failure { invariant, why } in &summary.failures {
        text += &format!("\n  {invariant}\n    {why}");
    }
    let liar = args.liar.map_or(String::new(), |lie| format!(" --liar {}", lie.name()));
    text + &format!("\n  jepsen replay --seed {} --sim-time {}s{liar} --trace", summary.seed, args.sim_time.as_secs())
}

fn simulated_s(all: &[Summary]) -> f64 {
    all.iter().map(|summary| summary.simulated_s).sum()
}

fn summarise(all: &[Summary], real: Duration, args: &Args) -> Result<()> {
    if all.is_empty() {
        return not_shown("no seed was run; give more time with --within");
    }
    let (simulated, real) = (simulated_s(all), real.as_secs_f64());
    // Nothing, if every process died; that is a speed of 0.
    let on_threads = all.iter().map(|summary| summary.real_s).sum::<f64>().max(f64::MIN_POSITIVE);
    let failed: Vec<&Summary> = all.iter().filter(|summary| !summary.failures.is_empty()).collect();
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for (fault, times) in all.iter().flat_map(|summary| &summary.faults) {
        *faults.entry(fault).or_default() += times;
    }
    let liars = all.iter().filter(|summary| summary.liar.is_some()).count();
    let per_day = liars as f64 / real * 86_400.0;
    let sum = |of: fn(&Summary) -> usize| all.iter().map(of).sum::<usize>();
    if args.output.json() {
        let told = json!({
            "seeds": all.len(),
            "failed": failed,
            "simulatedHours": simulated / 3600.0,
            "realSeconds": real,
            "speed": simulated / real,
            "speedOfOneThread": simulated / on_threads,
            "byzantineScenariosPerDay": per_day,
            "acknowledged": sum(|summary| summary.acknowledged),
            "tenures": sum(|summary| summary.tenures),
            "refusedWrites": sum(|summary| summary.refused_writes),
            "convictions": sum(|summary| summary.convictions),
            "conflictingFinals": sum(|summary| summary.conflicts),
            "faults": faults,
            "faultsThatMetNothing": sum(|summary| summary.missed),
            "invariantChecks": sum(|summary| summary.invariant_checks.all() as usize),
            "digests": all.iter().map(|summary| (summary.seed.to_string(), &summary.digest)).collect::<BTreeMap<_, _>>(),
        });
        println!("{told}");
    } else {
        println!("{} seeds: {} failed", all.len(), failed.len());
        println!(
            "simulated {:.1} h in {real:.0} s: {:.0} x real time ({:.0} x on one thread)",
            simulated / 3600.0,
            simulated / real,
            simulated / on_threads
        );
        println!(
            "{} events acknowledged; {liars} runs with a liar ({per_day:.0} a day at this pace), {} convictions, {} events with two FINALs",
            sum(|summary| summary.acknowledged),
            sum(|summary| summary.convictions),
            sum(|summary| summary.conflicts)
        );
        println!(
            "{} tenures of leases; guarded resources refused {} late writes",
            sum(|summary| summary.tenures),
            sum(|summary| summary.refused_writes)
        );
        let faults: Vec<String> = faults.iter().map(|(fault, times)| format!("{fault} {times}")).collect();
        println!("faults: {}; {} more met nothing", faults.join(", "), sum(|summary| summary.missed));
        println!(
            "invariants of states were evaluated {} times",
            sum(|summary| summary.invariant_checks.all() as usize)
        );
    }
    if failed.is_empty() {
        return Ok(());
    }
    let seeds: Vec<u64> = failed.iter().map(|summary| summary.seed).collect();
    not_shown(format!("{} of {} seeds failed: {seeds:?}", failed.len(), all.len()))
}
