//! `jepsen model`: explores every interleaving of finality, and of votes on a lease, within bounds.

use super::{Output, not_shown};
use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use jepsen::model::{self, CONFIGS, Config, Limits, Outcome, Progress, leases};
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen model                                     every configuration, to its own depth
  jepsen model --list
  jepsen model --config lost-state --depth 6
  jepsen model --config one-liar --trace           # the way to the conflict that a liar can make")]
pub struct Args {
    /// Which configuration: `all`, or a name that `--list` shows
    #[arg(long, default_value = "all", value_name = "NAME")]
    config: String,
    /// Show the configurations and what each is about
    #[arg(long)]
    list: bool,
    /// Explore this many steps from the start, rather than what each configuration says
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Threads that explore; with more than one, states near the depth bound may be missed
    #[arg(long, value_name = "N", default_value = "1", value_parser = super::count::<usize>)]
    threads: usize,
    /// Events that clients may submit
    #[arg(long, value_name = "N")]
    events: Option<usize>,
    /// Contents that clients may submit for each event
    #[arg(long, value_name = "N")]
    contents: Option<usize>,
    /// How many submissions there are
    #[arg(long, value_name = "N")]
    submits: Option<u8>,
    /// How often a cloud loses its state
    #[arg(long, value_name = "N")]
    losses: Option<u8>,
    /// How often a cloud renews its epoch without a loss
    #[arg(long, value_name = "N")]
    rotations: Option<u8>,
    /// How many messages are kept back to arrive later
    #[arg(long, value_name = "N")]
    late: Option<u8>,
    /// Print the expected counterexamples too
    #[arg(long)]
    trace: bool,
    /// Stop at the first configuration that is not green
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    output: Output,
}

pub fn run(args: &Args) -> Result<()> {
    if args.list {
        return list(args);
    }
    let wanted = |name: &str| args.config == "all" || args.config == name;
    let finality = CONFIGS.into_iter().filter(|config| wanted(config.name));
    let finality = finality.map(|config| Chosen::Finality(Box::new(args.bound(config))));
    let leases = leases::CONFIGS.into_iter().filter(|config| wanted(config.name)).map(Chosen::Lease);
    let chosen: Vec<Chosen> = finality.chain(leases).collect();
    if chosen.is_empty() {
        bail!("there is no configuration {:?}; `jepsen model --list` shows all", args.config);
    }
    let limits = Limits { threads: args.threads, depth: args.depth };
    let mut outcomes = Vec::new();
    for config in chosen {
        let outcome = match config {
            Chosen::Finality(config) => model::run(*config, limits, |progress| show(config.name, progress)),
            Chosen::Lease(config) => leases::run(config, limits, |progress| show(config.name, progress)),
        };
        clear();
        explain(args, &outcome);
        let stop = args.fail_fast && !outcome.is_green();
        outcomes.push(outcome);
        if stop {
            break;
        }
    }
    if args.output.json() {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        println!("{}", table(&outcomes));
    }
    let red: Vec<&str> = outcomes.iter().filter(|outcome| !outcome.is_green()).map(|outcome| outcome.config).collect();
    if red.is_empty() { Ok(()) } else { not_shown(format!("not green: {}", red.join(", "))) }
}

fn list(args: &Args) -> Result<()> {
    if args.output.json() {
        let told: Vec<_> = all().map(|(name, about)| json!({ "name": name, "about": about })).collect();
        println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(());
    }
    for (name, about) in all() {
        println!("{name:<16} {about}");
    }
    Ok(())
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let finality = CONFIGS.into_iter().map(|config| (config.name, config.about));
    finality.chain(leases::CONFIGS.into_iter().map(|config| (config.name, config.about)))
}

enum Chosen {
    Finality(Box<Config>),
    Lease(leases::Config),
}

impl Args {
    fn bound(&self, config: Config) -> Config {
        Config {
            events: self.events.unwrap_or(config.events).max(1),
            contents: self.contents.unwrap_or(config.contents).max(1),
            submits: self.submits.unwrap_or(config.submits),
            losses: self.losses.unwrap_or(config.losses),
            rotations: self.rotations.unwrap_or(config.rotations),
            late: self.late.unwrap_or(config.late),
            ..config
        }
    }
}

/// Counterexamples go to stderr, so that stdout stays data.
fn explain(args: &Args, outcome: &Outcome) {
    for (what, trace) in outcome.expected.iter().filter(|_| args.trace) {
        eprintln!("{}: expected: {what}\n{trace}", outcome.config);
    }
    for failure in &outcome.failures {
        eprintln!("{}: {failure}", outcome.config);
    }
    if let Some(trace) = &outcome.counterexample {
        eprintln!("{trace}");
    }
}

fn show(name: &str, progress: Progress) {
    if std::io::stderr().is_terminal() {
        let Progress { states, unique, depth } = progress;
        eprint!("\r\x1b[K{name}: {states} states, {unique} different, {depth} steps deep");
        let _ = std::io::stderr().flush();
    }
}

fn clear() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["config", "states", "unique", "cloud states", "depth", "all", "restarts", "seconds", "outcome"]);
    for outcome in outcomes {
        let reached: Vec<String> = outcome.reached.iter().map(|(name, steps)| format!("{name} in {steps}")).collect();
        let verdict = if outcome.is_green() { format!("holds; {}", reached.join(", ")) } else { "BROKEN".into() };
        table.add_row([
            outcome.config.to_string(),
            outcome.states.to_string(),
            outcome.unique.to_string(),
            outcome.clouds.to_string(),
            outcome.depth.to_string(),
            if outcome.complete { "yes" } else { "no" }.to_string(),
            outcome.restarts.to_string(),
            format!("{:.1}", outcome.seconds),
            verdict,
        ]);
    }
    table
}
