//! The watch stream.

use super::fixture::{Clouds, open_tenant, request};
use crate::http::MAX_WATCHERS;
use axum::body::Body;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

#[derive(Debug, Clone, PartialEq)]
struct Sent {
    id: Option<u64>,
    name: String,
    data: Value,
}

struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(clouds: &Clouds, path: &str, last: Option<&str>) -> Self {
        let mut request = request("GET", path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let router = clouds.nodes["gcp-1"].router.clone();
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    async fn next(&mut self) -> Sent {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    event.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
                };
                let Some(name) = field("event") else { continue };
                let data = serde_json::from_str(&field("data").unwrap()).unwrap();
                return Sent { id: field("id").map(|id| id.parse().unwrap()), name, data };
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.body.next()).await;
            let chunk = chunk.expect("something happens").expect("the stream goes on").unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

async fn submit(clouds: &Clouds, tenant: &str, id: &str) {
    clouds.post("gcp-1", &format!("/v1/tenants/{tenant}/events"), &json!({"id": id})).await.expect(201);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_resumes_where_it_broke_off() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let mut watch = Stream::open(&clouds, "/v1/watch", None).await;
    submit(&clouds, "open", "a").await;
    submit(&clouds, "open", "b").await;
    let mut seen = Vec::new();
    while seen.iter().filter(|sent: &&Sent| sent.name == "event-accepted").count() < 2 {
        seen.push(watch.next().await);
    }
    assert_eq!(seen[0].data["key"]["id"], "a");
    assert!(seen[0].data["contentHash"].is_string(), "{seen:?}");
    let first_id = seen.iter().find_map(|sent| sent.id).unwrap();
    drop(watch);
    submit(&clouds, "open", "c").await;
    let mut resumed = Stream::open(&clouds, "/v1/watch", Some(&first_id.to_string())).await;
    let mut accepted = Vec::new();
    while accepted.len() < 2 {
        let sent = resumed.next().await;
        assert!(sent.data["index"].as_u64().unwrap() > first_id);
        if sent.name == "event-accepted" {
            accepted.push(sent.data["key"]["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(accepted, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_one_tenant_sees_nothing_of_others() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    clouds.put_tenant("gcp-1", &open_tenant("other", "auto")).await;
    let mut watch = Stream::open(&clouds, "/v1/watch?tenant=other", None).await;
    submit(&clouds, "open", "a").await;
    submit(&clouds, "other", "b").await;
    let sent = watch.next().await;
    assert_eq!((sent.name.as_str(), &sent.data["tenant"]), ("event-accepted", &"other".into()));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_watchers_is_bounded() {
    let clouds = Clouds::one().await;
    let mut streams = Vec::new();
    for _ in 0..MAX_WATCHERS {
        streams.push(Stream::open(&clouds, "/v1/watch", None).await);
    }
    let answer = clouds.get("gcp-1", "/v1/watch").await.expect(429);
    assert_eq!(answer.json()["code"], "overloaded");
    streams.pop();
    Stream::open(&clouds, "/v1/watch", None).await;
}
