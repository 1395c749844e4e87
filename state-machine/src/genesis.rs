//! The genesis of a federation: three clouds, their weights and root keys, and the quorum.
//! Its hash names the federation, so whoever trusts that name trusts nothing else.

use crate::ids::{CloudId, FedId};
use crate::signature::PublicKey;
use crate::wire::{Writer, domain};
use serde::{Deserialize, Serialize};

/// Version 1 has exactly three clouds.
pub const CLOUDS: usize = 3;

/// One voter. Its root key is kept offline and certifies the node keys of each epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    pub cloud: CloudId,
    pub weight: u32,
    pub root_key: PublicKey,
}

/// What fixes a federation for ever. Voters are sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    pub voters: Vec<Voter>,
    /// Weight that a content needs to be FINAL.
    pub quorum: u32,
    /// 32 random bytes, so that two federations never share a name.
    #[serde(with = "hex::serde")]
    pub nonce: [u8; 32],
}

/// Some of the voters, as bits: the rule of finality is computed for each event several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloudSet(u8);

impl CloudSet {
    #[must_use]
    pub fn with(self, at: usize) -> Self {
        Self(self.0 | 1 << at)
    }

    /// Those of either.
    #[must_use]
    pub fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub fn contains(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
    }

    pub fn holds_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The positions of its members, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..CLOUDS).filter(move |at| self.contains(*at))
    }

    /// Every set of at least one of its members.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        (1..=self.0).map(Self).filter(move |set| self.holds_all(*set))
    }
}

impl FromIterator<usize> for CloudSet {
    fn from_iter<T: IntoIterator<Item = usize>>(positions: T) -> Self {
        positions.into_iter().fold(Self::default(), Self::with)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    #[error("a federation has exactly {CLOUDS} clouds, this one has {0}")]
    NotThree(usize),
    #[error("the clouds are not in alphabetical order, or one is named twice")]
    Order,
    #[error("two clouds share a root key")]
    SharedRootKey,
    #[error("cloud {0} has weight 0; give every cloud a weight of at least 1")]
    ZeroWeight(CloudId),
    #[error(
        "ambiguous weights: the quorum {quorum} is not more than half of the total weight {total}; two contents could both reach it"
    )]
    NoMajority { quorum: u32, total: u64 },
    #[error("the quorum {quorum} is more than the total weight {total}; nothing could ever be FINAL")]
    Unreachable { quorum: u32, total: u64 },
    #[error("cloud {cloud} has weight {weight}, which alone reaches the quorum {quorum}; no cloud may decide alone")]
    Dictator { cloud: CloudId, weight: u32, quorum: u32 },
}

impl Genesis {
    /// Refuses what could not be both live and unambiguous: 2Q > W, Q <= W, every weight < Q.
    pub fn check(&self) -> Result<(), GenesisError> {
        if self.voters.len() != CLOUDS {
            return Err(GenesisError::NotThree(self.voters.len()));
        }
        if self.voters.windows(2).any(|pair| pair[0].cloud >= pair[1].cloud) {
            return Err(GenesisError::Order);
        }
        let shares_key = |a: usize, b: usize| self.voters[a].root_key == self.voters[b].root_key;
        if shares_key(0, 1) || shares_key(0, 2) || shares_key(1, 2) {
            return Err(GenesisError::SharedRootKey);
        }
        if let Some(voter) = self.voters.iter().find(|voter| voter.weight == 0) {
            return Err(GenesisError::ZeroWeight(voter.cloud.clone()));
        }
        let (quorum, total) = (self.quorum, self.total_weight());
        if 2 * u64::from(quorum) <= total {
            return Err(GenesisError::NoMajority { quorum, total });
        }
        if u64::from(quorum) > total {
            return Err(GenesisError::Unreachable { quorum, total });
        }
        if let Some(voter) = self.voters.iter().find(|voter| voter.weight >= quorum) {
            let Voter { cloud, weight, .. } = voter.clone();
            return Err(GenesisError::Dictator { cloud, weight, quorum });
        }
        Ok(())
    }

    pub fn total_weight(&self) -> u64 {
        self.voters.iter().map(|voter| u64::from(voter.weight)).sum()
    }

    pub fn weight(&self, cloud: &CloudId) -> u64 {
        self.voter(cloud).map_or(0, |voter| u64::from(voter.weight))
    }

    pub fn voter(&self, cloud: &CloudId) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.cloud == *cloud)
    }

    pub fn clouds(&self) -> impl Iterator<Item = &CloudId> {
        self.voters.iter().map(|voter| &voter.cloud)
    }

    /// Where a cloud stands in the order of the voters.
    pub fn position(&self, cloud: &CloudId) -> Option<usize> {
        self.clouds().position(|known| known == cloud)
    }

    pub fn everybody(&self) -> CloudSet {
        (0..self.voters.len()).collect()
    }

    /// These clouds, as far as they are voters.
    pub fn set<'c>(&self, clouds: impl IntoIterator<Item = &'c CloudId>) -> CloudSet {
        clouds.into_iter().filter_map(|cloud| self.position(cloud)).collect()
    }

    /// The names of a set, in order.
    pub fn names(&self, set: CloudSet) -> impl Iterator<Item = &CloudId> {
        set.iter().map(|at| &self.voters[at].cloud)
    }

    /// The weight of a set together.
    pub fn weight_of(&self, set: CloudSet) -> u64 {
        set.iter().map(|at| u64::from(self.voters[at].weight)).sum()
    }

    /// Whether the federation goes on without this cloud.
    pub fn lives_without(&self, cloud: &CloudId) -> bool {
        self.total_weight() - self.weight(cloud) >= u64::from(self.quorum)
    }

    /// Whether two contents cannot both be FINAL though this cloud votes for both.
    pub fn safe_if_it_lies(&self, cloud: &CloudId) -> bool {
        self.total_weight() + self.weight(cloud) < 2 * u64::from(self.quorum)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(domain::GENESIS).raw(&self.nonce).u32(self.quorum).u32(self.voters.len() as u32);
        for voter in &self.voters {
            out = out.lp(voter.cloud.as_str().as_bytes()).u32(voter.weight).raw(&voter.root_key.to_bytes());
        }
        out.finish()
    }

    pub fn fed_id(&self) -> FedId {
        FedId(crate::wire::sha256(&self.bytes()).0)
    }
}
