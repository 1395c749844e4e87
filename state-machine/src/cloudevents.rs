//! The forms in which a client may send an event, and the one [`Content`] that they all lead to:
//! CloudEvents 1.0 (structured and binary) and the plain JSON form. However an event is sent again,
//! it gets the same content hash. Nothing here accepts or stores; it only reads and writes bytes.
//!
//! Rules that make the forms agree: attributes are sorted; a null attribute is absent; numbers and
//! booleans become their text; the content type is normalised; a payload of a JSON type is
//! canonicalised, whichever way it travelled; any other payload stays as its bytes.

use crate::canonical::{self, Json, JsonError};
use crate::content::{Content, ContentError};
use crate::ids::{EventKey, InvalidId, TenantId};
use crate::tenants::TenantSignature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The only version of CloudEvents.
pub const SPEC_VERSION: &str = "1.0";
pub const JSON_TYPE: &str = "application/json";
/// Attributes that name the event which this one appeals; they become `supersedes`.
pub const SUPERSEDES_ID: &str = "supersedesid";
pub const SUPERSEDES_SOURCE: &str = "supersedessource";

/// Why bytes are not an event. Every text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the payload is declared as JSON but is not acceptable: {0}")]
    Payload(JsonError),
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("an event is a JSON object, this is {0}")]
    NotAnObject(&'static str),
    #[error("{0:?} is missing")]
    Missing(&'static str),
    #[error("{name:?} must be {expected}, not {found}")]
    WrongType { name: String, expected: &'static str, found: &'static str },
    #[error("{0:?} is not a field of an event; remove it, or send it inside the payload")]
    UnknownField(String),
    #[error("specversion {0:?} is not supported; send CloudEvents \"1.0\"")]
    SpecVersion(String),
    #[error("{0:?} and {1:?} exclude each other; send one of them")]
    Both(&'static str, &'static str),
    #[error("{0:?} is not base64 (standard alphabet, with padding)")]
    NotBase64(&'static str),
    #[error("the payload is {found} but the content type {content_type:?} is not JSON; send a string, or base64")]
    NotText { content_type: String, found: &'static str },
    #[error("content type {0:?} is not \"type/subtype\", or declares a charset other than UTF-8 for JSON")]
    ContentType(String),
    #[error("header ce-{0} is not valid: send printable ASCII with percent-encoded UTF-8, once")]
    Header(String),
    #[error("the signature is not a tenant signature: {0}")]
    Signature(String),
}

/// A payload on its way in.
enum Payload<'a> {
    None,
    Json(Json<'a>),
    Bytes(Vec<u8>),
}

// ---- structured CloudEvents ----

/// A structured-mode event (`application/cloudevents+json`).
pub fn from_structured(tenant: &TenantId, bytes: &[u8]) -> Result<Content, EventError> {
    from_structured_json(tenant, canonical::parse(bytes)?)
}

/// The same from a value that was already parsed, as inside a batch.
pub fn from_structured_json(tenant: &TenantId, event: Json<'_>) -> Result<Content, EventError> {
    let (mut data, mut base64) = (None, None);
    let mut attributes = Attributes::default();
    for (name, value) in members(event)? {
        match (name.as_ref(), value) {
            ("data", value) => data = Some(value),
            // Only attributes are absent when null, but no base64 text is null either.
            (_, Json::Null) => {}
            ("data_base64", value) => base64 = Some(decode_base64("data_base64", value)?),
            (_, Json::String(text)) => attributes.add(&name, text.into_owned()),
            (_, Json::Bool(flag)) => attributes.add(&name, flag.to_string()),
            (_, Json::Number(number)) if number.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
                attributes.add(&name, number.into_owned());
            }
            (_, value) => return Err(wrong_type(&name, "a string, a boolean or an integer", &value)),
        }
    }
    let payload = match (data, base64) {
        (Some(_), Some(_)) => return Err(EventError::Both("data", "data_base64")),
        (Some(data), None) => {
            attributes.content_type.get_or_insert_with(|| JSON_TYPE.to_owned());
            Payload::Json(data)
        }
        (None, Some(bytes)) => Payload::Bytes(bytes),
        (None, None) => Payload::None,
    };
    attributes.content(tenant, payload)
}

/// The structured form of a content that came as a CloudEvent; `None` if it came in the plain form.
pub fn to_structured(content: &Content) -> Option<Vec<u8>> {
    content.attributes.iter().find(|(name, _)| name == "type")?;
    let mut event: Vec<(Cow<'_, str>, Json<'_>)> = vec![
        ("specversion".into(), text(SPEC_VERSION)),
        ("id".into(), text(content.key.id())),
        ("source".into(), text(content.key.source())),
    ];
    event.extend(content.attributes.iter().map(|(name, value)| (Cow::from(name), text(value))));
    if !content.content_type.is_empty() {
        event.push(("datacontenttype".into(), text(&content.content_type)));
    }
    if let Some(key) = &content.supersedes {
        event.push((SUPERSEDES_ID.into(), text(key.id())));
        event.push((SUPERSEDES_SOURCE.into(), text(key.source())));
    }
    event.extend(payload_member(content, "data", "data_base64"));
    Some(Json::object(event).canonical())
}

// ---- binary CloudEvents ----

/// A binary-mode event: the `ce-` headers without their prefix, the `Content-Type`, and the body.
pub fn from_binary<'h>(
    tenant: &TenantId,
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Content, EventError> {
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let value = header_text(value).ok_or_else(|| EventError::Header(name.clone()))?;
        // In binary mode these two travel as Content-Type and as the body.
        if name == "datacontenttype" || name == "data" || attributes.known(&name) {
            return Err(EventError::Header(name));
        }
        attributes.add(&name, value);
    }
    attributes.content_type = content_type.map(str::to_owned);
    let payload = if body.is_empty() { Payload::None } else { Payload::Bytes(body.to_vec()) };
    attributes.content(tenant, payload)
}

/// Decodes a header value as the HTTP binding (section 3.1.3.2) says.
fn header_text(value: &[u8]) -> Option<String> {
    let mut value = std::str::from_utf8(value).ok()?.trim();
    let unquoted: String;
    if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') {
        let mut out = String::new();
        let mut chars = value[1..value.len() - 1].chars();
        while let Some(char) = chars.next() {
            out.push(if char == '\\' { chars.next()? } else { char });
        }
        unquoted = out;
        value = &unquoted;
    }
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let mut decoded = [0];
        hex::decode_to_slice(digits, &mut decoded).ok()?;
        out.push(decoded[0]);
    }
    String::from_utf8(out).ok()
}

/// Encodes an attribute as a header value of binary mode.
pub fn to_header(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            0x21..=0x7e if byte != b'"' && byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

// ---- plain form ----

/// The plain form and the signature inside it.
pub fn from_plain(tenant: &TenantId, bytes: &[u8]) -> Result<(Content, Option<TenantSignature>), EventError> {
    from_plain_json(tenant, canonical::parse(bytes)?)
}

/// The same from a value that was already parsed, as inside a batch.
pub fn from_plain_json(tenant: &TenantId, event: Json<'_>) -> Result<(Content, Option<TenantSignature>), EventError> {
    let (mut id, mut source, mut content_type) = (None, None, None);
    let (mut payload, mut base64, mut supersedes, mut signature) = (None, None, None, None);
    for (name, value) in members(event)? {
        match name.as_ref() {
            "id" => id = Some(string("id", value)?),
            "source" => source = Some(string("source", value)?),
            "contentType" => content_type = Some(string("contentType", value)?),
            "payload" => payload = Some(value),
            "payloadBase64" => base64 = Some(decode_base64("payloadBase64", value)?),
            "supersedes" => supersedes = Some(key_from_json(value)?),
            "signature" => signature = Some(signature_from_json(&value)?),
            _ => return Err(EventError::UnknownField(shorten(&name))),
        }
    }
    let payload = match (payload, base64) {
        (Some(_), Some(_)) => return Err(EventError::Both("payload", "payloadBase64")),
        (Some(value), None) => Payload::Json(value),
        (None, Some(bytes)) => Payload::Bytes(bytes),
        (None, None) => Payload::None,
    };
    let id = id.ok_or(EventError::Missing("id"))?;
    let key = EventKey::new(source.unwrap_or_default(), id)?;
    let content_type = content_type.unwrap_or_else(|| JSON_TYPE.to_owned());
    let content = build(tenant, key, Vec::new(), Some(&content_type), supersedes, payload)?;
    Ok((content, signature))
}

/// The plain form of a content without attributes; `None` if it came as a CloudEvent.
pub fn to_plain(content: &Content, signature: Option<&TenantSignature>) -> Option<Vec<u8>> {
    if !content.attributes.is_empty() {
        return None;
    }
    let mut event: Vec<(Cow<'_, str>, Json<'_>)> =
        vec![("id".into(), text(content.key.id())), ("contentType".into(), text(&content.content_type))];
    if !content.key.source().is_empty() {
        event.push(("source".into(), text(content.key.source())));
    }
    if let Some(key) = &content.supersedes {
        let key = [(Cow::from("source"), text(key.source())), ("id".into(), text(key.id()))];
        event.push(("supersedes".into(), Json::object(key)));
    }
    let signature = signature.map(|signature| serde_json::to_vec(signature).expect("a signature is JSON"));
    if let Some(bytes) = &signature {
        event.push(("signature".into(), canonical::parse(bytes).expect("serde writes JSON")));
    }
    event.extend(payload_member(content, "payload", "payloadBase64"));
    Some(Json::object(event).canonical())
}

/// A tenant signature, from a JSON value.
pub fn signature_from_json(value: &Json<'_>) -> Result<TenantSignature, EventError> {
    serde_json::from_slice(&value.canonical()).map_err(|error| {
        // The position is one in the canonical form, which the sender never saw.
        let text = error.to_string();
        EventError::Signature(text.split(" at line ").next().unwrap_or_default().to_owned())
    })
}

/// A tenant signature, from the text of a header.
pub fn signature_from_text(text: &[u8]) -> Result<TenantSignature, EventError> {
    signature_from_json(&canonical::parse(text)?)
}

fn key_from_json(value: Json<'_>) -> Result<EventKey, EventError> {
    let (mut source, mut id) = (None, None);
    for (name, value) in members(value)? {
        match name.as_ref() {
            "id" => id = Some(string("id", value)?),
            "source" => source = Some(string("source", value)?),
            _ => return Err(EventError::UnknownField(shorten(&name))),
        }
    }
    Ok(EventKey::new(source.unwrap_or_default(), id.ok_or(EventError::Missing("id"))?)?)
}

// ---- what the forms share ----

/// CloudEvents attributes while they are collected.
#[derive(Default)]
struct Attributes {
    content_type: Option<String>,
    others: BTreeMap<String, String>,
}

impl Attributes {
    fn add(&mut self, name: &str, value: String) {
        if name == "datacontenttype" {
            self.content_type = Some(value);
        } else {
            self.others.insert(name.to_owned(), value);
        }
    }

    fn known(&self, name: &str) -> bool {
        self.others.contains_key(name)
    }

    fn required(&mut self, name: &'static str) -> Result<String, EventError> {
        self.others.remove(name).filter(|value| !value.is_empty()).ok_or(EventError::Missing(name))
    }

    fn content(mut self, tenant: &TenantId, payload: Payload<'_>) -> Result<Content, EventError> {
        let version = self.required("specversion")?;
        if version != SPEC_VERSION {
            return Err(EventError::SpecVersion(shorten(&version)));
        }
        let key = EventKey::new(self.required("source")?, self.required("id")?)?;
        if self.others.get("type").is_none_or(String::is_empty) {
            return Err(EventError::Missing("type"));
        }
        let superseded = (self.others.remove(SUPERSEDES_SOURCE), self.others.remove(SUPERSEDES_ID));
        let supersedes = match superseded {
            (None, None) => None,
            (_, None) => return Err(EventError::Missing(SUPERSEDES_ID)),
            (source, Some(id)) => Some(EventKey::new(source.unwrap_or_else(|| key.source().to_owned()), id)?),
        };
        let attributes = self.others.into_iter().collect();
        build(tenant, key, attributes, self.content_type.as_deref(), supersedes, payload)
    }
}

fn build(
    tenant: &TenantId,
    key: EventKey,
    attributes: Vec<(String, String)>,
    content_type: Option<&str>,
    supersedes: Option<EventKey>,
    payload: Payload<'_>,
) -> Result<Content, EventError> {
    let content_type = match content_type {
        None | Some("") => String::new(),
        Some(given) => normal_type(given).ok_or_else(|| EventError::ContentType(shorten(given)))?,
    };
    let payload = match payload {
        Payload::None => Vec::new(),
        Payload::Json(value) if is_json(&content_type) => value.canonical(),
        // CloudEvents: a string under another content type is the text itself.
        Payload::Json(Json::String(text)) => text.into_owned().into_bytes(),
        Payload::Json(value) => return Err(EventError::NotText { content_type, found: value.kind() }),
        Payload::Bytes(bytes) if is_json(&content_type) && !bytes.is_empty() => {
            canonical::canonicalise(&bytes).map_err(EventError::Payload)?
        }
        Payload::Bytes(bytes) => bytes,
    };
    let content = Content { tenant: tenant.clone(), key, attributes, content_type, payload, supersedes };
    content.check()?;
    Ok(content)
}

/// Whether payloads of this (normalised) content type are canonicalised.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence == JSON_TYPE || essence == "text/json" || essence.ends_with("+json")
}

/// `type/subtype` in lower case, parameters without spaces. JSON is always UTF-8, so saying so
/// makes no other type, and saying otherwise is refused.
fn normal_type(given: &str) -> Option<String> {
    let mut parts = given.split(';').map(str::trim);
    let mut out = parts.next()?.to_ascii_lowercase();
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let (kind, subtype) = out.split_once('/')?;
    if !token(kind) || !token(subtype) {
        return None;
    }
    let json = is_json(&out);
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let name = name.trim_end().to_ascii_lowercase();
        let value = value.trim_start();
        if !token(&name) || value.chars().any(char::is_control) {
            return None;
        }
        if json && name == "charset" {
            if !value.trim_matches('"').eq_ignore_ascii_case("utf-8") {
                return None;
            }
            continue;
        }
        out = format!("{out};{name}={value}");
    }
    Some(out)
}

fn payload_member<'a>(
    content: &'a Content,
    json: &'static str,
    base64: &'static str,
) -> Option<(Cow<'a, str>, Json<'a>)> {
    if content.payload.is_empty() {
        return None;
    }
    let value = is_json(&content.content_type).then(|| canonical::parse(&content.payload).ok()).flatten();
    Some(match value {
        Some(value) => (json.into(), value),
        None => (base64.into(), Json::String(BASE64.encode(&content.payload).into())),
    })
}

fn members<'a>(event: Json<'a>) -> Result<Vec<(Cow<'a, str>, Json<'a>)>, EventError> {
    match event {
        Json::Object(members) => Ok(members),
        other => Err(EventError::NotAnObject(other.kind())),
    }
}

fn string(name: &'static str, value: Json<'_>) -> Result<String, EventError> {
    match value {
        Json::String(text) => Ok(text.into_owned()),
        other => Err(wrong_type(name, "a string", &other)),
    }
}

fn decode_base64(name: &'static str, value: Json<'_>) -> Result<Vec<u8>, EventError> {
    BASE64.decode(string(name, value)?).map_err(|_| EventError::NotBase64(name))
}

fn wrong_type(name: &str, expected: &'static str, found: &Json<'_>) -> EventError {
    EventError::WrongType { name: shorten(name), expected, found: found.kind() }
}

fn text(value: &str) -> Json<'_> {
    Json::String(value.into())
}

fn shorten(value: &str) -> String {
    value.chars().take(80).collect()
}

#[cfg(test)]
#[path = "cloudevents_tests.rs"]
mod tests;
