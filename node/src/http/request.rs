//! Reading requests: paths, queries, headers and bodies, each within its limit and each refusal a
//! problem. JSON is parsed strictly (see `tercet_core::canonical`), unknown fields are refused.

use super::error::Problem;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tercet_core::canonical;
use tercet_core::ids::RequestId;
use tercet_core::rejection::Code;
use tokio::time::timeout;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is still read, in bytes.
const MAX_DISCARDED_BYTES: usize = 64 << 20;
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
    let declared = declared_length(headers).unwrap_or(0);
    let read = timeout(BODY_TIMEOUT, collect(body.into_data_stream(), declared, limit)).await;
    read.unwrap_or_else(|_| {
        let limit = BODY_TIMEOUT.as_secs();
        Err(Problem::invalid(format!("the body did not arrive within {limit} s; send less at once")))
    })
}

async fn collect(mut chunks: BodyDataStream, declared: usize, limit: usize) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::with_capacity(declared.min(limit));
    let mut read = 0;
    // What is too large is read to its end (up to a limit of its own) and forgotten: a client that is
    // still sending would otherwise find its connection reset in place of the answer.
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("the body broke off; send it again"))?;
        read += chunk.len();
        if read > limit.max(MAX_DISCARDED_BYTES) {
            break;
        }
        if declared <= limit && read <= limit {
            bytes.extend_from_slice(&chunk);
        }
    }
    if declared > limit || read > limit { Err(Problem::body_too_large(limit)) } else { Ok(bytes.freeze()) }
}

pub fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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
