//! Three clouds in memory, one node each, that exchange exactly what the real federation does:
//! chunks under signed notes, bodies, evidence. A twin is a second copy of a cloud with its keys.

#![allow(dead_code)] // Each test uses its part.

use std::collections::BTreeMap;
use tercet_core::certificate::TrustBundle;
use tercet_core::command::{Command, Entry, Reply};
use tercet_core::content::{Content, TenantSecret};
use tercet_core::epochs::{self, Opening};
use tercet_core::events::{self, Receipt, Submission};
use tercet_core::evidence::{self, Evidence, Statement};
use tercet_core::fact::Fact;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, EventKey, FedId, NodeId, TenantId};
use tercet_core::mirrors::{self, ChunkOutcome};
use tercet_core::records::MemoryRecords;
use tercet_core::rejection::Rejection;
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::state::State;
use tercet_core::tenants::{self, Confirm, Tenant, TenantSignature};
use tercet_core::time::{Millis, WallMillis};
use tercet_core::transparency::{SignedNote, Verdict};

pub const NAMES: [&str; 3] = ["aws", "azure", "gcp"];

#[derive(Clone)]
pub struct Cloud {
    pub id: CloudId,
    pub key: SigningKey,
    pub records: MemoryRecords,
    pub index: u64,
    hot: Vec<(Vec<u8>, Vec<u8>)>,
}

pub struct Clouds {
    pub genesis: Genesis,
    pub fed: FedId,
    pub roots: BTreeMap<CloudId, SigningKey>,
    pub tenant_key: SigningKey,
    pub openings: Vec<Opening>,
    /// Milliseconds that passed beside one for each entry.
    pub passed: u64,
    /// By label: the cloud's name, or the name of a twin.
    pub clouds: BTreeMap<String, (Cloud, State)>,
}

pub fn id(name: &str) -> CloudId {
    CloudId::new(name.trim_end_matches("-twin")).expect("a cloud name")
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub fn opening(fed: &FedId, root: &SigningKey, cloud: &CloudId, number: u32, node: &SigningKey) -> Opening {
    let node_id = NodeId::new(format!("{cloud}-1")).unwrap();
    let keys = vec![(node_id, node.public())];
    let unsigned = Signature([0; 64]);
    let mut opening = Opening { cloud: cloud.clone(), number, keys, threshold: 1, root_signature: unsigned };
    opening.root_signature = root.sign(&opening.bytes(fed));
    opening
}

impl Default for Clouds {
    fn default() -> Self {
        Self::new([1, 1, 1], 2)
    }
}

impl Clouds {
    pub fn new(weights: [u32; 3], quorum: u32) -> Self {
        let roots: BTreeMap<CloudId, SigningKey> =
            NAMES.iter().enumerate().map(|(at, name)| (id(name), key(10 + at as u8))).collect();
        let voter = |(at, (cloud, root)): (usize, (&CloudId, &SigningKey))| Voter {
            cloud: cloud.clone(),
            weight: weights[at],
            root_key: root.public(),
        };
        let voters = roots.iter().enumerate().map(voter).collect();
        let genesis = Genesis { voters, quorum, nonce: [7; 32] };
        genesis.check().expect("a sound genesis");
        let fed = genesis.fed_id();
        let mut this =
            Self { fed, roots, tenant_key: key(99), openings: Vec::new(), passed: 0, clouds: BTreeMap::new(), genesis };
        for (at, name) in NAMES.iter().enumerate() {
            let node = key(20 + at as u8);
            this.openings.push(opening(&fed, &this.roots[&id(name)], &id(name), 0, &node));
            let state = State::new(this.genesis.clone(), id(name), format!("{name}-region"));
            let cloud = Cloud { id: id(name), key: node, records: MemoryRecords::default(), index: 0, hot: Vec::new() };
            this.clouds.insert((*name).to_string(), (cloud, state));
        }
        for (at, name) in NAMES.iter().enumerate() {
            this.must(name, Command::Epochs(epochs::Command::Open(this.openings[at].clone())));
            for opening in this.openings.clone().iter().filter(|opening| opening.cloud != id(name)) {
                this.must(name, Command::Mirrors(mirrors::Command::Introduce(opening.clone())));
            }
        }
        this.put_tenant("shop", Confirm::Auto);
        this.put_tenant("bank", Confirm::Manual);
        this
    }

    pub fn tenant(&self, name: &str, confirm: Confirm) -> Tenant {
        Tenant {
            id: TenantId::new(name).unwrap(),
            secret: TenantSecret([3; 32]),
            confirm,
            keys: vec![self.tenant_key.public()],
            unsigned: false,
            max_pending: 1000,
        }
    }

    fn put_tenant(&mut self, name: &str, confirm: Confirm) {
        for cloud in NAMES {
            self.must(cloud, Command::Tenants(tenants::Command::Put(self.tenant(name, confirm))));
        }
    }

    pub fn apply(&mut self, label: &str, command: Command) -> (Result<Reply, Rejection>, Vec<Fact>) {
        let (cloud, state) = self.clouds.get_mut(label).unwrap_or_else(|| panic!("no cloud {label}"));
        cloud.index += 1;
        let entry = Entry { at: Millis(cloud.index + self.passed), request_id: None, command };
        let applied = state.apply(cloud.index, &entry, &mut cloud.records).expect("apply does not break");
        (applied.reply, applied.facts)
    }

    pub fn must(&mut self, label: &str, command: Command) -> Reply {
        self.apply(label, command).0.expect("accepted")
    }

    /// A second copy of a cloud with its keys, under the name and -twin.
    pub fn twin(&mut self, label: &str) {
        let (cloud, state) = &self.clouds[label];
        let mut cloud = cloud.clone();
        cloud.records.0.extend(state.hot_rows());
        let state = State::load(self.genesis.clone(), cloud.id.clone(), "twin".into(), &cloud.records).unwrap();
        self.clouds.insert(format!("{label}-twin"), (cloud, state));
    }

    /// Its next epoch, and the fresh key of that.
    fn renewal(&self, label: &str) -> (Opening, SigningKey) {
        let number = self.openings.iter().filter(|opening| opening.cloud == id(label)).count() as u32;
        let node = key(50 + number as u8);
        (opening(&self.fed, &self.roots[&id(label)], &id(label), number, &node), node)
    }

    /// The cloud loses everything, and comes back with a fresh key, its new epoch not open yet.
    pub fn lose(&mut self, label: &str) {
        let (renewed, node) = self.renewal(label);
        let state = State::new(self.genesis.clone(), id(label), "restored".into());
        let cloud = Cloud { id: id(label), key: node, records: MemoryRecords::default(), index: 0, hot: Vec::new() };
        self.clouds.insert(label.to_string(), (cloud, state));
        self.introduce_all(label);
        for (name, confirm) in [("shop", Confirm::Auto), ("bank", Confirm::Manual)] {
            self.must(label, Command::Tenants(tenants::Command::Put(self.tenant(name, confirm))));
        }
        self.openings.push(renewed);
    }

    /// The lost cloud opens its new epoch.
    pub fn reopen(&mut self, label: &str) {
        let renewed = self.openings.iter().rev().find(|opening| opening.cloud == id(label)).expect("it was lost");
        self.must(label, Command::Epochs(epochs::Command::Open(renewed.clone())));
        for opening in self.openings.clone() {
            self.must(label, Command::Mirrors(mirrors::Command::Introduce(opening)));
        }
    }

    /// The cloud opens a new epoch with a fresh key and loses nothing.
    pub fn rotate(&mut self, label: &str) {
        let (renewed, node) = self.renewal(label);
        self.openings.push(renewed);
        self.clouds.get_mut(label).expect("a cloud").0.key = node;
        self.reopen(label);
    }

    pub fn introduce_all(&mut self, label: &str) {
        for opening in self.openings.clone().into_iter().filter(|opening| opening.cloud != id(label)) {
            self.must(label, Command::Mirrors(mirrors::Command::Introduce(opening)));
        }
    }

    pub fn content(&self, tenant: &str, event: &str, payload: &str) -> Content {
        Content {
            tenant: TenantId::new(tenant).unwrap(),
            key: EventKey::new("", event).unwrap(),
            attributes: Vec::new(),
            content_type: "application/json".into(),
            payload: payload.as_bytes().to_vec(),
            supersedes: None,
        }
    }

    pub fn submit(&mut self, label: &str, tenant: &str, event: &str, payload: &str) -> Result<Receipt, Rejection> {
        let content = self.content(tenant, event, payload);
        let signature = Some(TenantSignature::sign(&self.fed, &content.hash(), &self.tenant_key));
        let items = vec![Submission { content, signature }];
        let submit = Command::Events(events::Command::Submit { created_at: WallMillis(1_000), items });
        match self.apply(label, submit).0? {
            Reply::Submitted(mut receipts) => receipts.remove(0),
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn decide(&mut self, label: &str, event: &str, payload: &str, verdict: Verdict) -> Result<Reply, Rejection> {
        let (tenant, key) = (TenantId::new("bank").unwrap(), EventKey::new("", event).unwrap());
        let content = self.content("bank", event, payload).hash();
        self.apply(label, Command::Events(events::Command::Decide { tenant, key, content, verdict })).0
    }

    /// The cloud's current note under its node's signature.
    pub fn note(&self, label: &str) -> Option<SignedNote> {
        let (cloud, state) = &self.clouds[label];
        let body = state.note_body()?;
        let node = NodeId::new(format!("{}-1", cloud.id)).unwrap();
        let signatures = vec![body.sign(&node, &cloud.key)];
        Some(SignedNote { body, signatures })
    }

    /// Sends a log from where the receiver's mirror ends. `via` serves it: its own log, or its mirror.
    pub fn send_log(&mut self, log: &CloudId, via: &str, to: &str) -> Option<ChunkOutcome> {
        let (from, serving) = (&self.clouds[via], &self.clouds[to].1);
        let note = if from.0.id == *log { self.note(via) } else { from.1.note(log).cloned() }?;
        let epoch = note.body.origin.epoch;
        let have = serving.log_size(log, &epoch).unwrap_or(0);
        let chunk = from.1.log_chunk(&from.0.records, log, have.min(note.body.size), &note).unwrap()?;
        self.ingest(to, chunk)
    }

    pub fn ingest(&mut self, to: &str, chunk: mirrors::LogChunk) -> Option<ChunkOutcome> {
        let ingest = mirrors::Command::Ingest { chunks: vec![chunk], bodies: Vec::new() };
        match self.apply(to, Command::Mirrors(ingest)).0 {
            Ok(Reply::Ingested(mut outcomes)) => outcomes.pop(),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Sends bodies that the receiver misses, and evidence that it does not have.
    pub fn send_rest(&mut self, via: &str, to: &str) -> bool {
        let missing = self.clouds[to].1.missing_bodies(1000);
        let (from, state) = &self.clouds[via];
        let bodies = state.bodies(&from.records, &missing).unwrap();
        let proofs = state.evidence(&from.records).unwrap();
        self.must(to, Command::Mirrors(mirrors::Command::Ingest { chunks: Vec::new(), bodies }));
        let mut news = self.clouds[to].1.missing_bodies(1000) != missing;
        for proof in proofs {
            if !self.clouds[to].1.has_evidence(&proof.id()) {
                news = true;
                self.must(to, Command::Evidence(evidence::Command::Accuse(Box::new(proof))));
            }
        }
        news
    }

    /// Everything that `from` has, for `to`: its own log, its mirrors, bodies, evidence.
    pub fn send(&mut self, from: &str, to: &str) -> bool {
        let mut news = false;
        for log in NAMES.map(id) {
            if log == self.clouds[to].0.id && !self.clouds[to].1.is_recovering() {
                continue;
            }
            // A convicted cloud's log is taken by detour only by who is behind: its own connection may
            // well be up, and bring a history that fits.
            let size = |label: &str| self.clouds[label].1.head(&log).map_or(0, |head| head.size);
            let detour = !self.clouds[to].1.is_flagged(&log) || size(to) < size(from);
            if log != self.clouds[from].0.id && !detour {
                continue;
            }
            let outcome = self.send_log(&log, from, to);
            news |= matches!(outcome, Some(ChunkOutcome::Extended { .. }));
        }
        news |= self.investigate(from, to);
        news |= self.send_past(from, to);
        for chunk in self.clouds[from].1.stray_notes() {
            let before = self.clouds[to].1.stray_notes();
            self.ingest(to, chunk);
            news |= self.clouds[to].1.stray_notes() != before;
        }
        news |= self.send_testimony(from, to);
        self.send_rest(from, to) || news
    }

    /// Two clouds compare what a third one showed each of them, and prove a fork where they differ.
    pub fn investigate(&mut self, from: &str, to: &str) -> bool {
        let mut proofs = Vec::new();
        for log in NAMES.map(id) {
            if let (Some(mut a), Some(mut b)) = (self.leaves(from, &log), self.leaves(to, &log)) {
                let fork = a.iter().zip(&b).position(|(a, b)| a.leaf != b.leaf);
                proofs.extend(fork.map(|at| Evidence::fork_at_index(a.swap_remove(at), b.swap_remove(at))));
            }
        }
        proofs.retain(|proof| !self.clouds[to].1.has_evidence(&proof.id()));
        for proof in &proofs {
            self.must(to, Command::Evidence(evidence::Command::Accuse(Box::new(proof.clone()))));
        }
        !proofs.is_empty()
    }

    fn leaves(&self, label: &str, log: &CloudId) -> Option<Vec<Statement>> {
        let (cloud, state) = &self.clouds[label];
        let note = state.note(log)?;
        let statement = |index| Statement {
            note: note.clone(),
            index,
            leaf: state.leaf(&cloud.records, log, index).unwrap().expect("below the note"),
            proof: state.proof(&cloud.records, log, index, note.body.size).unwrap().expect("below the note"),
        };
        Some((0..note.body.size).map(statement).collect())
    }

    /// Logs of closed epochs, for a cloud that must learn its own past again, or what others adopted.
    fn send_past(&mut self, from: &str, to: &str) -> bool {
        let mut news = false;
        for (log, epoch, _, _) in self.clouds[from].1.logs() {
            let (sender, state) = &self.clouds[from];
            let Some(note) = state.note_in(&log, &epoch).cloned() else { continue };
            let Some(have) = self.clouds[to].1.log_size(&log, &epoch) else { continue };
            let receiver = &self.clouds[to].1;
            let current = receiver.opening(&log).map(|opening| opening.id(&self.fed));
            let lost = log == self.clouds[to].0.id && receiver.is_recovering();
            let past = log != self.clouds[to].0.id && current != Some(epoch);
            if !(lost || past) || have > note.body.size {
                continue;
            }
            let chunk = state.log_chunk(&sender.records, &log, have, &note).unwrap().expect("it holds the log");
            news |= matches!(self.ingest(to, chunk), Some(ChunkOutcome::Extended { .. }));
        }
        news
    }

    pub fn send_testimony(&mut self, from: &str, to: &str) -> bool {
        let wanted = self.clouds[to].1.wanted_testimony(1000);
        let (sender, state) = &self.clouds[from];
        let statements = state.testimony(&sender.records, &wanted).unwrap();
        let mut news = false;
        for statement in statements {
            let testify = evidence::Command::Testify(Box::new(statement));
            let knows = |state: &State| (state.evidence_ids().len(), state.wanted_testimony(1000));
            let before = knows(&self.clouds[to].1);
            let _ = self.apply(to, Command::Evidence(testify));
            news |= before != knows(&self.clouds[to].1);
        }
        news
    }

    /// Lets these talk until nobody has news.
    pub fn exchange(&mut self, labels: &[&str]) {
        for _ in 0..100 {
            let mut news = false;
            for from in labels {
                for to in labels.iter().filter(|to| id(to) != id(from)) {
                    news |= self.send(from, to);
                }
            }
            if !news {
                return;
            }
        }
        panic!("the clouds never fall silent");
    }

    pub fn trust(&self) -> TrustBundle {
        TrustBundle { version: 1, genesis: self.genesis.clone(), openings: self.openings.clone() }
    }

    /// Level, marks and votes of an event as one cloud sees it.
    pub fn show(&self, label: &str, tenant: &str, event: &str) -> String {
        let (cloud, state) = &self.clouds[label];
        let (tenant, key) = (TenantId::new(tenant).unwrap(), EventKey::new("", event).unwrap());
        let Some(view) = state.event(&cloud.records, &tenant, &key).unwrap() else { return "unknown".into() };
        let record = view.record;
        let mut out = format!("{:?}", record.level).to_uppercase();
        let marks = record.marks;
        for (set, name) in [
            (marks.review, "REVIEW"),
            (marks.conflict, "CONFLICT"),
            (marks.dissent, "dissent"),
            (marks.actionable, "actionable"),
        ] {
            if set {
                out += &format!(" {name}");
            }
        }
        let mut votes: Vec<String> = record
            .votes
            .iter()
            .map(|vote| {
                let by: Vec<String> = state.genesis().names(state.audited_by(vote)).map(ToString::to_string).collect();
                let content = view
                    .bodies
                    .iter()
                    .find(|body| {
                        state.tenant(&tenant).unwrap().secret.salted_content(&body.content.hash()) == vote.vote.content
                    })
                    .map_or("?".into(), |body| String::from_utf8_lossy(&body.content.payload).into_owned());
                let verdict = if vote.verdict() == Verdict::Confirm { "confirms" } else { "rejects" };
                format!(
                    "{} {verdict} {content} (audited by {})",
                    vote.cloud,
                    if by.is_empty() { "nobody".into() } else { by.join(", ") }
                )
            })
            .collect();
        votes.sort();
        for vote in votes {
            out += &format!("\n    {vote}");
        }
        out
    }
}
