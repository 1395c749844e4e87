//! Leases of a tenant. A lease is put on every cloud separately; candidates ask each cloud for its vote, and
//! show the others what they were granted. Every node answers, through its cloud's leader where needed.

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
use std::sync::Arc;
use tercet_core::command::Command;
use tercet_core::ids::{CloudId, EpochId, HolderId, LeaseId, NodeId, TenantId};
use tercet_core::leases::{self, Asked, Change, Claim, Grant, Release, Scope, SignedClaim, SignedVote, Spec};
use tercet_core::rejection::{Code, Rejection};
use tercet_core::signature::{PublicKey, Signature};
use utoipa::{IntoParams, ToSchema};

/// The largest body: a grant in base64 and everything around it.
pub const MAX_LEASE_BODY_BYTES: usize = 16 << 10;
/// The most changes of one answer, and how many there are without a limit.
pub const MAX_CHANGES: u64 = leases::MAX_HISTORY;
const DEFAULT_CHANGES: u64 = 50;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseRequest {
    /// `global`, `strict` or `cloud:NAME`; never changes.
    #[schema(value_type = String, example = "global")]
    scope: Scope,
    /// 200 to 600,000; never changes.
    duration_ms: u32,
    /// Other candidates let this one go first.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    preferred: Option<HolderId>,
    /// Nobody new gets a vote.
    #[serde(default)]
    frozen: bool,
    /// Who asks, as the history shall show it: up to 256 bytes.
    by: Option<String>,
    /// Why, as the history shall show it: up to 256 bytes.
    why: Option<String>,
}

/// A lease as this cloud knows it, in the words of Kubernetes' `coordination.k8s.io/v1`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String)]
    name: LeaseId,
    #[schema(value_type = String)]
    cloud: CloudId,
    scope: String,
    lease_duration_ms: u32,
    /// Who has this cloud's vote, while that may still hold.
    #[schema(value_type = Option<String>)]
    holder_identity: Option<HolderId>,
    fencing_token: Option<u64>,
    /// When that tenure began, by the wall clock of the cloud that voted first.
    acquire_time: Option<String>,
    /// This cloud's latest vote.
    renew_time: Option<String>,
    /// How often the lease changed hands, as far as this cloud was shown.
    lease_transitions: u64,
    #[schema(value_type = Option<String>)]
    preferred_holder: Option<HolderId>,
    frozen: bool,
    /// This cloud's latest vote, whether or not it still holds.
    vote: Option<VoteView>,
    /// The least fencing token of a new tenure.
    least_token: u64,
    /// Milliseconds until this cloud gives its vote to the candidate that was named; absent if not as
    /// things stand.
    free_in_ms: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VoteView {
    #[schema(value_type = String)]
    holder: HolderId,
    token: u64,
    renewal: u64,
    voted_at: String,
    released: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LeaseAnswerView {
    lease: LeaseView,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LeasesView {
    leases: Vec<LeaseView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryView {
    /// The newest first.
    #[schema(value_type = Vec<Object>)]
    changes: Vec<Change>,
}

/// `?candidate=`: for whom `freeInMs` is told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CandidateSearch {
    #[param(value_type = Option<String>)]
    candidate: Option<HolderId>,
}

/// `?limit=`
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistorySearch {
    limit: Option<u64>,
}

/// A claim with its session's signature (docs/PROTOCOL.md, section 14).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRequest {
    token: u64,
    renewal: u64,
    #[schema(value_type = String)]
    holder: HolderId,
    /// The Ed25519 public key of this process, in hexadecimal.
    #[schema(value_type = String)]
    session: PublicKey,
    duration_ms: u32,
    #[schema(value_type = String)]
    signature: Signature,
}

/// This cloud's vote, signed by exactly as many of its nodes as its epoch's threshold.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedVoteView {
    #[schema(value_type = String)]
    cloud: CloudId,
    #[schema(value_type = String)]
    epoch: EpochId,
    scope: String,
    /// Milliseconds since 1970-01-01T00:00Z: part of what is signed.
    voted_at: u64,
    signatures: Vec<NodeSignatureView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct NodeSignatureView {
    #[schema(value_type = String)]
    node: NodeId,
    #[schema(value_type = String)]
    signature: Signature,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseRequest {
    token: u64,
    #[schema(value_type = String)]
    session: PublicKey,
    /// For everybody else the wait stands.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    to: Option<HolderId>,
    #[schema(value_type = String)]
    signature: Signature,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReleasedView {
    released: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The grant's bytes in URL-safe base64 without padding.
    grant: String,
}

impl From<LeaseStatus> for LeaseView {
    fn from(status: LeaseStatus) -> Self {
        let LeaseStatus { lease, look, holds, .. } = status;
        let vote = lease.vote.as_ref();
        let held = vote.filter(|_| holds);
        let tenure = lease.tenure.as_ref().filter(|tenure| held.is_some_and(|vote| tenure.is_of(&vote.claim)));
        Self {
            cloud: look.cloud,
            scope: lease.spec.scope.to_string(),
            lease_duration_ms: lease.spec.duration_ms,
            holder_identity: held.map(|vote| vote.claim.holder.clone()),
            fencing_token: held.map(|vote| vote.claim.token),
            acquire_time: tenure.map(|tenure| timestamp(tenure.acquired_at)),
            renew_time: held.map(|vote| timestamp(vote.voted_at)),
            lease_transitions: lease.transitions,
            frozen: lease.spec.frozen,
            vote: vote.map(|vote| VoteView {
                holder: vote.claim.holder.clone(),
                token: vote.claim.token,
                renewal: vote.claim.renewal,
                voted_at: timestamp(vote.voted_at),
                released: lease.released.is_some(),
            }),
            least_token: look.least_token,
            free_in_ms: look.free_in_ms,
            tenant: lease.spec.tenant,
            name: lease.spec.lease,
            preferred_holder: lease.spec.preferred,
        }
    }
}

impl From<SignedVote> for SignedVoteView {
    fn from(signed: SignedVote) -> Self {
        let view = |(node, signature)| NodeSignatureView { node, signature };
        Self {
            cloud: signed.vote.cloud,
            epoch: signed.vote.epoch,
            scope: signed.vote.scope.to_string(),
            voted_at: signed.vote.voted_at.0,
            signatures: signed.signatures.into_iter().map(view).collect(),
        }
    }
}

impl Context {
    async fn lease(
        &self,
        tenant: TenantId,
        lease: LeaseId,
        candidate: Option<HolderId>,
    ) -> Result<Json<LeaseAnswerView>, Problem> {
        let answer = self.api.federation.look_at_lease(tenant, lease, candidate).await;
        match answer.map_err(|error| self.refused(error))? {
            LeaseAnswer::Status(status) => Ok(Json(LeaseAnswerView { lease: LeaseView::from(*status) })),
            other => Err(refusal(other)),
        }
    }

    async fn propose_lease(&self, headers: &HeaderMap, command: leases::Command) -> Result<(), Problem> {
        let request_id = idempotency_key(headers)?;
        let committed = self.submits.propose(request_id, Command::Leases(Box::new(command))).await;
        let committed = committed.map_err(|error| self.refused(error))?;
        committed.reply?;
        self.applied_up_to(committed.index).await;
        Ok(())
    }
}

fn refusal(answer: LeaseAnswer) -> Problem {
    match answer {
        LeaseAnswer::Refused(rejection) => rejection.into(),
        LeaseAnswer::BadSignature => {
            let detail = "the claim is not signed by its session; sign docs/PROTOCOL.md's claim bytes with that key";
            Problem::new(Code::BadSignature, detail)
        }
        LeaseAnswer::Status(_) | LeaseAnswer::List(_) | LeaseAnswer::Voted(_) => {
            Problem::new(Code::Internal, "the leader answered another question")
        }
    }
}

/// Creates a lease on this cloud, or changes who is preferred and whether it is frozen.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/leases/{name}", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = LeaseRequest,
    responses(
        (status = 200, body = LeaseAnswerView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(context): State<Arc<Context>>,
    Params((tenant, name)): Params<(TenantId, LeaseId)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LeaseAnswerView>, Problem> {
    let LeaseRequest { scope, duration_ms, preferred, frozen, by, why } =
        read_json(&headers, body, MAX_LEASE_BODY_BYTES).await?;
    let spec = Spec { tenant: tenant.clone(), lease: name.clone(), scope, duration_ms, preferred, frozen };
    let asked = Asked { by, why, at: context.api.env.wall.now() };
    asked.check().map_err(Problem::invalid)?;
    context.propose_lease(&headers, leases::Command::Put(spec, asked)).await?;
    context.lease(tenant, name, None).await
}

/// All leases of a tenant on this cloud.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/leases", tag = "leases",
    params(("tenant" = String, Path)),
    responses(
        (status = 200, body = LeasesView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    Params(tenant): Params<TenantId>,
) -> Result<Json<LeasesView>, Problem> {
    context.tenant(&tenant).await?;
    let answer = context.api.federation.list_leases(tenant).await;
    let listed = answer.map_err(|error| context.refused(error))?;
    Ok(Json(LeasesView { leases: listed.into_iter().map(LeaseView::from).collect() }))
}

/// One lease, as this cloud's leader knows it.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/leases/{name}", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path), CandidateSearch),
    responses(
        (status = 200, body = LeaseAnswerView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(context): State<Arc<Context>>,
    Params((tenant, name)): Params<(TenantId, LeaseId)>,
    Search(search): Search<CandidateSearch>,
) -> Result<Json<LeaseAnswerView>, Problem> {
    context.lease(tenant, name, search.candidate).await
}

/// What happened to a lease, as far as this node has applied it.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/leases/{name}/history", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path), HistorySearch),
    responses(
        (status = 200, body = HistoryView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn history(
    State(context): State<Arc<Context>>,
    Params((tenant, name)): Params<(TenantId, LeaseId)>,
    Search(search): Search<HistorySearch>,
) -> Result<Json<HistoryView>, Problem> {
    let limit = search.limit.unwrap_or(DEFAULT_CHANGES);
    if limit > MAX_CHANGES {
        return Err(Problem::invalid(format!("limit is {limit}, at most {MAX_CHANGES} are kept")));
    }
    let changes = context.api.replica.read(|view| {
        let Some(lease) = view.state.lease(view.records, &tenant, &name)? else { return Ok(None) };
        view.state.lease_history(view.records, &lease, limit).map(Some)
    })?;
    let changes = changes.ok_or(Rejection::UnknownLease { tenant, lease: name })?;
    Ok(Json(HistoryView { changes }))
}

/// Asks for this cloud's vote. The same claim gets the same vote.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/leases/{name}/votes", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path)),
    request_body = ClaimRequest,
    responses(
        (status = 200, body = SignedVoteView),
        (status = 409, description = "somebody else has the vote, or the token is over", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn vote(
    State(context): State<Arc<Context>>,
    Params((tenant, lease)): Params<(TenantId, LeaseId)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SignedVoteView>, Problem> {
    let request: ClaimRequest = read_json(&headers, body, MAX_LEASE_BODY_BYTES).await?;
    let ClaimRequest { token, renewal, holder, session, duration_ms, signature } = request;
    let claim = Claim { tenant, lease, token, renewal, holder, session, duration_ms };
    let answer = context.api.federation.vote_on_lease(SignedClaim { claim, signature }).await;
    match answer.map_err(|error| context.refused(error))? {
        LeaseAnswer::Voted(signed) => Ok(Json(SignedVoteView::from(*signed))),
        other => Err(refusal(other)),
    }
}

/// Takes the holder's word that it acts no more, so that nobody has to wait.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/leases/{name}/release", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = ReleaseRequest,
    responses(
        (status = 200, body = ReleasedView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn release(
    State(context): State<Arc<Context>>,
    Params((tenant, lease)): Params<(TenantId, LeaseId)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReleasedView>, Problem> {
    let request: ReleaseRequest = read_json(&headers, body, MAX_LEASE_BODY_BYTES).await?;
    let ReleaseRequest { token, session, to, signature } = request;
    let release = Release { tenant, lease, token, session, to, signature };
    if release.verify(&context.fed).is_err() {
        return Err(Problem::new(Code::BadSignature, "the release is not signed by the session that it names"));
    }
    context.propose_lease(&headers, leases::Command::Release(release, context.api.env.wall.now())).await?;
    Ok(Json(ReleasedView { released: true }))
}

/// Shows this cloud who holds the lease. It verifies the grant, and notes the change.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/leases/{name}/grant", tag = "leases",
    params(("tenant" = String, Path), ("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = GrantRequest,
    responses(
        (status = 200, body = LeaseAnswerView),
        (status = 422, description = "it does not verify", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(context): State<Arc<Context>>,
    Params((tenant, name)): Params<(TenantId, LeaseId)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LeaseAnswerView>, Problem> {
    let request: GrantRequest = read_json(&headers, body, MAX_LEASE_BODY_BYTES).await?;
    let refused = |why: String| Problem::from(Rejection::BadGrant(why));
    let grant = Grant::from_text(&request.grant).map_err(|error| refused(error.to_string()))?;
    if (&grant.claim.tenant, &grant.claim.lease) != (&tenant, &name) {
        let detail = format!("it is of lease {} of tenant {}", grant.claim.lease, grant.claim.tenant);
        return Err(refused(detail));
    }
    context.propose_lease(&headers, leases::Command::Show(grant, context.api.env.wall.now())).await?;
    context.lease(tenant, name, None).await
}
