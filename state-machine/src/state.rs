//! The state machine: the only place where commands change state. Small, hot state is held here;
//! what grows with the ledger is in records.

use crate::certificate::Certificate;
use crate::command::{Entry, Reply};
use crate::epochs::Opening;
use crate::events::{Body, EventRecord, Level, RemoteBody};
use crate::evidence::Evidence;
use crate::fact::Fact;
use crate::genesis::Genesis;
use crate::ids::{CloudId, EpochId, EventKey, Hash, Tag, TenantId};
use crate::mirrors::LogChunk;
use crate::records::{Broken, Records, RecordsMut, Row};
use crate::rejection::Rejection;
use crate::tenants::Tenant;
use crate::time::Millis;
use crate::transparency::{NoteBody, SignedNote};

/// What applying one entry brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub reply: Result<Reply, Rejection>,
    pub facts: Vec<Fact>,
}

/// A log as this cloud knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

/// An event with its bodies, for display.
#[derive(Debug, Clone)]
pub struct EventView {
    pub record: EventRecord,
    pub bodies: Vec<Body>,
}

pub struct State {}

impl State {
    /// The state before any entry.
    pub fn new(_genesis: Genesis, _me: CloudId, _region: String) -> Self {
        unimplemented!()
    }

    /// The state as flushed: hot rows are read from the records. Empty records give `new`.
    pub fn load(_genesis: Genesis, _me: CloudId, _region: String, _records: &dyn Records) -> Result<Self, Broken> {
        unimplemented!()
    }

    /// The hot rows, to be written in the same flush as the overlay and the last applied log id.
    pub fn hot_rows(&self) -> Vec<Row> {
        unimplemented!()
    }

    pub fn apply(&mut self, _index: u64, _entry: &Entry, _records: &mut dyn RecordsMut) -> Result<Applied, Broken> {
        unimplemented!()
    }

    // ---- reads ----

    pub fn genesis(&self) -> &Genesis {
        unimplemented!()
    }

    pub fn me(&self) -> &CloudId {
        unimplemented!()
    }

    /// The latest logged time.
    pub fn now(&self) -> Millis {
        unimplemented!()
    }

    /// Every epoch known, own and others'.
    pub fn openings(&self) -> Vec<Opening> {
        unimplemented!()
    }

    /// The current epoch of a cloud.
    pub fn opening(&self, _cloud: &CloudId) -> Option<&Opening> {
        unimplemented!()
    }

    /// The own log, or the mirror of another cloud's.
    pub fn head(&self, _cloud: &CloudId) -> Option<Head> {
        unimplemented!()
    }

    /// The latest note received from another cloud.
    pub fn note(&self, _cloud: &CloudId) -> Option<&SignedNote> {
        unimplemented!()
    }

    /// What this cloud's nodes would sign now; `None` before its epoch is open.
    pub fn note_body(&self) -> Option<NoteBody> {
        unimplemented!()
    }

    /// The note as it stood after applying that log index, while it is remembered (the last 4096
    /// changes since this process started).
    pub fn note_body_at(&self, _index: u64) -> Option<&NoteBody> {
        unimplemented!()
    }

    /// How far a cloud's log is audited by another, as known here: the size.
    pub fn audited(&self, _cloud: &CloudId, _by: &CloudId) -> u64 {
        unimplemented!()
    }

    pub fn is_flagged(&self, _cloud: &CloudId) -> bool {
        unimplemented!()
    }

    /// Evidence held, oldest first.
    pub fn evidence(&self, _records: &dyn Records) -> Result<Vec<Evidence>, Broken> {
        unimplemented!()
    }

    pub fn tenant(&self, _tenant: &TenantId) -> Option<&Tenant> {
        unimplemented!()
    }

    pub fn tenants(&self) -> Vec<&Tenant> {
        unimplemented!()
    }

    pub fn event(&self, _records: &dyn Records, _tenant: &TenantId, _key: &EventKey) -> Result<Option<EventView>, Broken> {
        unimplemented!()
    }

    /// Only the level, for waiting on many events: cheap.
    pub fn level(&self, _records: &dyn Records, _tenant: &TenantId, _key: &EventKey) -> Result<Option<Level>, Broken> {
        unimplemented!()
    }

    /// Events of one tenant in this cloud's order of acceptance: positions after `after`, at most
    /// `limit`. The position of the last row resumes the listing.
    pub fn events(&self, _records: &dyn Records, _tenant: &TenantId, _after: u64, _limit: usize) -> Result<Vec<(u64, EventRecord)>, Broken> {
        unimplemented!()
    }

    /// A run of a log from `from` on, to be served under `note` (this cloud's latest signed note
    /// for the own log, the received one for a mirror). `None` if the log does not reach so far.
    pub fn log_chunk(&self, _records: &dyn Records, _cloud: &CloudId, _from: u64, _note: &SignedNote) -> Result<Option<LogChunk>, Broken> {
        unimplemented!()
    }

    /// Tags that clouds voted on and whose bodies are not here, at most `limit`.
    pub fn missing_bodies(&self, _limit: usize) -> Vec<Tag> {
        unimplemented!()
    }

    /// The bodies of these tags, as far as held.
    pub fn bodies(&self, _records: &dyn Records, _tags: &[Tag]) -> Result<Vec<RemoteBody>, Broken> {
        unimplemented!()
    }

    /// The certificate of an event that is FINAL or better under this cloud's latest signed note.
    pub fn certificate(&self, _records: &dyn Records, _own: &SignedNote, _tenant: &TenantId, _key: &EventKey) -> Result<Option<Certificate>, Broken> {
        unimplemented!()
    }

    /// Counters for /metrics and status: events accepted, and how many stand at each level.
    pub fn counts(&self) -> Counts {
        unimplemented!()
    }
}

/// Events in this cloud's state by level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub events: u64,
    pub pending: u64,
    pub quarantined: u64,
    pub r#final: u64,
    pub sealed: u64,
}
