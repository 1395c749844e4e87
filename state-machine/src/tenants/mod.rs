//! Tenants: namespaces with a policy, a quota and the keys that may speak for their events.

use crate::command::Reply;
use crate::content::TenantSecret;
use crate::fact::Fact;
use crate::ids::{FedId, Hash, TenantId};
use crate::ledger::keys;
use crate::records::Broken;
use crate::rejection::Rejection;
use crate::signature::{PublicKey, Signature, SignatureError, SigningKey};
use crate::state::Tx;
use crate::transparency::root_from_inclusion;
use crate::wire::{Writer, domain};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The most keys of one tenant.
pub const MAX_KEYS: usize = 16;
/// The most tenants of a federation.
pub const MAX_TENANTS: usize = 10_000;
/// The most events that one batch signature covers.
pub const MAX_BATCH: u64 = 1 << 20;

/// How a cloud comes to its vote on a tenant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirm {
    /// Each cloud confirms what it holds and what is signed.
    Auto,
    /// A cloud votes only when its operator says so.
    Manual,
}

/// A tenant as every cloud must know it. Secret and id never change; keys can be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub id: TenantId,
    pub secret: TenantSecret,
    pub confirm: Confirm,
    /// Keys whose signature on a content lets clouds vote on it. Empty only if `unsigned`.
    pub keys: Vec<PublicKey>,
    /// Asked for explicitly: without signatures any one cloud can take or block this tenant's ids.
    pub unsigned: bool,
    /// The most events of this tenant that may wait for FINAL in one cloud.
    pub max_pending: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a tenant, or changes its policy and keys.
    Put(Tenant),
}

/// The tenant's proof that it wants a content: one signature for it alone, or one over the Merkle
/// root of a batch and the path to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TenantSignature {
    Single { key: PublicKey, signature: Signature },
    Batch { key: PublicKey, signature: Signature, index: u64, size: u64, path: Vec<Hash> },
}

/// What is signed for one content.
pub fn single_message(fed: &FedId, content: &Hash) -> Vec<u8> {
    Writer::new(domain::SUBMIT).raw(&fed.0).raw(&content.0).finish()
}

/// What is signed for a batch: the RFC 6962 root over the content hashes as leaves.
pub fn batch_message(fed: &FedId, size: u64, root: &Hash) -> Vec<u8> {
    Writer::new(domain::SUBMIT_BATCH).raw(&fed.0).u64(size).raw(&root.0).finish()
}

impl TenantSignature {
    pub fn sign(fed: &FedId, content: &Hash, key: &SigningKey) -> Self {
        Self::Single { key: key.public(), signature: key.sign(&single_message(fed, content)) }
    }

    pub fn key(&self) -> &PublicKey {
        match self {
            Self::Single { key, .. } | Self::Batch { key, .. } => key,
        }
    }

    pub fn signature(&self) -> &Signature {
        match self {
            Self::Single { signature, .. } | Self::Batch { signature, .. } => signature,
        }
    }

    /// The message that the signature must cover for this content; `None` if the path is malformed.
    /// Items of one batch share one message, so a verifier may remember it.
    pub fn message(&self, fed: &FedId, content: &Hash) -> Option<Vec<u8>> {
        match self {
            Self::Single { .. } => Some(single_message(fed, content)),
            Self::Batch { index, size, path, .. } => {
                if *size > MAX_BATCH {
                    return None;
                }
                let leaf = crate::transparency::leaf_hash(&content.0);
                root_from_inclusion(leaf, *index, *size, path).map(|root| batch_message(fed, *size, &root))
            }
        }
    }

    pub fn verify(&self, fed: &FedId, content: &Hash) -> Result<(), SignatureError> {
        let message = self.message(fed, content).ok_or(SignatureError::BadSignature)?;
        self.key().verify(&message, self.signature())
    }
}

impl Tenant {
    /// Whether the tenant's policy admits the content with this signature (cost: one verification).
    pub fn admits(
        &self,
        fed: &FedId,
        content: &Hash,
        signature: Option<&TenantSignature>,
    ) -> Result<(), SignatureError> {
        match signature {
            None if self.unsigned => Ok(()),
            None => Err(SignatureError::BadSignature),
            Some(signature) if !self.keys.contains(signature.key()) => Err(SignatureError::BadKey),
            Some(signature) => signature.verify(fed, content),
        }
    }
}

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    let Command::Put(tenant) = command;
    if let Err(rejection) = check_put(tx, tenant) {
        return Ok(Err(rejection));
    }
    tx.records.put(keys::tenant(&tenant.id), crate::codec::encode(tenant));
    tx.state.tenants.insert(tenant.id.clone(), Arc::new(tenant.clone()));
    tx.facts.push(Fact::TenantPut { tenant: tenant.id.clone() });
    Ok(Ok(Reply::Done))
}

fn check_put(tx: &Tx<'_>, tenant: &Tenant) -> Result<(), Rejection> {
    let keys_ok = tenant.keys.len() <= MAX_KEYS && tenant.keys.is_empty() == tenant.unsigned;
    if !keys_ok {
        return Err(Rejection::BadTenantKeys);
    }
    match tx.state.tenants.get(&tenant.id) {
        Some(known) if known.secret != tenant.secret || known.unsigned != tenant.unsigned => {
            Err(Rejection::TenantFixed(tenant.id.clone()))
        }
        None if tx.state.tenants.len() >= MAX_TENANTS => Err(Rejection::TooManyTenants),
        _ => Ok(()),
    }
}
