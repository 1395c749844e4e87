//! `tercet event import`.

use super::WaitArg;
use crate::exit::{Failure, REFUSED, TIMED_OUT};
use crate::output::{self, grouped};
use crate::session::{Globals, SignArgs};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tercet::client::{Patience, Route};
use tercet::import::{BadLine, DEFAULT_BATCH, Ended, Options, Progress, Summary, import};

/// How many bad lines are printed; all are counted.
const MAX_SHOWN: u64 = 20;
/// How often progress is redrawn, and how often it is told where nothing can be drawn.
const REDRAW: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet event import events.ndjson
  tercet event import events.ndjson --wait sealed
  tercet event import events.ndjson --wait final --timeout 10m -o json
  zcat events.ndjson.gz | tercet event import - --batch 500

Run it again after any interruption: events that are there already are counted, not repeated.
Without --timeout it goes on through outages. A line that is refused is named and counted as failed.")]
pub struct Import {
    /// NDJSON, one CloudEvent a line; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Wait until every event has this level
    #[arg(long, value_enum, value_name = "LEVEL")]
    wait: Option<WaitArg>,
    /// Events under one signature, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH as u32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    #[command(flatten)]
    sign: SignArgs,
}

pub async fn run(globals: &Globals, command: Import) -> Result<(), Failure> {
    let context = globals.context()?;
    let signer = command.sign.signer(&context)?;
    let (input, length) = open(&command.file)?;
    let client = globals.client(&context, Patience::interactive(crate::session::DEFAULT_TIMEOUT))?;
    // A cluster that does not run at all is a mistake to tell at once, not an outage to sit out.
    client.send(&Route::Any, &tercet::http::Call::get(&["v1", "status"])).await?;
    let options = Options {
        batch: command.batch as usize,
        wait: command.wait.map(Into::into),
        timeout: globals.timeout,
        prefer: globals.cloud.clone(),
    };
    let (progress, begun) = (Arc::new(Progress::default()), Instant::now());
    let bar = bar(length);
    let (shown, bar_for_lines) = (AtomicU64::new(0), bar.clone());
    let report = move |bad: &BadLine| {
        let count = shown.fetch_add(1, Relaxed) + 1;
        let more = if count == MAX_SHOWN { " (further bad lines are only counted)" } else { "" };
        if count <= MAX_SHOWN {
            bar_for_lines.suspend(|| eprintln!("line {}: {}{more}", bad.line, bad.why));
        }
    };
    let drawing = tokio::spawn(draw(progress.clone(), bar.clone(), begun));
    let ended = import(client, signer, input, options, progress, Box::new(report)).await;
    drawing.abort();
    bar.finish_and_clear();
    finish(globals, &command, ended, begun.elapsed())
}

fn finish(globals: &Globals, command: &Import, ended: Ended, took: Duration) -> Result<(), Failure> {
    let Ended { summary, quarantined, timed_out, stopped } = ended;
    if globals.is_json() {
        output::json(&summary)?;
    } else {
        show(&summary)?;
    }
    let rate = (summary.new + summary.existing) as f64 / took.as_secs_f64().max(0.001);
    eprintln!("{:.1} s, {} events/s", took.as_secs_f64(), grouped(rate as u64));
    if let Some(error) = stopped {
        let mut failure = Failure::from(error);
        failure.message = format!("{}\nthe import stopped; run it again to go on where it ended", failure.message);
        return Err(failure);
    }
    if timed_out {
        let why = "not every event was there when the time was over; run the same command again to go on";
        return Err(Failure::new(TIMED_OUT, format!("{why} (file {})", command.file.display())));
    }
    if summary.failed > 0 {
        return Err(Failure::new(REFUSED, format!("{} lines failed; the others were imported", summary.failed)));
    }
    if quarantined > 0 {
        let why = "the clouds voted for different contents; see `tercet event list --level quarantined`";
        return Err(Failure::new(REFUSED, format!("{quarantined} events are QUARANTINED: {why}")));
    }
    Ok(())
}

fn show(summary: &Summary) -> Result<(), Failure> {
    let rows = [
        ("total", summary.total),
        ("new", summary.new),
        ("existing", summary.existing),
        ("final", summary.finals),
        ("sealed", summary.sealed),
        ("failed", summary.failed),
    ];
    output::print(&output::fields(&rows.map(|(name, count)| (name, grouped(count)))))
}

fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let why = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(why)?;
    let metadata = file.metadata().map_err(why)?;
    if metadata.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; name a file of CloudEvents, one a line", path.display())));
    }
    Ok((Box::new(file), Some(metadata.len())))
}

fn bar(length: Option<u64>) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    let template = if length.is_some() { "{wide_bar} {percent:>3}%\n{msg}" } else { "{spinner} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Draws until it is stopped; where there is no terminal it tells a line now and then.
async fn draw(progress: Arc<Progress>, bar: ProgressBar, begun: Instant) {
    let mut told = Instant::now();
    loop {
        tokio::time::sleep(REDRAW).await;
        let text = line(&progress, begun.elapsed());
        if bar.is_hidden() {
            if told.elapsed() >= TELL {
                told = Instant::now();
                eprintln!("{text}");
            }
            continue;
        }
        bar.set_position(progress.bytes.load(Relaxed));
        bar.set_message(text);
        bar.tick();
    }
}

fn line(progress: &Progress, elapsed: Duration) -> String {
    let Summary { new, existing, finals, sealed, failed, .. } = progress.summary();
    let rate = (new + existing) as f64 / elapsed.as_secs_f64().max(0.001);
    let again = progress.again.load(Relaxed);
    let mut text = format!(
        "accepted {} ({} new)  FINAL {}  SEALED {}  {}/s",
        grouped(new + existing),
        grouped(new),
        grouped(finals),
        grouped(sealed),
        grouped(rate as u64)
    );
    for (count, name) in [(failed, "failed"), (again, "sent again")] {
        if count > 0 {
            text = format!("{text}  {name} {}", grouped(count));
        }
    }
    text
}
