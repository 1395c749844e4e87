//! The calls, one cloud at a time: every cloud has a vote of its own.

use crate::client::{Client, Patience, Route};
use crate::error::Error;
use crate::http::{Answer, Call};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tercet_core::agents::{Agent, Candidate, Standing, Status};
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{CloudId, EpochId, HolderId, LeaseId, NodeId, TenantId};
use tercet_core::leases::{Asked, Change, Grant, Look, Release, Scope, SignedClaim, SignedVote, Spec, Vote};
use tercet_core::signature::Signature;
use tercet_core::time::WallMillis;

/// A lease as one cloud knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    pub tenant: TenantId,
    pub name: LeaseId,
    pub cloud: CloudId,
    pub scope: Scope,
    pub lease_duration_ms: u32,
    /// Who has this cloud's vote, while that may still hold.
    pub holder_identity: Option<HolderId>,
    pub fencing_token: Option<u64>,
    pub acquire_time: Option<String>,
    pub renew_time: Option<String>,
    pub lease_transitions: u64,
    pub preferred_holder: Option<HolderId>,
    pub frozen: bool,
    pub vote: Option<VoteView>,
    pub least_token: u64,
    pub free_in_ms: Option<u64>,
}

/// Who holds a lease, and who stands for it, as one cloud knows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderView {
    pub leader: Option<HolderId>,
    pub fencing_token: Option<u64>,
    pub preferred_holder: Option<HolderId>,
    pub elected: Option<HolderId>,
    /// The best one first.
    pub candidates: Vec<Candidate>,
}

/// An agent as one cloud knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    pub agent: HolderId,
    pub weight: u32,
    pub witness: bool,
    pub stale_ms: u64,
    pub status: Status,
    pub heard_ms_ago: Option<u64>,
    pub sent_at: Option<String>,
    pub boot: Option<u64>,
    pub sequence: Option<u64>,
    pub standing: Vec<Standing>,
}

#[derive(Deserialize)]
struct Agents {
    agents: Vec<AgentView>,
}

/// A cloud's latest vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoteView {
    pub holder: HolderId,
    pub token: u64,
    pub renewal: u64,
    pub voted_at: String,
    pub released: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedVoteView {
    cloud: CloudId,
    epoch: EpochId,
    scope: Scope,
    voted_at: u64,
    signatures: Vec<NodeSignature>,
}

#[derive(Deserialize)]
struct NodeSignature {
    node: NodeId,
    signature: Signature,
}

#[derive(Deserialize)]
struct One {
    lease: LeaseView,
}

#[derive(Deserialize)]
struct Many {
    leases: Vec<LeaseView>,
}

#[derive(Deserialize)]
struct History {
    changes: Vec<Change>,
}

impl LeaseView {
    /// What a candidate has to know.
    pub fn look(&self) -> Look {
        Look { cloud: self.cloud.clone(), least_token: self.least_token, free_in_ms: self.free_in_ms }
    }

    pub fn spec(&self) -> Spec {
        Spec {
            tenant: self.tenant.clone(),
            lease: self.name.clone(),
            scope: self.scope.clone(),
            duration_ms: self.lease_duration_ms,
            preferred: self.preferred_holder.clone(),
            frozen: self.frozen,
        }
    }
}

fn call(method: Method, tenant: &TenantId, more: &[&str]) -> Call {
    Call::new(method, &[&["v1", "tenants", tenant.as_str(), "leases"], more].concat())
}

impl Client {
    /// Creates the lease on one cloud, or changes who is preferred and whether it is frozen. The history shows `asked`,
    /// with the time at which the cloud took it.
    pub async fn put_lease(&self, cloud: &CloudId, spec: &Spec, asked: &Asked) -> Result<LeaseView, Error> {
        let Spec { tenant, lease, scope, duration_ms, preferred, frozen } = spec;
        let body = json!({
            "scope": scope, "durationMs": duration_ms, "preferred": preferred, "frozen": frozen,
            "by": asked.by, "why": asked.why,
        });
        let call = call(Method::PUT, tenant, &[lease.as_str()]).json(&body).once();
        Ok(self.send(&Route::Only(cloud.clone()), &call).await?.json::<One>()?.lease)
    }

    /// A tenant's leases on one cloud.
    pub async fn leases(&self, cloud: &CloudId, tenant: &TenantId) -> Result<Vec<LeaseView>, Error> {
        let answer = self.send(&Route::Only(cloud.clone()), &call(Method::GET, tenant, &[])).await?;
        Ok(answer.json::<Many>()?.leases)
    }

    /// One lease on one cloud, as its leader knows it, and when `candidate` may have it.
    pub async fn lease(
        &self,
        cloud: &CloudId,
        tenant: &TenantId,
        lease: &LeaseId,
        candidate: Option<&HolderId>,
        patience: Patience,
    ) -> Result<LeaseView, Error> {
        let mut call = call(Method::GET, tenant, &[lease.as_str()]);
        if let Some(candidate) = candidate {
            call = call.query("candidate", candidate);
        }
        let answer = self.send_for(&Route::Only(cloud.clone()), &bounded(call, patience), patience).await?;
        let view = answer.json::<One>()?.lease;
        if view.cloud != *cloud {
            let why = format!("it answers for cloud {}, the context says that it is of {cloud}", view.cloud);
            return Err(Error::Protocol { node: answer.node, why });
        }
        Ok(view)
    }

    /// The latest changes of a lease on one cloud, the newest first.
    pub async fn lease_history(
        &self,
        route: &Route,
        tenant: &TenantId,
        lease: &LeaseId,
        limit: u64,
    ) -> Result<Vec<Change>, Error> {
        let call = call(Method::GET, tenant, &[lease.as_str(), "history"]).query("limit", limit);
        Ok(self.send(route, &call).await?.json::<History>()?.changes)
    }

    /// Asks one cloud for its vote. Whether it verifies is for the campaign to say.
    pub async fn vote_on_lease(
        &self,
        cloud: &CloudId,
        signed: &SignedClaim,
        within: Duration,
    ) -> Result<SignedVote, Error> {
        let claim = &signed.claim;
        let body = json!({
            "token": claim.token, "renewal": claim.renewal, "holder": claim.holder, "session": claim.session,
            "durationMs": claim.duration_ms, "signature": signed.signature,
        });
        let call = call(Method::POST, &claim.tenant, &[claim.lease.as_str(), "votes"]).json(&body);
        let patience = Patience::once(within);
        let answer = self.send_for(&Route::Only(cloud.clone()), &bounded(call, patience), patience).await?;
        let view: SignedVoteView = answer.json()?;
        let (claim, scope, voted_at) = (claim.clone(), view.scope, WallMillis(view.voted_at));
        Ok(SignedVote {
            vote: Vote { cloud: view.cloud, epoch: view.epoch, claim, scope, voted_at },
            signatures: view.signatures.into_iter().map(|signed| (signed.node, signed.signature)).collect(),
        })
    }

    /// Gives the lease back at one cloud.
    pub async fn release_lease(&self, cloud: &CloudId, release: &Release, within: Duration) -> Result<(), Error> {
        let Release { tenant, lease, token, session, to, signature } = release;
        let body = json!({ "token": token, "session": session, "to": to, "signature": signature });
        let call = call(Method::POST, tenant, &[lease.as_str(), "release"]).json(&body).once();
        let patience = Patience::through_outages(Some(within));
        self.send_for(&Route::Only(cloud.clone()), &bounded(call, patience), patience).await.map(drop)
    }

    /// Shows one cloud who holds the lease.
    pub async fn show_grant(&self, cloud: &CloudId, grant: &Grant, within: Duration) -> Result<(), Error> {
        let claim = &grant.claim;
        let body = json!({ "grant": grant.to_text() });
        let call = call(Method::PUT, &claim.tenant, &[claim.lease.as_str(), "grant"]).json(&body).once();
        let patience = Patience::through_outages(Some(within));
        self.send_for(&Route::Only(cloud.clone()), &bounded(call, patience), patience).await.map(drop)
    }

    /// Who stands for a lease, as the first cloud that answers knows it.
    pub async fn leader(&self, tenant: &TenantId, lease: &LeaseId) -> Result<LeaderView, Error> {
        self.leader_within(tenant, lease, self.patience()).await
    }

    pub async fn leader_within(
        &self,
        tenant: &TenantId,
        lease: &LeaseId,
        patience: Patience,
    ) -> Result<LeaderView, Error> {
        let call = Call::get(&["federation", "leader"]).query("tenant", tenant).query("lease", lease);
        self.send_for(&Route::Any, &bounded(call, patience), patience).await?.json()
    }

    /// Registers an agent on one cloud, or changes it.
    pub async fn put_agent(&self, cloud: &CloudId, agent: &Agent) -> Result<(), Error> {
        let Agent { tenant, agent: id, secret, weight, witness, stale_ms } = agent;
        let body = json!({ "secret": secret, "weight": weight, "witness": witness, "staleMs": stale_ms });
        let path = ["v1", "tenants", tenant.as_str(), "agents", id.as_str()];
        let call = Call::new(Method::PUT, &path).json(&body).once();
        self.send(&Route::Only(cloud.clone()), &call).await.map(drop)
    }

    /// A tenant's agents as one cloud knows them.
    pub async fn agents(&self, route: &Route, tenant: &TenantId) -> Result<Vec<AgentView>, Error> {
        let answer = self.send(route, &Call::get(&["v1", "tenants", tenant.as_str(), "agents"])).await?;
        Ok(answer.json::<Agents>()?.agents)
    }

    /// The federation's public keys as the clouds know them now. Whoever uses them has to check that they are of the
    /// federation that it trusts.
    pub async fn trust(&self) -> Result<TrustBundle, Error> {
        let answer: Answer = self.send(&Route::Any, &Call::get(&["v1", "trust"])).await?;
        let value: Value = answer.json()?;
        serde_json::from_value(value).map_err(|error| Error::Protocol { node: answer.node, why: error.to_string() })
    }
}

/// One node may take half of the time, so that another one of its cloud can still be asked.
fn bounded(call: Call, patience: Patience) -> Call {
    let most = call.attempt_timeout;
    call.attempt_timeout(patience.total.map_or(most, |total| most.min(total / 2)))
}
