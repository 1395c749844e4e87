//! A log for tests whose syncs take as long as the test says.

use super::{Done, Log, LogState, MemoryLog, Position, Record, SavedVote};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Clones share the log.
#[derive(Clone, Default)]
pub struct LateLog {
    log: MemoryLog,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    holding: bool,
    /// A vote is on no disk before its sync; entries are readable at once.
    waiting: Vec<(Option<SavedVote>, Done)>,
}

impl LateLog {
    /// From now on syncs do not end.
    pub fn hold(&self) {
        self.held.lock().unwrap().holding = true;
    }

    /// All syncs that wait end, as later ones do at once.
    pub fn end_syncs(&self, result: Result<(), &'static str>) {
        let mut held = self.held.lock().unwrap();
        held.holding = false;
        for (vote, done) in held.waiting.drain(..) {
            match (result, vote) {
                (Ok(()), Some(vote)) => self.log.save_vote(vote, done).unwrap(),
                (Ok(()), None) => done.tell(Ok(())),
                (Err(why), _) => done.tell(Err(io::Error::other(why))),
            }
        }
    }

    fn sync(&self, vote: Option<SavedVote>, done: Done) -> io::Result<()> {
        let mut held = self.held.lock().unwrap();
        match (held.holding, vote) {
            (true, vote) => held.waiting.push((vote, done)),
            (false, Some(vote)) => return self.log.save_vote(vote, done),
            (false, None) => done.tell(Ok(())),
        }
        Ok(())
    }
}

impl Log for LateLog {
    fn append(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        self.log.append(records, Done::new(drop))?;
        self.sync(None, done)
    }

    fn save_vote(&self, vote: SavedVote, done: Done) -> io::Result<()> {
        self.sync(Some(vote), done)
    }

    fn state(&self) -> LogState {
        self.log.state()
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Record>> {
        self.log.read(from, to, max_bytes)
    }

    fn save_mark(&self, mark: Option<Position>, done: Done) -> io::Result<()> {
        self.log.save_mark(mark, done)
    }

    fn save_committed(&self, position: Position) -> io::Result<()> {
        self.log.save_committed(position)
    }

    fn truncate_after(&self, last: Option<Position>) -> io::Result<()> {
        self.log.truncate_after(last)
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        self.log.purge(upto)
    }

    fn durable(&self) -> watch::Receiver<u64> {
        self.log.durable()
    }

    fn blocks(&self) -> bool {
        false
    }
}
