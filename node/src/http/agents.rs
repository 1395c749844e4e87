//! Agents outside the clouds: an operator registers them, they report, and a free lease goes to the best of
//! those that stand for it. `POST /federation/consensus` and `GET /federation/leader` are the short way that
//! peers of other systems know; everything else is under `/v1`.

use super::Context;
use super::error::Problem;
use super::request::{Params, Search, idempotency_key, read_json};
use super::view::timestamp;
use crate::federation::{LeaseAnswer, LeaseStatus};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_core::agents::{
    self, Agent, AgentRecord, AgentSecret, Candidate, REPORT_WINDOW_MS, Report, Standing, Status,
};
use tercet_core::command::Command;
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::rejection::{Code, Rejection};
use tercet_core::time::Millis;
use utoipa::{IntoParams, ToSchema};

/// The largest body: a report that stands for the most leases.
pub const MAX_AGENT_BODY_BYTES: usize = 16 << 10;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentRequest {
    /// 32 random bytes in hexadecimal: what its reports are signed with. Never shown again.
    #[schema(value_type = String)]
    secret: AgentSecret,
    /// Of two candidates that are equally far, the heavier one leads.
    #[serde(default = "default_weight")]
    weight: u32,
    /// Reports, and never leads.
    #[serde(default)]
    witness: bool,
    /// Without a report for so long it is stale; 300,000 if left out.
    #[serde(default = "default_stale_ms")]
    stale_ms: u64,
}

fn default_weight() -> u32 {
    1
}

fn default_stale_ms() -> u64 {
    agents::DEFAULT_STALE_MS
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    #[schema(value_type = String)]
    agent: HolderId,
    weight: u32,
    witness: bool,
    stale_ms: u64,
    /// `alive`, `stale` or `silent` (it never reported).
    #[schema(value_type = String)]
    status: Status,
    /// Since this cloud took the latest report.
    heard_ms_ago: Option<u64>,
    /// By the agent's clock.
    sent_at: Option<String>,
    boot: Option<u64>,
    sequence: Option<u64>,
    #[schema(value_type = Vec<Object>)]
    standing: Vec<Standing>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentAnswerView {
    agent: AgentView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AgentsView {
    agents: Vec<AgentView>,
}

/// A report with its MAC (docs/PROTOCOL.md, section 15).
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "describes the JSON of tercet_core::agents::Report")]
pub struct ReportRequest {
    tenant: String,
    agent: String,
    boot: u64,
    sequence: u64,
    /// Milliseconds since 1970-01-01T00:00Z, at most five minutes off.
    sent_at: u64,
    #[schema(value_type = Vec<Object>)]
    standing: Vec<Standing>,
    mac: String,
}

/// `?tenant=&lease=`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaderSearch {
    #[param(value_type = String)]
    tenant: TenantId,
    #[param(value_type = String)]
    lease: LeaseId,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderView {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    lease: LeaseId,
    #[schema(value_type = String)]
    cloud: CloudId,
    /// Who has this cloud's vote, while that may still hold.
    #[schema(value_type = Option<String>)]
    leader: Option<HolderId>,
    fencing_token: Option<u64>,
    lease_duration_ms: u32,
    frozen: bool,
    #[schema(value_type = Option<String>)]
    preferred_holder: Option<HolderId>,
    /// Who would be first if the lease were free now.
    #[schema(value_type = Option<String>)]
    elected: Option<HolderId>,
    #[schema(value_type = Vec<Object>)]
    candidates: Vec<Candidate>,
}

impl AgentView {
    fn new(record: AgentRecord, now: Millis) -> Self {
        let status = record.status(now);
        let Agent { agent, weight, witness, stale_ms, .. } = record.agent;
        let heard = record.heard.as_ref();
        Self {
            agent,
            weight,
            witness,
            stale_ms,
            status,
            heard_ms_ago: heard.map(|heard| now.0.saturating_sub(heard.at.0)),
            sent_at: heard.map(|heard| timestamp(heard.sent_at)),
            boot: heard.map(|heard| heard.boot),
            sequence: heard.map(|heard| heard.sequence),
            standing: record.heard.map(|heard| heard.standing).unwrap_or_default(),
        }
    }
}

/// Registers an agent on this cloud, or changes its key, weight, role and patience.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/agents/{agent}", tag = "agents",
    params(("tenant" = String, Path), ("agent" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = AgentRequest,
    responses(
        (status = 200, body = AgentAnswerView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(context): State<Arc<Context>>,
    Params((tenant, id)): Params<(TenantId, HolderId)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AgentAnswerView>, Problem> {
    let request_id = idempotency_key(&headers)?;
    let AgentRequest { secret, weight, witness, stale_ms } = read_json(&headers, body, MAX_AGENT_BODY_BYTES).await?;
    let agent = Agent { tenant: tenant.clone(), agent: id.clone(), secret, weight, witness, stale_ms };
    let command = Command::Agents(Box::new(agents::Command::Put(agent)));
    let committed = context.submits.propose(request_id, command).await.map_err(|error| context.refused(error))?;
    committed.reply?;
    context.applied_up_to(committed.index).await;
    let found = context.api.replica.read(|view| Ok((view.state.agent(view.records, &tenant, &id)?, view.now)))?;
    let (Some(record), now) = found else { return Err(Rejection::UnknownAgent { tenant, agent: id }.into()) };
    Ok(Json(AgentAnswerView { agent: AgentView::new(record, now) }))
}

/// All agents of a tenant, as far as this node has applied their reports.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/agents", tag = "agents",
    params(("tenant" = String, Path)),
    responses(
        (status = 200, body = AgentsView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    Params(tenant): Params<TenantId>,
) -> Result<Json<AgentsView>, Problem> {
    context.tenant(&tenant).await?;
    let (mut agents, now, leases) = context.api.replica.read(|view| {
        let leases = view.state.leases(view.records, &tenant)?;
        Ok((view.state.agents(view.records, &tenant)?, view.now, leases))
    })?;
    let tokens: BTreeMap<_, _> =
        leases.into_iter().filter_map(|lease| Some((lease.spec.lease, lease.tenure?.token))).collect();
    for standing in agents.iter_mut().filter_map(|record| record.heard.as_mut()).flat_map(|heard| &mut heard.standing) {
        // Who was killed says no more that it owns nothing; but a higher token was granted since.
        standing.owns.take_if(|owned| tokens.get(&standing.lease).is_some_and(|token| *token > owned.token));
    }
    Ok(Json(AgentsView { agents: agents.into_iter().map(|record| AgentView::new(record, now)).collect() }))
}

/// Takes an agent's report. It needs no token: its MAC says who speaks, and its time and number that it is new.
#[utoipa::path(
    post, path = "/federation/consensus", tag = "agents", security(()),
    request_body = ReportRequest,
    responses(
        (status = 200, body = AgentAnswerView),
        (status = 403, description = "forged, or more than five minutes off", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "taken before", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn report(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AgentAnswerView>, Problem> {
    let report: Report = read_json(&headers, body, MAX_AGENT_BODY_BYTES).await?;
    let off_ms = context.api.env.wall.now().0.abs_diff(report.sent_at.0);
    if off_ms > REPORT_WINDOW_MS {
        let detail = format!(
            "the report was sent {} s away from this node's clock, at most {} s are allowed; is it an old one, or is a clock wrong?",
            off_ms / 1000,
            REPORT_WINDOW_MS / 1000
        );
        return Err(Problem::new(Code::StaleReport, detail));
    }
    let (tenant, id) = (report.tenant.clone(), report.agent.clone());
    // Nobody had to show a token so far: what this node can refuse by itself costs no entry.
    let Some(known) = context.api.replica.read(|view| view.state.agent(view.records, &tenant, &id))? else {
        return Err(Rejection::UnknownAgent { tenant, agent: id }.into());
    };
    if !report.verifies(&context.fed, &known.agent.secret) {
        return Err(Rejection::ForgedReport(id).into());
    }
    let heard = known.heard.map_or((0, 0), |heard| (heard.boot, heard.sequence));
    if (report.boot, report.sequence) <= heard {
        let (boot, sequence) = heard;
        return Err(Rejection::ReplayedReport { agent: id, boot, sequence }.into());
    }
    let command = Command::Agents(Box::new(agents::Command::Report(report)));
    let committed = context.submits.propose(None, command).await.map_err(|error| context.refused(error))?;
    committed.reply?;
    let found = context.api.replica.read(|view| Ok((view.state.agent(view.records, &tenant, &id)?, view.now)))?;
    let (Some(record), now) = found else { return Err(Rejection::UnknownAgent { tenant, agent: id }.into()) };
    Ok(Json(AgentAnswerView { agent: AgentView::new(record, now) }))
}

/// Who holds a lease, and who would be elected if it were free.
#[utoipa::path(
    get, path = "/federation/leader", tag = "agents",
    params(LeaderSearch),
    responses(
        (status = 200, body = LeaderView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn leader(
    State(context): State<Arc<Context>>,
    Search(LeaderSearch { tenant, lease }): Search<LeaderSearch>,
) -> Result<Json<LeaderView>, Problem> {
    let answer = context.api.federation.look_at_lease(tenant, lease, None).await;
    let status = match answer.map_err(|error| context.refused(error))? {
        LeaseAnswer::Status(status) => *status,
        LeaseAnswer::Refused(rejection) => return Err(rejection.into()),
        _ => return Err(Problem::new(Code::Internal, "the leader answered another question")),
    };
    let LeaseStatus { lease, look, election, holds } = status;
    let held = lease.vote.as_ref().filter(|_| holds);
    Ok(Json(LeaderView {
        leader: held.map(|vote| vote.claim.holder.clone()),
        fencing_token: held.map(|vote| vote.claim.token),
        cloud: look.cloud,
        lease_duration_ms: lease.spec.duration_ms,
        frozen: lease.spec.frozen,
        preferred_holder: lease.spec.preferred,
        elected: election.leader().cloned(),
        candidates: election.candidates,
        tenant: lease.spec.tenant,
        lease: lease.spec.lease,
    }))
}
