//! The trust bundle: every public key that a verifier needs, from the one hash that a user pins.

use super::Refused;
use crate::epochs::Opening;
use crate::genesis::Genesis;
use serde::{Deserialize, Serialize};

/// Version of the trust bundle's form.
pub const TRUST_VERSION: u32 = 1;

/// The most epochs of one bundle, and so the most signatures checked to believe it.
pub const MAX_OPENINGS: usize = 1024;

/// The public keys of a federation: its genesis and the epochs known so far. Its hash of the
/// genesis is what a user pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    pub version: u32,
    pub genesis: Genesis,
    pub openings: Vec<Opening>,
}

impl TrustBundle {
    pub fn new(genesis: Genesis, openings: Vec<Opening>) -> Self {
        Self { version: TRUST_VERSION, genesis, openings }
    }

    /// The weights are sound, and each epoch is signed by its cloud's root key.
    pub fn check(&self) -> Result<(), Refused> {
        if self.version != TRUST_VERSION {
            let version = self.version;
            return Err(Refused(format!("the trust bundle has version {version}, this build reads {TRUST_VERSION}")));
        }
        self.genesis.check().map_err(|error| Refused(format!("the trust bundle's genesis: {error}")))?;
        if self.openings.len() > MAX_OPENINGS {
            return Err(Refused(format!("the trust bundle has more than {MAX_OPENINGS} epochs")));
        }
        for opening in &self.openings {
            let checked = opening.check(&self.genesis);
            checked.map_err(|error| Refused(format!("epoch {} of the trust bundle: {error}", opening.number)))?;
        }
        Ok(())
    }
}
