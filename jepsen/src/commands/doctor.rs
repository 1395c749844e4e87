//! `jepsen doctor`: what this machine can do, found out by doing it, and what is not covered at all.

use anyhow::{Context as _, Result};
use comfy_table::Table;
use jepsen::real::nemesis;
use jepsen::real::probe::{NEEDS, Need};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_tests::process;

/// How long a killed process may take to go.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Faults that nobody performs, and why.
const NOT_COVERED: [(&str, &str); 3] = [
    ("membership change", "Tercet has no command for it yet: the nodes of a cloud are fixed when it is made"),
    (
        "leader transfer",
        "Tercet has no command for it yet; kill-leader, pause-leader and isolate-leader force a change",
    ),
    (
        "netem, device-mapper",
        "not needed: the switch between the namespaces delays, drops and doubles, and ext4 is shut down",
    ),
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jepsen doctor
  jepsen doctor -o json | jq '.capabilities[] | select(.works | not)'
  jepsen doctor --clean                            # after a run that was killed")]
pub struct Args {
    /// End what is left of `jepsen real` runs that were killed, and remove their disks
    #[arg(long)]
    clean: bool,
    /// Where runs left their folders
    #[arg(long, value_name = "DIR", default_value = "target/jepsen")]
    runs: PathBuf,
    #[command(flatten)]
    output: super::Output,
}

pub fn run(args: &Args) -> Result<()> {
    if args.clean {
        return clean(&args.runs);
    }
    let found: Vec<(Need, Result<String, String>)> = NEEDS.iter().map(|need| (*need, need.probe())).collect();
    if args.output.json() {
        println!("{}", serde_json::to_string_pretty(&json(&found))?);
    } else {
        print(&found);
    }
    Ok(())
}

fn serves(need: Need) -> Vec<&'static str> {
    nemesis::ALL.iter().filter(|nemesis| nemesis.needs.contains(&need)).map(|nemesis| nemesis.name).collect()
}

fn print(found: &[(Need, Result<String, String>)]) {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(["CAPABILITY", "WORKS", "SHOWN BY", "FOR"]);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_width(super::WIDTH);
    for (need, probed) in found {
        let (works, how) = match probed {
            Ok(how) => ("yes", how.clone()),
            Err(why) => ("no", format!("{why}. What to do: {}", need.remedy())),
        };
        table.add_row([need.name().to_owned(), works.to_owned(), how, serves(*need).join(", ")]);
    }
    let always: Vec<&str> =
        nemesis::ALL.iter().filter(|nemesis| nemesis.needs.is_empty()).map(|nemesis| nemesis.name).collect();
    println!("{table}\n\nAlways possible: {}", always.join(", "));
    for (what, why) in NOT_COVERED {
        println!("Not covered: {what} ({why})");
    }
}

fn json(found: &[(Need, Result<String, String>)]) -> serde_json::Value {
    let capability = |(need, probed): &(Need, Result<String, String>)| {
        serde_json::json!({
            "name": need.name(),
            "works": probed.is_ok(),
            "shownBy": probed.as_ref().ok(),
            "why": probed.as_ref().err(),
            "remedy": need.remedy(),
            "for": serves(*need),
        })
    };
    let not_covered: Vec<_> =
        NOT_COVERED.iter().map(|(what, why)| serde_json::json!({ "what": what, "why": why })).collect();
    serde_json::json!({ "capabilities": found.iter().map(capability).collect::<Vec<_>>(), "notCovered": not_covered })
}

/// Namespaces and mounts end with their last process, so processes and images are all that can be
/// left. A run that is still going on holds a lock on its folder and is left alone.
fn clean(runs: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(runs) else {
        println!("no runs in {}", runs.display());
        return Ok(());
    };
    for folder in entries.flatten().map(|entry| entry.path().join("cluster")).filter(|folder| folder.is_dir()) {
        let folder = folder.canonicalize()?;
        if !jepsen::real::is_abandoned(&folder)? {
            println!("{} is in use", folder.display());
            continue;
        }
        let pids = process::pids_of(&folder);
        for pid in &pids {
            process::signal(*pid, nix::sys::signal::Signal::SIGKILL);
        }
        let gone =
            || tercet_tests::wait::check(!pids.iter().any(|pid| process::is_alive(*pid)), || format!("{pids:?}"));
        tercet_tests::eventually("the processes are gone", END_LIMIT, gone);
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        println!("{}: removed, {} processes ended", folder.display(), pids.len());
    }
    Ok(())
}
