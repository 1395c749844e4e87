//! Submitting, waiting and reading.

use super::fixture::{Clouds, Node, json_request, open_tenant, request, tenant_id, tenant_key};
use crate::http::submits::{MAX_QUEUED, Submits};
use crate::raft::ProposeError;
use axum::body::Body;
use futures::future::join_all;
use serde_json::{Value, json};
use tercet_core::cloudevents;
use tercet_core::events::Submission;
use tercet_core::tenants::batch_message;
use tercet_core::transparency::{Frontier, leaf_hash};

const EVENTS: &str = "/v1/tenants/default/events";

#[tokio::test(start_paused = true)]
async fn the_same_content_again_changes_nothing_and_other_content_is_refused() {
    let clouds = Clouds::one().await;
    let event = clouds.signed(json!({"id": "e", "payload": {"b": 1, "a": 2}}));
    let first = clouds.post("gcp-1", EVENTS, &event).await.expect(201).json();
    assert_eq!(
        (&first["new"], &first["level"], &first["originCloud"]),
        (&true.into(), &"PENDING".into(), &"gcp".into())
    );
    let again = clouds.signed(json!({"payload": {"a": 2.0, "b": 1}, "id": "e"}));
    let second = clouds.post("gcp-1", EVENTS, &again).await.expect(200).json();
    assert_eq!(second["new"], false);
    for field in ["contentHash", "hash", "tag"] {
        assert_eq!(first[field], second[field]);
    }
    let other = clouds.signed(json!({"id": "e", "payload": 2}));
    let refused = clouds.post("gcp-1", EVENTS, &other).await.expect(409).json();
    assert_eq!((&refused["code"], &refused["firstContentHash"]), (&"id_reuse".into(), &first["contentHash"]));
    assert_eq!((&refused["retryable"], &refused["outcome"]), (&false.into(), &"none".into()));
}

#[tokio::test(start_paused = true)]
async fn structured_and_binary_retries_of_a_cloudevent_are_one_event() {
    let clouds = Clouds::one().await;
    let event = json!({
        "specversion": "1.0", "id": "A 1", "source": "/repos/ü", "type": "commit", "data": {"n": 1.50, "a": [null]},
    });
    let content = cloudevents::from_structured(&tenant_id(), event.to_string().as_bytes()).unwrap();
    let signature = clouds.signature(&content).to_string();
    let structured = request("POST", EVENTS)
        .header("content-type", "application/cloudevents+json; charset=UTF-8")
        .header("tercet-signature", &signature)
        .body(Body::from(serde_json::to_vec_pretty(&event).unwrap()));
    let first = clouds.call("gcp-1", structured.unwrap()).await.expect(201).json();
    let binary = request("POST", EVENTS)
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "A%201")
        .header("ce-source", "/repos/%C3%BC")
        .header("ce-type", "commit")
        .header("tercet-signature", &signature)
        .body(Body::from(r#"{ "a": [null], "n": 1.5 }"#));
    let second = clouds.call("gcp-1", binary.unwrap()).await.expect(200).json();
    assert_eq!(first["hash"], second["hash"]);
    let path = format!("{EVENTS}/A%201?source=/repos/%C3%BC");
    let shown = clouds.get("gcp-1", &path).await.expect(200).json();
    assert_eq!(shown["envelope"]["payload"], event["data"]);
    assert_eq!(shown["envelope"]["attributes"], json!({"type": "commit"}));
    assert_eq!(shown["envelope"]["signature"], serde_json::from_str::<Value>(&signature).unwrap());
    assert_eq!(shown["envelope"]["region"], "gcp-region");
    assert_eq!(shown["envelope"]["createdAt"].as_str().unwrap().len(), "2023-11-14T22:13:20.123Z".len());
}

#[tokio::test(start_paused = true)]
async fn a_submit_waits_until_its_event_is_sealed_everywhere() {
    let clouds = Clouds::three(1).await;
    let event = clouds.signed(json!({"id": "e", "contentType": "text/plain", "payloadBase64": "AP8="}));
    let answer = clouds.post("aws-1", &format!("{EVENTS}?wait=sealed&timeoutMs=60000"), &event).await.expect(201);
    assert_eq!(answer.json()["level"], "SEALED");
    for node in ["aws-1", "azure-1", "gcp-1"] {
        let shown = clouds.get(node, &format!("{EVENTS}/e?wait=sealed")).await.expect(200).json();
        assert_eq!(shown["level"], "SEALED", "{node}");
        assert_eq!(shown["envelope"]["originCloud"], "aws");
        assert_eq!(shown["envelope"]["payloadBase64"], "AP8=");
        assert_eq!(shown["envelope"]["payload"], Value::Null);
        assert!(shown["votes"].as_array().unwrap().len() >= 2);
        assert!(shown["votes"][0]["auditedBy"].as_array().unwrap().len() >= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_time_and_tells_the_level_so_far() {
    let clouds = Clouds::one().await;
    let started = tokio::time::Instant::now();
    let event = clouds.signed(json!({"id": "e"}));
    let answer = clouds.post("gcp-1", &format!("{EVENTS}?wait=final&timeoutMs=2500"), &event).await.expect(201);
    assert_eq!(answer.json()["level"], "PENDING");
    let waited = started.elapsed().as_millis();
    assert!((2500..3000).contains(&waited), "{waited} ms");
    let unknown = clouds.get("gcp-1", &format!("{EVENTS}/other?wait=final&timeoutMs=100")).await.expect(404);
    assert_eq!(unknown.json()["code"], "unknown_event");
}

#[tokio::test(start_paused = true)]
async fn a_signed_batch_costs_one_signature_and_one_command() {
    let clouds = Clouds::three(1).await;
    let events: Vec<Value> = (0..300).map(|n| json!({"id": format!("e{n}"), "payload": n})).collect();
    let mut frontier = Frontier::default();
    for event in &events {
        let (content, _) = cloudevents::from_plain(&tenant_id(), event.to_string().as_bytes()).unwrap();
        frontier.append(leaf_hash(&content.hash().0));
    }
    let message = batch_message(&clouds.directory.genesis.fed_id(), 300, &frontier.root());
    let signature = json!({"key": tenant_key().public(), "signature": tenant_key().sign(&message)});
    let mut batch = json!({"events": events, "batchSignature": signature});
    let answer = clouds.post("gcp-1", &format!("{EVENTS}/batch"), &batch).await.expect(200).json();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 300);
    assert!(results.iter().all(|result| result["ok"]["new"] == true), "{answer}");
    clouds.get("azure-1", &format!("{EVENTS}/e299?wait=sealed")).await.expect(200);
    let keys: Vec<Value> = ["e0", "e299", "none"].map(|id| json!({"source": "", "id": id})).to_vec();
    let levels = clouds.post("gcp-1", &format!("{EVENTS}/levels"), &json!({"events": keys})).await.expect(200);
    assert_eq!(levels.json()["levels"], json!(["SEALED", "SEALED", null]));
    batch["events"][7]["payload"] = json!("changed");
    let refused = clouds.post("gcp-1", &format!("{EVENTS}/batch"), &batch).await.expect(200).json();
    assert_eq!(refused["results"][0]["error"]["code"], "bad_signature");
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_event_by_itself() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let cloud_event = json!({"specversion": "1.0", "id": "c", "source": "s", "type": "t"});
    let batch = json!({"events": [
        {"id": "a"}, {"id": ""}, {"cloudEvent": cloud_event}, {"id": "a", "payload": 1}, {"cloudEvent": {}}, 7,
    ]});
    let answer = clouds.post("gcp-1", "/v1/tenants/open/events/batch", &batch).await.expect(200).json();
    let codes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|result| &result["error"]["code"]).collect();
    let null = Value::Null;
    let invalid = Value::from("invalid_request");
    assert_eq!(codes, [&null, &invalid, &null, &Value::from("id_reuse"), &invalid, &invalid]);
    let structured = request("POST", "/v1/tenants/open/events/batch")
        .header("content-type", "application/cloudevents-batch+json")
        .body(Body::from(json!([cloud_event]).to_string()));
    let again = clouds.call("gcp-1", structured.unwrap()).await.expect(200).json();
    assert_eq!(again["results"][0]["ok"]["new"], false);
}

#[tokio::test(start_paused = true)]
async fn a_retry_with_the_same_idempotency_key_gets_the_same_answer() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let submit = || {
        let mut request = json_request("POST", "/v1/tenants/open/events", &json!({"id": "e"}));
        request.headers_mut().insert("idempotency-key", "00112233445566778899aabbccddeeff".parse().unwrap());
        request
    };
    let first = clouds.call("gcp-1", submit()).await.expect(201);
    let second = clouds.call("gcp-1", submit()).await.expect(201);
    assert_eq!(first.body, second.body);
}

#[tokio::test(start_paused = true)]
async fn a_listing_resumes_where_it_ended_and_filters_by_level() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    for n in 0..25 {
        clouds.post("gcp-1", "/v1/tenants/open/events", &json!({"id": format!("e{n}")})).await.expect(201);
    }
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let path = format!("/v1/tenants/open/events?after={after}&limit=10&level=PENDING");
        let page = clouds.get("gcp-1", &path).await.expect(200).json();
        ids.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(ids, (0..25).map(|n| format!("e{n}")).collect::<Vec<_>>());
    let none = clouds.get("gcp-1", "/v1/tenants/open/events?level=SEALED").await.expect(200).json();
    assert_eq!(none, json!({"events": [], "next": null}));
}

#[tokio::test(start_paused = true)]
async fn concurrent_submits_share_commands() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let before = proposals(&clouds).await;
    let events: Vec<Value> = (0..500).map(|n| json!({"id": format!("e{n}")})).collect();
    let answers = join_all(events.iter().map(|event| clouds.post("gcp-1", "/v1/tenants/open/events", event))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect(201).json()["id"], format!("e{n}"));
    }
    let commands = proposals(&clouds).await - before;
    assert!(commands <= 50, "500 submissions took {commands} commands");
}

async fn proposals(clouds: &Clouds) -> u64 {
    let metrics = clouds.get("gcp-1", "/metrics").await.expect(200);
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("tercet_proposals ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_answers_at_once_and_loses_nothing_that_it_took() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let Node { api, .. } = &clouds.nodes["gcp-1"];
    let submits = Submits::start(api.replica.clone(), api.env.wall.clone());
    let open = tercet_core::ids::TenantId::new("open").unwrap();
    let submission = |n: usize| {
        let text = json!({"id": format!("e{n}")}).to_string();
        let (content, signature) = cloudevents::from_plain(&open, text.as_bytes()).unwrap();
        Submission { content, signature }
    };
    // All are sent before the task that drains the queue runs for the first time.
    let outcomes = join_all((0..MAX_QUEUED + 5).map(|n| submits.submit(submission(n)))).await;
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(ProposeError::Overloaded)).count();
    let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Ok((_, Ok(_))))).count();
    let over_quota = outcomes.iter().filter(|outcome| matches!(outcome, Ok((_, Err(_))))).count();
    assert_eq!(refused, 5);
    assert_eq!((accepted, over_quota), (1000, MAX_QUEUED - 1000));
}
