//! Printing: tables and JSON to stdout, colour only on a terminal.

use crate::exit::{Failure, OTHER};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};
use tercet_core::events::Level;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: stable field names.
    Json,
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
}

pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::new(OTHER, "")),
        Err(error) => Err(Failure::new(OTHER, format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(OTHER, error.to_string()))?;
    print(&text)
}

/// A table with a header.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = plain();
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// Names and values, one a line; what is empty is left out.
pub fn fields(rows: &[(&str, String)]) -> String {
    let mut table = plain();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([*name, value]);
    }
    trimmed(&table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn trimmed(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Green,
    Yellow,
    Red,
    Dim,
}

pub fn paint(colour: Colour, text: &str) -> String {
    if coloured(std::io::stdout().is_terminal()) { painted(colour, text) } else { text.to_owned() }
}

pub fn red_on_stderr(text: &str) -> String {
    if coloured(std::io::stderr().is_terminal()) { painted(Colour::Red, text) } else { text.to_owned() }
}

fn painted(colour: Colour, text: &str) -> String {
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Red => "31",
        Colour::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

pub fn level(level: Level) -> String {
    let colour = match level {
        Level::Sealed | Level::Final => Colour::Green,
        Level::Pending => Colour::Yellow,
        Level::Quarantined => Colour::Red,
    };
    paint(colour, tercet::events::level_name(level))
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Milliseconds since 1970 as a date, other values as they are.
pub fn moment(value: &serde_json::Value) -> String {
    use time::format_description::well_known::Rfc3339;
    let millis = value.as_u64().map(|millis| i128::from(millis) * 1_000_000);
    let date = millis.and_then(|nanos| time::OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    match date.and_then(|date| date.format(&Rfc3339).ok()) {
        Some(text) => text,
        None => text(value),
    }
}

/// A JSON value without the quotes of a string.
pub fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(grouped).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(&serde_json::json!(0)), "1970-01-01T00:00:00Z");
        assert_eq!(moment(&serde_json::json!("soon")), "soon");
    }
}
