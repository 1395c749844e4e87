//! What happened, in the order in which it was written down: what clients asked and were told, what
//! the nemesis did, what observers saw, and what every cloud said at the end. One JSON line each.

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// The most records of one history; a run that wants more has lost its way.
const MAX_RECORDS: usize = 2_000_000;

/// One record. `Invoked` comes before whatever the client was told about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum What {
    /// A client is about to submit.
    Invoked { client: u64, cloud: String, id: String, content: String },
    /// A cloud said that it has the event: from now on it must never be lost.
    Acknowledged { client: u64, id: String, content: String, new: bool },
    /// It certainly did not happen.
    Failed { client: u64, id: String, why: String },
    /// It may have happened, or may still happen.
    Unknown { client: u64, id: String, why: String },
    /// The nemesis killed these nodes.
    Harmed { how: Harm, cloud: String, nodes: Vec<String> },
    /// Every node of the cloud runs again.
    Restored { cloud: String },
    /// A cloud was asked about an event.
    Observed { cloud: String, id: String, level: String, content: Option<String> },
    /// After healing: an event in a cloud's own list.
    Listed { cloud: String, id: String, level: String, content: Option<String> },
    /// After healing: the head of a log, as a cloud holds it.
    Head { by: String, of: String, size: u64, root: String },
    /// How long it took after the last restoration until all that was acknowledged was SEALED.
    Healed { took_ms: u64, within_ms: u64, complete: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    KillLeader,
    KillCloud,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

/// A history that is being written.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    records: Mutex<Vec<Record>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { begun: Instant::now(), records: Mutex::default() }
    }
}

impl Recorder {
    pub fn write(&self, what: What) {
        let mut records = self.records.lock().expect("no thread panics while it writes a record");
        assert!(records.len() < MAX_RECORDS, "the history has {MAX_RECORDS} records, its limit");
        // Taken under the lock, so that times never go backwards.
        let at_ms = self.begun.elapsed().as_millis() as u64;
        records.push(Record { at_ms, what });
    }

    pub fn finish(self) -> Vec<Record> {
        self.records.into_inner().expect("no thread panics while it writes a record")
    }
}

pub fn save(history: &[Record], path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for record in history {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

pub fn load(path: &Path) -> std::io::Result<Vec<Record>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(std::io::Error::from)).collect()
}
