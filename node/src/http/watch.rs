//! `GET /v1/watch`: facts as server-sent events, in commit order. The event id is a log index, the
//! same on every node of a cloud, so a watcher resumes anywhere. An index is given only with the
//! last fact of its entry: whoever breaks off in between gets the whole entry again, and misses
//! nothing. What is no longer remembered is announced as `reset`, never skipped in silence.

use super::error::Problem;
use super::request::Search;
use super::{Context, MAX_WATCHERS, Stopping};
use crate::raft::FactBatch;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::fact::Fact;
use tercet_core::ids::TenantId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::IntoParams;

pub const LAST_EVENT_ID: &str = "last-event-id";
/// How often an idle stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `?tenant=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchSearch {
    /// Only facts of this tenant's events.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
}

struct Watcher {
    context: Arc<Context>,
    stopping: Stopping,
    facts: Receiver<Arc<FactBatch>>,
    tenant: Option<TenantId>,
    /// Up to which index the watcher has everything.
    seen: u64,
    ready: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

/// Facts from now on, or from `Last-Event-ID` on.
#[utoipa::path(
    get, path = "/v1/watch", tag = "watch",
    params(WatchSearch, ("Last-Event-ID" = Option<u64>, Header, description = "resume behind this log index")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String,
         description = "`event:` is the fact's name, `data:` the fact as JSON; `reset` means: read everything again"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn watch(
    State(context): State<Arc<Context>>,
    stopping: Stopping,
    Search(search): Search<WatchSearch>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = context.watchers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::overloaded("watch streams", MAX_WATCHERS))?;
    // Listening begins before the past is read, so nothing falls in between.
    let facts = context.api.replica.facts();
    let resume = last_event_id(&headers)?;
    let seen = resume.unwrap_or_else(|| *context.api.replica.applied().borrow());
    let ready = VecDeque::new();
    let mut watcher = Watcher { context, stopping, facts, tenant: search.tenant, seen, ready, _permit: permit };
    if resume.is_some() {
        watcher.catch_up();
    }
    let events = unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let index = value.to_str().ok().and_then(|text| text.parse().ok());
    index.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID is the id of an event of this stream: a log index"))
}

impl Watcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let received = tokio::select! {
                received = self.facts.recv() => received,
                () = self.stopping.wait() => return None,
            };
            match received {
                Ok(batch) => self.take(&batch),
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// From memory, what happened since `seen`; if that is forgotten, a reset.
    fn catch_up(&mut self) {
        match self.context.api.replica.recent_facts(self.seen) {
            Some(batches) => batches.iter().for_each(|batch| self.take(batch)),
            None => {
                self.seen = *self.context.api.replica.applied().borrow();
                let data = serde_json::json!({ "index": self.seen, "reason": "compacted" });
                self.ready.push_back(Event::default().event("reset").id(self.seen.to_string()).data(data.to_string()));
            }
        }
    }

    fn take(&mut self, batch: &FactBatch) {
        if batch.index <= self.seen {
            return;
        }
        self.seen = batch.index;
        let mut facts = batch.facts.iter().filter(|fact| self.wants(fact)).peekable();
        let mut events = Vec::new();
        while let Some(fact) = facts.next() {
            let Some((name, data)) = describe(fact, batch.index) else { continue };
            let event = Event::default().event(name).data(data);
            let is_last = facts.peek().is_none();
            events.push(if is_last { event.id(batch.index.to_string()) } else { event });
        }
        self.ready.extend(events);
    }

    fn wants(&self, fact: &Fact) -> bool {
        let Some(wanted) = &self.tenant else { return true };
        match fact {
            Fact::TenantPut { tenant }
            | Fact::EventAccepted { tenant, .. }
            | Fact::Voted { tenant, .. }
            | Fact::LevelChanged { tenant, .. } => tenant == wanted,
            _ => false,
        }
    }
}

/// A fact's name and its JSON, with the log index.
fn describe(fact: &Fact, index: u64) -> Option<(String, String)> {
    let serde_json::Value::Object(mut data) = serde_json::to_value(fact).ok()? else { return None };
    let name = data.remove("fact")?.as_str()?.to_owned();
    let mut data: serde_json::Map<_, _> = data.into_iter().map(|(name, value)| (camel_case(&name), value)).collect();
    data.insert("index".to_owned(), index.into());
    Some((name, serde_json::Value::Object(data).to_string()))
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| {
        let mut chars = part.chars();
        out + &chars.next().map(|c| c.to_ascii_uppercase().to_string()).unwrap_or_default() + chars.as_str()
    })
}
