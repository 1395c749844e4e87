//! One request to one node over TLS 1.3: trusts the context's authority alone, carries the bearer
//! token, follows no redirects and no proxies. It never retries; `client` decides that.

use crate::error::{Error, Outcome, Problem};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use serde_json::Map;
use std::sync::Once;
use std::time::Duration;

/// The longest wait for a TCP connection and its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The longest pause that a server's Retry-After may ask of us.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A request, independent of the node that will get it.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    /// Unescaped path segments.
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<(&'static str, Bytes)>,
    /// How long one node may take to answer.
    pub attempt_timeout: Duration,
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    /// Which node gave it, for messages.
    pub node: String,
}

/// Why one attempt brought no answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No connection: the node certainly did not see the request.
    Unsent(String),
    /// The request left, and no answer came back.
    Lost(String),
    /// The node refused.
    Refused { problem: Box<Problem>, retry_after: Option<Duration> },
}

/// A time that one ordinary request may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

impl Call {
    pub fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
        }
    }

    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// As `query`, but only if the value says something.
    #[must_use]
    pub fn query_unless_empty(self, name: &'static str, value: &str) -> Self {
        if value.is_empty() { self } else { self.query(name, value) }
    }

    #[must_use]
    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our request types have string keys and no failing serialisers");
        self.body = Some(("application/json", bytes.into()));
        self
    }

    #[must_use]
    pub fn body(mut self, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        self.body = Some((content_type, bytes.into()));
        self
    }

    /// Names the command, so that a repetition is answered and not executed again.
    #[must_use]
    pub fn once(mut self) -> Self {
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the operating system has random bytes");
        self.headers.push(("idempotency-key", hex::encode(key)));
        self
    }

    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    pub(crate) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

impl Answer {
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Protocol { node: self.node.clone(), why: error.to_string() })
    }
}

/// The connection pool to all nodes.
#[derive(Debug, Clone)]
pub struct Transport {
    inner: reqwest::Client,
}

impl Transport {
    pub fn new(ca_pem: &[u8], token: &str) -> Result<Self, Error> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // It fails only if the program has chosen a provider already, which is then used.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let authorities = reqwest::Certificate::from_pem_bundle(ca_pem)
            .map_err(|error| Error::Invalid(format!("the context's certificate authority is not PEM: {error}")))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Invalid("the token holds characters that no header can carry".into()))?;
        bearer.set_sensitive(true);
        let inner = reqwest::Client::builder()
            .tls_certs_only(authorities)
            .tls_version_min(reqwest::tls::Version::TLS_1_3)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("tercet/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .build()
            .map_err(|error| Error::Invalid(format!("cannot set up TLS: {}", cause(&error))))?;
        Ok(Self { inner })
    }

    /// Sends the call to one node and reads the whole answer.
    pub async fn attempt(&self, node: &str, base: &Url, call: &Call, timeout: Duration) -> Result<Answer, Failure> {
        let mut response = self.start(base, call, Some(timeout)).await?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Lost(cause(&error)))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Failure::Lost(format!("the answer exceeds {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Answer { status: status.as_u16(), body: body.into(), node: node.to_owned() });
        }
        let retry_after = retry_after(&headers);
        Err(Failure::Refused { problem: Box::new(problem(status.as_u16(), &headers, &body)), retry_after })
    }

    /// Opens an endless answer. Only the head is awaited, for at most `timeout`.
    pub async fn open(&self, base: &Url, call: &Call, timeout: Duration) -> Result<reqwest::Response, Failure> {
        let opened = tokio::time::timeout(timeout, self.start(base, call, None)).await;
        let response = opened.map_err(|_| Failure::Lost("no answer in time".into()))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_default();
        let retry_after = retry_after(&headers);
        Err(Failure::Refused { problem: Box::new(problem(status, &headers, &body)), retry_after })
    }

    async fn start(&self, base: &Url, call: &Call, timeout: Option<Duration>) -> Result<reqwest::Response, Failure> {
        let mut request = self.inner.request(call.method.clone(), call.url(base));
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some((content_type, body)) = &call.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        request.send().await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                Failure::Unsent(cause(&error))
            } else {
                Failure::Lost(cause(&error))
            }
        })
    }
}

/// Decodes a refusal. An answer that is no problem document (a proxy's, say) becomes one whose
/// outcome is unknown if the server failed.
fn problem(status: u16, headers: &HeaderMap, body: &[u8]) -> Problem {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("application/problem+json")
        && let Ok(mut problem) = serde_json::from_slice::<Problem>(body)
    {
        problem.status = status;
        return problem;
    }
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    Problem {
        kind: "about:blank".into(),
        title: format!("status {status}"),
        status,
        code: String::new(),
        detail: text.trim().to_owned(),
        retryable: matches!(status, 408 | 425 | 429 | 502..=504),
        outcome: if status >= 500 { Outcome::Unknown } else { Outcome::None },
        extra: Map::new(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// The innermost cause: it names what happened, the outer ones only where and for which address.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_escaped() {
        let base = Url::parse("https://127.0.3.1:4001").unwrap();
        let call = Call::get(&["v1", "tenants", "t", "events", "a/b ?#%"]).query("source", "/x&y=1");
        assert_eq!(
            call.url(&base).as_str(),
            "https://127.0.3.1:4001/v1/tenants/t/events/a%2Fb%20%3F%23%25?source=%2Fx%26y%3D1"
        );
    }

    #[test]
    fn an_answer_that_is_no_problem_becomes_one() {
        let found = problem(502, &HeaderMap::new(), b"bad gateway");
        assert!(found.retryable);
        assert_eq!(found.outcome, Outcome::Unknown);
        assert_eq!(problem(413, &HeaderMap::new(), b"").outcome, Outcome::None);
    }

    #[test]
    fn a_command_that_runs_once_is_named() {
        let call = Call::new(Method::PUT, &["v1"]).once();
        assert_eq!(call.headers[0].1.len(), 32);
    }

    #[test]
    fn the_transport_needs_a_certificate_authority() {
        assert!(Transport::new(b"-----BEGIN CERTIFICATE-----\nnonsense", "token").is_err());
    }
}
