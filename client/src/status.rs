//! The state of the cluster, merged from what every single node says about itself. A node that does
//! not answer is part of the answer.

use crate::client::{Client, Cloud, Node};
use crate::http::{Call, Failure};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tercet_core::ids::{CloudId, NodeId};

/// How long one node may take to answer before it counts as unreachable.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(4);

/// One node's own view, as `/v1/status` gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub fed_id: String,
    pub role: String,
    pub leader: Option<String>,
    #[serde(default)]
    pub term: u64,
    #[serde(default)]
    pub applied: u64,
    #[serde(default)]
    pub clouds: Vec<CloudSeen>,
    #[serde(default)]
    pub members: Vec<MemberSeen>,
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    pub signed_size: Option<u64>,
    pub pid: Option<u32>,
    pub addr: Option<String>,
}

/// A node as the leader of its cloud sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSeen {
    pub node: NodeId,
    pub heard_ms_ago: Option<u64>,
}

/// A cloud as one node sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudSeen {
    pub cloud: CloudId,
    #[serde(default)]
    pub weight: u64,
    pub epoch: Option<String>,
    #[serde(default)]
    pub size: u64,
    pub root: Option<String>,
    #[serde(default)]
    pub audited: BTreeMap<String, Value>,
    #[serde(default)]
    pub flagged: bool,
    #[serde(default)]
    pub connected: bool,
    #[serde(default)]
    pub lives_without: bool,
    #[serde(default)]
    pub safe_if_it_lies: bool,
}

/// The whole cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    pub fed_id: Option<String>,
    pub clouds: Vec<CloudStatus>,
    /// Events by level, as the cloud counts that has seen the fewest SEALED: no other is behind it.
    pub counts: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStatus {
    pub cloud: CloudId,
    /// It has a leader that says it is ready.
    pub ready: bool,
    pub leader: Option<String>,
    pub epoch: Option<String>,
    /// The cloud's own log head; if the cloud does not answer, the longest that another one holds.
    pub size: Option<u64>,
    pub root: Option<String>,
    pub weight: Option<u64>,
    pub lives_without: Option<bool>,
    pub safe_if_it_lies: Option<bool>,
    pub flagged: bool,
    /// What the other clouds hold of this log and have audited of it.
    pub mirrors: Vec<MirrorStatus>,
    pub counts: BTreeMap<String, u64>,
    pub nodes: Vec<NodeLine>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStatus {
    pub by: CloudId,
    pub size: u64,
    pub root: Option<String>,
    pub audited: Option<u64>,
    pub connected: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeLine {
    pub id: NodeId,
    pub role: Option<String>,
    pub address: String,
    pub applied: Option<u64>,
    pub pid: Option<u32>,
    pub reachable: bool,
    pub ready: bool,
    /// Since it last answered its leader; absent for the leader, and where none answers.
    pub heard_ms_ago: Option<u64>,
    /// It takes connections. If it is not reachable all the same, it is slow or hangs.
    pub listens: bool,
    /// Why it is not reachable, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

struct Asked<'a> {
    node: &'a Node,
    status: Result<NodeStatus, String>,
    listens: bool,
    ready: bool,
}

impl Client {
    /// Asks every node of every cloud at the same time.
    pub async fn cluster_status(&self) -> ClusterStatus {
        let clouds = join_all(self.clouds().iter().map(|cloud| self.ask_cloud(cloud))).await;
        let views: Vec<(CloudId, NodeStatus)> = self
            .clouds()
            .iter()
            .zip(&clouds)
            .filter_map(|(cloud, nodes)| best(nodes).map(|status| (cloud.name.clone(), status.clone())))
            .collect();
        let fed_id = views.first().map(|(_, status)| status.fed_id.clone());
        let counts = views
            .iter()
            .map(|(_, status)| &status.counts)
            .min_by_key(|counts| (counts.get("sealed").copied(), counts.get("final").copied()));
        let counts = counts.cloned().unwrap_or_default();
        let merge = |(cloud, nodes): (&Cloud, Vec<Asked<'_>>)| merge(&cloud.name, nodes, &views);
        ClusterStatus { fed_id, counts, clouds: self.clouds().iter().zip(clouds).map(merge).collect() }
    }

    async fn ask_cloud<'a>(&self, cloud: &'a Cloud) -> Vec<Asked<'a>> {
        join_all(cloud.nodes.iter().map(async |node| {
            let (status, ready) = (Call::get(&["v1", "status"]), Call::get(&["readyz"]));
            let id = node.id.as_str();
            let (status, ready) = futures::join!(
                self.transport().attempt(id, &node.url, &status, NODE_TIMEOUT),
                self.transport().attempt(id, &node.url, &ready, NODE_TIMEOUT),
            );
            let listens = !matches!(status, Err(Failure::Unsent(_)));
            let status = match status {
                Ok(answer) => answer.json().map_err(|error| error.to_string()),
                Err(Failure::Unsent(why) | Failure::Lost(why)) => Err(why),
                Err(Failure::Refused { problem, .. }) => Err(problem.to_string()),
            };
            Asked { node, status, listens, ready: ready.is_ok() }
        }))
        .await
    }
}

/// The view that speaks for a cloud: its leader's of the latest term, else the most advanced one.
fn best<'a>(nodes: &'a [Asked<'_>]) -> Option<&'a NodeStatus> {
    let answered = nodes.iter().filter_map(|asked| asked.status.as_ref().ok());
    answered.max_by_key(|status| (status.role == "leader", status.term, status.applied))
}

fn merge(cloud: &CloudId, nodes: Vec<Asked<'_>>, views: &[(CloudId, NodeStatus)]) -> CloudStatus {
    let own = best(&nodes);
    let seen_by = |status: &NodeStatus| status.clouds.iter().find(|seen| seen.cloud == *cloud).cloned();
    let mirrors: Vec<(CloudId, CloudSeen)> = views
        .iter()
        .filter(|(by, _)| by != cloud)
        .filter_map(|(by, status)| seen_by(status).map(|seen| (by.clone(), seen)))
        .collect();
    let longest = || mirrors.iter().map(|(_, seen)| seen).max_by_key(|seen| seen.size).cloned();
    let head = own.and_then(seen_by).or_else(longest);
    let leader_ready = nodes.iter().any(|asked| asked.ready && asked.status.as_ref().is_ok_and(|s| s.role == "leader"));
    let line = |asked: &Asked<'_>| NodeLine {
        id: asked.node.id.clone(),
        role: asked.status.as_ref().ok().map(|status| status.role.clone()),
        address: asked.node.url.as_str().trim_end_matches('/').to_owned(),
        applied: asked.status.as_ref().ok().map(|status| status.applied),
        pid: asked.status.as_ref().ok().and_then(|status| status.pid),
        reachable: asked.status.is_ok(),
        ready: asked.ready,
        heard_ms_ago: own.and_then(|status| {
            status.members.iter().find(|member| member.node == asked.node.id).and_then(|member| member.heard_ms_ago)
        }),
        listens: asked.listens,
        why: asked.status.as_ref().err().cloned(),
    };
    let audited_by = |by: &CloudId, seen: &CloudSeen| audited_size(seen.audited.get(by.as_str()));
    let flagged = views.iter().filter_map(|(_, status)| seen_by(status)).any(|seen| seen.flagged);
    CloudStatus {
        cloud: cloud.clone(),
        ready: leader_ready && !flagged,
        leader: own.and_then(|status| status.leader.clone()),
        epoch: head.as_ref().and_then(|seen| seen.epoch.clone()),
        size: head.as_ref().map(|seen| seen.size),
        root: head.as_ref().and_then(|seen| seen.root.clone()),
        weight: head.as_ref().map(|seen| seen.weight),
        lives_without: head.as_ref().map(|seen| seen.lives_without),
        safe_if_it_lies: head.as_ref().map(|seen| seen.safe_if_it_lies),
        flagged,
        mirrors: mirrors
            .iter()
            .map(|(by, seen)| MirrorStatus {
                by: by.clone(),
                size: seen.size,
                root: seen.root.clone(),
                audited: audited_by(by, seen),
                connected: seen.connected,
            })
            .collect(),
        counts: own.map(|status| status.counts.clone()).unwrap_or_default(),
        nodes: nodes.iter().map(line).collect(),
    }
}

fn audited_size(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.get("size").and_then(Value::as_u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node { id: NodeId::new(id).unwrap(), url: "https://127.0.3.1:1".parse().unwrap() }
    }

    fn status(role: &str, term: u64, size: u64) -> NodeStatus {
        serde_json::from_value(serde_json::json!({
            "fedId": "ab", "cloud": "gcp", "node": "gcp-1", "role": role, "leader": "gcp-1", "term": term, "applied": 9,
            "clouds": [{"cloud": "gcp", "weight": 1, "epoch": "e0", "size": size, "root": "r", "audited": {"aws": size},
                "flagged": false, "connected": true, "livesWithout": true, "safeIfItLies": false}],
            "counts": {"events": 3}, "signedSize": size, "pid": 7, "addr": "127.0.3.1:1"
        }))
        .unwrap()
    }

    #[test]
    fn the_leader_of_the_latest_term_speaks_for_its_cloud() {
        let (one, two) = (node("gcp-1"), node("gcp-2"));
        let nodes = vec![
            Asked { node: &one, status: Ok(status("leader", 1, 5)), ready: true, listens: true },
            Asked { node: &two, status: Ok(status("leader", 2, 6)), ready: true, listens: true },
        ];
        let merged = merge(&CloudId::new("gcp").unwrap(), nodes, &[]);
        assert_eq!((merged.size, merged.ready), (Some(6), true));
    }

    #[test]
    fn a_cloud_that_is_down_is_known_by_its_mirrors() {
        let one = node("gcp-1");
        let nodes = vec![Asked { node: &one, status: Err("refused".into()), ready: false, listens: false }];
        let views = [(CloudId::new("aws").unwrap(), status("leader", 1, 5))];
        let merged = merge(&CloudId::new("gcp").unwrap(), nodes, &views);
        assert_eq!((merged.size, merged.ready, merged.leader), (Some(5), false, None));
        assert_eq!(merged.mirrors[0].audited, Some(5));
        assert!(!merged.nodes[0].reachable);
    }
}
