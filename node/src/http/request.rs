//! Reading requests: paths, queries, headers and bodies, each within its limit and each refusal a
//! problem. JSON is parsed strictly (see `tercet_core::canonical`), unknown fields are refused.

use super::error::Problem;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tercet_core::canonical;
use tercet_core::ids::RequestId;
use tercet_core::rejection::Code;
use tokio::time::timeout;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Path parameters, decoded and typed.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(params) = Path::<T>::from_request_parts(parts, state).await?;
        Ok(Self(params))
    }
}

/// Query parameters; those that a route does not know are refused.
pub struct Search<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Search<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(search) = Query::<T>::from_request_parts(parts, state).await?;
        Ok(Self(search))
    }
}

/// The whole body, at most `limit` bytes, within [`BODY_TIMEOUT`].
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    if declared_length(headers).is_some_and(|length| length > limit) {
        return Err(Problem::body_too_large(limit));
    }
    match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(Problem::body_too_large(limit)),
        Ok(Err(_)) => Err(Problem::invalid("the body broke off; send it again")),
        Err(_) => {
            let limit = BODY_TIMEOUT.as_secs();
            Err(Problem::invalid(format!("the body did not arrive within {limit} s; send less at once")))
        }
    }
}

pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        // The type is http-body-util's, which axum does not name in its API.
        if inner.to_string().contains("length limit") {
            return true;
        }
        source = inner.source();
    }
    false
}

/// A JSON body of a fixed shape.
pub async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body, limit: usize) -> Result<T, Problem> {
    expect_type(headers, "application/json")?;
    let bytes = read_body(headers, body, limit).await?;
    from_json(&bytes)
}

pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Checks first what serde would let through, such as a name that occurs twice.
    let bytes = canonical::canonicalise(bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default();
        Problem::invalid(format!("the JSON has not the form that this route takes: {reason}"))
    })
}

/// The media type of the body without parameters, in lower case; empty if none is declared.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let found = media_type(headers);
    if found == expected {
        return Ok(());
    }
    Err(unsupported(&found, &[expected]))
}

pub fn unsupported(found: &str, expected: &[&str]) -> Problem {
    let found: String = found.chars().take(80).collect();
    let detail = format!("this route takes {}, not {found:?}; set Content-Type", expected.join(" or "));
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// The client's own name for this request: a retry with it is answered and not repeated.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<RequestId>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    let refused = "Idempotency-Key is not valid: use 16 random bytes in lower-case hexadecimal (32 characters)";
    id.map(Some).ok_or_else(|| Problem::invalid(refused))
}
