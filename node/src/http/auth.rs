//! Who may call: every path under `/v1`, known or not, needs the bearer token, and so does who asks for a
//! leader. Health, metrics and the API's description are open.

use super::error::Problem;
use super::{Api, Context};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tercet_core::rejection::Code;

pub async fn require_token(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // A report to `/federation/consensus` is signed by itself.
    let guarded = path == "/v1" || path.starts_with("/v1/") || path == "/federation/leader";
    if guarded && !is_authorised(&context.api, &request) {
        let detail = "send the header \"Authorization: Bearer <token>\" with the token from the context's token_file";
        return Problem::new(Code::Unauthenticated, detail).into_response();
    }
    next.run(request).await
}

fn is_authorised(api: &Api, request: &Request) -> bool {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, token)) = value.and_then(|value| value.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && api.token_matches(token.trim())
}
