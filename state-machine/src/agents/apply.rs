//! Taking reports: signed by the agent's key, newer than everything heard before.

use super::{
    Agent, AgentRecord, Command, Heard, MAX_AGENTS, MAX_CONTAINER_BYTES, MAX_STANDING, Report, Standing, Status,
};
use crate::command::Reply;
use crate::fact::Fact;
use crate::ids::{HolderId, TenantId};
use crate::ledger::keys;
use crate::records::{Broken, Records};
use crate::rejection::Rejection;
use crate::state::{State, Tx};

type Answer = Result<Result<Reply, Rejection>, Broken>;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Answer {
    match command {
        Command::Put(agent) => put(tx, agent),
        Command::Report(report) => take(tx, report),
    }
}

fn put(tx: &mut Tx<'_>, agent: &Agent) -> Answer {
    if !tx.state.tenants.contains_key(&agent.tenant) {
        return Ok(Err(Rejection::UnknownTenant(agent.tenant.clone())));
    }
    if agent.stale_ms == 0 {
        return Ok(Err(Rejection::BadAgent("an agent that is stale at once never leads; set a time in ms".into())));
    }
    let known = tx.state.agent(tx.records, &agent.tenant, &agent.agent)?;
    if known.is_none() && tx.state.agents(tx.records, &agent.tenant)?.len() >= MAX_AGENTS {
        return Ok(Err(Rejection::TooManyAgents(agent.tenant.clone())));
    }
    // A new key starts over: its reports cannot be replays of the old one's.
    let heard = known.filter(|known| known.agent.secret == agent.secret).and_then(|known| known.heard);
    tx.keep_agent(&AgentRecord { agent: agent.clone(), heard });
    tx.facts.push(Fact::AgentPut { tenant: agent.tenant.clone(), agent: agent.agent.clone() });
    Ok(Ok(Reply::Done))
}

fn take(tx: &mut Tx<'_>, report: &Report) -> Answer {
    let Some(mut record) = tx.state.agent(tx.records, &report.tenant, &report.agent)? else {
        let Report { tenant, agent, .. } = report.clone();
        return Ok(Err(Rejection::UnknownAgent { tenant, agent }));
    };
    if !report.verifies(&tx.state.fed, &record.agent.secret) && !mutant!(ReportMacNotChecked) {
        return Ok(Err(Rejection::ForgedReport(report.agent.clone())));
    }
    let sorted = report.standing.windows(2).all(|pair| pair[0].lease < pair[1].lease);
    if report.standing.len() > MAX_STANDING || !sorted {
        let why = format!("a report names at most {MAX_STANDING} leases, each once, in alphabetical order");
        return Ok(Err(Rejection::BadAgent(why)));
    }
    let container = |s: &Standing| s.owns.as_ref().and_then(|owned| owned.container.as_ref()).map_or(0, String::len);
    if report.standing.iter().any(|standing| container(standing) > MAX_CONTAINER_BYTES) {
        return Ok(Err(Rejection::BadAgent(format!(
            "the name of a container has at most {MAX_CONTAINER_BYTES} bytes"
        ))));
    }
    let mark = record.heard.as_ref().map(|heard| (heard.boot, heard.sequence));
    if mark.is_some_and(|mark| (report.boot, report.sequence) <= mark) && !mutant!(ReportsReplayed) {
        let (boot, sequence) = mark.unwrap_or_default();
        return Ok(Err(Rejection::ReplayedReport { agent: report.agent.clone(), boot, sequence }));
    }
    let now = tx.state.hot.now;
    let news = record.status(now) != Status::Alive
        || record.heard.as_ref().is_none_or(|heard| heard.standing != report.standing);
    let Report { tenant, agent, boot, sequence, sent_at, standing, .. } = report.clone();
    record.heard = Some(Heard { boot, sequence, sent_at, at: now, standing });
    tx.keep_agent(&record);
    if news {
        tx.facts.push(Fact::AgentHeard { tenant, agent });
    }
    Ok(Ok(Reply::Done))
}

impl Tx<'_> {
    fn keep_agent(&mut self, record: &AgentRecord) {
        let Agent { tenant, agent, .. } = &record.agent;
        self.records.put(keys::agent(tenant, agent), crate::codec::encode(record));
    }
}

impl State {
    pub fn agent(
        &self,
        records: &dyn Records,
        tenant: &TenantId,
        agent: &HolderId,
    ) -> Result<Option<AgentRecord>, Broken> {
        let bytes = records.get(&keys::agent(tenant, agent))?;
        bytes.map(|bytes| crate::codec::decode(&bytes).map_err(Broken::from)).transpose()
    }

    /// A tenant's agents by id.
    pub fn agents(&self, records: &dyn Records, tenant: &TenantId) -> Result<Vec<AgentRecord>, Broken> {
        let (from, to) = keys::agent_range(tenant);
        let rows = records.scan(&from, &to, MAX_AGENTS)?;
        rows.into_iter().map(|(_, bytes)| crate::codec::decode(&bytes).map_err(Broken::from)).collect()
    }
}
