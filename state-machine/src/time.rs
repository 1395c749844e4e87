//! Time as the leader stamped it into the log: milliseconds that never go backwards.

use serde::{Deserialize, Serialize};

/// Logged time in milliseconds. It starts at zero with the cluster and advances only with a
/// leader's monotonic clock, so a wrong wall clock can expire nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

/// Wall-clock time in milliseconds since 1970-01-01T00:00Z. It is displayed, and decides nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallMillis(pub u64);
