//! A growing ledger: batches at full load until it holds so many events, then a restart.

use crate::table::Row;
use crate::tercet::{self, Events};
use crate::{BATCHES, Cli, Point};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::{Duration, Instant};
use tercet_tests::Cluster;

/// How long one stretch of load lasts.
const STRETCH_S: u64 = 10;

pub struct Grown {
    /// Events held, and FINAL events per second there.
    pub course: Vec<Point>,
    rss_mib: f64,
    held: u64,
    /// Bytes on disk of the fullest node for each byte of payload.
    disk: f64,
    restart: Duration,
}

pub fn measure(cli: &Cli, events: u64) -> Result<Grown> {
    let mut cluster = Cluster::small();
    let payload_bytes = cli.payload_bytes;
    let load =
        Events { clients: BATCHES.0, batch: BATCHES.1, payload_bytes, seconds: STRETCH_S, rate: None, sealed: false };
    let (mut course, mut rss_mib): (Vec<Point>, f64) = (Vec::new(), 0.0);
    let mut held: u64 = 0;
    while held < events {
        let measured = tercet::bench(&cluster, load, None)?;
        let before = held;
        held = cluster.status("aws-1").map_err(anyhow::Error::msg)?["counts"]["events"].as_u64().context("a count")?;
        rss_mib = rss_mib.max(measured.rss_mib());
        course.push(((before + held) as f64 / 2.0, measured.per_second()));
        crate::progress(&format!("a growing ledger: {held} events, {:.0} a second", measured.per_second()));
    }
    let folders = ["aws-1", "azure-1", "gcp-1"].map(|node| cluster.data_dir().join("nodes").join(node));
    let bytes = folders.iter().map(|folder| size(folder)).max().unwrap_or(0);
    cluster.stop();
    let begun = Instant::now();
    cluster.start_until("Ready after");
    let restart = begun.elapsed();
    Ok(Grown { course, rss_mib, held, disk: bytes as f64 / (held * payload_bytes as u64) as f64, restart })
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

impl Grown {
    pub fn rows(&self) -> Vec<Row> {
        let (first, last) = (self.course.first().copied(), self.course.last().copied());
        let (Some((_, first)), Some((_, last)), held) = (first, last, self.held) else { return Vec::new() };
        let seconds = self.restart.as_secs_f64();
        vec![
            Row {
                key: Some("throughput_of_a_grown_ledger"),
                ratio: Some(last / first),
                ..Row::plain(
                    &format!(
                        "FINAL events/s with {held} events in the ledger, against the empty one ({STRETCH_S} s each)"
                    ),
                    format!("{last:.0} against {first:.0} /s"),
                    "at least 0.9",
                )
                .judged(last >= 0.9 * first)
            },
            Row::plain("the largest memory of a node on the way", format!("{:.0} MiB", self.rss_mib), "512 MiB")
                .judged(self.rss_mib <= 512.0),
            Row::plain("start to ready with it, all three clouds", format!("{seconds:.1} s"), "5 s")
                .judged(seconds <= 5.0),
            Row::plain("disk of a node for each byte of payload", format!("{:.1}", self.disk), "3")
                .judged(self.disk <= 3.0),
        ]
    }
}
