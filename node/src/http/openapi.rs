//! The OpenAPI 3.1 document, made from the descriptions beside the handlers.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tercet",
        description = "Events of one service on three clouds, FINAL once two of three clouds signed the same content. \
                       Errors are application/problem+json with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        super::health::livez,
        super::health::readyz,
        super::health::health,
        super::metrics::get,
        get,
        super::tenants::list,
        super::tenants::get,
        super::tenants::put,
        super::listing::list,
        super::events::submit,
        super::batch::submit,
        super::events::levels,
        super::events::get,
        super::decisions::decide,
        super::certificates::get,
        super::agents::put,
        super::agents::list,
        super::agents::report,
        super::agents::leader,
        super::leases::list,
        super::leases::get,
        super::leases::put,
        super::leases::history,
        super::leases::vote,
        super::leases::release,
        super::leases::show,
        super::certificates::trust,
        super::evidence::list,
        super::evidence::accuse,
        super::evidence::get,
        super::status::get,
        super::clouds::checkpoint,
        super::clouds::leaves,
        super::clouds::proof,
        super::watch::watch,
    ),
    modifiers(&Token),
)]
struct Document;

/// The bearer token, needed wherever a route does not say otherwise.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
        document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()), responses((status = 200, body = Object)))]
pub async fn get() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
