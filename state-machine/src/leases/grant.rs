//! What a third party verifies: a cloud's signed vote, and the grant that several make. Nothing but
//! the federation's public keys is needed.

use super::{Claim, Scope, Vote};
use crate::epochs::Opening;
use crate::genesis::Genesis;
use crate::ids::{CloudId, FedId, HolderId, LeaseId, NodeId, TenantId};
use crate::signature::{PublicKey, Signature, SigningKey};
use crate::time::WallMillis;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A vote with exactly as many signatures of its epoch's nodes as the threshold, sorted by node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVote {
    pub vote: Vote,
    pub signatures: Vec<(NodeId, Signature)>,
}

/// Why a vote counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVoted {
    #[error("epoch {epoch} of {cloud} is not in the trust bundle; take a newer one")]
    UnknownEpoch { cloud: CloudId, epoch: String },
    #[error("the vote of {cloud} is not signed by exactly {threshold} of its nodes")]
    NotSigned { cloud: CloudId, threshold: u32 },
}

/// The clouds' votes for one claim: as many as the lease's scope asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub claim: Claim,
    pub scope: Scope,
    /// Sorted by cloud.
    pub votes: Vec<SignedVote>,
}

/// Why a grant proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGranted {
    #[error(transparent)]
    Vote(#[from] NotVoted),
    #[error("its votes are not sorted by cloud, are not all for its claim and scope, or a cloud votes twice")]
    Form,
    #[error("the votes of {voters} are no grant of a lease with scope {scope}")]
    TooFew { voters: String, scope: Scope },
    #[error("it is not a grant: {0}")]
    Malformed(String),
}

/// What a verified grant says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    pub tenant: TenantId,
    pub lease: LeaseId,
    pub holder: HolderId,
    pub session: PublicKey,
    pub scope: String,
    pub fencing_token: u64,
    pub renewal: u64,
    pub clouds: Vec<CloudId>,
    /// The first of the votes, by its cloud's wall clock.
    pub acquired_at: WallMillis,
    /// No later than this does the holder act on this grant, by the wall clock of the cloud that voted first. Wall
    /// clocks can be wrong: what protects a resource is that it refuses lower tokens.
    pub expires_at: WallMillis,
}

impl Vote {
    pub fn sign(&self, fed: &FedId, key: &SigningKey) -> Signature {
        key.sign(&self.message(fed))
    }
}

impl SignedVote {
    /// Checks it against the epochs that the verifier knows, each signed by its cloud's root key.
    pub fn verify(&self, genesis: &Genesis, openings: &[Opening]) -> Result<(), NotVoted> {
        let (fed, vote) = (genesis.fed_id(), &self.vote);
        let is_epoch = |opening: &&Opening| opening.cloud == vote.cloud && opening.id(&fed) == vote.epoch;
        let known = openings.iter().find(is_epoch).filter(|opening| opening.check(genesis).is_ok());
        let unknown = || NotVoted::UnknownEpoch { cloud: vote.cloud.clone(), epoch: vote.epoch.to_string() };
        self.verify_in(&fed, known.ok_or_else(unknown)?)
    }

    /// The same in an epoch that is known to be good.
    pub fn verify_in(&self, fed: &FedId, opening: &Opening) -> Result<(), NotVoted> {
        let not_signed = || NotVoted::NotSigned { cloud: self.vote.cloud.clone(), threshold: opening.threshold };
        let sorted = self.signatures.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if self.signatures.len() != opening.threshold as usize || !sorted {
            return Err(not_signed());
        }
        let message = self.vote.message(fed);
        let valid = |(node, signature): &(NodeId, Signature)| {
            opening.key(node).is_some_and(|key| key.verify(&message, signature).is_ok())
        };
        if self.signatures.iter().all(valid) || mutant!(LeaseSignaturesNotChecked) { Ok(()) } else { Err(not_signed()) }
    }
}

impl Scope {
    /// Whether the votes of these clouds are a grant.
    pub fn is_met(&self, genesis: &Genesis, voters: &BTreeSet<&CloudId>) -> bool {
        let weight: u64 = voters.iter().map(|cloud| genesis.weight(cloud)).sum();
        match self {
            Self::Cloud(cloud) => voters.contains(cloud),
            Self::Strict => genesis.clouds().all(|cloud| voters.contains(cloud)),
            Self::Global if mutant!(LeaseOfOneVote) => weight > 0,
            Self::Global => weight >= u64::from(genesis.quorum),
        }
    }
}

impl Grant {
    /// Checks every signature, and that the votes are enough for the scope which they name. `openings` are
    /// the epochs that the verifier knows.
    pub fn verify(&self, genesis: &Genesis, openings: &[Opening]) -> Result<Granted, NotGranted> {
        let sorted = self.votes.windows(2).all(|pair| pair[0].vote.cloud < pair[1].vote.cloud);
        let alike = |signed: &SignedVote| (&signed.vote.claim, &signed.vote.scope) == (&self.claim, &self.scope);
        if !sorted || !self.votes.iter().all(alike) {
            return Err(NotGranted::Form);
        }
        for vote in &self.votes {
            vote.verify(genesis, openings)?;
        }
        let clouds: Vec<CloudId> = self.votes.iter().map(|signed| signed.vote.cloud.clone()).collect();
        if !self.scope.is_met(genesis, &clouds.iter().collect()) {
            let names: Vec<String> = clouds.iter().map(ToString::to_string).collect();
            let voters = if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") };
            return Err(NotGranted::TooFew { voters, scope: self.scope.clone() });
        }
        let acquired_at = self.votes.iter().map(|signed| signed.vote.voted_at).min().unwrap_or_default();
        let Claim { tenant, lease, token, renewal, holder, session, duration_ms } = self.claim.clone();
        Ok(Granted {
            tenant,
            lease,
            holder,
            session,
            scope: self.scope.to_string(),
            fencing_token: token,
            renewal,
            clouds,
            acquired_at,
            expires_at: WallMillis(acquired_at.0 + u64::from(duration_ms)),
        })
    }

    /// One line for headers and environment variables: its bytes in URL-safe base64 without padding (RFC 4648).
    pub fn to_text(&self) -> String {
        BASE64.encode(self.bytes())
    }

    pub fn from_text(text: &str) -> Result<Self, NotGranted> {
        let bytes = BASE64.decode(text.trim()).map_err(|error| NotGranted::Malformed(error.to_string()))?;
        Self::decode(&bytes).map_err(|error| NotGranted::Malformed(error.0))
    }
}
