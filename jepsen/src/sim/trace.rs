//! What a run did, in order: folded into one digest (the same seed must give the same digest), and
//! written out line by line when somebody wants to read it.

use super::lane::Lane;
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Clones share one trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    begun: Instant,
    digest: DefaultHasher,
    out: Option<Box<dyn Write + Send>>,
    frames: bool,
}

impl Trace {
    /// To be made inside the runtime whose clock it shows. `out` gets the readable trace; `frames`
    /// adds a line for every message.
    pub fn new(out: Option<Box<dyn Write + Send>>, frames: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { begun: Instant::now(), digest: DefaultHasher::new(), out, frames })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that arrived.
    pub fn frame(&self, lane: &Lane, frame: &Bytes) {
        let mut inner = self.lock();
        let at = inner.begun.elapsed();
        (at.as_nanos(), &lane.from, &lane.to, frame.as_ref()).hash(&mut inner.digest);
        if inner.frames {
            inner.line(at, &format!("{} -> {}  {}", lane.from, lane.to, lane.describe(frame)));
        }
    }

    /// Anything else worth knowing.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let mut inner = self.lock();
        let (at, text) = (inner.begun.elapsed(), text());
        (at.as_nanos(), &text).hash(&mut inner.digest);
        inner.line(at, &text);
    }

    pub fn digest(&self) -> u64 {
        self.lock().digest.finish()
    }
}

impl Inner {
    fn line(&mut self, at: std::time::Duration, text: &str) {
        if let Some(out) = &mut self.out
            && writeln!(out, "{:>12.6}  {text}", at.as_secs_f64()).is_err()
        {
            // The reader is gone (a closed pipe): the run goes on without it.
            self.out = None;
        }
    }
}
