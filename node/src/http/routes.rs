//! All routes. They are listed as they are added, so that a test can hold them against the OpenAPI
//! document.

use super::{Context, Stopping, agents, auth, batch, certificates, clouds, decisions, error, events, evidence, health};
use super::{leases, listing, metrics, openapi, status, tenants, watch};
use crate::http::error::Problem;
use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::handler::Handler;
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a request may take until its answer begins: longer than the longest wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

pub struct Routes {
    router: Router<Arc<Context>>,
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test that compares it with the document"))]
    pub listed: Vec<(Method, &'static str)>,
}

impl Routes {
    fn add<H, T>(mut self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Context>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("only methods that axum knows are added");
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }

    fn get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Context>>,
        T: 'static,
    {
        self.add(Method::GET, path, handler)
    }

    fn post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Context>>,
        T: 'static,
    {
        self.add(Method::POST, path, handler)
    }

    pub fn into_router(self, context: Arc<Context>) -> Router {
        self.router
            .fallback(error::no_route)
            .method_not_allowed_fallback(error::wrong_method)
            .layer(from_fn(limit_time))
            .layer(from_fn_with_state(context.clone(), auth::require_token))
            .layer(from_fn_with_state(context.clone(), metrics::count))
            .with_state(context)
    }
}

pub fn routes() -> Routes {
    Routes { router: Router::new(), listed: Vec::new() }
        .get("/livez", health::livez)
        .get("/readyz", health::readyz)
        .get("/health", health::health)
        .get("/metrics", metrics::get)
        .get("/openapi.json", openapi::get)
        .get("/v1/tenants", tenants::list)
        .get("/v1/tenants/{tenant}", tenants::get)
        .add(Method::PUT, "/v1/tenants/{tenant}", tenants::put)
        .get("/v1/tenants/{tenant}/events", listing::list)
        .post("/v1/tenants/{tenant}/events", events::submit)
        .post("/v1/tenants/{tenant}/events/batch", batch::submit)
        .post("/v1/tenants/{tenant}/events/levels", events::levels)
        .get("/v1/tenants/{tenant}/events/{id}", events::get)
        .post("/v1/tenants/{tenant}/events/{id}/decision", decisions::decide)
        .get("/v1/tenants/{tenant}/events/{id}/certificate", certificates::get)
        .get("/v1/tenants/{tenant}/leases", leases::list)
        .get("/v1/tenants/{tenant}/leases/{name}", leases::get)
        .add(Method::PUT, "/v1/tenants/{tenant}/leases/{name}", leases::put)
        .get("/v1/tenants/{tenant}/leases/{name}/history", leases::history)
        .post("/v1/tenants/{tenant}/leases/{name}/votes", leases::vote)
        .post("/v1/tenants/{tenant}/leases/{name}/release", leases::release)
        .add(Method::PUT, "/v1/tenants/{tenant}/leases/{name}/grant", leases::show)
        .get("/v1/tenants/{tenant}/agents", agents::list)
        .add(Method::PUT, "/v1/tenants/{tenant}/agents/{agent}", agents::put)
        .post("/federation/consensus", agents::report)
        .get("/federation/leader", agents::leader)
        .get("/v1/trust", certificates::trust)
        .get("/v1/evidence", evidence::list)
        .post("/v1/evidence", evidence::accuse)
        .get("/v1/evidence/{id}", evidence::get)
        .get("/v1/status", status::get)
        .get("/v1/clouds/{cloud}/checkpoint", clouds::checkpoint)
        .get("/v1/clouds/{cloud}/leaves", clouds::leaves)
        .get("/v1/clouds/{cloud}/proof", clouds::proof)
        .get("/v1/watch", watch::watch)
}

async fn limit_time(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::timed_out(REQUEST_TIMEOUT).into_response())
}

impl<S: Send + Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
