//! Reads NDJSON: one CloudEvent a line. Every line becomes an event that is ready to be sent, or a
//! reason with its line number; a bad line never stops the ones after it.

use crate::events::BatchItem;
use serde_json::value::RawValue;
use std::io::{self, BufRead};
use tercet_core::cloudevents;
use tercet_core::ids::{EventKey, TenantId};

/// The longest line, in bytes: the largest payload as base64, its attributes, and some spaces.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// An event of the file.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub line: u64,
    pub key: EventKey,
    pub item: BatchItem,
}

/// A line that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub line: u64,
    pub why: String,
}

/// Lines up to a limit of bytes or events.
#[derive(Debug, Default)]
pub struct Chunk {
    pub events: Vec<Prepared>,
    pub bad: Vec<BadLine>,
    /// Bytes of the input that were consumed for it.
    pub bytes: u64,
}

pub struct Lines<R> {
    input: R,
    tenant: TenantId,
    line: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R, tenant: TenantId) -> Self {
        Self { input, tenant, line: 0 }
    }

    /// The next events; `None` at the end of the input.
    pub fn chunk(&mut self, max_events: usize, max_bytes: usize) -> io::Result<Option<Chunk>> {
        let (mut chunk, mut json_bytes, mut text) = (Chunk::default(), 0, Vec::new());
        let mut ended = false;
        while chunk.events.len() < max_events && chunk.bad.len() < max_events && json_bytes < max_bytes {
            let consumed = read_line(&mut self.input, &mut text)?;
            if consumed == 0 {
                ended = true;
                break;
            }
            self.line += 1;
            chunk.bytes += consumed;
            let trimmed = text.trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            match prepare(&self.tenant, self.line, trimmed) {
                Ok(event) => {
                    json_bytes += trimmed.len();
                    chunk.events.push(event);
                }
                Err(why) => chunk.bad.push(BadLine { line: self.line, why }),
            }
        }
        let empty = chunk.events.is_empty() && chunk.bad.is_empty();
        Ok(if ended && empty { None } else { Some(chunk) })
    }
}

fn prepare(tenant: &TenantId, line: u64, text: &[u8]) -> Result<Prepared, String> {
    if text.len() > MAX_LINE_BYTES {
        return Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
    }
    let content = cloudevents::from_structured(tenant, text).map_err(|error| error.to_string())?;
    // The line is sent as it is: the server reads it with the same code and finds the same content.
    let text = std::str::from_utf8(text).map_err(|_| "the line is not UTF-8".to_owned())?;
    let json = RawValue::from_string(format!(r#"{{"cloudEvent":{text}}}"#)).map_err(|error| error.to_string())?;
    let item = BatchItem { json, content: content.hash() };
    Ok(Prepared { line, key: content.key, item })
}

/// Reads one line into `text` and returns how many bytes it consumed, 0 at the end. A line that is
/// too long is consumed whole but kept only so far that its length is seen.
fn read_line(input: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<u64> {
    text.clear();
    let mut consumed = 0;
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(consumed);
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = (MAX_LINE_BYTES + 1).saturating_sub(text.len());
        text.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(available.len(), |at| at + 1);
        input.consume(used);
        consumed += used as u64;
        if end.is_some() {
            return Ok(consumed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"b":1,"a":2}}"#;

    fn lines(text: &str) -> Lines<&[u8]> {
        Lines::new(text.as_bytes(), TenantId::new("t").unwrap())
    }

    #[test]
    fn bad_lines_are_named_and_the_rest_is_read() {
        let text = format!("{GOOD}\n\nnot json\n{}\n{{}}", GOOD.replace("\"1\"", "\"2\""));
        let chunk = lines(&text).chunk(100, 1 << 20).unwrap().unwrap();
        assert_eq!(chunk.events.iter().map(|event| event.line).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(chunk.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(chunk.bytes, text.len() as u64);
    }

    #[test]
    fn chunks_end_at_their_limit_and_the_input_at_its_end() {
        let text = [GOOD; 5].join("\n");
        let mut lines = lines(&text);
        let mut sizes = Vec::new();
        while let Some(chunk) = lines.chunk(2, 1 << 20).unwrap() {
            sizes.push(chunk.events.len());
        }
        assert_eq!(sizes, [2, 2, 1]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_whole() {
        let text = format!("\"{}\"\n{GOOD}\n", "x".repeat(MAX_LINE_BYTES + 10));
        let chunk = lines(&text).chunk(10, 1 << 20).unwrap().unwrap();
        assert!(chunk.bad[0].why.contains("longer than"), "{}", chunk.bad[0].why);
        assert_eq!(chunk.events[0].line, 2);
    }

    #[test]
    fn spaces_and_member_order_do_not_change_the_content() {
        let other = r#" { "type":"t", "id":"1", "source":"/s", "specversion":"1.0", "data":{"a":2, "b":1} } "#;
        let chunk = lines(&format!("{GOOD}\n{other}\n")).chunk(10, 1 << 20).unwrap().unwrap();
        assert_eq!(chunk.events[0].item.content, chunk.events[1].item.content);
    }
}
