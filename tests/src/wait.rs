//! Waiting for conditions, never for luck.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Looks until `look` finds something. After the deadline it fails with what `look` said last.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    match try_eventually(limit, &mut look) {
        Ok(found) => found,
        Err(last) => panic!("{what}: not within {limit:?}; last: {last}"),
    }
}

/// The same for callers that want to say more about the failure.
pub fn try_eventually<T>(limit: Duration, look: &mut dyn FnMut() -> Result<T, String>) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(last) if begun.elapsed() >= limit => return Err(last),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// For conditions inside [`eventually`]: the value if it holds, else the text.
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
