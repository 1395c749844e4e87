//! What a leader measured: since when it has known each lease's latest vote, by its own monotonic
//! clock. It starts with nothing, so a new leader and a restarted one wait a full W, and so does the first
//! vote of a cloud that may have lost its state.

use super::{Ballot, Lease, wait_for};
use crate::ids::{LeaseId, TenantId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most leases that are remembered; beyond it all are measured anew, which is longer and never wrong.
pub const MAX_WAITS: usize = 100_000;

/// Since when each lease's latest vote is known. A vote that is first seen now counts from now.
#[derive(Debug, Default)]
pub struct Waits {
    seen: BTreeMap<(TenantId, LeaseId), (Option<Ballot>, Duration)>,
}

impl Waits {
    /// How long from `now` (this leader's monotonic clock) until the lease's latest vote is out of time. The lease
    /// has to be as applied, and the answer is about that vote alone.
    pub fn left(&mut self, lease: &Lease, now: Duration) -> Duration {
        let key = (lease.spec.tenant.clone(), lease.spec.lease.clone());
        let latest = lease.ballot();
        if self.seen.len() >= MAX_WAITS && !self.seen.contains_key(&key) {
            self.seen.clear();
        }
        let known = self.seen.entry(key).or_insert((latest, now));
        if known.0 != latest {
            *known = (latest, now);
        }
        wait_for(lease.spec.duration_ms).saturating_sub(now.saturating_sub(known.1))
    }
}
