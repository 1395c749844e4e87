//! The giving side of a snapshot: a reader of the applied state, while that goes on.
//!
//! The rows are read once in the order of their keys, a piece at a time. Whatever a flush changes
//! behind the reader is noted, and read again, until nothing is left: then the reader has what the
//! engine holds between two flushes. (Pre-copy, as virtual machines are moved: Clark et al., Live
//! Migration of Virtual Machines, NSDI 2005. Rows are never removed, which makes it this simple.)
//! A flush waits for one piece at most.

use super::apply::Store;
use super::log_store::off_worker;
use super::machine::NODE_PREFIX;
use super::spool::Spool;
use super::types::SnapshotMeta;
use crate::env::Entropy;
use crate::storage::{Engine, RowRef};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec;
use tercet_core::ids::NodeId;
use tercet_core::records::{Broken, Row};
use tokio::time::Instant;

/// Bytes of rows in one piece (one row is sent whatever its size).
const PIECE_BYTES: usize = 1 << 20;
/// Rows read from the engine at once.
const READ_ROWS: usize = 256;
/// Snapshots read by others at the same time.
const MAX_SESSIONS: usize = 4;
/// A reader that is silent for so long has gone.
const READER_IDLE: Duration = Duration::from_secs(10);
/// How long a member may take to put a fetched snapshot in place.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the log is kept for a member that then has to catch up with it.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of keys noted for one reader: with 33-byte keys, thirty million changes. They lie in a file.
const MAX_NOTED_BYTES: usize = 1 << 30;

/// How far a session is.
enum Stage {
    /// An offered one is not over with the last piece.
    Reading { offered: bool },
    /// Everything was read; the member puts it in place.
    Read,
    /// The member has it, and needs the log up to an index.
    CatchingUp { member: NodeId, upto: u64 },
}

struct Session {
    reader: Arc<Mutex<Reader>>,
    stage: Stage,
    last_used: Instant,
}

/// How long an offered snapshot was not used, and whether it is still being read.
pub struct Idle {
    pub since: Duration,
    pub reading: bool,
}

/// Who reads the applied state, and who is about to need the log.
pub struct Sessions {
    open: Mutex<HashMap<u64, Session>>,
    pub spool_dir: Option<PathBuf>,
    entropy: Arc<dyn Entropy>,
}

impl Sessions {
    /// Changes are noted in `spool_dir`, or in memory without one.
    pub fn new(spool_dir: Option<PathBuf>, entropy: Arc<dyn Entropy>) -> Self {
        Self { open: Mutex::default(), spool_dir, entropy }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its id is random: a reader must not go on with a session of another start of this node.
    pub fn open(&self, offered: bool) -> io::Result<u64> {
        let mut id = [0; 8];
        self.entropy.fill(&mut id);
        let id = u64::from_le_bytes(id);
        let changed = Spool::create(self.spool_dir.as_deref(), &format!("changes-{id}"))?;
        let reader = Arc::new(Mutex::new(Reader::new(changed)));
        let mut open = self.lock();
        if open.len() >= MAX_SESSIONS {
            return Err(io::Error::other("too many snapshots are being read; retry later"));
        }
        open.insert(id, Session { reader, stage: Stage::Reading { offered }, last_used: Instant::now() });
        Ok(id)
    }

    pub fn close(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub fn close_all(&self) {
        self.lock().clear();
    }

    /// While there is any, the log must not be purged further.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Nothing if it was closed.
    pub fn idle(&self, id: u64) -> Option<Idle> {
        let open = self.lock();
        let session = open.get(&id)?;
        Some(Idle { since: session.last_used.elapsed(), reading: matches!(session.stage, Stage::Reading { .. }) })
    }

    /// A member has put in place what it read, and goes on with the log.
    pub fn installed(&self, id: u64, member: NodeId, upto: u64) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.stage = Stage::CatchingUp { member, upto };
            session.last_used = Instant::now();
        }
    }

    /// Closes what nobody needs any more; `matched` is what a member is known to have of the log.
    pub fn sweep(&self, matched: impl Fn(&NodeId) -> Option<u64>) {
        self.lock().retain(|_, session| {
            let idle = session.last_used.elapsed();
            match &session.stage {
                Stage::Reading { .. } => idle < READER_IDLE,
                Stage::Read => idle < INSTALL_TIMEOUT,
                // Who does not lead any more knows nothing of its members, and is not asked for the log.
                Stage::CatchingUp { member, upto } => {
                    idle < CATCH_UP_TIMEOUT && matched(member).is_some_and(|index| index < *upto)
                }
            }
        });
    }

    /// Notes what a flush writes. No piece is read at the same time.
    pub fn note(&self, rows: &[RowRef<'_>]) {
        self.lock().retain(|id, session| {
            let mut reader = session.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let noted = if matches!(session.stage, Stage::Reading { .. }) { reader.note(rows) } else { Ok(()) };
            noted.inspect_err(|error| tracing::warn!(session = id, %error, "a snapshot is given up")).is_ok()
        });
    }

    /// The next rows for a reader; with the last of them, what they are a snapshot of.
    pub async fn read(&self, store: &Store, id: u64, piece: u64) -> io::Result<(Vec<Row>, Option<SnapshotMeta>)> {
        let _still = store.flush.exclude().await;
        let closed = || io::Error::other("this snapshot is closed; start again");
        let (reader, offered) = {
            let mut open = self.lock();
            let session = open.get_mut(&id).ok_or_else(closed)?;
            let Stage::Reading { offered } = session.stage else { return Err(closed()) };
            session.last_used = Instant::now();
            (session.reader.clone(), offered)
        };
        let read = || reader.lock().unwrap_or_else(PoisonError::into_inner).read(&*store.engine, piece);
        let (rows, end) = off_worker(store.engine.blocks(), read)?;
        if end && !offered {
            self.close(id);
        } else if end && let Some(session) = self.lock().get_mut(&id) {
            session.stage = Stage::Read;
            session.last_used = Instant::now();
        }
        Ok((rows, end.then(|| store.stored().meta())))
    }
}

/// A way through the rows of an engine that changes.
pub struct Reader {
    /// The key from which on nothing was read yet; nothing once everything was read.
    from: Option<Vec<u8>>,
    /// Keys that were changed after they were read, flush by flush; some are there twice.
    changed: Spool<Vec<Vec<u8>>>,
    noted_bytes: usize,
    /// Those of a flush that are being read again.
    again: vec::IntoIter<Vec<u8>>,
    next_piece: u64,
}

impl Reader {
    pub fn new(changed: Spool<Vec<Vec<u8>>>) -> Self {
        Self { from: Some(Vec::new()), changed, noted_bytes: 0, again: Vec::new().into_iter(), next_piece: 0 }
    }

    fn note(&mut self, rows: &[RowRef<'_>]) -> io::Result<()> {
        let was_read = |key: &[u8]| self.from.as_ref().is_none_or(|from| key < from.as_slice());
        let of_the_state = rows.iter().map(|(key, _)| *key).filter(|key| key.first() != Some(&NODE_PREFIX));
        let keys: Vec<Vec<u8>> = of_the_state.filter(|key| was_read(key)).map(<[u8]>::to_vec).collect();
        if keys.is_empty() {
            return Ok(());
        }
        self.noted_bytes += keys.iter().map(Vec::len).sum::<usize>();
        if self.noted_bytes > MAX_NOTED_BYTES {
            return Err(io::Error::other("the state changes faster than it is read"));
        }
        self.changed.push(keys)
    }

    /// The next piece, and whether nothing is left.
    pub fn read(&mut self, engine: &dyn Engine, piece: u64) -> io::Result<(Vec<Row>, bool)> {
        if piece != self.next_piece {
            return Err(io::Error::other("a piece of a snapshot was asked for twice; start again"));
        }
        self.next_piece += 1;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let failed = |broken: Broken| io::Error::other(broken);
        while let Some(from) = &mut self.from
            && bytes < PIECE_BYTES
        {
            let more = engine.scan(from, &[NODE_PREFIX], READ_ROWS).map_err(failed)?;
            bytes += more.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            if more.len() < READ_ROWS {
                self.from = None;
            } else if let Some((last, _)) = more.last() {
                from.clone_from(last);
                from.push(0);
            }
            rows.extend(more);
        }
        while bytes < PIECE_BYTES {
            let Some(key) = self.again.next() else {
                match self.changed.pop()? {
                    Some(keys) => self.again = keys.into_iter(),
                    None => return Ok((rows, true)),
                }
                continue;
            };
            if let Some(value) = engine.get(&key).map_err(failed)? {
                bytes += key.len() + value.len();
                rows.push((key, value));
            }
        }
        Ok((rows, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryEngine, refs};
    use proptest::prelude::*;
    use tercet_core::records::MemoryRecords;

    /// Every row in the order of keys.
    fn all(engine: &dyn Engine) -> Vec<Row> {
        engine.scan(&[], &[NODE_PREFIX], usize::MAX).unwrap()
    }

    fn flush(engine: &MemoryEngine, reader: &mut Reader, keys: &[u16], value: u8) {
        // Large values: a piece holds a few of them.
        let row = |key: &u16| (key.to_be_bytes().to_vec(), vec![value; PIECE_BYTES / 8]);
        let mut rows: Vec<Row> = keys.iter().map(row).collect();
        rows.push((vec![NODE_PREFIX, 1], vec![value]));
        reader.note(&refs(&rows)).unwrap();
        engine.write(&refs(&rows)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_changes_while_it_is_read_the_reader_ends_with_what_the_engine_holds(
            before in prop::collection::vec(0u16..600, 0..400),
            // What happens between two pieces.
            flushes in prop::collection::vec(prop::collection::vec(0u16..600, 0..12), 0..12),
            on_disk in any::<bool>(),
        ) {
            let engine = MemoryEngine::new();
            let small: Vec<Row> = before.iter().map(|key| (key.to_be_bytes().to_vec(), vec![0; 9000])).collect();
            engine.write(&refs(&small)).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let mut reader = Reader::new(Spool::create(on_disk.then(|| dir.path()), "test").unwrap());
            let mut received = MemoryRecords::default();
            let mut flushes = flushes.into_iter().zip(1..);
            for piece in 0.. {
                let (rows, end) = reader.read(&engine, piece).unwrap();
                received.0.extend(rows);
                if end {
                    break;
                }
                if let Some((keys, value)) = flushes.next() {
                    flush(&engine, &mut reader, &keys, value);
                }
                prop_assert!(piece < 1000, "it does not end");
            }
            prop_assert_eq!(received.0.into_iter().collect::<Vec<_>>(), all(&engine));
        }
    }

    #[test]
    fn changes_ahead_of_the_reader_are_read_once() {
        let engine = MemoryEngine::new();
        engine.write(&refs(&[(vec![1], vec![0; PIECE_BYTES])])).unwrap();
        let more: Vec<Row> =
            (0..600u16).map(|n| ([&[2], n.to_be_bytes().as_slice()].concat(), vec![0; 9000])).collect();
        engine.write(&refs(&more)).unwrap();
        let mut reader = Reader::new(Spool::create(None, "test").unwrap());
        let (first, end) = reader.read(&engine, 0).unwrap();
        assert!(!end && first.len() < 600);
        let ahead = [(vec![3], vec![1])];
        reader.note(&refs(&ahead)).unwrap();
        assert!(reader.changed.pop().unwrap().is_none());
        reader.note(&refs(&[(vec![1], vec![1])])).unwrap();
        assert_eq!(reader.changed.pop().unwrap(), Some(vec![vec![1]]));
    }

    #[test]
    fn a_piece_is_not_given_twice() {
        let mut reader = Reader::new(Spool::create(None, "test").unwrap());
        assert!(reader.read(&MemoryEngine::new(), 1).is_err());
        assert_eq!(reader.read(&MemoryEngine::new(), 0).unwrap(), (Vec::new(), true));
    }
}
