//! What a leader measured: since when it has known each lease's latest vote, by its own monotonic
//! clock. It starts with nothing, so a new leader and a restarted one wait a full W, and so does the first
//! vote of a cloud that may have lost its state.

use super::{Ballot, Lease};
use crate::ids::{LeaseId, TenantId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most leases that are remembered; beyond it all are measured anew, which is longer and never wrong.
pub const MAX_WAITS: usize = 100_000;

/// Since when each lease's latest vote is known. A vote that is first seen now counts from now.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    seen: BTreeMap<(TenantId, LeaseId), (Option<Ballot>, Duration)>,
}

impl Waits {
    /// How long this leader has known the lease's latest vote, at `now` by its monotonic clock. The lease has to be
    /// as applied, and the answer is about that vote alone.
    pub fn known_for(&mut self, lease: &Lease, now: Duration) -> Duration {
        let key = (lease.spec.tenant.clone(), lease.spec.lease.clone());
        let latest = lease.ballot();
        if self.seen.len() >= MAX_WAITS && !self.seen.contains_key(&key) {
            self.seen.clear();
        }
        let known = self.seen.entry(key).or_insert((latest, now));
        if known.0 != latest {
            *known = (latest, now);
        }
        now.saturating_sub(known.1)
    }
}
