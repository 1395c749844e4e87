//! Reads a finished history, and nothing else. One invariant a file, all listed here.

mod acknowledged;
mod finality;
mod heads;
mod invented;
mod sealed;

use crate::history::Record;

/// Holds, or says what broke it.
pub type Invariant = fn(&[Record]) -> Result<(), String>;

/// What judges a history.
pub const INVARIANTS: [(&str, Invariant); 5] = [
    ("every acknowledged event exists exactly once in every cloud, with its content", acknowledged::check),
    ("no cloud holds an event that nobody submitted", invented::check),
    ("what was FINAL stays FINAL, with the same content, at every cloud", finality::check),
    ("everything acknowledged is SEALED soon after healing", sealed::check),
    ("all clouds hold the same heads", heads::check),
];

/// Every invariant that does not hold, with what broke it.
pub fn check(history: &[Record]) -> Vec<(&'static str, String)> {
    let broken = |(name, invariant): &(&'static str, Invariant)| Some((*name, invariant(history).err()?));
    INVARIANTS.iter().filter_map(broken).collect()
}

/// The content hash that a cloud acknowledged for each event.
fn acknowledged_contents(history: &[Record]) -> std::collections::BTreeMap<&str, &str> {
    use crate::history::What;
    history
        .iter()
        .filter_map(|record| match &record.what {
            What::Acknowledged { id, content, .. } => Some((id.as_str(), content.as_str())),
            _ => None,
        })
        .collect()
}

/// The clouds that were listed at the end.
const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];
