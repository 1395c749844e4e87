//! Leases: a name that one holder has at a time, with a fencing token that only grows. Each cloud
//! has one vote; the scope says how many votes are a grant. A grant verifies offline.
//!
//! What keeps two holders apart is time, and what keeps a late one out is the token. A holder reads
//! its clock *before* it asks, and acts for one duration D from then. A cloud gives its vote to
//! somebody else only after its leader measured W = D(1+r)/(1-r) on its own clock since the latest vote, or
//! on the holder's signed release. So whoever asked later was answered after the one before had to
//! stop, if no clock runs wrong by more than r (Gray and Cheriton, "Leases", SOSP 1989).

mod apply;
mod bytes;
mod campaign;
mod grant;
mod waits;

pub(crate) use apply::apply;
pub use bytes::{CLAIM_BYTES, MAX_GRANT_BYTES};
pub use campaign::{Campaign, Look, Plan, Unusable};

pub use grant::{Grant, Granted, NotGranted, NotVoted, SignedVote};
pub use waits::{MAX_WAITS, Waits};

use crate::agents::Election;
use crate::ids::{CloudId, EpochId, FedId, HolderId, InvalidId, LeaseId, TenantId};
use crate::signature::{PublicKey, Signature, SignatureError, SigningKey};
use crate::time::{Millis, WallMillis};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The shortest and the longest duration of a lease, in milliseconds.
pub const MIN_DURATION_MS: u32 = 200;
pub const MAX_DURATION_MS: u32 = 600_000;
/// The most leases of one tenant.
pub const MAX_LEASES: usize = 1_000;
/// The most changes of one lease that are kept in its history; older ones are written over.
pub const MAX_HISTORY: u64 = 1_000;

/// How many fencing tokens there are until a cloud is renewed.
const TOKENS_BETWEEN_RENEWALS: u64 = 1 << 32;
/// By how much the tokens that two clouds ask for may differ, for a candidate that heeds both. A cloud votes for
/// tokens up to twice as far beyond the least one, so a liar uses them up in tens of thousands of tenures and not in one.
const TOKEN_SPREAD: u64 = 1 << 16;

/// How long the others leave a free lease to whoever is preferred or elected, at most.
const MAX_COURTESY: Duration = Duration::from_secs(1);

/// By how much a clock may run wrong against another: r = 1 %, as a fraction.
const DRIFT: (u64, u64) = (1, 100);

/// How many votes are a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// One cloud's Raft group alone. Gone while that cloud is.
    Cloud(CloudId),
    /// A quorum of the clouds: goes on without any one of them. A lying cloud can vote twice, and so help
    /// two holders to a grant with one token; the two grants convict it.
    Global,
    /// All clouds: one holder even if two of them lie, and none while any of them is away.
    Strict,
}

/// A lease as an operator puts it on a cloud. Scope and duration never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub tenant: TenantId,
    pub lease: LeaseId,
    pub scope: Scope,
    pub duration_ms: u32,
    /// Other candidates let this one go first.
    pub preferred: Option<HolderId>,
    /// Nobody new gets a vote; who holds the lease may go on.
    pub frozen: bool,
}

/// A candidate's request for a cloud's vote. (lease, token, renewal) is its key: a cloud answers it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub tenant: TenantId,
    pub lease: LeaseId,
    /// The fencing token: a new one for each tenure.
    pub token: u64,
    /// 0 for the first request of a tenure, and more each time.
    pub renewal: u64,
    pub holder: HolderId,
    /// The key of this very process: one that starts again under the same name is another holder, and
    /// never counts votes that its predecessor asked for.
    pub session: PublicKey,
    pub duration_ms: u32,
}

/// A claim and its session's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedClaim {
    pub claim: Claim,
    pub signature: Signature,
}

/// "I act no more under this token." Clouds need not wait for time to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub tenant: TenantId,
    pub lease: LeaseId,
    pub token: u64,
    pub session: PublicKey,
    /// For everybody else the wait stands: a planned handover.
    pub to: Option<HolderId>,
    pub signature: Signature,
}

/// A cloud's answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub claim: Claim,
    pub scope: Scope,
    /// The cloud's wall clock: displayed, and decides nothing.
    pub voted_at: WallMillis,
}

/// Which vote is meant: a tenure and how often it was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ballot {
    pub token: u64,
    pub renewal: u64,
}

/// A lease as one cloud knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub spec: Spec,
    /// This cloud's latest vote.
    pub vote: Option<Vote>,
    /// Set once the holder of that vote released it: for whom, if it named somebody.
    pub released: Option<Option<HolderId>>,
    /// The latest grant that this cloud was shown.
    pub tenure: Option<Tenure>,
    /// How often the lease changed hands, as far as this cloud was shown.
    pub transitions: u64,
    /// How long nobody held it between two tenures, all together.
    pub vacant_ms: u64,
    /// Rows of history so far; the next one gets this number.
    pub changes: u64,
}

/// A grant as this cloud remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenure {
    pub holder: HolderId,
    pub session: PublicKey,
    pub token: u64,
    pub acquired_at: WallMillis,
    pub released: bool,
    /// Nobody could act from here on, by this cloud's logged time; moves on with each vote.
    pub ends: Millis,
    /// Of the grant that was shown: what convicts a cloud if another grant with this token turns up.
    pub votes: Vec<SignedVote>,
    /// The session of such a grant, so that it is told once.
    pub contested: Option<PublicKey>,
}

/// One row of a lease's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub number: u64,
    /// The cloud's logged time, in milliseconds.
    pub at: Millis,
    /// Unix time in milliseconds, by the wall clock of the node that took the change: shown, decides nothing.
    pub time: WallMillis,
    /// Who asked, as they call themselves; of tenures the holder.
    pub by: Option<String>,
    /// Why, in the words of who asked.
    pub why: Option<String>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum What {
    Created,
    /// Preferred holder or frozen changed.
    Changed {
        preferred: Option<HolderId>,
        frozen: bool,
    },
    Acquired {
        holder: HolderId,
        token: u64,
        acquired_at: WallMillis,
        because: Because,
        /// How long nobody held it, by this cloud's logged time; absent for the first holder.
        vacant_ms: Option<u64>,
    },
    Released {
        holder: HolderId,
        token: u64,
        to: Option<HolderId>,
    },
    /// Two holders showed a grant with one token: a cloud voted twice.
    SplitBrain {
        token: u64,
        holder: HolderId,
        other: HolderId,
    },
}

/// Why a lease got a new holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    First,
    Expired,
    Released,
}

/// Who asked for a change, why, and when by the wall clock of the node that took it. It is kept for the history and
/// decides nothing: who may change a lease at all the API has judged before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub by: Option<String>,
    pub why: Option<String>,
    pub at: WallMillis,
}

/// A command, with the wall clock of the node that took it where nobody else tells when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a lease, or changes who is preferred and whether it is frozen.
    Put(Spec, Asked),
    /// A claim whose session signature the leader has verified.
    Vote {
        claim: Claim,
        /// The vote that this leader measured W since, if another one has to be out of time.
        waited_out: Option<Ballot>,
        voted_at: WallMillis,
    },
    /// A release whose signature the leader has verified.
    Release(Release, WallMillis),
    /// A grant that somebody shows: who holds the lease now. Apply verifies it.
    Show(Grant, WallMillis),
}

impl Asked {
    /// The longest name and the longest reason.
    pub const MAX_BYTES: usize = 256;

    fn by(holder: &HolderId, at: WallMillis) -> Self {
        Self { by: Some(holder.to_string()), why: None, at }
    }

    /// Says what is wrong with a name or a reason: they are shown on terminals, and kept in every replica.
    pub fn check(&self) -> Result<(), String> {
        for (what, text) in [("by", &self.by), ("why", &self.why)] {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > Self::MAX_BYTES || text.chars().any(char::is_control) {
                let most = Self::MAX_BYTES;
                return Err(format!("`{what}` has to be a text of 1 to {most} bytes without control characters"));
            }
        }
        Ok(())
    }
}

/// How long a leader waits after a vote before it gives another one: W = D(1+r)/(1-r), rounded up.
/// A holder that measures D with a clock slow by r has stopped by then, though this clock is fast by r.
pub fn wait_for(duration_ms: u32) -> Duration {
    let (slow, of) = DRIFT;
    if mutant!(LeaseWaitTooShort) {
        return Duration::from_millis(u64::from(duration_ms) / 2);
    }
    Duration::from_millis((u64::from(duration_ms) * (of + slow)).div_ceil(of - slow))
}

/// No token at or below it is of a new tenure, given the latest epoch number of each cloud.
fn token_floor(numbers: impl Iterator<Item = u32>) -> u64 {
    numbers.map(u64::from).sum::<u64>().saturating_mul(TOKENS_BETWEEN_RENEWALS)
}

impl Claim {
    pub fn ballot(&self) -> Ballot {
        Ballot { token: self.token, renewal: self.renewal }
    }

    /// Whether both are of one process and one tenure.
    pub fn is_of_tenure(&self, other: &Self) -> bool {
        let same_session = self.session == other.session || mutant!(LeaseSessionIgnored);
        (self.token, &self.holder) == (other.token, &other.holder) && same_session
    }

    pub fn sign(self, fed: &FedId, key: &SigningKey) -> SignedClaim {
        let signature = key.sign(&self.message(fed));
        SignedClaim { claim: self, signature }
    }
}

impl SignedClaim {
    pub fn verify(&self, fed: &FedId) -> Result<(), SignatureError> {
        self.claim.session.verify(&self.claim.message(fed), &self.signature)
    }
}

impl Release {
    pub fn sign(fed: &FedId, claim: &Claim, to: Option<HolderId>, key: &SigningKey) -> Self {
        let Claim { tenant, lease, token, session, .. } = claim.clone();
        let mut release = Self { tenant, lease, token, session, to, signature: Signature([0; 64]) };
        release.signature = key.sign(&release.message(fed));
        release
    }

    pub fn verify(&self, fed: &FedId) -> Result<(), SignatureError> {
        self.session.verify(&self.message(fed), &self.signature)
    }
}

impl Tenure {
    /// Whether the claim is of this tenure.
    pub fn is_of(&self, claim: &Claim) -> bool {
        (self.token, &self.holder, self.session) == (claim.token, &claim.holder, claim.session)
    }
}

impl Lease {
    /// How much longer than necessary this candidate lets pass, so that a better one comes first. Agents that are ready
    /// come in the order of their election, then who does not report, and last who did not renew in time.
    fn courtesy(&self, candidate: Option<&HolderId>, election: &Election) -> Duration {
        let lapsed = self.vote.as_ref().filter(|_| self.released.is_none()).map(|vote| &vote.claim.holder);
        let ready = election.candidates.iter().filter(|candidate| candidate.ready).map(|candidate| &candidate.agent);
        let awaited: Vec<&HolderId> = ready.filter(|agent| Some(*agent) != lapsed).collect();
        let preferred = self.spec.preferred.as_ref().filter(|preferred| Some(*preferred) != lapsed);
        let place = match awaited.iter().position(|agent| Some(*agent) == candidate) {
            Some(place) => place,
            None if preferred.is_some() && preferred == candidate => 0,
            None => awaited.len() + usize::from(preferred.is_some()),
        };
        let step = u64::from(self.spec.duration_ms) / 4;
        MAX_COURTESY.min(Duration::from_millis(step.saturating_mul(place as u64)))
    }

    /// How long the latest vote is still in time, if the leader has known it for so long.
    pub fn left(&self, known_for: Duration) -> Duration {
        wait_for(self.spec.duration_ms).saturating_sub(known_for)
    }

    /// The latest vote's name.
    pub fn ballot(&self) -> Option<Ballot> {
        self.vote.as_ref().map(|vote| vote.claim.ballot())
    }

    /// Whether the latest vote was released, for everybody or for this candidate.
    pub fn is_free_for(&self, candidate: Option<&HolderId>) -> bool {
        match &self.released {
            None => false,
            Some(None) => true,
            Some(Some(to)) => Some(to) == candidate,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cloud(cloud) => write!(f, "cloud:{cloud}"),
            Self::Global => f.write_str("global"),
            Self::Strict => f.write_str("strict"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "global" => Ok(Self::Global),
            "strict" => Ok(Self::Strict),
            other => match other.strip_prefix("cloud:") {
                Some(cloud) => CloudId::new(cloud).map(Self::Cloud),
                None => Err(InvalidId {
                    what: "scope",
                    value: other.chars().take(80).collect(),
                    rule: "use global, strict or cloud:NAME",
                }),
            },
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}
