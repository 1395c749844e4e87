//! The tenant's signature: without one no cloud votes. One signature covers one content, or the
//! Merkle root over a whole batch; the server derives each event's path from the batch itself.

use serde::Serialize;
use tercet_core::ids::{FedId, Hash, TenantId};
use tercet_core::signature::{PublicKey, Signature, SigningKey};
use tercet_core::tenants::{TenantSignature, batch_message};
use tercet_core::transparency::{Frontier, leaf_hash};

/// Signs in the name of one tenant of one federation, or not at all for unsigned tenants.
#[derive(Debug, Clone)]
pub struct Signer {
    fed: FedId,
    tenant: TenantId,
    key: Option<SigningKey>,
}

/// One signature over a batch, as the batch endpoint takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchSignature {
    pub key: PublicKey,
    pub signature: Signature,
}

impl Signer {
    pub fn new(fed: FedId, tenant: TenantId, key: Option<SigningKey>) -> Self {
        Self { fed, tenant, key }
    }

    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// `None` for an unsigned tenant.
    pub fn sign(&self, content: &Hash) -> Option<TenantSignature> {
        self.key.as_ref().map(|key| TenantSignature::sign(&self.fed, content, key))
    }

    /// One signature over the contents in this order; `None` for an unsigned tenant.
    pub fn sign_batch(&self, contents: &[Hash]) -> Option<BatchSignature> {
        let key = self.key.as_ref()?;
        let mut tree = Frontier::default();
        for content in contents {
            tree.append(leaf_hash(&content.0));
        }
        let message = batch_message(&self.fed, tree.size(), &tree.root());
        Some(BatchSignature { key: key.public(), signature: key.sign(&message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_core::transparency::node_hash;

    fn signer() -> Signer {
        Signer::new(FedId([3; 32]), TenantId::new("t").unwrap(), Some(SigningKey::from_seed(&[7; 32])))
    }

    #[test]
    fn a_single_signature_verifies_as_the_core_does() {
        let signature = signer().sign(&Hash([1; 32])).unwrap();
        assert!(signature.verify(&FedId([3; 32]), &Hash([1; 32])).is_ok());
        assert!(signature.verify(&FedId([4; 32]), &Hash([1; 32])).is_err());
        assert!(signature.verify(&FedId([3; 32]), &Hash([2; 32])).is_err());
    }

    #[test]
    fn a_batch_signature_covers_each_content_by_its_path() {
        let contents = [Hash([1; 32]), Hash([2; 32]), Hash([3; 32])];
        let BatchSignature { key, signature } = signer().sign_batch(&contents).unwrap();
        let leaves = contents.map(|content| leaf_hash(&content.0));
        let message = batch_message(&FedId([3; 32]), 3, &node_hash(&node_hash(&leaves[0], &leaves[1]), &leaves[2]));
        assert!(key.verify(&message, &signature).is_ok());
    }

    #[test]
    fn an_unsigned_tenant_signs_nothing() {
        let signer = Signer::new(FedId([3; 32]), TenantId::new("t").unwrap(), None);
        assert!(signer.sign(&Hash([1; 32])).is_none());
        assert!(signer.sign_batch(&[Hash([1; 32])]).is_none());
    }
}
