//! What does not change while a model runs: the three clouds, their keys for every epoch that they
//! may open, one tenant, and the contents that clients submit. Keys come from fixed seeds.

use std::collections::BTreeMap;
use tercet_core::command::Command;
use tercet_core::content::{Content, TenantSecret};
use tercet_core::epochs::Opening;
use tercet_core::events::{self, Submission};
use tercet_core::genesis::{CLOUDS, Genesis, Voter};
use tercet_core::ids::{CloudId, EpochId, EventKey, FedId, NodeId, TenantId};
use tercet_core::leases::{self, SignedVote};
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::tenants::{self, Confirm, Tenant, TenantSignature};
use tercet_core::time::WallMillis;
use tercet_core::transparency::{NoteBody, SignedNote};

/// The most epochs of one cloud: the first, and two after losses or rotations.
pub const MAX_EPOCHS: usize = 3;

pub const NAMES: [&str; CLOUDS] = ["aws", "azure", "gcp"];

pub struct Federation {
    pub genesis: Genesis,
    pub fed: FedId,
    /// By cloud, then by number.
    pub openings: [Vec<Opening>; CLOUDS],
    keys: BTreeMap<(CloudId, [u8; 16]), SigningKey>,
    tenant_key: SigningKey,
    /// Clients' submissions by event, then by content.
    submissions: Vec<Vec<Command>>,
}

fn key(seed: usize) -> SigningKey {
    SigningKey::from_seed(&[seed as u8; 32])
}

pub fn id(cloud: usize) -> CloudId {
    CloudId::new(NAMES[cloud]).expect("a valid name")
}

pub fn tenant_id() -> TenantId {
    TenantId::new("shop").expect("a valid name")
}

pub fn event_key(event: usize) -> EventKey {
    EventKey::new("", format!("e{event}")).expect("a valid key")
}

/// Contents are called A, B, C.
pub fn content_name(content: usize) -> char {
    char::from(b'A' + content as u8)
}

impl Federation {
    pub fn new(events: usize, contents: usize) -> Self {
        let root = |cloud: usize| key(10 + cloud);
        let voter = |cloud| Voter { cloud: id(cloud), weight: 1, root_key: root(cloud).public() };
        let genesis = Genesis { voters: (0..CLOUDS).map(voter).collect(), quorum: 2, nonce: [7; 32] };
        genesis.check().expect("a sound genesis");
        let fed = genesis.fed_id();
        let mut keys = BTreeMap::new();
        let openings = [0, 1, 2].map(|cloud| {
            let open = |number: usize| {
                let node = key(20 + 10 * cloud + number);
                let opening = opening(&fed, &root(cloud), cloud, number as u32, &node);
                keys.insert((id(cloud), opening.id(&fed).0), node);
                opening
            };
            (0..MAX_EPOCHS).map(open).collect()
        });
        let mut this = Self { genesis, fed, openings, keys, tenant_key: key(99), submissions: Vec::new() };
        let submit = |event| (0..contents).map(|content| this.submission(event, content)).collect();
        this.submissions = (0..events).map(submit).collect();
        this
    }

    pub fn submit(&self, event: usize, content: usize) -> Command {
        self.submissions[event][content].clone()
    }

    fn submission(&self, event: usize, content: usize) -> Command {
        let content = Content {
            tenant: tenant_id(),
            key: event_key(event),
            attributes: Vec::new(),
            content_type: "application/json".into(),
            payload: format!("\"{}\"", content_name(content)).into_bytes(),
            supersedes: None,
        };
        let signature = Some(TenantSignature::sign(&self.fed, &content.hash(), &self.tenant_key));
        let items = vec![Submission { content, signature }];
        Command::Events(events::Command::Submit { created_at: WallMillis(1_000), items })
    }

    pub fn put_tenant(&self) -> Command {
        Command::Tenants(tenants::Command::Put(Tenant {
            id: tenant_id(),
            secret: TenantSecret([3; 32]),
            confirm: Confirm::Auto,
            keys: vec![self.tenant_key.public()],
            unsigned: false,
            max_pending: 1000,
        }))
    }

    /// A cloud's vote on a lease, as its node signs it.
    pub fn sign_lease_vote(&self, vote: leases::Vote) -> SignedVote {
        let key = &self.keys[&(vote.cloud.clone(), vote.epoch.0)];
        SignedVote { signatures: vec![(node(&vote.cloud), vote.sign(&self.fed, key))], vote }
    }

    /// A cloud's first epoch.
    pub fn epoch(&self, cloud: usize) -> EpochId {
        self.openings[cloud][0].id(&self.fed)
    }

    /// The note as the cloud's node of that epoch signs it.
    pub fn sign(&self, body: NoteBody) -> SignedNote {
        let key = &self.keys[&(body.origin.cloud.clone(), body.origin.epoch.0)];
        let signatures = vec![body.sign(&node(&body.origin.cloud), key)];
        SignedNote { body, signatures }
    }
}

fn node(cloud: &CloudId) -> NodeId {
    NodeId::new(format!("{cloud}-1")).expect("a valid name")
}

fn opening(fed: &FedId, root: &SigningKey, cloud: usize, number: u32, key: &SigningKey) -> Opening {
    let cloud = id(cloud);
    let keys = vec![(node(&cloud), key.public())];
    let mut opening = Opening { cloud, number, keys, threshold: 1, root_signature: Signature([0; 64]) };
    opening.root_signature = root.sign(&opening.bytes(fed));
    opening
}
