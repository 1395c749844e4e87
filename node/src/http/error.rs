//! The one mapping from everything that can go wrong to `application/problem+json`: rejections of
//! the state machine, failed proposals, unreadable requests, and axum's own refusals.

use crate::config::Directory;
use crate::raft::ProposeError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use tercet_core::canonical::JsonError;
use tercet_core::cloudevents::EventError;
use tercet_core::content::ContentError;
use tercet_core::ids::{Hash, HolderId, InvalidId, NodeId};
use tercet_core::records::Broken;
use tercet_core::rejection::{Code, Rejection};
use utoipa::ToSchema;

pub const PROBLEM_TYPE: &str = "application/problem+json";
/// What clients are told to wait before they try again, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// RFC 9457 problem details. `code` is stable; `detail` says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(example = "urn:tercet:problem:id_reuse")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    #[schema(value_type = String, example = "id_reuse")]
    pub code: Code,
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// `none`: nothing was changed. `unknown`: it may still take effect; retry with the same key.
    #[schema(example = "none")]
    pub outcome: &'static str,
    #[serde(flatten)]
    #[schema(inline)]
    pub extras: Option<Box<Extras>>,
}

/// What some codes say beside the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extras {
    /// With `id_reuse`: the hash of the content that the id names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub first_content_hash: Option<Hash>,
    /// With `not_leader`: the node that leads, if there is one, and its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_url: Option<String>,
    /// With `lease_held`: who has this cloud's vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub holder: Option<HolderId>,
    /// With `stale_token`: the least token of a new tenure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_token: Option<u64>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:tercet:problem:{}", code.as_str()),
            title: title(code),
            status: status(code).as_u16(),
            code,
            detail: detail.into(),
            retryable: code.retryable(),
            outcome: if code.has_no_side_effects() { "none" } else { "unknown" },
            extras: None,
        }
    }

    fn with(mut self, extras: Extras) -> Self {
        self.extras = Some(Box::new(extras));
        self
    }

    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    pub fn overloaded(what: &str, limit: usize) -> Self {
        Self::new(Code::Overloaded, format!("this node already holds {limit} {what}, its limit; retry shortly"))
    }

    pub fn body_too_large(limit: usize) -> Self {
        Self::new(
            Code::BodyTooLarge,
            format!("the body is larger than {limit} bytes, the limit here; send less at once"),
        )
    }

    /// Only the leader can answer; says who leads and where.
    pub fn not_leader(leader: Option<NodeId>, directory: &Directory) -> Self {
        let Some(leader) = leader else { return ProposeError::NoLeader.into() };
        let problem = Self::new(Code::NotLeader, format!("only the leader answers this; ask {leader}"));
        let leader_url = directory.node(&leader).map(|node| format!("https://{}", node.client_addr));
        problem.with(Extras { leader: Some(leader.to_string()), leader_url, ..Extras::default() })
    }

    pub fn timed_out(limit: Duration) -> Self {
        let detail = format!(
            "no answer within {} s; the request may still take effect: retry with the same id or Idempotency-Key",
            limit.as_secs()
        );
        Self::new(Code::OutcomeUnknown, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status(self.code);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

/// The HTTP status of every code.
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::BadSignature | Code::StaleReport | Code::Witness => StatusCode::FORBIDDEN,
        Code::NotFound
        | Code::UnknownAgent
        | Code::UnknownContent
        | Code::UnknownEvent
        | Code::UnknownLease
        | Code::UnknownTenant => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::AlreadyVoted
        | Code::IdReuse
        | Code::LeaseFixed
        | Code::LeaseFrozen
        | Code::LeaseHeld
        | Code::NotFinal
        | Code::NotManual
        | Code::ReplayedReport
        | Code::StaleToken
        | Code::TenantFixed => StatusCode::CONFLICT,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::NotLeader => StatusCode::MISDIRECTED_REQUEST,
        Code::BadEpoch | Code::BadEvidence | Code::BadGrant | Code::TooLarge => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Overloaded | Code::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::CertificateGone => StatusCode::GONE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::EpochNotOpen | Code::NoLeader => StatusCode::SERVICE_UNAVAILABLE,
        Code::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn title(code: Code) -> &'static str {
    match code {
        Code::AlreadyVoted => "This cloud has already voted",
        Code::BadEpoch => "The epoch was refused",
        Code::BadEvidence => "The evidence was refused",
        Code::BadGrant => "The grant was refused",
        Code::BadSignature => "The signature does not verify",
        Code::BodyTooLarge => "The body is too large",
        Code::CertificateGone => "No certificate can be made any more",
        Code::EpochNotOpen => "This cloud may not vote now",
        Code::Forbidden => "Not allowed",
        Code::IdReuse => "The id already names other content",
        Code::Internal => "An internal error",
        Code::InvalidRequest => "The request is not valid",
        Code::LeaseFixed => "This part of a lease never changes",
        Code::LeaseFrozen => "The lease is frozen",
        Code::LeaseHeld => "Somebody else has this cloud's vote",
        Code::MethodNotAllowed => "The method is not allowed here",
        Code::NoLeader => "The cloud has no leader",
        Code::NotFinal => "The event is not FINAL",
        Code::NotFound => "Not found",
        Code::NotLeader => "This node does not lead its cloud",
        Code::NotManual => "The tenant confirms automatically",
        Code::OutcomeUnknown => "The outcome is unknown",
        Code::Overloaded => "Too much work at once",
        Code::QuotaExceeded => "The tenant's quota is used up",
        Code::ReplayedReport => "The report was taken before",
        Code::StaleReport => "The report's time is too far off",
        Code::StaleToken => "The fencing token is over",
        Code::TenantFixed => "This part of a tenant never changes",
        Code::TooLarge => "The command exceeds a limit",
        Code::Unauthenticated => "A valid bearer token is needed",
        Code::UnknownAgent => "The agent is unknown",
        Code::UnknownContent => "The content is unknown",
        Code::UnknownEvent => "The event is unknown",
        Code::UnknownLease => "The lease is unknown",
        Code::UnknownTenant => "The tenant is unknown",
        Code::UnsupportedMediaType => "The content type is not supported",
        Code::Witness => "A witness never leads",
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let problem = Self::new(rejection.code(), rejection.to_string());
        match rejection {
            Rejection::IdReuse { first, .. } => {
                problem.with(Extras { first_content_hash: Some(first), ..Extras::default() })
            }
            Rejection::LeaseHeld { holder, .. } => problem.with(Extras { holder: Some(holder), ..Extras::default() }),
            Rejection::StaleToken { least, .. } => {
                problem.with(Extras { least_token: Some(least), ..Extras::default() })
            }
            _ => problem,
        }
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        match &error {
            ProposeError::NotLeader { leader } => {
                let leader = leader.as_ref().map(NodeId::to_string);
                Self::new(Code::NotLeader, error.to_string()).with(Extras { leader, ..Extras::default() })
            }
            ProposeError::NoLeader => Self::new(Code::NoLeader, format!("{error}; retry when its nodes are back")),
            ProposeError::Stopped => Self::new(Code::NoLeader, format!("{error}; ask another node")),
            ProposeError::Overloaded => Self::new(Code::Overloaded, format!("{error}; retry shortly")),
            ProposeError::OutcomeUnknown => Self::new(Code::OutcomeUnknown, error.to_string()),
        }
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Content(ContentError::PayloadTooLarge(_)) => Self::new(Code::BodyTooLarge, error.to_string()),
            EventError::Signature(_) => Self::new(Code::BadSignature, error.to_string()),
            _ => Self::invalid(error.to_string()),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Broken> for Problem {
    fn from(error: Broken) -> Self {
        tracing::error!(%error, "a read of applied state failed");
        Self::new(Code::Internal, "this node cannot read its state; ask another node, and look into this node's log")
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

/// No route has this path.
pub async fn no_route(uri: axum::http::Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is nothing at {}; GET /openapi.json lists what there is", uri.path()))
}

/// The route exists, with other methods.
pub async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let detail = format!("{} does not take {method}; GET /openapi.json lists its methods", uri.path());
    Problem::new(Code::MethodNotAllowed, detail)
}
