//! Everything that a client can get wrong is answered with a problem that says what to do.

use super::fixture::{Answer, Clouds, TOKEN, open_tenant, request};
use crate::http::error::{Problem, status};
use crate::http::events::MAX_SUBMIT_BODY_BYTES;
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::stream;
use std::convert::Infallible;
use tercet_core::content::MAX_PAYLOAD_BYTES;
use tercet_core::rejection::Code;

const SIGNED: &str = "/v1/tenants/default/events";
const OPEN: &str = "/v1/tenants/open/events";
const JSON: &str = "application/json";
const CLOUDEVENT: &str = "application/cloudevents+json";

/// One wrong request, and what is said about it.
struct Wrong {
    name: &'static str,
    request: Request<Body>,
    status: u16,
    code: &'static str,
    detail: &'static str,
}

fn send(method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request(method, path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    request.body(body.into()).unwrap()
}

fn wrong(name: &'static str, request: Request<Body>, status: u16, code: &'static str, detail: &'static str) -> Wrong {
    Wrong { name, request, status, code, detail }
}

/// A plain event with this body, to the tenant without signatures.
fn plain(name: &'static str, body: impl Into<Body>, detail: &'static str) -> Wrong {
    wrong(name, send("POST", OPEN, JSON, body), 400, "invalid_request", detail)
}

fn bodies() -> Vec<Wrong> {
    let deep = format!(r#"{{"id":"e","payload":{}{}}}"#, "[".repeat(70), "]".repeat(70));
    vec![
        plain("no body", "", "ends too early"),
        plain("half a body", r#"{"id":"e""#, "ends too early"),
        plain("not JSON", "hello", "a JSON value was expected"),
        plain("not UTF-8", &b"{\"id\":\"\xff\"}"[..], "not UTF-8"),
        plain("two values", r#"{"id":"e"}{}"#, "exactly one JSON value"),
        plain("an array", "[]", "an event is a JSON object"),
        plain("a key twice", r#"{"id":"e","id":"f"}"#, "\"id\" occurs twice"),
        plain("a key twice in the payload", r#"{"id":"e","payload":{"a":{"x":1,"x":2}}}"#, "\"x\" occurs twice"),
        plain("a large integer", r#"{"id":"e","payload":9007199254740993}"#, "send it as a string"),
        plain("a number that is not finite", r#"{"id":"e","payload":1e999}"#, "not finite"),
        plain("half a surrogate pair", r#"{"id":"e","payload":"\ud800"}"#, "surrogate"),
        plain("deep nesting", deep, "nested deeper than 64"),
        plain("an unknown field", r#"{"id":"e","paylod":1}"#, "\"paylod\" is not a field"),
        plain("no id", r#"{"payload":1}"#, "\"id\" is missing"),
        plain("an id of a wrong type", r#"{"id":7}"#, "\"id\" must be a string, not a number"),
        plain("an empty id", r#"{"id":""}"#, "use 1 to 256 bytes"),
        plain("a control character in an id", r#"{"id":"a\u0007"}"#, "without control characters"),
        plain("a long id", format!(r#"{{"id":"{}"}}"#, "x".repeat(257)), "use 1 to 256 bytes"),
        plain("a source of a wrong type", r#"{"id":"e","source":[]}"#, "\"source\" must be a string"),
        plain("two payloads", r#"{"id":"e","payload":1,"payloadBase64":"AA=="}"#, "send one of them"),
        plain("bad base64", r#"{"id":"e","contentType":"a/b","payloadBase64":"?"}"#, "not base64"),
        plain("a bad content type", r#"{"id":"e","contentType":"text"}"#, "type/subtype"),
        plain("an object that is not JSON", r#"{"id":"e","contentType":"text/plain","payload":{}}"#, "send a string"),
        plain("an appeal of itself", r#"{"id":"e","supersedes":{"id":"e"}}"#, "cannot supersede itself"),
    ]
}

fn cloud_events() -> Vec<Wrong> {
    let structured = |name, body: &'static str, detail| {
        wrong(name, send("POST", OPEN, CLOUDEVENT, body), 400, "invalid_request", detail)
    };
    let binary = |headers: &[(&str, &str)]| {
        let mut request = request("POST", OPEN).header("content-type", "application/octet-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from("x")).unwrap()
    };
    let bad_percent = [("ce-specversion", "1.0"), ("ce-id", "%zz"), ("ce-source", "s"), ("ce-type", "t")];
    let twice = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-id", "2"), ("ce-source", "s"), ("ce-type", "t")];
    vec![
        structured(
            "an old version",
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
            "CloudEvents \"1.0\"",
        ),
        structured("no type", r#"{"specversion":"1.0","id":"1","source":"s"}"#, "\"type\" is missing"),
        structured("no source", r#"{"specversion":"1.0","id":"1","type":"t"}"#, "\"source\" is missing"),
        structured("a bad name", r#"{"specversion":"1.0","id":"1","source":"s","type":"t","A":"b"}"#, "a-z and 0-9"),
        wrong(
            "binary without a version",
            binary(&[("ce-id", "1")]),
            400,
            "invalid_request",
            "\"specversion\" is missing",
        ),
        wrong("a header that is not encoded", binary(&bad_percent), 400, "invalid_request", "percent-encoded"),
        wrong("a header twice", binary(&twice), 400, "invalid_request", "once"),
    ]
}

fn sizes() -> Vec<Wrong> {
    let payload = format!(r#"{{"id":"e","payload":"{}"}}"#, "x".repeat(MAX_PAYLOAD_BYTES + 1));
    let body = vec![b' '; MAX_SUBMIT_BODY_BYTES + 1];
    let chunks = stream::iter((0..100).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b' '; 16 << 10]))));
    let declared = request("POST", OPEN).header("content-type", JSON).header("content-length", "99999999");
    let many = format!(r#"{{"events":[{}]}}"#, vec![r#"{"id":"e"}"#; 1025].join(","));
    let levels = format!(r#"{{"events":[{}]}}"#, vec![r#"{"id":"e"}"#; 1001].join(","));
    let batch = format!("{OPEN}/batch");
    vec![
        wrong("a large payload", send("POST", OPEN, JSON, payload), 413, "body_too_large", "store it elsewhere"),
        wrong("a large body", send("POST", OPEN, JSON, body), 413, "body_too_large", "send less at once"),
        wrong(
            "a large body in chunks",
            send("POST", OPEN, JSON, Body::from_stream(chunks)),
            413,
            "body_too_large",
            "larger",
        ),
        wrong("a large declared body", declared.body(Body::empty()).unwrap(), 413, "body_too_large", "larger"),
        wrong("a large batch", send("POST", &batch, JSON, vec![b' '; (8 << 20) + 1]), 413, "body_too_large", "8388608"),
        wrong("many events", send("POST", &batch, JSON, many), 400, "invalid_request", "1 to 1024 events"),
        wrong("no events", send("POST", &batch, JSON, r#"{"events":[]}"#), 400, "invalid_request", "1 to 1024 events"),
        wrong(
            "a batch of a wrong type",
            send("POST", &batch, JSON, r#"{"events":{}}"#),
            400,
            "invalid_request",
            "an array",
        ),
        wrong(
            "a batch with a typo",
            send("POST", &batch, JSON, r#"{"event":[]}"#),
            400,
            "invalid_request",
            "\"event\" is not",
        ),
        wrong(
            "many levels",
            send("POST", &format!("{OPEN}/levels"), JSON, levels),
            400,
            "invalid_request",
            "at most 1000",
        ),
    ]
}

fn routes() -> Vec<Wrong> {
    let keyed = |key: &str| {
        request("POST", OPEN)
            .header("content-type", JSON)
            .header("idempotency-key", key)
            .body(Body::from("{}"))
            .unwrap()
    };
    let resume = request("GET", "/v1/watch").header("last-event-id", "x").body(Body::empty()).unwrap();
    let get = |path: &str| send("GET", path, "", "");
    vec![
        wrong("no such route", get("/v2"), 404, "not_found", "GET /openapi.json"),
        wrong("no such route under v1", get("/v1/x"), 404, "not_found", "GET /openapi.json"),
        wrong("a wrong method", send("DELETE", SIGNED, "", ""), 405, "method_not_allowed", "does not take DELETE"),
        wrong("no content type", send("POST", OPEN, "", "{}"), 415, "unsupported_media_type", "set Content-Type"),
        wrong(
            "another content type",
            send("POST", OPEN, "text/xml", "{}"),
            415,
            "unsupported_media_type",
            "ce- headers",
        ),
        wrong(
            "another type of levels",
            send("POST", &format!("{OPEN}/levels"), "", "{}"),
            415,
            "unsupported_media_type",
            JSON,
        ),
        wrong("a bad tenant", get("/v1/tenants/Up_per"), 400, "invalid_request", "a-z, 0-9 and '-'"),
        wrong("an unknown tenant", get("/v1/tenants/nobody/events"), 404, "unknown_tenant", "tercet tenant create"),
        wrong("an unknown event", get(&format!("{OPEN}/nothing")), 404, "unknown_event", "submit it first"),
        wrong("a bad event id", get(&format!("{OPEN}/a%07")), 400, "invalid_request", "control characters"),
        wrong("a path that is not UTF-8", get(&format!("{OPEN}/%ff")), 400, "invalid_request", "UTF-8"),
        wrong("an unknown query", get(&format!("{OPEN}?limt=3")), 400, "invalid_request", "unknown field"),
        wrong("a query of a wrong type", get(&format!("{OPEN}?limit=x")), 400, "invalid_request", "limit"),
        wrong("a limit beyond", get(&format!("{OPEN}?limit=1001")), 400, "invalid_request", "limit is 1 to 1000"),
        wrong("a level that is none", get(&format!("{OPEN}?level=DONE")), 400, "invalid_request", "PENDING"),
        wrong("a bad wait", get(&format!("{OPEN}/e?wait=soon")), 400, "invalid_request", "final"),
        wrong("a short idempotency key", keyed("abc"), 400, "invalid_request", "32 characters"),
        wrong("an upper-case key", keyed("00112233445566778899AABBCCDDEEFF"), 400, "invalid_request", "lower-case"),
        wrong("a bad resume point", resume, 400, "invalid_request", "Last-Event-ID"),
        wrong("an unknown cloud", get("/v1/clouds/ibm/leaves"), 404, "not_found", "no cloud of this federation"),
        wrong("many leaves", get("/v1/clouds/gcp/leaves?limit=1001"), 400, "invalid_request", "limit is 1 to 1000"),
        wrong("a proof without index", get("/v1/clouds/gcp/proof"), 400, "invalid_request", "index"),
        wrong("no note yet", get("/v1/clouds/aws/checkpoint"), 404, "not_found", "retry shortly"),
        wrong(
            "unknown evidence",
            get(&format!("/v1/evidence/{}", "00".repeat(32))),
            404,
            "not_found",
            "GET /v1/evidence",
        ),
        wrong("a bad evidence id", get("/v1/evidence/xyz"), 400, "invalid_request", "hexadecimal"),
    ]
}

fn commands() -> Vec<Wrong> {
    let tenant = |body: &str| send("PUT", "/v1/tenants/new", JSON, body.to_owned());
    let secret = "00".repeat(32);
    let whole = |more: &str| {
        tenant(&format!(
            r#"{{"id":"new","secret":"{secret}","confirm":"auto","unsigned":false,"max_pending":1{more}}}"#
        ))
    };
    let other =
        format!(r#"{{"id":"x","secret":"{secret}","confirm":"auto","keys":[],"unsigned":true,"max_pending":1}}"#);
    let decide = |body: &'static str| send("POST", &format!("{OPEN}/e/decision"), JSON, body);
    let evidence = "application/vnd.tercet.evidence";
    vec![
        wrong("half a tenant", tenant("{}"), 400, "invalid_request", "missing field"),
        wrong("another tenant than the path's", tenant(&other), 400, "invalid_request", "make them the same"),
        wrong(
            "an unknown field of a tenant",
            whole(r#","keys":[],"color":1"#),
            400,
            "invalid_request",
            "unknown field",
        ),
        wrong("a tenant without keys", whole(r#","keys":[]"#), 400, "invalid_request", "1 to 16 keys"),
        wrong("a bad key", whole(r#","keys":["00"]"#), 400, "invalid_request", "hexadecimal"),
        wrong("a bad verdict", decide(r#"{"verdict":"maybe"}"#), 400, "invalid_request", "confirm"),
        wrong(
            "an unknown event to decide",
            decide(r#"{"verdict":"confirm"}"#),
            404,
            "unknown_event",
            "submit it first",
        ),
        wrong(
            "evidence of a wrong type",
            send("POST", "/v1/evidence", JSON, "{}"),
            415,
            "unsupported_media_type",
            evidence,
        ),
        wrong("no evidence", send("POST", "/v1/evidence", evidence, "x"), 422, "bad_evidence", "was refused"),
    ]
}

fn signatures(clouds: &Clouds) -> Vec<Wrong> {
    let signed = |mut event: serde_json::Value, name: &str, value: serde_json::Value| {
        event["signature"]["single"][name] = value;
        send("POST", SIGNED, JSON, event.to_string())
    };
    let event = || clouds.signed(serde_json::json!({"id": "e"}));
    let mut changed = event();
    changed["payload"] = 1.into();
    let stranger = tercet_core::signature::SigningKey::from_seed(&[3; 32]).public().to_string();
    let header = request("POST", SIGNED).header("content-type", JSON).header("tercet-signature", "{}");
    vec![
        wrong("no signature", send("POST", SIGNED, JSON, r#"{"id":"e"}"#), 403, "bad_signature", "sign content hash"),
        wrong("other content", send("POST", SIGNED, JSON, changed.to_string()), 403, "bad_signature", "does not cover"),
        wrong("a stranger's key", signed(event(), "key", stranger.into()), 403, "bad_signature", "none of tenant"),
        wrong(
            "a bad signature",
            signed(event(), "signature", "00".into()),
            403,
            "bad_signature",
            "not a tenant signature",
        ),
        wrong("an unknown field", signed(event(), "x", 1.into()), 403, "bad_signature", "not a tenant signature"),
        wrong(
            "a header beside the plain form",
            header.body(Body::from(r#"{"id":"e"}"#)).unwrap(),
            403,
            "bad_signature",
            "not a tenant signature",
        ),
    ]
}

fn check(name: &str, answer: &Answer) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{name}: {answer:?}");
    let problem = answer.json();
    for field in ["title", "detail", "code"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{name}: {problem}");
    }
    assert_eq!(problem["type"], format!("urn:tercet:problem:{}", problem["code"].as_str().unwrap()));
    assert_eq!(problem["status"], answer.status.as_u16(), "{name}");
    assert_eq!(problem["outcome"], "none", "{name}");
    assert!(problem["retryable"].is_boolean(), "{name}");
    let text = problem.to_string();
    assert!(text.len() < 1000 && !text.contains(TOKEN), "{name}: {text}");
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_are_refused_with_what_to_do() {
    let clouds = Clouds::one().await;
    clouds.put_tenant("gcp-1", &open_tenant("open", "auto")).await;
    let all = [bodies(), cloud_events(), sizes(), routes(), commands(), signatures(&clouds)];
    for Wrong { name, request, status, code, detail } in all.into_iter().flatten() {
        let answer = clouds.call("gcp-1", request).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), status, "{name}: {body}");
        check(name, &answer);
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{name}: {body}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{name}: {body}");
    }
    let page = clouds.get("gcp-1", OPEN).await.expect(200).json();
    assert_eq!(page["events"].as_array().unwrap().len(), 0, "a refused request left something: {page}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_over_its_quota_is_told_to_retry() {
    let clouds = Clouds::one().await;
    let mut tenant = open_tenant("small", "auto");
    tenant["max_pending"] = 1.into();
    clouds.put_tenant("gcp-1", &tenant).await;
    let path = "/v1/tenants/small/events";
    clouds.post("gcp-1", path, &serde_json::json!({"id": "a"})).await.expect(201);
    let answer = clouds.post("gcp-1", path, &serde_json::json!({"id": "b"})).await.expect(429);
    check("quota", &answer);
    assert_eq!((answer.json()["code"].as_str(), answer.header("retry-after")), (Some("quota_exceeded"), "1"));
}

#[test]
fn statuses_agree_with_what_codes_say_about_retries() {
    for code in [Code::EpochNotOpen, Code::NoLeader, Code::OutcomeUnknown, Code::Overloaded, Code::QuotaExceeded] {
        assert!(code.retryable());
        assert!(status(code).is_server_error() || status(code).as_u16() == 429, "{code:?}");
    }
    for code in [Code::InvalidRequest, Code::IdReuse, Code::Forbidden, Code::BadEvidence, Code::Unauthenticated] {
        assert!(!code.retryable() && status(code).is_client_error(), "{code:?}");
    }
    assert_eq!(Problem::new(Code::OutcomeUnknown, "").outcome, "unknown");
}
