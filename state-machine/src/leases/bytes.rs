//! The published bytes of claims, releases, votes and grants (docs/PROTOCOL.md, section 14).

use super::{Claim, Grant, Release, Scope, SignedVote, Vote};
use crate::epochs::MAX_NODES_PER_CLOUD;
use crate::genesis::CLOUDS;
use crate::ids::{CloudId, EpochId, FedId, HolderId, LeaseId, NodeId, TenantId};
use crate::signature::{PublicKey, Signature};
use crate::time::WallMillis;
use crate::wire::{Reader, WireError, Writer, domain};

/// The longest claim in bytes, without its signature.
pub const CLAIM_BYTES: usize = 512;
/// The largest grant that is read, in bytes: three clouds with nine signatures each fit.
pub const MAX_GRANT_BYTES: usize = 8 << 10;

const GLOBAL: u8 = 1;
const STRICT: u8 = 2;
const CLOUD: u8 = 3;

impl Claim {
    /// What the session signs.
    pub fn message(&self, fed: &FedId) -> Vec<u8> {
        self.write(Writer::new(domain::LEASE_CLAIM).raw(&fed.0)).finish()
    }

    fn write(&self, out: Writer) -> Writer {
        out.lp(self.tenant.as_str().as_bytes())
            .lp(self.lease.as_str().as_bytes())
            .u64(self.token)
            .u64(self.renewal)
            .lp(self.holder.as_str().as_bytes())
            .raw(&self.session.to_bytes())
            .u32(self.duration_ms)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            tenant: id(TenantId::new(reader.text(TenantId::MAX_BYTES)?))?,
            lease: id(LeaseId::new(reader.text(LeaseId::MAX_BYTES)?))?,
            token: reader.u64()?,
            renewal: reader.u64()?,
            holder: id(HolderId::new(reader.text(HolderId::MAX_BYTES)?))?,
            session: PublicKey::from_bytes(&reader.array()?).map_err(|error| WireError(error.to_string()))?,
            duration_ms: reader.u32()?,
        })
    }
}

impl Release {
    /// What the session signs.
    pub fn message(&self, fed: &FedId) -> Vec<u8> {
        let out = Writer::new(domain::LEASE_RELEASE)
            .raw(&fed.0)
            .lp(self.tenant.as_str().as_bytes())
            .lp(self.lease.as_str().as_bytes())
            .u64(self.token)
            .raw(&self.session.to_bytes());
        match &self.to {
            None => out.u8(0).finish(),
            Some(to) => out.u8(1).lp(to.as_str().as_bytes()).finish(),
        }
    }
}

impl Vote {
    /// What the cloud's nodes sign.
    pub fn message(&self, fed: &FedId) -> Vec<u8> {
        let out = Writer::new(domain::LEASE_VOTE).raw(&fed.0);
        let out = out.lp(self.cloud.as_str().as_bytes()).raw(&self.epoch.0);
        self.scope.write(self.claim.write(out)).u64(self.voted_at.0).finish()
    }
}

impl SignedVote {
    /// Alone, as evidence has it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Vote { cloud, epoch, claim, scope, voted_at } = &self.vote;
        let out = Writer::default().lp(cloud.as_str().as_bytes()).raw(&epoch.0);
        write_signatures(scope.write(claim.write(out)).u64(voted_at.0), &self.signatures).finish()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let cloud = id(CloudId::new(reader.text(CloudId::MAX_BYTES)?))?;
        let (epoch, claim, scope) = (EpochId(reader.array()?), Claim::read(reader)?, Scope::read(reader)?);
        let vote = Vote { cloud, epoch, claim, scope, voted_at: WallMillis(reader.u64()?) };
        Ok(Self { vote, signatures: read_signatures(reader)? })
    }
}

impl Scope {
    fn write(&self, out: Writer) -> Writer {
        match self {
            Self::Global => out.u8(GLOBAL),
            Self::Strict => out.u8(STRICT),
            Self::Cloud(cloud) => out.u8(CLOUD).lp(cloud.as_str().as_bytes()),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u8()? {
            GLOBAL => Ok(Self::Global),
            STRICT => Ok(Self::Strict),
            CLOUD => Ok(Self::Cloud(id(CloudId::new(reader.text(CloudId::MAX_BYTES)?))?)),
            other => Err(WireError(format!("no scope has number {other}"))),
        }
    }
}

impl Grant {
    pub fn bytes(&self) -> Vec<u8> {
        let out = self.claim.write(Writer::new(domain::LEASE_GRANT));
        let mut out = self.scope.write(out).u32(self.votes.len() as u32);
        for SignedVote { vote, signatures } in &self.votes {
            out = out.lp(vote.cloud.as_str().as_bytes()).raw(&vote.epoch.0).u64(vote.voted_at.0);
            out = write_signatures(out, signatures);
        }
        out.finish()
    }

    /// Reads the form alone; what it proves is `verify`'s business.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_GRANT_BYTES {
            return Err(WireError(format!("{} bytes, at most {MAX_GRANT_BYTES} are read", bytes.len())));
        }
        let mut reader = Reader::new(bytes, domain::LEASE_GRANT)?;
        let claim = Claim::read(&mut reader)?;
        let scope = Scope::read(&mut reader)?;
        let mut votes = Vec::new();
        for _ in 0..count(&mut reader, "votes", CLOUDS)? {
            let cloud = id(CloudId::new(reader.text(CloudId::MAX_BYTES)?))?;
            let (epoch, voted_at) = (EpochId(reader.array()?), WallMillis(reader.u64()?));
            let vote = Vote { cloud, epoch, claim: claim.clone(), scope: scope.clone(), voted_at };
            votes.push(SignedVote { vote, signatures: read_signatures(&mut reader)? });
        }
        reader.finish()?;
        Ok(Self { claim, scope, votes })
    }
}

fn write_signatures(out: Writer, signatures: &[(NodeId, Signature)]) -> Writer {
    let signed =
        |out: Writer, (node, signature): &(NodeId, Signature)| out.lp(node.as_str().as_bytes()).raw(&signature.0);
    signatures.iter().fold(out.u32(signatures.len() as u32), signed)
}

fn read_signatures(reader: &mut Reader<'_>) -> Result<Vec<(NodeId, Signature)>, WireError> {
    let mut signatures = Vec::new();
    for _ in 0..count(reader, "signatures", MAX_NODES_PER_CLOUD)? {
        signatures.push((id(NodeId::new(reader.text(NodeId::MAX_BYTES)?))?, Signature(reader.array()?)));
    }
    Ok(signatures)
}

fn count(reader: &mut Reader<'_>, what: &str, most: usize) -> Result<usize, WireError> {
    let count = reader.u32()? as usize;
    if count > most {
        return Err(WireError(format!("{count} {what}, at most {most} are allowed")));
    }
    Ok(count)
}

fn id<T>(parsed: Result<T, crate::ids::InvalidId>) -> Result<T, WireError> {
    parsed.map_err(|error| WireError(error.to_string()))
}
