//! Behaviours of the API, tried with real requests through the router.

mod agents;
mod fixture;
mod leases;
mod refusals;
mod sockets;
mod submitting;
mod watching;

use super::{openapi, routes};
use axum::body::Body;
use axum::http::{Method, Request};
use fixture::{Clouds, json_request, open_tenant};
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = serde_json::to_value(openapi::document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "delete", "patch"] {
            if item.get(method).is_some() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let routed = routes::routes().listed.into_iter().map(|(method, path)| (method.to_string(), path.to_owned()));
    assert_eq!(described, routed.collect());
}

#[tokio::test(start_paused = true)]
async fn every_route_under_v1_needs_the_token_and_no_other_does() {
    let clouds = Clouds::one().await;
    let unknown = (Method::GET, "/v1/nothing/here");
    for (method, path) in routes::routes().listed.into_iter().chain([unknown, (Method::DELETE, "/v1")]) {
        for token in [None, Some("Bearer wrong"), Some("Basic 0123456789abcdef"), Some("Bearer")] {
            let mut request = Request::builder().method(method.clone()).uri(path.replace(['{', '}'], ""));
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let answer = clouds.call("gcp-1", request.body(Body::empty()).unwrap()).await;
            if path.starts_with("/v1") || path == "/federation/leader" {
                assert_eq!(answer.status.as_u16(), 401, "{method} {path}");
                assert_eq!(answer.json()["code"], "unauthenticated");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
            } else if method == Method::GET {
                assert_eq!(answer.status.as_u16(), 200, "{method} {path}");
            } else {
                // A report says itself who sends it; this one is none.
                assert_eq!(answer.status.as_u16(), 415, "{method} {path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_shown_without_its_secret_and_keeps_what_is_fixed() {
    let clouds = Clouds::one().await;
    let shown = clouds.get("gcp-1", "/v1/tenants/default").await.expect(200);
    assert_eq!(shown.json()["tenant"]["confirm"], "auto");
    let all = clouds.get("gcp-1", "/v1/tenants").await.expect(200);
    assert_eq!(all.json()["tenants"][0]["maxPending"], 100_000);
    for answer in [&shown, &all] {
        assert!(!String::from_utf8_lossy(&answer.body).contains("0909"), "{answer:?}");
    }
    let mut changed = fixture::default_tenant();
    changed["secret"] = "08".repeat(32).into();
    let answer = clouds.call("gcp-1", json_request("PUT", "/v1/tenants/default", &changed)).await.expect(409);
    assert_eq!(answer.json()["code"], "tenant_fixed");
}

#[tokio::test(start_paused = true)]
async fn an_operator_decides_once_and_only_for_manual_tenants() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("manual", "manual")).await;
    clouds.post("gcp-1", "/v1/tenants/manual/events", &json!({"id": "e"})).await.expect(201);
    let path = "/v1/tenants/manual/events/e/decision";
    let unknown = json!({"verdict": "confirm", "contentHash": "00".repeat(32)});
    let answer = clouds.post("gcp-1", path, &unknown).await.expect(404);
    assert_eq!(answer.json()["code"], "unknown_content");
    let answer = clouds.post("gcp-1", path, &json!({"verdict": "reject"})).await.expect(200);
    assert_eq!(answer.json()["verdict"], "reject");
    let event = clouds.get("gcp-1", "/v1/tenants/manual/events/e").await.expect(200).json();
    assert_eq!(event["votes"][0]["verdict"], "reject-operator");
    assert_eq!(event["votes"][0]["contentHash"], event["contentHash"]);
    let answer = clouds.post("gcp-1", path, &json!({"verdict": "confirm"})).await.expect(409);
    assert_eq!(answer.json()["code"], "already_voted");
    clouds.put_tenant("gcp-1", &open_tenant("auto", "auto")).await;
    clouds.post("gcp-1", "/v1/tenants/auto/events", &json!({"id": "e"})).await.expect(201);
    let answer = clouds.post("gcp-1", "/v1/tenants/auto/events/e/decision", &json!({"verdict": "confirm"})).await;
    assert_eq!(answer.expect(409).json()["code"], "not_manual");
}

#[tokio::test(start_paused = true)]
async fn status_health_and_metrics_tell_the_same() {
    let clouds = Clouds::three(1).await;
    clouds
        .post("gcp-1", "/v1/tenants/default/events?wait=sealed", &clouds.signed(json!({"id": "e"})))
        .await
        .expect(201);
    let status = clouds.get("gcp-1", "/v1/status").await.expect(200).json();
    assert_eq!(
        (&status["cloud"], &status["node"], &status["role"]),
        (&"gcp".into(), &"gcp-1".into(), &"leader".into())
    );
    assert_eq!(status["counts"]["sealed"], 1);
    assert_eq!(status["clouds"][2]["size"], 2, "{status}");
    assert_eq!(status["clouds"][2]["audited"]["aws"], 2);
    assert_eq!(status["clouds"][0]["livesWithout"], true);
    assert_eq!(status["clouds"][0]["safeIfItLies"], false);
    let health = clouds.call("gcp-1", Request::get("/health").body(Body::empty()).unwrap()).await.expect(200).json();
    assert_eq!((&health["status"], &health["epoch"]), (&"ok".into(), &status["clouds"][2]["epoch"]));
    assert!(health["latency_ms"].is_number() && health["load"].is_number());
    let metrics = clouds.get("gcp-1", "/metrics").await.expect(200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "tercet_events{level=\"SEALED\"} 1",
        "tercet_is_leader 1",
        "tercet_log_size{cloud=\"gcp\"} 2",
        "tercet_audited_size{cloud=\"gcp\",by=\"aws\"} 2",
        "tercet_http_requests_total{method=\"POST\",route=\"/v1/tenants/{tenant}/events\",status=\"201\"} 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let ready = clouds.get("gcp-1", "/readyz?verbose").await.expect(200).json();
    assert_eq!(ready["checks"][0]["name"], "leader");
}

#[tokio::test(start_paused = true)]
async fn outside_auditors_can_follow_a_log_and_prove_a_leaf() {
    use tercet_core::ids::Hash;
    use tercet_core::transparency::{SignedNote, leaf_hash, root_from_inclusion};
    let clouds = Clouds::three(1).await;
    for n in 0..5 {
        let event = clouds.signed(json!({"id": format!("e{n}")}));
        clouds.post("gcp-1", "/v1/tenants/default/events?wait=sealed", &event).await.expect(201);
    }
    for (node, cloud) in [("gcp-1", "gcp"), ("aws-1", "gcp")] {
        let note = clouds.get(node, &format!("/v1/clouds/{cloud}/checkpoint")).await.expect(200);
        let note = SignedNote::parse(std::str::from_utf8(&note.body).unwrap()).unwrap();
        let opening = clouds.directory.openings.iter().find(|opening| opening.cloud.as_str() == cloud).unwrap();
        note.verify(&clouds.directory.genesis.fed_id(), opening).unwrap();
        let size = note.body.size;
        let leaves = clouds.get(node, &format!("/v1/clouds/{cloud}/leaves?from=1&limit=2")).await.expect(200).json();
        assert_eq!(leaves["leaves"].as_array().unwrap().len(), 2);
        let proof = clouds.get(node, &format!("/v1/clouds/{cloud}/proof?index=1&size={size}")).await.expect(200).json();
        let leaf = leaf_hash(&hex::decode(leaves["leaves"][0].as_str().unwrap()).unwrap());
        let path: Vec<Hash> = serde_json::from_value(proof["path"].clone()).unwrap();
        assert_eq!(root_from_inclusion(leaf, 1, size, &path), Some(note.body.root));
    }
    let beyond = clouds.get("gcp-1", "/v1/clouds/gcp/proof?index=99").await.expect(400);
    assert!(beyond.json()["detail"].as_str().unwrap().contains("index < size"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_given_by_the_leader_once_the_event_is_final() {
    use tercet_core::certificate::{Certificate, TrustBundle};
    use tercet_core::events::Level;
    let clouds = Clouds::three(3).await;
    let leader = clouds.leader("gcp").await;
    let follower = ["gcp-1", "gcp-2", "gcp-3"].into_iter().find(|node| *node != leader).unwrap();
    let event = clouds.signed(json!({"id": "e", "payload": {"n": 1}}));
    let answer = clouds.post(follower, "/v1/tenants/default/events?wait=sealed", &event).await.expect(201);
    assert_eq!(answer.json()["level"], "SEALED");
    let path = "/v1/tenants/default/events/e/certificate";
    let redirected = clouds.get(follower, path).await.expect(421).json();
    assert_eq!(redirected["leader"], leader.as_str());
    assert!(redirected["leaderUrl"].as_str().unwrap().starts_with("https://127.0.3.1:"));
    let certificate = clouds.get(&leader, path).await.expect(200);
    assert_eq!(certificate.header("content-type"), "application/vnd.tercet.certificate");
    let trust: TrustBundle = serde_json::from_value(clouds.get(&leader, "/v1/trust").await.json()).unwrap();
    let verified = Certificate::verify(&certificate.body, &trust).unwrap();
    assert!(verified.level >= Level::Final);
    assert_eq!(verified.content.payload, br#"{"n":1}"#);
    let unknown = clouds.get(&leader, "/v1/tenants/default/events/other/certificate").await.expect(404);
    assert_eq!(unknown.json()["code"], "unknown_event");
}

#[tokio::test(start_paused = true)]
async fn a_pending_event_has_no_certificate() {
    let clouds = Clouds::one().await;
    clouds.post("gcp-1", "/v1/tenants/default/events", &clouds.signed(json!({"id": "e"}))).await.expect(201);
    let answer = clouds.get("gcp-1", "/v1/tenants/default/events/e/certificate").await.expect(409);
    assert_eq!(answer.json()["code"], "not_final");
    assert_eq!(answer.json()["retryable"], true);
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_of_nodes_submits_are_refused_with_retry_after() {
    let clouds = Clouds::start(&["gcp"], 3).await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    for node in ["gcp-2", "gcp-3"] {
        clouds.nodes[node].api.federation.stop().await;
        clouds.nodes[node].api.replica.stop().await;
        clouds.network.crash(&tercet_core::ids::NodeId::new(node).unwrap());
    }
    let event = json!({"id": "e"});
    let submit = || clouds.post("gcp-1", "/v1/tenants/open/events", &event);
    let mut answer = submit().await;
    while answer.status.as_u16() == 504 {
        answer = submit().await;
    }
    let answer = answer.expect(503);
    assert_eq!(answer.json()["code"], "no_leader");
    assert_eq!(answer.json()["outcome"], "none");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(clouds.get("gcp-1", "/livez").await.status.as_u16(), 200);
    clouds.until("gcp-1", "GET", "/readyz", |answer| answer.status.as_u16() == 503).await;
}
