//! Events on three small clouds: uniqueness, forms, decisions by hand, and refusals.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tercet_core::cloudevents;
use tercet_core::signature::SigningKey;
use tercet_core::transparency::{Frontier, leaf_hash};
use tercet_tests::events::Author;
use tercet_tests::wait::check;
use tercet_tests::{CLOUDS, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(20);

/// One cluster for all tests that run at the same time; they use different ids.
fn cluster() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::small());
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

fn flagged(cluster: &Cluster) -> Vec<Value> {
    let status = cluster.cli().json(&["status"]);
    let clouds = status["clouds"].as_array().unwrap().clone();
    clouds.into_iter().filter(|cloud| cloud["flagged"] != false).collect()
}

#[test]
fn the_same_id_with_other_content_is_refused_and_nobody_is_flagged() {
    let cluster = cluster();
    let first = cluster.submit("gcp", "reused-1", &json!({ "amount": 1 })).ok();
    cluster.wait_level("aws", "reused-1", "SEALED", LIMIT);
    for cloud in CLOUDS {
        cluster.wait_level(cloud, "reused-1", "SEALED", LIMIT);
        let refused = cluster.submit(cloud, "reused-1", &json!({ "amount": 2 })).problem(409, "id_reuse");
        assert_eq!(refused["firstContentHash"], first["contentHash"], "{refused}");
        assert_eq!(refused["outcome"], "none");
        assert_eq!(refused["retryable"], false);
    }
    let refused = cluster.cli().run(&["event", "submit", "--id", "reused-1", "--payload", r#"{"amount":3}"#]).expect(3);
    assert!(refused.stderr.contains(first["contentHash"].as_str().unwrap()), "{}", refused.stderr);
    let event = cluster.event("aws", "reused-1").unwrap();
    assert_eq!(event["contents"].as_array().unwrap().len(), 1, "{event}");
    assert_eq!(event["votes"].as_array().unwrap().len(), 3, "{event}");
    assert_eq!(flagged(&cluster), Vec::<Value>::new());
}

#[test]
fn the_same_content_sent_to_two_clouds_at_once_is_one_event() {
    let cluster = cluster();
    for round in 0..5 {
        let id = format!("twice-{round}");
        let (at_aws, at_azure) = std::thread::scope(|scope| {
            let send = |cloud| {
                let (cluster, id) = (&cluster, &id);
                scope.spawn(move || cluster.submit(cloud, id, &json!({ "round": round })).ok())
            };
            let (aws, azure) = (send("aws"), send("azure"));
            (aws.join().unwrap(), azure.join().unwrap())
        });
        assert_eq!(at_aws["contentHash"], at_azure["contentHash"]);
        assert_eq!(at_aws["tag"], at_azure["tag"]);
        for cloud in CLOUDS {
            let event = cluster.wait_level(cloud, &id, "SEALED", LIMIT);
            assert_eq!(event["contentHash"], at_aws["contentHash"]);
            assert_eq!(event["marks"]["dissent"], false, "{event}");
        }
        let everywhere = eventually("all three clouds voted", LIMIT, || {
            let event = cluster.event("gcp", &id)?;
            check(event["votes"].as_array().unwrap().len() == 3, || event.to_string())?;
            Ok(event)
        });
        let said: BTreeSet<&str> =
            everywhere["votes"].as_array().unwrap().iter().filter_map(|vote| vote["contentHash"].as_str()).collect();
        assert_eq!(said.len(), 1, "{everywhere}");
    }
    assert_eq!(flagged(&cluster), Vec::<Value>::new());
}

/// An event of a tenant as a cloud sees it.
fn event_of(cluster: &Cluster, cloud: &str, tenant: &str, id: &str) -> Result<Value, String> {
    let url = format!("{}/v1/tenants/{tenant}/events/{id}", cluster.leader_url(cloud));
    let reply = cluster.api().get(&url).try_send()?;
    check(reply.status == 200, || reply.text())?;
    Ok(reply.json())
}

fn wait_for(cluster: &Cluster, cloud: &str, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{id} at {cloud}: {what}"), LIMIT, || {
        let event = event_of(cluster, cloud, "by-hand", id)?;
        check(holds(&event), || event.to_string())?;
        Ok(event)
    })
}

#[test]
fn operators_confirm_and_reject_from_the_command_line_for_their_cloud_alone() {
    let cluster = cluster();
    let cli = cluster.cli();
    cli.run(&["tenant", "create", "by-hand", "--manual"]).ok();
    let of = ["--tenant", "by-hand"];
    let decide = |verb: &str, id: &str, cloud: &str| {
        wait_for(&cluster, cloud, id, "it is known", |_| true);
        cli.run(&[&["event", verb, id, "--cloud", cloud], &of[..]].concat())
    };
    let submit = |id: &str| {
        let submit = ["event", "submit", "--id", id, "--payload", "{}", "--at", "aws"];
        cli.json(&[&submit[..], &of].concat())
    };

    assert_eq!(submit("hand-1")["level"], "PENDING");
    decide("confirm", "hand-1", "aws").ok();
    let waiting = wait_for(&cluster, "azure", "hand-1", "aws has voted", |event| {
        event["votes"].as_array().is_some_and(|votes| votes.len() == 1)
    });
    assert_eq!(waiting["level"], "PENDING", "one operator is not two: {waiting}");
    decide("confirm", "hand-1", "azure").ok();
    for cloud in CLOUDS {
        let event = wait_for(&cluster, cloud, "hand-1", "SEALED", |event| event["level"] == "SEALED");
        let voters: BTreeSet<&str> =
            event["votes"].as_array().unwrap().iter().filter_map(|vote| vote["cloud"].as_str()).collect();
        assert_eq!(voters, BTreeSet::from(["aws", "azure"]), "{event}");
    }
    decide("reject", "hand-1", "gcp").ok();
    for cloud in CLOUDS {
        let event = wait_for(&cluster, cloud, "hand-1", "dissent", |event| event["marks"]["dissent"] == true);
        assert_eq!(event["level"], "SEALED", "a late vote that differs leaves the level: {event}");
    }
    let twice = decide("confirm", "hand-1", "gcp").expect(3);
    assert!(twice.stderr.contains("votes once"), "{}", twice.stderr);

    submit("hand-2");
    for cloud in CLOUDS {
        decide("reject", "hand-2", cloud).ok();
    }
    for cloud in CLOUDS {
        let event = wait_for(&cluster, cloud, "hand-2", "actionable", |event| event["marks"]["actionable"] == true);
        assert_eq!(event["level"], "QUARANTINED", "{event}");
    }

    cluster.submit("aws", "automatic-1", &json!({})).ok();
    let refused = cli.run(&["event", "confirm", "automatic-1", "--cloud", "aws"]).expect(3);
    assert!(refused.stderr.contains("confirms automatically"), "{}", refused.stderr);
}

#[test]
fn structured_binary_and_batched_cloudevents_are_the_same_event() {
    let cluster = cluster();
    let author = cluster.author();
    let url = format!("{}/v1/tenants/default/events", cluster.leader_url("azure"));
    let structured = r#"{"specversion":"1.0","id":"form-1","source":"/shop","type":"order.made",
        "subject":"é","datacontenttype":"application/json","data":{"b":1.50,"a":[true,null]}}"#;
    let content = cloudevents::from_structured(&author.tenant, structured.as_bytes()).unwrap();
    let signature = author.signature_header(&content);

    let first = cluster.api().post(&url).body("application/cloudevents+json", structured);
    let first = first.header("tercet-signature", &signature).send();
    assert_eq!(first.status, 201, "{}", first.text());
    let first = first.ok();
    assert_eq!(first["contentHash"], content.hash().to_string());

    let binary = cluster.api().post(&url).body("application/json", r#"{ "a": [true, null], "b": 1.5 }"#);
    let binary = [("specversion", "1.0"), ("id", "form-1"), ("source", "/shop"), ("type", "order.made")]
        .into_iter()
        .fold(binary, |request, (name, value)| request.header(&format!("ce-{name}"), value))
        .header("ce-subject", "%C3%A9")
        .header("tercet-signature", &signature)
        .send();
    assert_eq!(binary.status, 200, "{}", binary.text());
    let binary = binary.ok();
    assert_eq!((&binary["new"], &binary["contentHash"]), (&json!(false), &first["contentHash"]));

    let mut tree = Frontier::default();
    tree.append(leaf_hash(&content.hash().0));
    let message = tercet_core::tenants::batch_message(&author.fed, 1, &tree.root());
    let signature = json!({ "key": author.key.public(), "signature": author.key.sign(&message) });
    let batch = cluster.api().post(&format!("{url}/batch"));
    let batch = batch.body("application/cloudevents-batch+json", format!("[{structured}]"));
    let batch = batch.header("tercet-batch-signature", &signature.to_string()).send().ok();
    let result = &batch["results"][0]["ok"];
    assert_eq!((&result["new"], &result["contentHash"]), (&json!(false), &first["contentHash"]), "{batch}");

    let own = json!({ "events": [{ "cloudEvent": serde_json::from_str::<Value>(structured).unwrap() },
        author.plain("form-2", &json!(1))], });
    let own = cluster.api().post(&format!("{url}/batch")).json(&own).send().ok();
    assert_eq!(own["results"][0]["error"]["code"], "bad_signature", "an unsigned one fails alone: {own}");
    assert_eq!(own["results"][1]["ok"]["new"], true, "{own}");
}

#[test]
fn a_request_without_the_right_token_is_refused() {
    let cluster = cluster();
    let base = cluster.leader_url("gcp");
    let event = cluster.author().plain("no-token", &json!({}));
    for path in ["/v1/status", "/v1/trust", "/v1/evidence", "/v1/tenants", "/v1/tenants/default/events", "/v1/watch"] {
        let url = format!("{base}{path}");
        cluster.api().get(&url).without_token().send().problem(401, "unauthenticated");
        cluster.api().get(&url).token("00").send().problem(401, "unauthenticated");
    }
    let url = format!("{base}/v1/tenants/default/events");
    cluster.api().post(&url).json(&event).without_token().send().problem(401, "unauthenticated");
    cluster.api().post(&url).json(&event).token(&"0".repeat(64)).send().problem(401, "unauthenticated");
    assert!(cluster.event("gcp", "no-token").is_err());
    for open in ["/livez", "/readyz?verbose", "/health", "/metrics"] {
        assert_eq!(cluster.api().get(&format!("{base}{open}")).without_token().send().status, 200, "{open}");
    }
    let plain = base.replace("https://", "http://");
    let answer = cluster.api().get(&format!("{plain}/livez")).without_token().try_send();
    assert!(answer.is_err_and(|error| !error.is_empty()), "there is no way in without TLS");
}

/// A request that must be refused, and what its refusal must say.
struct Bad {
    what: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    says: &'static str,
}

fn bad(what: &'static str, body: impl Into<Vec<u8>>, says: &'static str) -> Bad {
    let body = body.into();
    Bad { what, content_type: "application/json", body, status: 400, code: "invalid_request", says }
}

fn bad_cloudevent(what: &'static str, body: impl Into<Vec<u8>>, says: &'static str) -> Bad {
    Bad { content_type: "application/cloudevents+json", ..bad(what, body, says) }
}

fn bad_single_events(author: &Author) -> Vec<Bad> {
    let stranger = Author { key: SigningKey::from_seed(&[9; 32]), ..author.clone() };
    let mut other = author.plain("bad-signed", &json!({ "amount": 1 }));
    other["payload"] = json!({ "amount": 2 });
    let refused =
        |what, event: Value, says| Bad { status: 403, code: "bad_signature", ..bad(what, event.to_string(), says) };
    let large = json!({ "id": "bad-large", "payload": "x".repeat(300 << 10) }).to_string();
    vec![
        bad("no JSON", "{", ""),
        bad("an empty body", "", ""),
        bad("text after the JSON", r#"{"id":"bad-1"} x"#, ""),
        bad("a doubled key", r#"{"id":"bad-1","id":"bad-2"}"#, "id"),
        bad("a doubled key in the payload", r#"{"id":"bad-1","payload":{"a":1,"a":2}}"#, "a"),
        bad("an integer beyond 2^53", r#"{"id":"bad-1","payload":9007199254740993}"#, "beyond 2^53"),
        bad("a lone surrogate", r#"{"id":"bad-1","payload":"\ud800"}"#, ""),
        bad("bytes that are not UTF-8", b"{\"id\":\"bad-1\",\"payload\":\"\xff\"}".to_vec(), "UTF-8"),
        bad("deep nesting", format!(r#"{{"id":"bad-1","payload":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000)), "deep"),
        bad("an array", "[]", "object"),
        bad("no id", r#"{"payload":1}"#, "id"),
        bad("an empty id", r#"{"id":""}"#, "1 to 256"),
        bad("a long id", json!({ "id": "x".repeat(257) }).to_string(), "1 to 256"),
        bad("a control character in the id", r#"{"id":"a\u0007b"}"#, "control"),
        bad("an id that is a number", r#"{"id":7}"#, "string"),
        bad("a source that is a list", r#"{"id":"bad-1","source":[]}"#, "string"),
        bad("an unknown field", r#"{"id":"bad-1","colour":"red"}"#, "colour"),
        bad("two payloads", r#"{"id":"bad-1","payload":1,"payloadBase64":"AA=="}"#, "exclude"),
        bad("a payload that is not base64", r#"{"id":"bad-1","payloadBase64":"%%"}"#, "base64"),
        bad("a content type that is none", r#"{"id":"bad-1","contentType":"json"}"#, "type"),
        Bad {
            status: 403,
            code: "bad_signature",
            ..bad("a signature of the wrong form", r#"{"id":"bad-1","signature":{"single":{}}}"#, "signature")
        },
        bad("an event that supersedes itself", r#"{"id":"bad-1","supersedes":{"id":"bad-1"}}"#, "supersede"),
        bad_cloudevent("no specversion", r#"{"id":"bad-1","source":"/s","type":"t"}"#, "specversion"),
        bad_cloudevent("another specversion", r#"{"specversion":"2.0","id":"b","source":"/s","type":"t"}"#, "1.0"),
        bad_cloudevent("no type", r#"{"specversion":"1.0","id":"bad-1","source":"/s"}"#, "type"),
        bad_cloudevent(
            "a bad attribute",
            r#"{"specversion":"1.0","id":"b","source":"/s","type":"t","A_B":"1"}"#,
            "A_B",
        ),
        bad_cloudevent(
            "an object as attribute",
            r#"{"specversion":"1.0","id":"b","source":"/s","type":"t","a":{}}"#,
            "a",
        ),
        Bad {
            status: 415,
            code: "unsupported_media_type",
            content_type: "text/html",
            ..bad("an unknown media type", "<p>", "Content-Type")
        },
        Bad { status: 413, code: "body_too_large", ..bad("an endless body", vec![b' '; 4 << 20], "bytes") },
        Bad { status: 413, code: "body_too_large", ..bad("a large payload", large, "262144") },
        refused("no signature", json!({ "id": "bad-unsigned" }), "sign"),
        refused("a stranger's signature", stranger.plain("bad-stranger", &json!({})), "key"),
        refused("a signature of other content", other, "signature"),
    ]
}

#[test]
fn malformed_events_are_refused_with_what_to_do() {
    let cluster = cluster();
    let url = format!("{}/v1/tenants/default/events", cluster.leader_url("aws"));
    let before = cluster.api().get(&format!("{url}?limit=1000")).send().ok();
    for Bad { what, content_type, body, status, code, says } in bad_single_events(&cluster.author()) {
        eprintln!("{what}");
        let reply = cluster.api().post(&url).body(content_type, body).send();
        let problem = reply.problem(status, code);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{what}: {says:?} is not in {detail:?}");
        assert_eq!(problem["outcome"], "none", "{what}: {problem}");
        assert_eq!(problem["retryable"], false, "{what}: {problem}");
    }
    let after = cluster.api().get(&format!("{url}?limit=1000")).send().ok();
    let bad = |page: &Value| {
        let events = page["events"].as_array().unwrap().iter();
        events.filter(|event| event["id"].as_str().unwrap().starts_with("bad-")).count()
    };
    assert_eq!((bad(&before), bad(&after)), (0, 0), "nothing of it was accepted");
}

#[test]
fn malformed_requests_of_every_kind_are_problems() {
    let cluster = cluster();
    let base = cluster.leader_url("azure");
    let send = |method: &str, path: &str, body: Option<&Value>| {
        eprintln!("{method} {path}");
        let request = cluster.api().request(method, &format!("{base}{path}"));
        let request = match body {
            None => request,
            Some(body) => request.json(body),
        };
        request.send()
    };
    let events = "/v1/tenants/default/events";
    send("GET", "/v1/tenants/UPPER/events", None).problem(400, "invalid_request");
    send("GET", "/v1/tenants/nobody/events", None).problem(404, "unknown_tenant");
    send("GET", &format!("{events}/never-sent"), None).problem(404, "unknown_event");
    send("GET", &format!("{events}?colour=red"), None).problem(400, "invalid_request");
    send("GET", &format!("{events}?limit=0"), None).problem(400, "invalid_request");
    send("GET", &format!("{events}?limit=many"), None).problem(400, "invalid_request");
    send("GET", &format!("{events}?level=GREAT"), None).problem(400, "invalid_request");
    send("GET", &format!("{events}/never-sent?wait=great"), None).problem(400, "invalid_request");
    send("GET", "/v1/nothing", None).problem(404, "not_found");
    send("DELETE", events, None).problem(405, "method_not_allowed");
    send("GET", "/v1/evidence/zz", None).problem(400, "invalid_request");
    send("GET", &format!("/v1/evidence/{}", "0".repeat(64)), None).problem(404, "not_found");
    let key = json!({ "id": "x" });
    let many = json!({ "events": vec![key; 1001] });
    send("POST", &format!("{events}/levels"), Some(&many)).problem(400, "invalid_request");
    send("POST", &format!("{events}/levels"), Some(&json!({ "events": [{ "id": 1 }] })))
        .problem(400, "invalid_request");
    send("POST", &format!("{events}/levels"), Some(&json!({ "keys": [] }))).problem(400, "invalid_request");
    send("POST", &format!("{events}/x/decision"), Some(&json!({ "verdict": "maybe" }))).problem(400, "invalid_request");
    let many = json!({ "events": vec![json!({ "id": "bad-batch" }); 1025] });
    let refused = send("POST", &format!("{events}/batch"), Some(&many));
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    let large = cluster.api().post(&format!("{base}{events}/batch")).body("application/json", vec![b' '; 9 << 20]);
    large.send().problem(413, "body_too_large");
    let evidence = cluster.api().post(&format!("{base}/v1/evidence"));
    evidence.body("application/vnd.tercet.evidence", "nonsense").send().problem(422, "bad_evidence");
    assert_eq!(send("GET", "/livez", None).status, 200);
}
