//! What is verified of another cloud's messages before anything is proposed: note signatures and
//! tenant signatures. Apply trusts the leader for exactly these, and checks roots itself. Long work
//! is cut into slices, with a yield between, so that nothing else waits for it.

use super::Shared;
use super::board::Stats;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tercet_core::events::{Body, PackedBody};
use tercet_core::ids::{CloudId, Hash, TenantId};
use tercet_core::mirrors::{LogChunk, MAX_BODIES, MAX_CHUNK_LEAVES};
use tercet_core::mutant;
use tercet_core::records::Broken;
use tercet_core::tenants::Tenant;
use tercet_core::transparency::SignedNote;
use tercet_core::wire::Writer;

/// Signature verifications between two yields.
const SLICE: usize = 4;
/// Tenant signatures remembered as valid: a batch signature stands beside each of its events.
const MAX_SEEN: usize = 1024;
/// The longest consistency proof: a log has fewer than 2^63 leaves.
const MAX_PROOF: usize = 64;
/// The most audits and closings of one note: clouds change epochs rarely.
const MAX_NOTE_LINES: usize = 256;

/// What verification made of a chunk.
pub(super) enum Checked {
    /// Worth proposing; bodies that are not admitted are gone from it.
    Good(Box<LogChunk>),
    /// Nothing in it is news.
    Known,
    UnknownEpoch,
    /// Signed by its cloud, and not the history that is held here.
    Contradiction(Box<SignedNote>),
    Bad(String),
}

pub(super) struct Verifier {
    /// The note verified last, by cloud: many chunks of a catch-up come under one.
    notes: BTreeMap<CloudId, SignedNote>,
    seen: BTreeSet<Hash>,
    seen_order: VecDeque<Hash>,
}

impl Verifier {
    pub fn new() -> Self {
        Self { notes: BTreeMap::new(), seen: BTreeSet::new(), seen_order: VecDeque::new() }
    }

    pub async fn chunk(&mut self, shared: &Shared, mut chunk: LogChunk) -> Result<Checked, Broken> {
        let origin = &chunk.note.body.origin;
        if origin.fed != shared.fed || origin.cloud != chunk.cloud || origin.epoch != chunk.epoch {
            return Ok(Checked::Bad("its note is of another log".into()));
        }
        let oversized = chunk.leaves.len() > MAX_CHUNK_LEAVES
            || chunk.bodies.len() > MAX_BODIES
            || chunk.consistency.len() > MAX_PROOF
            || chunk.note.body.audits.len() + chunk.note.body.closings.len() > MAX_NOTE_LINES;
        if oversized {
            return Ok(Checked::Bad("it exceeds a chunk's limits".into()));
        }
        let (opening, have, known) = shared.replica.read(|view| {
            let known = view.state.note_in(&chunk.cloud, &chunk.epoch).is_some_and(|note| note.body == chunk.note.body);
            let have = view.state.log_size(&chunk.cloud, &chunk.epoch).unwrap_or(0);
            Ok((view.state.opening_of(&chunk.epoch).cloned(), have, known))
        })?;
        let Some(opening) = opening.filter(|opening| opening.cloud == chunk.cloud) else {
            return Ok(Checked::UnknownEpoch);
        };
        let end = chunk.first_index + chunk.leaves.len() as u64;
        if known && end <= have && chunk.bodies.is_empty() {
            return Ok(Checked::Known);
        }
        if self.notes.get(&chunk.cloud) != Some(&chunk.note) {
            let signed = chunk.note.verify(&shared.fed, &opening);
            if let Err(error) = signed
                && !mutant!(SignatureCheckSkipped)
            {
                return Ok(Checked::Bad(error.to_string()));
            }
            self.notes.insert(chunk.cloud.clone(), chunk.note.clone());
        }
        if contradicts(shared, &chunk.note)? {
            return Ok(Checked::Contradiction(Box::new(chunk.note)));
        }
        chunk.bodies = self.bodies(shared, std::mem::take(&mut chunk.bodies)).await?;
        Ok(Checked::Good(Box::new(chunk)))
    }

    /// Keeps the bodies that their tenants admit.
    pub async fn bodies(&mut self, shared: &Shared, bodies: Vec<PackedBody>) -> Result<Vec<PackedBody>, Broken> {
        let mut tenants: BTreeMap<TenantId, Option<Tenant>> = BTreeMap::new();
        let mut admitted = Vec::with_capacity(bodies.len());
        let mut verified = 0;
        for packed in bodies {
            let Ok(body) = packed.unpack() else {
                Stats::add(&shared.board.stats.bodies_dropped);
                continue;
            };
            if !tenants.contains_key(&body.content.tenant) {
                let tenant = shared.replica.read(|view| Ok(view.state.tenant(&body.content.tenant).cloned()))?;
                tenants.insert(body.content.tenant.clone(), tenant);
            }
            let tenant = tenants.get(&body.content.tenant).and_then(Option::as_ref);
            if tenant.is_some_and(|tenant| self.admits(shared, tenant, &body, &mut verified)) {
                admitted.push(packed);
            } else {
                Stats::add(&shared.board.stats.bodies_dropped);
            }
            if verified >= SLICE {
                verified = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(admitted)
    }

    fn admits(&mut self, shared: &Shared, tenant: &Tenant, body: &Body, verified: &mut usize) -> bool {
        if body.content.check().is_err() {
            return false;
        }
        if mutant!(VoteWithoutTenantSignature) {
            return true;
        }
        let hash = body.content.hash();
        let Some(signature) = &body.signature else { return tenant.unsigned };
        if !tenant.keys.contains(signature.key()) {
            return false;
        }
        let Some(message) = signature.message(&shared.fed, &hash) else { return false };
        let exact =
            Writer::default().raw(&signature.key().to_bytes()).raw(&signature.signature().0).lp(&message).hash();
        if self.seen.contains(&exact) {
            return true;
        }
        *verified += 1;
        let valid = signature.key().verify(&message, signature.signature()).is_ok();
        if valid {
            self.remember(exact);
        }
        valid
    }

    fn remember(&mut self, exact: Hash) {
        if self.seen_order.len() == MAX_SEEN
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(exact);
        self.seen_order.push_back(exact);
    }
}

/// Whether a valid note names another root for a size that the mirror has reached.
pub(super) fn contradicts(shared: &Shared, note: &SignedNote) -> Result<bool, Broken> {
    let (cloud, size) = (&note.body.origin.cloud, note.body.size);
    shared.replica.read(|view| {
        let Some(head) = view.state.head(cloud).filter(|head| head.epoch == note.body.origin.epoch) else {
            return Ok(false);
        };
        if size > head.size {
            return Ok(false);
        }
        let root = if size == head.size { Some(head.root) } else { view.state.root_at(view.records, cloud, size)? };
        Ok(root.is_some_and(|root| root != note.body.root))
    })
}
