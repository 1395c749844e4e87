//! Wrong wall clocks, and a monotonic clock that begins elsewhere. Neither may decide anything.

use super::Act;
use crate::real::cluster::Dress;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::time::Duration;

/// The largest jump, in hours.
const MOST_HOURS: usize = 100;
const DAY: Duration = Duration::from_secs(86_400);
/// How far a clock must be off before it counts as wrong.
const WRONG_SECONDS: i64 = 1800;

pub async fn forward(act: &mut Act) -> Result<()> {
    jump(act, 1).await
}

pub async fn backward(act: &mut Act) -> Result<()> {
    jump(act, -1).await
}

/// The cloud's nodes restart one after another with a clock that can be set; then all jump at once,
/// each by another time. At the end they jump back.
async fn jump(act: &mut Act, sign: i64) -> Result<()> {
    let library = faketime().context("libfaketime is not installed")?;
    let nodes = act.nodes();
    let files: Vec<PathBuf> = nodes.iter().map(|node| act.cluster().log_file(&format!("{node}.clock"))).collect();
    for (node, file) in nodes.iter().zip(&files) {
        std::fs::write(file, "+0\n")?;
        act.cluster().kill(std::slice::from_ref(node))?;
        let dress = Dress::Clock { library: library.clone(), file: file.clone() };
        act.cluster().start_in(node, &dress)?;
        act.cluster().settle(act.cloud).await?;
    }
    let offsets: Vec<i64> = nodes.iter().map(|_| sign * 3600 * (1 + act.random.below(MOST_HOURS)) as i64).collect();
    let fault = act.begin(&nodes, &format!("wall clocks jump by {offsets:?} seconds"));
    for (file, offset) in files.iter().zip(&offsets) {
        set(file, *offset)?;
    }
    let mut told = Vec::new();
    for node in &nodes {
        let (now, error) = clock_error(act, node).await?;
        if error * sign > WRONG_SECONDS {
            told.push(format!("{node} says {now}"));
        }
    }
    if told.len() == nodes.len() {
        fault.prove(told.join("; "));
    }
    act.hold().await;
    for file in &files {
        set(file, 0)?;
    }
    fault.end();
    act.cluster().settle(act.cloud).await
}

/// The library looks at the file whenever it is asked for the time, so it must never be half written.
fn set(file: &std::path::Path, offset: i64) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset:+}\n"))?;
    Ok(std::fs::rename(new, file)?)
}

/// What a node says the time is, and by how many seconds that is wrong.
async fn clock_error(act: &Act, node: &str) -> Result<(String, i64)> {
    let status = act.cluster().status(node).await?;
    let now = status["now"].as_str().context("a node does not say what time it is")?;
    let told = time::OffsetDateTime::parse(now, &time::format_description::well_known::Rfc3339)?;
    Ok((now.to_owned(), (told - time::OffsetDateTime::now_utc()).whole_seconds()))
}

pub async fn monotonic(act: &mut Act) -> Result<()> {
    let node = act.leader().await?;
    let longer = DAY * (7 + act.random.below(60) as u32);
    let fault = act.begin(
        std::slice::from_ref(&node),
        &format!("it restarts on a machine that is up {} days longer", longer.as_secs() / 86_400),
    );
    act.cluster().kill(std::slice::from_ref(&node))?;
    act.cluster().start_in(&node, &Dress::Uptime(longer))?;
    act.cluster().settle(act.cloud).await?;
    let offsets = std::fs::read_to_string(format!("/proc/{}/timens_offsets", act.cluster().pid(&node)?))?;
    if offsets.contains(&longer.as_secs().to_string()) {
        fault.prove(offsets.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    act.hold().await;
    act.cluster().kill(std::slice::from_ref(&node))?;
    super::process::restart(act, fault, &[node]).await
}

/// Where the distribution puts the library that tells programs another time.
pub fn faketime() -> Option<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let files = folders.iter().map(|folder| PathBuf::from(folder).join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.exists())
}
