//! A history as Jepsen writes its own, an operation map a line, for Knossos, Elle and Porcupine.
//!
//! A client's submission is `:f :submit` with a `[key content]` tuple as its value, as Jepsen's
//! independent generators write them; the key is `"cloud/id"`, since each cloud decides for itself
//! what an id means there. `:ok` carries `:new`, true if this submission was the first; `:fail` did
//! not happen (`:error [code first-content]`); `:info` may have happened or may still. A process
//! that got `:info` never returns: its client goes on under a new number.
//!
//! As a register: `:submit` puts its content if there is none, and is `:ok` without change (`:new
//! false`) if the cloud has that content. It fails with `"id_reuse"` if another content came first.
//! A submission at one cloud may reach another at any time after its invocation; a model of one key
//! must allow for that, as `checker::linearizable` does.
//!
//! Everything else is `:type :info` of a process that is no integer, which those tools leave out:
//! `:nemesis` for faults and lies, `:observer` for the rest, with the record's fields as value.

use super::{Record, What};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Result, Write};

pub fn to_edn(history: &[Record], out: &mut impl Write) -> Result<()> {
    let mut processes = Processes::of(history);
    for (index, record) in history.iter().enumerate() {
        let operation = operation(record, &mut processes)?;
        writeln!(out, "{{:index {index}, :time {}, {operation}}}", record.time_ns)?;
    }
    Ok(())
}

/// Which process a client is, and where its last submission went.
struct Processes {
    count: u64,
    now: BTreeMap<u64, u64>,
    keys: BTreeMap<u64, String>,
}

impl Processes {
    fn of(history: &[Record]) -> Self {
        let client = |record: &Record| match record.what {
            What::Invoked { client, .. } => Some(client),
            _ => None,
        };
        let count = history.iter().filter_map(client).max().map_or(1, |most| most + 1);
        Self { count, now: BTreeMap::new(), keys: BTreeMap::new() }
    }

    fn of_client(&mut self, client: u64) -> &mut u64 {
        self.now.entry(client).or_insert(client)
    }

    fn key(&self, client: u64) -> String {
        text(self.keys.get(&client).map_or("", String::as_str))
    }
}

fn operation(record: &Record, processes: &mut Processes) -> Result<String> {
    Ok(match &record.what {
        What::Invoked { client, cloud, id, content } => {
            processes.keys.insert(*client, format!("{cloud}/{id}"));
            let (process, key) = (*processes.of_client(*client), processes.key(*client));
            format!(":process {process}, :type :invoke, :f :submit, :value [{key} {}]", text(content))
        }
        What::Acknowledged { client, content, new, .. } => {
            let (process, key) = (*processes.of_client(*client), processes.key(*client));
            format!(":process {process}, :type :ok, :f :submit, :value [{key} {}], :new {new}", text(content))
        }
        What::Refused { client, code, first, .. } => {
            let (process, key) = (*processes.of_client(*client), processes.key(*client));
            let first = first.as_deref().map_or_else(|| "nil".into(), text);
            let error = format!("[{} {first}]", text(code));
            format!(":process {process}, :type :fail, :f :submit, :value [{key} nil], :error {error}")
        }
        What::Unknown { client, why, .. } => {
            let (count, key) = (processes.count, processes.key(*client));
            let process = processes.of_client(*client);
            let ended = std::mem::replace(process, *process + count);
            format!(":process {ended}, :type :info, :f :submit, :value [{key} nil], :error {}", text(why))
        }
        other => {
            let Value::Object(mut fields) = serde_json::to_value(other)? else {
                unreachable!("a tagged variant is an object")
            };
            let name = fields.remove("what").unwrap_or_default();
            let process = match other {
                What::FaultBegan { .. } | What::FaultProven { .. } | What::FaultEnded { .. } | What::Lied { .. } => {
                    ":nemesis"
                }
                _ => ":observer",
            };
            let name = name.as_str().unwrap_or_default();
            format!(":process {process}, :type :info, :f :{name}, :value {}", edn(&Value::Object(fields)))
        }
    })
}

fn edn(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(of) => text(of),
        Value::Array(items) => format!("[{}]", items.iter().map(edn).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!(":{} {}", kebab(name), edn(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

/// An EDN string knows fewer escapes than a JSON string: no `\b`, no `\f`.
fn text(of: &str) -> String {
    let mut out = String::from('"');
    for letter in of.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => {
                write!(out, "\\u{:04x}", u32::from(other)).expect("a string takes everything");
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// `tookMs` is `took-ms` in Clojure.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests;
