//! `jepsen real`: real processes under faults, and what came of it.

use super::{Output, duration, not_shown};
use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use jepsen::checker;
use jepsen::history::{self, Record, What};
use jepsen::real::nemesis::Nemesis;
use jepsen::real::{self, Options, Progress, Report};
use jepsen::report::{self, Meta};
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tercet_tests::programs;

/// Where runs go that name no folder.
const RUNS: &str = "target/jepsen";
/// How often the line on the terminal changes.
const TICK: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen real                                          ten minutes of everything that this machine can do
  jepsen real --time 30s --nemesis kill-leader --seed 7
  jepsen real --time 2m --nemesis isolate-leader,ring,power-cut-all

Every chosen nemesis has its turn, also if that takes longer than --time. What this machine cannot do is skipped, and
said so; `jepsen doctor` tells why. Exit code 0: all invariants hold, and the run did harm and work.")]
pub struct Args {
    /// How long the nemesis is at work, such as 30s, 10m or 1h
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    time: Duration,
    /// What it does: names, or `all`
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "all")]
    nemesis: Vec<String>,
    /// Fixes what the nemesis and the clients choose
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where history, report, logs and repro.sh go: a folder that is new or empty, so that no earlier run is
    /// overwritten [default: a new one, target/jepsen/real-<seed>-<unix time>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// List all nemeses, and end
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args) -> Result<()> {
    if args.list {
        return list(args);
    }
    real::choose(&args.nemesis)?;
    if let Some(complaint) = programs::complaint() {
        bail!(complaint);
    }
    let out = match &args.out {
        Some(given) => unused(given)?,
        None => fresh(args.seed)?,
    };
    let options = Options { seed: args.seed, time: args.time, nemeses: args.nemesis.clone(), out: out.clone() };
    eprintln!("real: seed {}, {} s, everything goes to {}", args.seed, args.time.as_secs(), out.display());
    let progress = Arc::new(Progress::default());
    stop_on_interrupt(progress.clone())?;
    let report = show_progress(&options, &progress)?;
    keep(&report, args, &out).with_context(|| format!("cannot write into {}", out.display()))?;
    if args.output.json() {
        println!("{}", serde_json::to_string_pretty(&json(&report, &out))?);
    } else {
        print(&report);
    }
    if progress.stop.load(Ordering::SeqCst) {
        bail!("ended early; what was seen until then is in {}", out.display());
    }
    match report.judged.iter().filter(|judged| !judged.verdict.holds()).count() {
        0 => Ok(()),
        count => {
            not_shown(format!("{count} invariants are not shown to hold; see {}", out.join("report.html").display()))
        }
    }
}

/// The folder that was asked for, unless something is in it already.
fn unused(given: &Path) -> Result<PathBuf> {
    super::make_writable(given)?;
    let mut entries = std::fs::read_dir(given).with_context(|| format!("cannot read {}", given.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty; remove what is in it, or give another folder with --out",
        given.display()
    );
    Ok(given.to_owned())
}

/// A folder that no other run has, not even one that begins in the same second.
fn fresh(seed: u64) -> Result<PathBuf> {
    let runs = Path::new(RUNS);
    super::make_writable(runs)?;
    let mut stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    loop {
        let folder = runs.join(format!("real-{seed}-{stamp}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => stamp += 1,
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    }
}

/// The history in every form, and its report.
fn keep(report: &Report, args: &Args, out: &Path) -> Result<()> {
    history::save(&report.history, &out.join("history.jsonl"))?;
    let (time, seed) = (format!("{}s", args.time.as_secs()), args.seed.to_string());
    let nemesis = args.nemesis.join(",");
    let words = [
        "cargo",
        "run",
        "--release",
        "-p",
        "jepsen",
        "--",
        "real",
        "--time",
        &time,
        "--nemesis",
        &nemesis,
        "--seed",
        &seed,
    ];
    Ok(report::write(out, &report.history, &report.judged, &Meta::here(words.map(str::to_owned).to_vec()))?)
}

fn list(args: &Args) -> Result<()> {
    if args.output.json() {
        let needs = |nemesis: &Nemesis| nemesis.needs.iter().map(|need| need.name()).collect::<Vec<_>>();
        let told = |n: &Nemesis| serde_json::json!({ "name": n.name, "about": n.about, "needs": needs(n) });
        println!("{}", serde_json::to_string_pretty(&real::nemesis::ALL.iter().map(told).collect::<Vec<_>>())?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(["NEMESIS", "WHAT IT DOES", "NEEDS"]);
    for nemesis in real::nemesis::ALL {
        let needs = nemesis.needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(", ");
        table.add_row([nemesis.name.to_owned(), nemesis.about.to_owned(), needs]);
    }
    println!("{table}");
    Ok(())
}

/// A line that changes while it runs, or off a terminal one a minute.
fn show_progress(options: &Options, progress: &Arc<Progress>) -> Result<Report> {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut logged = begun;
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed_precise}  {msg}")?);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| real::run(options, progress));
        while !running.is_finished() {
            let now = progress.now.lock().expect("no thread panics while it writes a line").clone();
            let recorder = progress.recorder.lock().expect("no thread panics while it sets the recorder").clone();
            let acknowledged =
                recorder.map_or(0, |recorder| recorder.count(|what| matches!(what, What::Acknowledged { .. })));
            let message = format!("{acknowledged} acknowledged   {now}");
            if !terminal && logged.elapsed() >= LOG_EVERY {
                eprintln!("real: {} s  {message}", begun.elapsed().as_secs());
                logged = Instant::now();
            }
            bar.set_message(message);
            bar.tick();
            std::thread::sleep(TICK);
        }
        bar.finish_and_clear();
        eprintln!("real: took {} s", begun.elapsed().as_secs());
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The first Ctrl-C ends the run in good order, the second one at once.
fn stop_on_interrupt(progress: Arc<Progress>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                progress.stop.store(true, Ordering::SeqCst);
                eprintln!("\nending after the fault that is in force; again to end at once");
                let _ = tokio::signal::ctrl_c().await;
                // The reaper ends the nodes, and the kernel unmounts their disks.
                std::process::exit(130);
            }
        });
    });
    Ok(())
}

/// What a nemesis did in the whole run.
#[derive(Default, serde::Serialize)]
struct Line {
    times: usize,
    proven: usize,
    last_proof: String,
}

fn lines(history: &[Record]) -> BTreeMap<String, Line> {
    let (mut lines, mut names) = (BTreeMap::<String, Line>::new(), BTreeMap::new());
    for record in history {
        match &record.what {
            What::FaultBegan { number, fault, .. } => {
                names.insert(number, fault);
                lines.entry(fault.clone()).or_default().times += 1;
            }
            What::FaultProven { number, how } => {
                let line = lines.entry(names[number].clone()).or_default();
                (line.proven, line.last_proof) = (line.proven + 1, how.clone());
            }
            _ => {}
        }
    }
    lines
}

/// How often each kind of answer came.
fn work(history: &[Record]) -> String {
    let count = |is: fn(&What) -> bool| history.iter().filter(|record| is(&record.what)).count();
    format!(
        "{} submissions: {} acknowledged, {} refused, {} unknown; {} observations, {} certificates verified, {} leaders",
        count(|what| matches!(what, What::Invoked { .. })),
        count(|what| matches!(what, What::Acknowledged { .. })),
        count(|what| matches!(what, What::Refused { .. })),
        count(|what| matches!(what, What::Unknown { .. })),
        count(|what| matches!(what, What::Observed { .. })),
        count(|what| matches!(what, What::Certified { valid: true, .. })),
        count(|what| matches!(what, What::Led { .. })),
    )
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(["NEMESIS", "TIMES", "PROVEN", "LAST PROOF"]);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(super::WIDTH);
    for (name, line) in lines(&report.history) {
        table.add_row([name, line.times.to_string(), line.proven.to_string(), line.last_proof]);
    }
    println!("{table}\n\n{}", work(&report.history));
    for (name, why) in &report.skipped {
        println!("  skipped {name}: {why}");
    }
    for checker::Judged { invariant, verdict } in &report.judged {
        println!("  {:<9} {invariant}", verdict.name());
        if let Some(why) = verdict.why() {
            println!("            {why}");
        }
    }
}

fn json(report: &Report, out: &Path) -> serde_json::Value {
    serde_json::json!({
        "out": out,
        "nemeses": lines(&report.history),
        "work": work(&report.history),
        "skipped": report.skipped,
        "judged": report.judged,
    })
}
