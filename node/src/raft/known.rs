//! Which events may be known here. Most that arrive are new, and a filter in memory says so without asking the engine: a
//! lookup is work, and engines stand still for some of them while they sync the list of their files.
//!
//! A Bloom filter (Bloom, Space/Time Trade-offs in Hash Coding, CACM 1970) whose probes of one key lie in one line of the
//! cache. It says "new" only if that is so; of new keys it calls about one in a hundred known.

use super::apply::Store;
use super::flush::blocking;
use crate::storage::Engine;
use std::sync::Arc;
use tercet_core::records::{Broken, EVENTS};

/// Keys that the first part is made for; each further part is made for twice as many: 20 MB with ten million events.
const FIRST_KEYS: usize = 1 << 20;
const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 5;
/// Bits of a line of the cache, and what counts them.
const LINE_BITS: usize = 512;
const LINE_SHIFT: u32 = LINE_BITS.trailing_zeros();
/// Keys read from the engine at once.
const READ_KEYS: usize = 4096;

type Line = [u64; LINE_BITS / u64::BITS as usize];

struct Part {
    lines: Vec<Line>,
    /// Keys that still fit.
    room: usize,
}

impl Part {
    fn new(keys: usize) -> Self {
        Self { lines: vec![Line::default(); keys * BITS_PER_KEY / LINE_BITS], room: keys }
    }

    fn line(&self, place: u64) -> usize {
        (place % self.lines.len() as u64) as usize
    }

    fn holds(&self, (place, bits): (u64, u64)) -> bool {
        let line = &self.lines[self.line(place)];
        probes(bits).all(|(word, bit)| line[word] & bit != 0)
    }

    fn insert(&mut self, (place, bits): (u64, u64)) {
        let at = self.line(place);
        for (word, bit) in probes(bits) {
            self.lines[at][word] |= bit;
        }
        self.room -= 1;
    }
}

fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let bit = (bits >> (probe * LINE_SHIFT)) as usize % LINE_BITS;
        (bit / u64::BITS as usize, 1 << (bit % u64::BITS as usize))
    })
}

/// Keys of events end with a tag, which is a salted hash itself.
fn hash(key: &[u8]) -> (u64, u64) {
    let mut end = [0; 16];
    let take = key.len().min(end.len());
    end[..take].copy_from_slice(&key[key.len() - take..]);
    let half = |range: std::ops::Range<usize>| end[range].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    (half(0..8), half(8..16))
}

/// Keys of events, those that the engine held before among them once they were read.
pub struct Known {
    parts: Vec<Part>,
    /// From where on the engine's keys were not read yet.
    unread: Option<Vec<u8>>,
}

impl Default for Known {
    fn default() -> Self {
        Self { parts: vec![Part::new(FIRST_KEYS)], unread: Some(vec![EVENTS]) }
    }
}

impl Known {
    /// Whether nobody ever wrote this key.
    pub fn is_new(&self, key: &[u8]) -> bool {
        self.unread.is_none() && !self.holds(hash(key))
    }

    fn holds(&self, hash: (u64, u64)) -> bool {
        self.parts.iter().any(|part| part.holds(hash))
    }

    pub fn insert(&mut self, key: &[u8]) {
        let hash = hash(key);
        if self.holds(hash) {
            return;
        }
        let keys = FIRST_KEYS << self.parts.len();
        if self.parts.last().is_none_or(|part| part.room == 0) {
            self.parts.push(Part::new(keys));
        }
        if let Some(part) = self.parts.last_mut() {
            part.insert(hash);
        }
    }

    /// Takes the next keys that an engine has from `unread` on.
    pub fn read(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            self.insert(key);
        }
        self.unread = match keys.last() {
            Some(last) if keys.len() == READ_KEYS => Some([last.as_slice(), &[0]].concat()),
            _ => None,
        };
    }
}

fn read_keys(engine: &dyn Engine, from: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    engine.keys(from, &[EVENTS + 1], READ_KEYS)
}

/// Reads the keys that the engine held at the start, and again whenever a snapshot takes its place.
pub async fn fill(store: Arc<Store>) {
    loop {
        // Whoever puts a snapshot in place excludes this.
        let still = store.flush.exclude().await;
        let from = store.read().overlay.known.unread.clone();
        let Some(from) = from else {
            drop(still);
            store.reloaded.notified().await;
            continue;
        };
        match blocking(&store, move |store| read_keys(&*store.engine, &from)).await {
            Ok(keys) => store.write().overlay.known.read(&keys),
            Err(broken) => return store.fail(format!("the keys of events cannot be read: {broken}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryEngine, refs};

    /// Spread like hashes (the constants of splitmix64).
    fn key(n: u32) -> Vec<u8> {
        let spread = |salt: u64| {
            let once = (u64::from(n) << 2 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let twice = (once ^ once >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((twice ^ twice >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)).to_be_bytes()
        };
        [&[EVENTS], spread(1).as_slice(), &spread(2), &spread(3)].concat()
    }

    #[test]
    fn nothing_is_called_new_before_every_stored_key_was_read() {
        let mut known = Known::default();
        assert!(!known.is_new(&key(1)));
        known.read(&[key(2)]);
        assert!(known.is_new(&key(1)));
        assert!(!known.is_new(&key(2)));
    }

    #[test]
    fn what_an_engine_held_is_known_after_it_was_read_in_pieces() {
        let engine = MemoryEngine::new();
        let stored: Vec<_> = (0..3 * READ_KEYS as u32).map(|n| (key(n), vec![1])).collect();
        engine.write(&refs(&stored)).unwrap();
        engine.write(&refs(&[(vec![EVENTS - 1, 7], vec![1]), (vec![EVENTS + 1], vec![1])])).unwrap();
        let mut known = Known::default();
        let mut pieces = 0;
        while let Some(from) = known.unread.clone() {
            known.read(&read_keys(&engine, &from).unwrap());
            pieces += 1;
        }
        assert_eq!(pieces, 4);
        assert!(stored.iter().all(|(key, _)| !known.is_new(key)));
    }

    #[test]
    fn however_many_there_are_known_keys_stay_known_and_most_new_ones_are_called_new() {
        let mut known = Known::default();
        known.read(&[]);
        let many = FIRST_KEYS as u32 + FIRST_KEYS as u32 / 4;
        for n in 0..many {
            known.insert(&key(n));
        }
        assert_eq!(known.parts.len(), 2);
        assert!((0..many).all(|n| !known.is_new(&key(n))));
        let called_known = (many..many + 20_000).filter(|n| !known.is_new(&key(*n))).count();
        assert!(called_known < 20_000 / 30, "{called_known} of 20,000");
    }
}
