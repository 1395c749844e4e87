//! What happened, in the order in which it was written down: what clients asked and were told, what
//! the nemesis did, what observers saw, and what every cloud said at the end. Every layer writes the
//! same records, and every checker reads nothing else. One JSON line each.

mod edn;
mod lines;

use edn::to_edn;
pub use lines::{load, save};

use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use tercet::events::level_name;
use tercet_core::events::{Level, Marks};
use tokio::time::Instant;

/// The most records of one history; a run that wants more has lost its way.
const MAX_RECORDS: usize = 4_000_000;

/// How the faults begin that checkers know by name, since they take back what a cloud alone had promised: a
/// whole cloud's state is gone, or an old copy is back. `on` names the cloud, or all its nodes.
pub const LOST_STATE: &str = "lost-state";

/// An event as a cloud shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub level: String,
    #[serde(default)]
    pub review: bool,
    #[serde(default)]
    pub conflict: bool,
    /// The content hash that the cloud shows for it.
    pub content: Option<String>,
}

impl Seen {
    pub fn new(level: Level, marks: Marks, content: Option<String>) -> Self {
        Self { level: level_name(level).to_owned(), review: marks.review, conflict: marks.conflict, content }
    }

    pub fn is_final(&self) -> bool {
        self.level == "FINAL" || self.is_sealed()
    }

    pub fn is_sealed(&self) -> bool {
        self.level == "SEALED"
    }
}

/// One record. `Invoked` comes before whatever the client was told about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum What {
    /// The first record: what this run is. `liars` are clouds that may lie in it.
    Run {
        layer: String,
        seed: u64,
        clouds: Vec<String>,
        nodes: Vec<String>,
        liars: Vec<String>,
        version: String,
    },

    // ---- clients: one operation of a client is `Invoked`, then one of the next three ----
    /// A client is about to submit `content` under `id` at a cloud.
    Invoked {
        client: u64,
        cloud: String,
        id: String,
        content: String,
    },
    /// `cloud` said that it has the event: from now on it must never be lost. `repeated` if an earlier try
    /// of the same operation may have brought it there, so that `new` may be false of a first submission.
    Acknowledged {
        client: u64,
        cloud: String,
        id: String,
        content: String,
        new: bool,
        repeated: bool,
    },
    /// It certainly did not happen. For an id that was used with other content: that first content.
    Refused {
        client: u64,
        cloud: String,
        id: String,
        code: String,
        first: Option<String>,
    },
    /// It may have happened, or may still happen.
    Unknown {
        client: u64,
        cloud: String,
        id: String,
        why: String,
    },
    /// An operator decided on an event of the tenant that confirms by hand.
    Decided {
        cloud: String,
        id: String,
        content: String,
        confirm: bool,
        outcome: Outcome,
    },

    // ---- the nemesis ----
    /// A fault begins. `number` is unique within the run.
    FaultBegan {
        number: u64,
        fault: String,
        on: Vec<String>,
        detail: String,
    },
    /// What shows that the fault really bit: a process gone, packets dropped, writes failed.
    FaultProven {
        number: u64,
        how: String,
    },
    FaultEnded {
        number: u64,
    },
    /// The fault met nothing: its target was down, or no message went that way. It counts for nothing.
    FaultMissed {
        number: u64,
        why: String,
    },
    /// A cloud under the harness's control lied. `detectable` if an honest cloud must be able to
    /// prove it once everybody talks again.
    Lied {
        cloud: String,
        lie: String,
        detectable: bool,
    },

    // ---- leases ----
    /// A candidate counted enough votes: by its own clock it may act until then, which is that moment of the run.
    /// `session` tells one process from the next.
    Granted {
        lease: String,
        session: String,
        token: u64,
        until_ns: u64,
    },
    /// It looked at its clock, which allowed it to act, and acts.
    Acted {
        lease: String,
        session: String,
        token: u64,
    },
    /// It acts no more: it released, crashed, or noticed that its time is over.
    Stopped {
        lease: String,
        session: String,
    },
    /// A write reached the resource that the lease guards.
    Wrote {
        lease: String,
        session: String,
        token: u64,
        accepted: bool,
        why: Option<String>,
    },

    // ---- observers ----
    /// A node leads its cloud in a term. `process` tells one process of the node from the next.
    Led {
        cloud: String,
        node: String,
        term: u64,
        process: u64,
    },
    /// A cloud was asked about an event.
    Observed {
        cloud: String,
        id: String,
        seen: Seen,
    },
    /// `by` holds evidence against `cloud`; `valid` if it verifies offline.
    Convicted {
        by: String,
        cloud: String,
        evidence: String,
        valid: bool,
    },
    /// A certificate was issued, and judged by verifiers that hold public keys only: what it proves.
    Certified {
        cloud: String,
        id: String,
        level: String,
        content: Option<String>,
        valid: bool,
        why: Option<String>,
    },
    /// Something that was to be judged could not be fetched, or not be judged.
    Unjudged {
        of: String,
        why: String,
    },
    /// An invariant that watches the running system (a simulation's) does not hold.
    Violated {
        invariant: String,
        why: String,
    },

    // ---- the end ----
    /// How long it took after the last fault ended until everything that can settle had settled.
    Healed {
        took_ms: u64,
        within_ms: u64,
        complete: bool,
        missing: Option<String>,
    },
    /// After healing: an event in a cloud's own list.
    Listed {
        cloud: String,
        id: String,
        seen: Seen,
    },
    /// After healing: the head of a log, as a cloud holds it.
    Head {
        by: String,
        of: String,
        size: u64,
        root: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Refused,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds since the run began, on the clock of its layer.
    pub time_ns: u64,
    #[serde(flatten)]
    pub what: What,
}

impl Record {
    pub fn time_ms(&self) -> u64 {
        self.time_ns / 1_000_000
    }
}

/// A history that is being written. Its clock is tokio's, which a simulation controls.
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
    /// When the run began: times of records count from here.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    pub fn write(&self, what: What) {
        let mut records = self.records.lock().expect("no thread panics while it writes a record");
        assert!(records.len() < MAX_RECORDS, "the history has {MAX_RECORDS} records, its limit");
        // Taken under the lock, so that times never go backwards.
        let time_ns = self.begun.elapsed().as_nanos() as u64;
        records.push(Record { time_ns, what });
    }

    pub fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        let records = self.records.lock().expect("no thread panics while it writes a record");
        records.iter().filter(|record| is(&record.what)).count()
    }

    /// What was written so far; writing goes on.
    pub fn so_far(&self) -> Vec<Record> {
        self.records.lock().expect("no thread panics while it writes a record").clone()
    }

    pub fn finish(&self) -> Vec<Record> {
        std::mem::take(&mut *self.records.lock().expect("no thread panics while it writes a record"))
    }
}
