//! Three places 20, 40 and 60 ms apart (round trips), and a client in each: how long until an event is FINAL, and a put of
//! etcd done. The links are proxies that hold bytes back; nothing needs root.

use crate::table::Row;
use crate::tercet::{self, Events};
use crate::{Cli, etcd};
use ::tercet::load::Load;
use anyhow::Result;
use std::time::Duration;
use tercet_tests::proxy::Proxy;
use tercet_tests::{CLOUDS, Cluster, config};

/// Between the first and second place, the first and third, the second and third.
const ROUND_TRIPS_MS: [[u64; 3]; 3] = [[0, 20, 40], [20, 0, 60], [40, 60, 0]];
/// How long after its neighbour is asked an event may become FINAL.
const SLACK_MS: f64 = 5.0;

pub fn measure(cli: &Cli, runtime: &tokio::runtime::Runtime) -> Result<Vec<Row>> {
    let seconds = (cli.duration.as_secs() / 4).max(3);
    crate::progress("etcd, stretched");
    let theirs = runtime.block_on(etcd_p50s(cli, seconds))?;
    crate::progress("Tercet, stretched");
    let (ours, sealed) = tercet_p50s(cli, seconds)?;
    let mut rows = Vec::new();
    for (at, cloud) in CLOUDS.iter().enumerate() {
        let nearest = ROUND_TRIPS_MS[at].into_iter().filter(|ms| *ms > 0).min().unwrap_or(0) as f64;
        let most = 1.1 * nearest + SLACK_MS;
        let what = format!("client at {cloud}, its nearest neighbour {nearest} ms away: submit to FINAL, p50");
        let measured = format!("{:.1} ms", ours[at]);
        rows.push(Row::plain(&what, measured, &format!("at most {most:.0} ms")).judged(ours[at] <= most));
    }
    let behind: Vec<f64> = sealed.iter().zip(&ours).map(|(sealed, ours)| (sealed - ours).max(0.0)).collect();
    let farthest = ROUND_TRIPS_MS.map(|trips| trips.into_iter().max().unwrap_or(0) as f64);
    let [one, two, three] = farthest;
    rows.push(
        Row::plain(
            "SEALED behind FINAL over those links, p50, each place",
            behind.iter().map(|ms| format!("{ms:.1}")).collect::<Vec<_>>().join(", ") + " ms",
            &format!("{one}, {two}, {three} ms: a round trip to the farther cloud"),
        )
        .judged(behind.iter().zip(farthest).all(|(behind, farthest)| *behind <= farthest)),
    );
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let what = "mean over clients in all three places, against etcd stretched over the same links".to_owned();
    rows.push(Row::at_most("stretched_mean", what, (mean(&ours), mean(&theirs), "ms"), 1.0));
    Ok(rows)
}

/// The medians at each place, in milliseconds: until FINAL, and until SEALED.
fn tercet_p50s(cli: &Cli, seconds: u64) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut cluster = Cluster::small();
    cluster.stop();
    let data = cluster.data_dir();
    let table: toml::Table = std::fs::read_to_string(data.join("cluster.toml"))?.parse()?;
    let mut links = Vec::new();
    for (at, cloud) in CLOUDS.iter().enumerate() {
        let (mut own, node) = (table.clone(), format!("{cloud}-1"));
        for (other, peer) in CLOUDS.iter().enumerate().filter(|(other, _)| *other != at) {
            let (peer, half) = (format!("{peer}-1"), Duration::from_millis(ROUND_TRIPS_MS[at][other]) / 2);
            let link = Proxy::delayed(config::address(&table, &peer, "peer_addr"), half, half);
            config::set(&mut own, &peer, "peer_addr", &link.address.to_string());
            links.push(link);
        }
        let file = data.join(format!("{cloud}-far.toml"));
        std::fs::write(&file, own.to_string())?;
        cluster.run_with(&node, &file);
    }
    let events = Events { clients: 1, batch: 1, payload_bytes: cli.payload_bytes, seconds, rate: None, sealed: false };
    let p50s = |sealed| {
        let p50 = |cloud: &&str| Ok(tercet::bench(&cluster, Events { sealed, ..events }, Some(cloud))?.latency("p50"));
        CLOUDS.iter().map(p50).collect::<Result<Vec<f64>>>()
    };
    Ok((p50s(false)?, p50s(true)?))
}

/// Messages between two etcd nodes come down the stream that the receiver opened at the sender, so a delay on the way back
/// from each node gives every pair its round trip: 0 + 20, 0 + 40, 20 + 40.
async fn etcd_p50s(cli: &Cli, seconds: u64) -> Result<Vec<f64>> {
    let etcd = etcd::Etcd::start(Some([0, 20, 40].map(Duration::from_millis))).await?;
    let load = Load { clients: 1, weight: 1, duration: Duration::from_secs(seconds), rate: None };
    let mut medians = Vec::new();
    for (node, run) in ["near", "mid", "far"].into_iter().enumerate() {
        medians.push(etcd.puts_at(Some(node), load, cli.payload_bytes, run).await?.latency_ms().p50);
    }
    Ok(medians)
}
