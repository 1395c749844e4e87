//! Agents: reports are taken once, in time and from whom they say; the best candidate goes first.

use super::fixture::{Answer, Clouds, json_request};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use std::time::Duration;
use tercet_core::agents::{AgentSecret, REPORT_WINDOW_MS, Report, Standing};
use tercet_core::ids::{Hash, HolderId, LeaseId, TenantId};
use tercet_core::time::WallMillis;
use tokio::time::sleep;

const SECRET: [u8; 32] = [5; 32];

async fn register(clouds: &Clouds, agent: &str, more: Value) {
    let mut body = json!({"secret": hex::encode(SECRET)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("/v1/tenants/default/agents/{agent}");
    clouds.call("gcp-1", json_request("PUT", &path, &body)).await.expect(200);
}

fn report(clouds: &Clouds, agent: &str, sequence: u64, sent_at: WallMillis, secret: [u8; 32]) -> Value {
    let report = Report {
        tenant: TenantId::new("default").unwrap(),
        agent: HolderId::new(agent).unwrap(),
        boot: 1,
        sequence,
        sent_at,
        standing: vec![Standing { lease: LeaseId::new("primary").unwrap(), epoch: 7, ready: true, owns: None }],
        mac: Hash([0; 32]),
    };
    serde_json::to_value(report.sign(&clouds.directory.genesis.fed_id(), &AgentSecret(secret))).unwrap()
}

/// Without a token: the report says who speaks.
async fn send(clouds: &Clouds, body: &[u8]) -> Answer {
    let request = Request::builder().method("POST").uri("/federation/consensus");
    let request = request.header("content-type", "application/json").header("content-length", body.len());
    clouds.call("gcp-1", request.body(Body::from(body.to_vec())).unwrap()).await
}

async fn code(clouds: &Clouds, report: &Value, status: u16) -> String {
    let answer = send(clouds, report.to_string().as_bytes()).await.expect(status);
    answer.json()["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_report_is_taken_once_in_time_and_whole() {
    let clouds = Clouds::one().await;
    register(&clouds, "ada", json!({})).await;
    let now = clouds.nodes["gcp-1"].api.env.wall.now();
    let good = report(&clouds, "ada", 1, now, SECRET);
    let text = good.to_string();
    for cut in [1, text.len() / 2, text.len() - 1] {
        assert_eq!(send(&clouds, &text.as_bytes()[..cut]).await.expect(400).json()["code"], "invalid_request");
    }
    let taken = send(&clouds, text.as_bytes()).await.expect(200).json();
    assert_eq!((&taken["agent"]["status"], &taken["agent"]["sequence"]), (&"alive".into(), &1.into()));
    assert_eq!(code(&clouds, &good, 409).await, "replayed_report");
    assert_eq!(code(&clouds, &report(&clouds, "ada", 2, now, [6; 32]), 403).await, "bad_signature");
    let mut changed = report(&clouds, "ada", 2, now, SECRET);
    changed["standing"][0]["epoch"] = 99.into();
    assert_eq!(code(&clouds, &changed, 403).await, "bad_signature");
    for off in [now.0 - REPORT_WINDOW_MS - 1_000, now.0 + REPORT_WINDOW_MS + 1_000] {
        assert_eq!(code(&clouds, &report(&clouds, "ada", 2, WallMillis(off), SECRET), 403).await, "stale_report");
    }
    assert_eq!(code(&clouds, &report(&clouds, "bob", 1, now, SECRET), 404).await, "unknown_agent");
    send(&clouds, report(&clouds, "ada", 2, now, SECRET).to_string().as_bytes()).await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_falls_silent_goes_stale_and_is_not_elected() {
    let clouds = Clouds::one().await;
    let lease = json!({"scope": "cloud:gcp", "durationMs": 3000});
    clouds.call("gcp-1", json_request("PUT", "/v1/tenants/default/leases/primary", &lease)).await.expect(200);
    register(&clouds, "ada", json!({"staleMs": 10_000})).await;
    register(&clouds, "bob", json!({"weight": 9, "witness": true})).await;
    let now = clouds.nodes["gcp-1"].api.env.wall.now();
    for agent in ["ada", "bob"] {
        send(&clouds, report(&clouds, agent, 1, now, SECRET).to_string().as_bytes()).await.expect(200);
    }
    let leader = "/federation/leader?tenant=default&lease=primary";
    let elected = clouds.get("gcp-1", leader).await.expect(200).json();
    assert_eq!((&elected["elected"], &elected["leader"]), (&"ada".into(), &Value::Null));
    // Nothing is written meanwhile: time passes all the same.
    sleep(Duration::from_secs(11)).await;
    let listed = clouds.get("gcp-1", "/v1/tenants/default/agents").await.expect(200).json();
    let status = |at: usize| listed["agents"][at]["status"].as_str().unwrap().to_owned();
    assert_eq!((status(0), status(1)), ("stale".to_owned(), "alive".to_owned()));
    assert_eq!(clouds.get("gcp-1", leader).await.expect(200).json()["elected"], Value::Null);
    assert!(!listed.to_string().contains(&hex::encode(SECRET)));
}
