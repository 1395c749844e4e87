//! One node's view of its cloud and of the federation. `tercet status` asks every node and merges.

use super::Context;
use super::error::Problem;
use crate::raft::Replica;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::events::Counts;
use tercet_core::ids::{CloudId, FedId, Hash, NodeId};
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    #[schema(value_type = String)]
    fed_id: FedId,
    #[schema(value_type = String)]
    cloud: CloudId,
    #[schema(value_type = String)]
    node: NodeId,
    #[schema(example = "leader")]
    role: &'static str,
    #[schema(value_type = Option<String>)]
    leader: Option<NodeId>,
    term: u64,
    /// The log index up to which this node has applied.
    applied: u64,
    clouds: Vec<CloudView>,
    /// On the leader, the other nodes of its cloud.
    members: Vec<MemberView>,
    counts: CountsView,
    /// Size of this cloud's log in its latest signed note; null on a follower.
    signed_size: Option<u64>,
    /// Why this cloud refuses to sign, if it does, in the words of this node.
    refusals: Vec<String>,
    pid: u32,
    /// What this node's wall clock says. It decides nothing; one that is far off confuses its readers.
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    now: String,
    /// Where clients reach this node.
    addr: Option<String>,
}

/// A node of the same cloud, as its leader hears of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    #[schema(value_type = String)]
    node: NodeId,
    /// `alive`, or `silent`: without an answer for longer than the longest election timeout.
    #[schema(example = "alive")]
    status: &'static str,
    /// Since it last answered an append or a heartbeat in this term.
    heard_ms_ago: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudView {
    #[schema(value_type = String)]
    cloud: CloudId,
    weight: u64,
    epoch: Option<String>,
    size: u64,
    #[schema(value_type = Option<String>)]
    root: Option<Hash>,
    /// How far the other clouds audited this log.
    #[schema(value_type = BTreeMap<String, u64>)]
    audited: BTreeMap<CloudId, u64>,
    /// Proven to have lied.
    flagged: bool,
    /// Whether a stream from it is up (on the leader; true for the own cloud).
    connected: bool,
    /// Whether the federation goes on without it.
    lives_without: bool,
    /// Whether two contents cannot both be FINAL though it lies.
    safe_if_it_lies: bool,
}

/// Events of this cloud by level.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsView {
    events: u64,
    pending: u64,
    quarantined: u64,
    r#final: u64,
    sealed: u64,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { events, pending, quarantined, r#final, sealed } = counts;
        Self { events, pending, quarantined, r#final, sealed }
    }
}

/// What this node knows.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses(
        (status = 200, body = StatusView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(State(context): State<Arc<Context>>) -> Result<Json<StatusView>, Problem> {
    let api = &context.api;
    let leadership = api.replica.leadership().borrow().clone();
    let peers = api.federation.peers();
    let (clouds, counts, applied) = api.replica.read(|view| {
        let genesis = view.state.genesis();
        let cloud_view = |cloud: &CloudId| {
            let head = view.state.head(cloud);
            let others = genesis.clouds().filter(|by| *by != cloud);
            CloudView {
                cloud: cloud.clone(),
                weight: genesis.weight(cloud),
                epoch: head.as_ref().map(|head| head.epoch.to_string()),
                size: head.as_ref().map_or(0, |head| head.size),
                root: head.map(|head| head.root),
                audited: others.map(|by| (by.clone(), view.state.audited(cloud, by))).collect(),
                flagged: view.state.is_flagged(cloud),
                connected: *cloud == context.cloud || peers.iter().any(|peer| peer.cloud == *cloud && peer.connected),
                lives_without: genesis.lives_without(cloud),
                safe_if_it_lies: genesis.safe_if_it_lies(cloud),
            }
        };
        Ok((genesis.clouds().map(cloud_view).collect(), view.state.counts(), view.applied))
    })?;
    let signed_size = api.federation.signed_note().borrow().as_ref().map(|note| note.body.size);
    Ok(Json(StatusView {
        fed_id: context.fed,
        cloud: context.cloud.clone(),
        node: api.node.clone(),
        role: role(leadership.is_leader),
        leader: leadership.leader,
        term: leadership.term,
        applied,
        clouds,
        members: members(&api.replica),
        counts: counts.into(),
        signed_size: signed_size.filter(|_| leadership.is_leader),
        refusals: peers.into_iter().filter_map(|peer| peer.refusal).collect(),
        pid: std::process::id(),
        now: super::view::timestamp(api.env.wall.now()),
        addr: api.directory.node(&api.node).map(|node| node.client_addr.to_string()),
    }))
}

fn members(replica: &Replica) -> Vec<MemberView> {
    let patience = replica.patience();
    let member = |(node, ago): (NodeId, Option<Duration>)| MemberView {
        node,
        status: if ago.is_some_and(|ago| ago <= patience) { "alive" } else { "silent" },
        heard_ms_ago: ago.map(|ago| ago.as_millis() as u64),
    };
    replica.heard().into_iter().map(member).collect()
}

pub fn role(is_leader: bool) -> &'static str {
    if is_leader { "leader" } else { "follower" }
}
