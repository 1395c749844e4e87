//! Certificates and the trust bundle: what outsiders need to verify an event offline.

use super::decisions::SourceSearch;
use super::error::Problem;
use super::request::{Params, Search};
use super::{Context, Stopping};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tercet_core::certificate::{Certificate, TRUST_VERSION, TrustBundle};
use tercet_core::events::Level;
use tercet_core::ids::{EventKey, TenantId};
use tercet_core::rejection::{Code, Rejection};
use tokio::time::{Instant, timeout_at};

pub const CERTIFICATE_TYPE: &str = "application/vnd.tercet.certificate";
/// How long to wait for the note that proves a level which was reached a moment ago.
const NOTE_WAIT: Duration = Duration::from_secs(3);

/// The certificate of an event that is FINAL or SEALED. Only the leader has the latest notes.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/events/{id}/certificate", tag = "certificates",
    params(("tenant" = String, Path), ("id" = String, Path), SourceSearch),
    responses(
        (status = 200, content_type = "application/vnd.tercet.certificate", body = Vec<u8>),
        (status = 409, description = "not FINAL yet", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "clouds that voted for it were renewed since", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "ask the leader", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(context): State<Arc<Context>>,
    stopping: Stopping,
    Params((tenant, id)): Params<(TenantId, String)>,
    Search(search): Search<SourceSearch>,
) -> Result<Response, Problem> {
    let key = EventKey::new(search.source, id)?;
    context.tenant(&tenant).await?;
    let mut notes = context.api.federation.signed_note();
    let deadline = Instant::now() + NOTE_WAIT;
    loop {
        context.must_lead()?;
        let note = notes.borrow_and_update().clone();
        let found = find(&context, note.as_deref(), &tenant, &key)?;
        if let Some(certificate) = found {
            return Ok(([(header::CONTENT_TYPE, CERTIFICATE_TYPE)], certificate.bytes()).into_response());
        }
        let over = tokio::select! {
            changed = timeout_at(deadline, notes.changed()) => !matches!(changed, Ok(Ok(()))),
            () = stopping.wait() => true,
        };
        if over {
            let detail =
                format!("{key} is FINAL, but the signed notes that prove it are not all here yet; retry shortly");
            return Err(Problem::new(Code::NotFinal, detail));
        }
    }
}

/// `None` while the notes that prove the level are not all here.
fn find(
    context: &Context,
    note: Option<&tercet_core::transparency::SignedNote>,
    tenant: &TenantId,
    key: &EventKey,
) -> Result<Option<Certificate>, Problem> {
    let (level, certificate, gone) = context.api.replica.read(|view| {
        let level = view.state.level(view.records, tenant, key)?;
        let note = note.filter(|_| level.is_some_and(|level| level >= Level::Final));
        let certificate = match note {
            Some(note) => view.state.certificate(view.records, note, tenant, key)?,
            None => None,
        };
        let gone = certificate.is_none() && view.state.certificate_is_gone(view.records, tenant, key)?;
        Ok((level, certificate, gone))
    })?;
    match level {
        None => Err(Rejection::UnknownEvent { tenant: tenant.clone(), key: key.clone() }.into()),
        Some(level @ (Level::Pending | Level::Quarantined)) => {
            let level = serde_json::to_value(level).unwrap_or_default();
            let detail =
                format!("{key} is {}; a certificate exists once it is FINAL", level.as_str().unwrap_or("not FINAL"));
            Err(Problem::new(Code::NotFinal, detail))
        }
        Some(_) if gone => Err(Problem::new(
            Code::CertificateGone,
            format!(
                "{key} stays FINAL, but clouds that voted for it lost their state and were renewed since, and their notes \
                 of today do not cover what they signed before; a certificate issued before that remains valid"
            ),
        )),
        Some(Level::Final | Level::Sealed) => Ok(certificate),
    }
}

/// The public keys of this federation, as this cloud knows them.
#[utoipa::path(
    get, path = "/v1/trust", tag = "certificates",
    responses(
        (status = 200, description = "the trust bundle that `tercet verify` takes", body = Object),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn trust(State(context): State<Arc<Context>>) -> Result<Json<TrustBundle>, Problem> {
    let bundle = context.api.replica.read(|view| {
        let (genesis, openings) = (view.state.genesis().clone(), view.state.openings());
        Ok(TrustBundle { version: TRUST_VERSION, genesis, openings })
    })?;
    Ok(Json(bundle))
}
