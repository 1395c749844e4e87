//! The stream of facts (server-sent events), resumed after the last one seen. An id is an index of
//! one cloud's log, so a watch stays with its cloud: any node of it resumes, another cloud cannot.

use crate::client::Client;
use crate::error::Error;
use crate::http::{Call, Failure};
use std::time::Duration;
use tercet_core::ids::{CloudId, TenantId};

/// The longest message of a stream, in bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// How long a node may take until it begins to stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// A node says every 15 s that the stream is alive; after this long without a word it is not.
const SILENCE: Duration = Duration::from_secs(45);
/// The pause between rounds over the nodes when none streams.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One fact, or `reset`: facts before it are compacted and will not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: Option<String>,
    pub event: String,
    pub data: String,
}

/// A watch on one cloud.
pub struct Watch<'a> {
    client: &'a Client,
    cloud: CloudId,
    tenant: Option<TenantId>,
    last_id: Option<String>,
    stream: Option<reqwest::Response>,
    parser: Parser,
    node: usize,
    /// Set while no node streams, so that it is told once.
    pub interrupted: Option<String>,
}

impl<'a> Watch<'a> {
    pub fn new(client: &'a Client, cloud: CloudId, tenant: Option<TenantId>, last_id: Option<String>) -> Self {
        let parser = Parser::default();
        Self { client, cloud, tenant, last_id, stream: None, parser, node: 0, interrupted: None }
    }

    /// One step: a message, or `None` when the connection was lost or could not be made (then
    /// `interrupted` says why, and the next call tries again after a pause).
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.parser.pop() {
                if message.id.is_some() {
                    self.last_id.clone_from(&message.id);
                }
                return Ok(Some(message));
            }
            let Some(stream) = &mut self.stream else {
                if !self.connect().await? {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    return Ok(None);
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, stream.chunk()).await {
                Ok(Ok(Some(bytes))) => self.parser.push(&bytes)?,
                ended => {
                    self.stream = None;
                    self.parser = Parser::default();
                    let why = if ended.is_err() { "the node fell silent" } else { "the node closed the stream" };
                    self.interrupted = Some(why.into());
                    self.node += 1;
                    return Ok(None);
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<bool, Error> {
        let cloud = self.client.cloud(&self.cloud)?;
        let mut call = Call::get(&["v1", "watch"]);
        call.headers.push(("accept", "text/event-stream".into()));
        if let Some(tenant) = &self.tenant {
            call = call.query("tenant", tenant);
        }
        if let Some(id) = &self.last_id {
            call.headers.push(("last-event-id", id.clone()));
        }
        for step in 0..cloud.nodes.len() {
            let node = &cloud.nodes[(self.node + step) % cloud.nodes.len()];
            match self.client.transport().open(&node.url, &call, OPEN_TIMEOUT).await {
                Ok(stream) => {
                    self.node += step;
                    self.stream = Some(stream);
                    self.interrupted = None;
                    return Ok(true);
                }
                Err(Failure::Refused { problem, .. }) if !problem.retryable && problem.status != 421 => {
                    return Err(Error::Refused(problem));
                }
                Err(Failure::Refused { problem, .. }) => self.interrupted = Some(problem.to_string()),
                Err(Failure::Unsent(why) | Failure::Lost(why)) => {
                    self.interrupted = Some(format!("{}: {why}", node.id))
                }
            }
        }
        Ok(false)
    }
}

/// Cuts a byte stream into messages, as the HTML standard defines it for the fields used here.
#[derive(Default)]
struct Parser {
    buffer: Vec<u8>,
    /// Everything before this was searched and holds no end of a line.
    searched: usize,
    id: Option<String>,
    event: String,
    data: Vec<String>,
    ready: std::collections::VecDeque<Message>,
}

impl Parser {
    fn pop(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
            let end = self.searched + at;
            let line = String::from_utf8_lossy(&self.buffer[from..end]).into_owned();
            self.line(line.strip_suffix('\r').unwrap_or(&line));
            from = end + 1;
            self.searched = from;
        }
        self.buffer.drain(..from);
        self.searched = self.buffer.len();
        if self.buffer.len() + self.data.iter().map(String::len).sum::<usize>() > MAX_MESSAGE_BYTES {
            let why = format!("a message of the stream exceeds {MAX_MESSAGE_BYTES} bytes");
            return Err(Error::Protocol { node: "the watched node".into(), why });
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let (id, event, data) = (self.id.take(), std::mem::take(&mut self.event), std::mem::take(&mut self.data));
            if id.is_some() || !event.is_empty() || !data.is_empty() {
                self.ready.push_back(Message { id, event, data: data.join("\n") });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.event = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            // Comments keep the connection alive; other fields mean nothing here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cutting_of_the_stream() {
        let text = b": hello\n\nid: 7\nevent: voted\ndata: {\"a\":1}\n\nevent: reset\r\ndata: x\r\ndata: y\r\n\r\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            for part in text.chunks(size) {
                parser.push(part).unwrap();
            }
            let first = Message { id: Some("7".into()), event: "voted".into(), data: "{\"a\":1}".into() };
            let second = Message { id: None, event: "reset".into(), data: "x\ny".into() };
            assert_eq!([parser.pop(), parser.pop(), parser.pop()], [Some(first), Some(second), None]);
        }
    }

    #[test]
    fn a_message_without_end_is_refused() {
        assert!(Parser::default().push(&vec![b'x'; MAX_MESSAGE_BYTES + 1]).is_err());
    }
}
