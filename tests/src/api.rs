//! Requests to single nodes over TLS, as raw as a test needs them: any header, any body, any token.

use crate::cluster::read_context;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);

/// Speaks to the nodes of one cluster.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    token: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

/// A request on its way.
#[derive(Debug)]
pub struct Request<'a> {
    api: &'a Api,
    builder: reqwest::RequestBuilder,
    token: Option<String>,
}

impl Api {
    /// Trusts the cluster's own authority alone, and carries the admin token.
    pub fn new(data_dir: &Path) -> Self {
        // It fails if another test of this process was first, which chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let context = read_context(data_dir);
        let file = |key: &str| data_dir.join(context[key].as_str().expect("a path"));
        let pem = std::fs::read(file("ca")).expect("the context's authority is readable");
        let token = std::fs::read_to_string(file("token_file")).expect("the context's token is readable");
        let client = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).expect("the authority is PEM"))
            .no_proxy()
            .timeout(REQUEST_LIMIT)
            .build()
            .expect("TLS can be set up");
        Self { client, token: token.trim().to_owned() }
    }

    pub fn get(&self, url: &str) -> Request<'_> {
        self.request("GET", url)
    }

    pub fn post(&self, url: &str) -> Request<'_> {
        self.request("POST", url)
    }

    pub fn request(&self, method: &str, url: &str) -> Request<'_> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        Request { api: self, builder: self.client.request(method, url), token: Some(self.token.clone()) }
    }
}

impl Request<'_> {
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.builder = self.builder.header(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        self
    }

    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.builder = self.builder.body(body.into());
        self.header("content-type", content_type)
    }

    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// The answer, or why there is none.
    pub fn try_send(self) -> Result<Reply, String> {
        let builder = match &self.token {
            Some(token) => self.builder.bearer_auth(token),
            None => self.builder,
        };
        let _ = self.api;
        runtime().block_on(async {
            let response = builder.send().await.map_err(|error| format!("{error:?}"))?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let content_type = content_type.to_owned();
            let body = response.bytes().await.map_err(|error| format!("{error:?}"))?.to_vec();
            Ok(Reply { status, content_type, headers, body })
        })
    }

    pub fn send(self) -> Reply {
        self.try_send().unwrap_or_else(|error| panic!("no answer: {error}"))
    }
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}, not JSON ({error}): {}", self.status, self.text()))
    }

    /// The JSON of a success; anything else fails with what came.
    pub fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text());
        self.json()
    }

    /// The problem document of a refusal with this status and code.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.content_type, "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail", "outcome"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {problem}");
        }
        assert!(problem["retryable"].is_boolean(), "{problem}");
        problem
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime can be started")
    })
}
