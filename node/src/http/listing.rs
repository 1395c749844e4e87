//! Paging through a tenant's events in this cloud's order of acceptance.

use super::Context;
use super::error::Problem;
use super::request::{Params, Search};
use super::view::SummaryView;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tercet_core::events::Level;
use tercet_core::ids::TenantId;
use utoipa::{IntoParams, ToSchema};

/// The most events of one page, and how many there are if nothing is asked.
pub const MAX_PAGE: usize = 1000;
const DEFAULT_PAGE: usize = 100;
/// How many records are read under one lock of the applied state.
pub const READ_RUN: usize = 200;
/// The most records that one request looks at while it searches for a level.
const MAX_SCANNED: usize = 20_000;

/// `?after=&limit=&level=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListSearch {
    /// Continue behind this position: `next` of the page before.
    #[serde(default)]
    after: u64,
    /// At most 1000; 100 if absent.
    limit: Option<usize>,
    /// Only events at this level.
    #[param(value_type = Option<String>)]
    level: Option<Level>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PageView {
    events: Vec<SummaryView>,
    /// What to pass as `after` for the next page; null at the end. A page with a filter may be
    /// short or empty and still have a next one.
    next: Option<u64>,
}

/// One page of a tenant's events.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/events", tag = "events",
    params(("tenant" = String, Path), ListSearch),
    responses(
        (status = 200, body = PageView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(context): State<Arc<Context>>,
    Params(tenant): Params<TenantId>,
    Search(search): Search<ListSearch>,
) -> Result<Json<PageView>, Problem> {
    let limit = search.limit.unwrap_or(DEFAULT_PAGE);
    if limit == 0 || limit > MAX_PAGE {
        return Err(Problem::invalid(format!("limit is 1 to {MAX_PAGE}")));
    }
    let described = context.tenant(&tenant).await?;
    let (mut events, mut after, mut scanned) = (Vec::new(), search.after, 0);
    loop {
        // One more than fits, to know whether there is a next page.
        let wanted = (limit + 1 - events.len()).min(READ_RUN);
        let rows = context.api.replica.read(|view| view.state.events(view.records, &tenant, after, wanted))?;
        let at_end = rows.len() < wanted;
        for (seq, record) in rows {
            if events.len() == limit {
                return Ok(Json(PageView { events, next: Some(after) }));
            }
            (after, scanned) = (seq, scanned + 1);
            if search.level.is_none_or(|level| level == record.level) {
                events.extend(SummaryView::new(seq, &record, &described));
            }
        }
        if at_end {
            return Ok(Json(PageView { events, next: None }));
        }
        if scanned >= MAX_SCANNED {
            return Ok(Json(PageView { events, next: Some(after) }));
        }
    }
}
