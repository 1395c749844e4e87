//! A small federation with keys from fixed seeds, and logs that its clouds sign: what the tests of
//! the published formats are made of. Everything here is deterministic.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use tercet_core::certificate::{Certificate, Disclosed, InclusionProof, ProvenVote, TrustBundle};
use tercet_core::content::{Content, Envelope, TenantSecret};
use tercet_core::epochs::Opening;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, EventKey, FedId, Hash, NodeId, TenantId};
use tercet_core::leases::{self, Claim, Scope, SignedVote};
use tercet_core::records::Broken;
use tercet_core::signature::{PublicKey, Signature, SigningKey};
use tercet_core::time::WallMillis;
use tercet_core::transparency::{
    Audit, Frontier, Leaf, Nodes, NoteBody, Open, Origin, SignedNote, Verdict, Vote, inclusion_proof, leaf_hash,
    root_at,
};
use tercet_core::wire::sha256;

pub fn seeded(name: &str) -> SigningKey {
    SigningKey::from_seed(&sha256(format!("tercet test vector key {name}").as_bytes()).0)
}

pub fn cloud(name: &str) -> CloudId {
    CloudId::new(name).expect("a valid name")
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

/// The three clouds with three nodes each, a note of two signatures.
#[derive(Clone)]
pub struct Federation {
    pub genesis: Genesis,
    pub openings: Vec<Opening>,
}

impl Federation {
    pub fn new() -> Self {
        Self::weighted([1, 1, 1], 2)
    }

    /// Weights of aws, azure and gcp.
    pub fn weighted(weights: [u32; 3], quorum: u32) -> Self {
        let voters = ["aws", "azure", "gcp"].into_iter().zip(weights).map(|(name, weight)| Voter {
            cloud: cloud(name),
            weight,
            root_key: seeded(&format!("root {name}")).public(),
        });
        let genesis = Genesis { voters: voters.collect(), quorum, nonce: sha256(b"tercet test vector nonce").0 };
        genesis.check().expect("a valid genesis");
        let openings = genesis.clouds().map(|cloud| opening(&genesis.fed_id(), cloud.as_str(), 0)).collect();
        Self { genesis, openings }
    }

    pub fn fed(&self) -> FedId {
        self.genesis.fed_id()
    }

    pub fn opening(&self, name: &str) -> &Opening {
        self.openings.iter().find(|opening| opening.cloud.as_str() == name).expect("one of the three clouds")
    }

    /// Signs with the first nodes of the cloud, as many as its epoch asks for.
    pub fn sign(&self, body: NoteBody) -> SignedNote {
        let opening = self.openings.iter().find(|opening| Origin::of(&self.fed(), opening) == body.origin);
        let opening = opening.expect("an epoch of this federation");
        self.sign_by(body, opening.keys.iter().take(opening.threshold as usize).map(|(node, _)| node))
    }

    /// A cloud's vote for this claim.
    pub fn lease_vote(&self, name: &str, claim: &Claim, scope: &Scope, voted_at: WallMillis) -> SignedVote {
        let (fed, opening) = (self.fed(), self.opening(name));
        let (cloud, epoch) = (opening.cloud.clone(), opening.id(&fed));
        let vote = leases::Vote { cloud, epoch, claim: claim.clone(), scope: scope.clone(), voted_at };
        let sign = |(node, _): &(NodeId, PublicKey)| (node.clone(), vote.sign(&fed, &seeded(&format!("{node} 0"))));
        SignedVote { signatures: opening.keys.iter().take(opening.threshold as usize).map(sign).collect(), vote }
    }

    pub fn sign_by<'a>(&self, body: NoteBody, nodes: impl IntoIterator<Item = &'a NodeId>) -> SignedNote {
        let signatures = nodes.into_iter().map(|node| body.sign(node, &seeded(&format!("{node} 0")))).collect();
        SignedNote { body, signatures }
    }
}

pub fn opening(fed: &FedId, name: &str, number: u32) -> Opening {
    let keys = (1..=3).map(|n| {
        let id = format!("{name}-{n}");
        (node(&id), seeded(&format!("{id} {number}")).public())
    });
    let mut opening =
        Opening { cloud: cloud(name), number, keys: keys.collect(), threshold: 2, root_signature: Signature([0; 64]) };
    opening.root_signature = seeded(&format!("root {name}")).sign(&opening.bytes(fed));
    opening
}

/// One cloud's log.
#[derive(Clone)]
pub struct Log {
    pub origin: Origin,
    pub leaves: Vec<Leaf>,
    frontier: Frontier,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl Nodes for Log {
    fn node(&self, level: u8, index: u64) -> Result<Hash, Broken> {
        self.nodes.get(&(level, index)).copied().ok_or_else(|| Broken(format!("no node ({level}, {index})")))
    }
}

impl Log {
    /// A log with its leaf 0.
    pub fn new(federation: &Federation, name: &str) -> Self {
        let opening = federation.opening(name);
        let fed = federation.fed();
        let origin = Origin::of(&fed, opening);
        let mut log = Self { origin, leaves: Vec::new(), frontier: Frontier::default(), nodes: BTreeMap::new() };
        log.push(Leaf::Open(Open {
            opening: sha256(&opening.bytes(&fed)),
            config: 0,
            config_hash: Hash(fed.0),
            predecessor: None,
        }));
        log
    }

    pub fn push(&mut self, leaf: Leaf) -> u64 {
        self.frontier.append_to(leaf_hash(&leaf.bytes()), |level, index, hash| {
            self.nodes.insert((level, index), hash);
        });
        self.leaves.push(leaf);
        self.size() - 1
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub fn root(&self, size: u64) -> Hash {
        root_at(self, size).expect("every node is in memory")
    }

    pub fn audit(&self) -> Audit {
        self.audit_at(self.size())
    }

    pub fn audit_at(&self, size: u64) -> Audit {
        Audit { cloud: self.origin.cloud.clone(), epoch: self.origin.epoch, size, root: self.root(size) }
    }

    pub fn body(&self, audits: Vec<Audit>) -> NoteBody {
        self.body_at(self.size(), audits)
    }

    pub fn body_at(&self, size: u64, audits: Vec<Audit>) -> NoteBody {
        NoteBody { origin: self.origin.clone(), size, root: self.root(size), audits, closings: Vec::new() }
    }
}

pub fn secret() -> TenantSecret {
    TenantSecret(sha256(b"tercet test vector tenant secret").0)
}

pub fn content(id: &str) -> Content {
    Content {
        tenant: TenantId::new("default").expect("a valid name"),
        key: EventKey::new("/orders", id).expect("a valid key"),
        attributes: vec![("subject".into(), "order 17".into()), ("type".into(), "order.placed".into())],
        content_type: "application/json".into(),
        payload: br#"{"amount":12,"currency":"EUR"}"#.to_vec(),
        supersedes: None,
    }
}

pub fn envelope(name: &str) -> Envelope {
    Envelope {
        origin_cloud: cloud(name),
        logical_clock: 41,
        region: "europe-west1".into(),
        created_at: WallMillis(1_767_225_600_000),
    }
}

pub fn vote(fed: &FedId, content: &Content, envelope: &Envelope) -> Vote {
    let (secret, hash) = (secret(), content.hash());
    Vote {
        config: 0,
        tag: secret.tag(fed, &content.tenant, &content.key),
        verdict: Verdict::Confirm,
        content: secret.salted_content(&hash),
        envelope: secret.salted_envelope(&envelope.hash(&hash)),
    }
}

/// Three logs with an event in them, what each has audited of the others, and the notes that say so.
pub struct Scene {
    pub federation: Federation,
    pub logs: BTreeMap<&'static str, Log>,
    /// Where each cloud's vote on the event stands.
    pub votes: BTreeMap<&'static str, u64>,
    pub content: Content,
    pub envelope: Envelope,
    /// `(by, of)` and up to which size.
    pub audits: BTreeMap<(&'static str, &'static str), u64>,
}

pub const CLOUDS: [&str; 3] = ["aws", "azure", "gcp"];

impl Scene {
    /// gcp accepted the event; these clouds voted on it. Every log holds other votes before and after.
    pub fn voted(federation: Federation, voters: &[&'static str]) -> Self {
        let fed = federation.fed();
        let (content, envelope) = (content("a-1"), envelope("gcp"));
        let mut logs: BTreeMap<_, _> = CLOUDS.into_iter().map(|name| (name, Log::new(&federation, name))).collect();
        let mut votes = BTreeMap::new();
        for (at, (name, log)) in logs.iter_mut().enumerate() {
            let filler = |n: usize| Leaf::Vote(vote(&fed, &self::content(&format!("{name}-{n}")), &envelope));
            for n in 0..=at {
                log.push(filler(n));
            }
            if voters.contains(name) {
                votes.insert(*name, log.push(Leaf::Vote(vote(&fed, &content, &envelope))));
            }
            for n in 10..12 {
                log.push(filler(n));
            }
        }
        Self { federation, logs, votes, content, envelope, audits: BTreeMap::new() }
    }

    /// `by` audits `of` up to one leaf before its end.
    pub fn audit(mut self, by: &'static str, of: &'static str) -> Self {
        let size = self.logs[of].size() - 1;
        self.audits.insert((by, of), size);
        self
    }

    pub fn all_audited(self) -> Self {
        let pairs = CLOUDS.into_iter().flat_map(|by| CLOUDS.map(|of| (by, of)));
        pairs.filter(|(by, of)| by != of).fold(self, |scene, (by, of)| scene.audit(by, of))
    }

    pub fn note(&self, name: &str) -> SignedNote {
        let audits = self.audits.iter().filter(|((by, _), _)| *by == name);
        let body = self.logs[name].body(audits.map(|((_, of), size)| self.logs[of].audit_at(*size)).collect());
        self.federation.sign(body)
    }

    pub fn notes(&self) -> Vec<SignedNote> {
        CLOUDS.map(|name| self.note(name)).to_vec()
    }

    pub fn proven(&self, name: &str) -> ProvenVote {
        let (log, index) = (&self.logs[name], self.votes[name]);
        let audited = self.audits.iter().filter(|((_, of), _)| *of == name).map(|(_, size)| *size);
        let sizes: BTreeSet<u64> = audited.chain([log.size()]).filter(|size| *size > index).collect();
        let proofs = sizes.into_iter().map(|size| InclusionProof {
            size,
            path: inclusion_proof(log, index, size).expect("every node is in memory"),
        });
        let Leaf::Vote(vote) = log.leaves[index as usize].clone() else { panic!("a vote stands there") };
        let (cloud, epoch) = (log.origin.cloud.clone(), log.origin.epoch);
        ProvenVote { cloud, epoch, index, vote, proofs: proofs.collect() }
    }

    pub fn disclosed(&self) -> Disclosed {
        Disclosed::new(self.content.clone(), self.envelope.clone(), &secret())
    }

    pub fn certificate(&self) -> Option<Certificate> {
        let votes: Vec<_> = self.votes.keys().map(|name| self.proven(name)).collect();
        Certificate::build(&self.federation.genesis, &self.disclosed(), &self.notes(), &votes)
    }

    pub fn trust(&self) -> TrustBundle {
        TrustBundle::new(self.federation.genesis.clone(), self.federation.openings.clone())
    }
}
