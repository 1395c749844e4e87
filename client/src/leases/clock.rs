//! The holder's clock. It goes on while the machine sleeps, and no step of the wall clock moves it.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
/// Elsewhere the monotonic clock counts sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Time since the machine started, sleep included.
pub fn boottime() -> Duration {
    // It fails only for a clock that the kernel does not have.
    clock_gettime(CLOCK).map_or(Duration::MAX, Duration::from)
}
