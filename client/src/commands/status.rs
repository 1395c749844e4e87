//! `tercet status`: three lamps, one sentence that says what it means, then the details.

use crate::exit::{Failure, NO_QUORUM};
use crate::output::{self, Colour, grouped, paint};
use crate::session::Globals;
use clap::Args;
use tercet::client::Patience;
use tercet::status::{CloudStatus, ClusterStatus, NODE_TIMEOUT};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet status
  tercet status -o json
  watch -n1 tercet status

Every node is asked. Exit code 4 if no node answers.")]
pub struct Status {}

pub async fn run(globals: &Globals) -> Result<(), Failure> {
    let context = globals.context()?;
    let client = globals.client(&context, Patience::interactive(NODE_TIMEOUT))?;
    let status = client.cluster_status().await;
    if globals.is_json() {
        output::json(&status)?;
    } else {
        output::print(&draw(&status))?;
    }
    if status.clouds.iter().any(|cloud| cloud.nodes.iter().any(|node| node.reachable)) {
        return Ok(());
    }
    Err(Failure::new(NO_QUORUM, "no node answers; is the cluster running? Start it with `tercetd up`"))
}

/// How a cloud is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lamp {
    Green,
    Yellow,
    Red,
}

fn lamp(cloud: &CloudStatus) -> Lamp {
    let all_well = cloud.nodes.iter().all(|node| node.reachable && node.ready);
    match (cloud.ready, cloud.flagged, all_well) {
        (false, ..) => Lamp::Red,
        (true, false, true) => Lamp::Green,
        _ => Lamp::Yellow,
    }
}

fn draw(status: &ClusterStatus) -> String {
    let mut out = String::new();
    for cloud in &status.clouds {
        out.push_str(&cloud_line(cloud));
        out.push('\n');
    }
    out.push_str(&format!("\n{}\n", meaning(status)));
    if !status.counts.is_empty() {
        let counts = status.counts.iter().map(|(name, count)| format!("{name} {}", grouped(*count)));
        out.push_str(&format!("{}\n", counts.collect::<Vec<_>>().join("   ")));
    }
    let rows = status.clouds.iter().flat_map(|cloud| &cloud.nodes).map(|node| {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let state = match (node.reachable, node.ready) {
            (true, true) => "ready".into(),
            (true, false) => "not ready".into(),
            (false, _) if node.listens => {
                format!("NO ANSWER (busy or hanging)  {}", node.why.as_deref().unwrap_or_default())
            }
            (false, _) => format!("UNREACHABLE  {}", node.why.as_deref().unwrap_or_default()),
        };
        let role = or_dash(node.role.clone());
        let (applied, pid) = (or_dash(node.applied.map(grouped)), or_dash(node.pid.map(|pid| pid.to_string())));
        let heard = or_dash(node.heard_ms_ago.map(|ms| format!("{:.1} s ago", ms as f64 / 1000.0)));
        vec![node.id.to_string(), role, node.address.clone(), applied, pid, heard, state]
    });
    let nodes = output::table(&["node", "role", "address", "applied", "pid", "heard by leader", "state"], rows);
    out.push_str(&format!("\n{nodes}\n"));
    if let Some(fed_id) = &status.fed_id {
        out.push_str(&paint(Colour::Dim, &format!("\nfederation {fed_id}")));
    }
    out
}

fn cloud_line(cloud: &CloudStatus) -> String {
    let up = cloud.nodes.iter().filter(|node| node.reachable).count();
    let (colour, sign, word) = match lamp(cloud) {
        Lamp::Green => (Colour::Green, "●", "READY"),
        Lamp::Yellow => (Colour::Yellow, "◐", "DEGRADED"),
        Lamp::Red if up == 0 && cloud.nodes.iter().any(|node| node.listens) => (Colour::Red, "○", "NO ANSWER"),
        Lamp::Red if up == 0 => (Colour::Red, "○", "DOWN"),
        Lamp::Red => (Colour::Red, "○", "NOT READY"),
    };
    let head = cloud.size.map_or_else(|| "log unknown".into(), |size| format!("log {}", grouped(size)));
    let mut text = format!("{} {:<8} ", paint(colour, sign), cloud.cloud.as_str());
    text.push_str(&paint(colour, &format!("{word:<9}")));
    text.push_str(&format!(
        "  {up}/{} nodes  leader {:<10} {head:<14}",
        cloud.nodes.len(),
        cloud.leader.as_deref().unwrap_or("none")
    ));
    let audits: Vec<String> = cloud.mirrors.iter().map(|mirror| audit(cloud, mirror)).collect();
    if !audits.is_empty() {
        text.push_str(&format!("  audited by {}", audits.join(", ")));
    }
    if cloud.flagged {
        text.push_str(&format!("  {}", paint(Colour::Red, "LIED: see `tercet evidence list`")));
    }
    text.trim_end().to_owned()
}

/// "aws" if aws audited everything, else how much is missing.
fn audit(cloud: &CloudStatus, mirror: &tercet::status::MirrorStatus) -> String {
    match (cloud.size, mirror.audited) {
        (Some(size), Some(audited)) if audited >= size => mirror.by.to_string(),
        (Some(size), Some(audited)) => format!("{} (-{})", mirror.by, grouped(size - audited)),
        _ => format!("{} (nothing)", mirror.by),
    }
}

/// What the lamps mean for events, in one sentence.
fn meaning(status: &ClusterStatus) -> String {
    let down: Vec<&CloudStatus> = status.clouds.iter().filter(|cloud| !cloud.ready).collect();
    let names = down.iter().map(|cloud| cloud.cloud.as_str()).collect::<Vec<_>>().join(" and ");
    match down.as_slice() {
        [] => paint(Colour::Green, "All clouds are up: events become FINAL and SEALED."),
        _ if down.len() == status.clouds.len() => paint(
            Colour::Red,
            "No cloud is ready: nothing is accepted. Look at the nodes below; start them with `tercetd`.",
        ),
        [one] if one.lives_without != Some(false) => {
            paint(Colour::Yellow, &format!("{names} is not ready: events become FINAL; SEALED waits for {names}."))
        }
        _ => {
            let text =
                format!("{names}: not ready. Events are accepted and stay PENDING until enough clouds are back.");
            paint(Colour::Red, &text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tercet::status::NodeLine;
    use tercet_core::ids::{CloudId, NodeId};

    fn cloud(name: &str, up: bool) -> CloudStatus {
        CloudStatus {
            cloud: CloudId::new(name).unwrap(),
            ready: up,
            leader: up.then(|| format!("{name}-1")),
            epoch: None,
            size: Some(12_000),
            root: None,
            weight: Some(1),
            lives_without: Some(true),
            safe_if_it_lies: Some(false),
            flagged: false,
            mirrors: Vec::new(),
            counts: BTreeMap::new(),
            nodes: vec![NodeLine {
                id: NodeId::new(format!("{name}-1")).unwrap(),
                role: up.then(|| "leader".into()),
                address: "https://127.0.1.1:1".into(),
                applied: up.then_some(7),
                pid: None,
                reachable: up,
                ready: up,
                heard_ms_ago: None,
                listens: up,
                why: (!up).then(|| "connection refused".into()),
            }],
        }
    }

    fn drawn(aws: bool, azure: bool, gcp: bool) -> String {
        let clouds = vec![cloud("aws", aws), cloud("azure", azure), cloud("gcp", gcp)];
        draw(&ClusterStatus { fed_id: Some("ab".into()), clouds, counts: BTreeMap::new() })
    }

    #[test]
    fn the_sentence_follows_from_the_lamps() {
        assert!(drawn(true, true, true).contains("FINAL and SEALED"));
        assert!(drawn(true, false, true).contains("SEALED waits for azure"));
        assert!(drawn(true, false, false).contains("PENDING"));
        assert!(drawn(false, false, false).contains("No cloud is ready"));
    }

    #[test]
    fn a_cloud_that_is_down_says_so_and_why() {
        let text = drawn(true, false, true);
        assert!(text.contains("○ azure    DOWN"), "{text}");
        assert!(text.contains("UNREACHABLE  connection refused"), "{text}");
    }
}
