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
    progress: Progress,
    _permit: OwnedSemaphorePermit,
}

/// What a watcher has, and what it gets next.
struct Progress {
    tenant: Option<TenantId>,
    /// Up to which index the watcher has everything.
    seen: u64,
    ready: VecDeque<Event>,
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
    let progress = Progress { tenant: search.tenant, seen, ready: VecDeque::new() };
    let mut watcher = Watcher { context, stopping, facts, progress, _permit: permit };
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
            if let Some(event) = self.progress.ready.pop_front() {
                return Some(event);
            }
            let received = tokio::select! {
                received = self.facts.recv() => received,
                () = self.stopping.wait() => return None,
            };
            match received {
                Ok(batch) => self.progress.take(&batch),
                Err(RecvError::Lagged(_)) => self.catch_up(),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn catch_up(&mut self) {
        let replica = &self.context.api.replica;
        let past = replica.recent_facts(self.progress.seen);
        self.progress.catch_up(past, *replica.applied().borrow());
    }
}

impl Progress {
    /// What happened since `seen`, as far as it is remembered; if not, a reset to what is applied.
    fn catch_up(&mut self, past: Option<Vec<Arc<FactBatch>>>, applied: u64) {
        let Some(past) = past else {
            self.seen = applied;
            let data = serde_json::json!({ "index": applied, "reason": "compacted" }).to_string();
            self.ready.push_back(Event::default().event("reset").id(applied.to_string()).data(data));
            return;
        };
        past.iter().for_each(|batch| self.take(batch));
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
            | Fact::LevelChanged { tenant, .. }
            | Fact::LeasePut { tenant, .. }
            | Fact::LeaseVoted { tenant, .. }
            | Fact::LeaseReleased { tenant, .. }
            | Fact::LeaseAcquired { tenant, .. }
            | Fact::SplitBrain { tenant, .. }
            | Fact::AgentPut { tenant, .. }
            | Fact::AgentHeard { tenant, .. } => tenant == wanted,
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    async fn sent(progress: Progress) -> String {
        let events = futures::stream::iter(progress.ready.into_iter().map(Ok::<_, Infallible>));
        let body = Sse::new(events).into_response().into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("the stream is finite");
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    #[tokio::test]
    async fn a_forgotten_past_is_announced_and_the_watch_goes_on_behind_it() {
        let mut progress = Progress { tenant: None, seen: 1, ready: VecDeque::new() };
        progress.catch_up(None, 42);
        let fact = |name: &str| Fact::TenantPut { tenant: TenantId::new(name).expect("valid") };
        progress.take(&FactBatch { index: 42, facts: vec![fact("old")] });
        progress.take(&FactBatch { index: 43, facts: vec![fact("a"), fact("b")] });
        let expected = "event: reset\nid: 42\ndata: {\"index\":42,\"reason\":\"compacted\"}\n\n\
                        event: tenant-put\ndata: {\"index\":43,\"tenant\":\"a\"}\n\n\
                        event: tenant-put\ndata: {\"index\":43,\"tenant\":\"b\"}\nid: 43\n\n";
        assert_eq!(sent(progress).await, expected);
    }

    #[test]
    fn field_names_are_camel_case() {
        assert_eq!(["a", "content_hash", "a_b_c"].map(camel_case), ["a", "contentHash", "aBC"]);
    }
}
