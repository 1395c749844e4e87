//! What a certificate's parts prove, signatures aside: both its verifier and its builder ask here,
//! so that nothing is built that would be refused.

use super::{Certificate, ProvenVote, Refused};
use crate::content::{salted, tag};
use crate::events::Level;
use crate::genesis::Genesis;
use crate::ids::{CloudId, Hash};
use crate::transparency::{Leaf, SignedNote, Verdict, leaf_hash, root_from_inclusion};
use std::collections::BTreeSet;

/// The only configuration so far: the genesis.
const CONFIG: u32 = 0;

pub(super) struct Proven {
    pub level: Level,
    pub voters: Vec<CloudId>,
    pub auditors: Vec<CloudId>,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Quarantined => "QUARANTINED",
            Self::Final => "FINAL",
            Self::Sealed => "SEALED",
        }
    }
}

impl Certificate {
    /// The level that follows, if every part is sound and needed. Who signs for a cloud is the
    /// business of its note: here a cloud counts once, however many nodes it has.
    pub(super) fn prove(&self, genesis: &Genesis) -> Result<Proven, Refused> {
        check_order("note", self.notes.iter().map(|note| &note.body.origin.cloud), genesis)?;
        check_order("vote", self.votes.iter().map(|vote| &vote.cloud), genesis)?;
        self.check_votes(genesis)?;
        self.check_quorum(genesis)?;
        let voters: Vec<CloudId> = self.votes.iter().map(|vote| vote.cloud.clone()).collect();
        let auditors: Vec<CloudId> = self.notes.iter().map(|note| note.body.origin.cloud.clone()).collect();
        if let Some(cloud) = voters.iter().find(|cloud| !auditors.contains(cloud)) {
            return refuse(format!("the note of {cloud}, which voted, is missing"));
        }
        let level = if genesis.clouds().all(|cloud| auditors.contains(cloud)) { Level::Sealed } else { Level::Final };
        if let Some(cloud) = auditors.iter().find(|cloud| level == Level::Final && !voters.contains(cloud)) {
            return refuse(format!("the note of {cloud} is not needed"));
        }
        for vote in &self.votes {
            self.check_proofs(vote)?;
        }
        Ok(Proven { level, voters, auditors })
    }

    /// Each vote confirms this content of this event, and one cloud saw this envelope.
    fn check_votes(&self, genesis: &Genesis) -> Result<(), Refused> {
        self.content.check().map_err(|error| Refused(format!("the content: {error}")))?;
        let content_hash = self.content.hash();
        let event_tag = tag(&genesis.fed_id(), &self.content.tenant, &self.content.key, &self.key_salt);
        let content = salted(&content_hash, &self.content_salt);
        let envelope = salted(&self.envelope.hash(&content_hash), &self.envelope_salt);
        for ProvenVote { cloud, vote, .. } in &self.votes {
            if vote.config != CONFIG {
                return refuse(format!("the vote of {cloud} is of configuration {}, which is unknown", vote.config));
            }
            if vote.tag != event_tag {
                return refuse(format!("the vote of {cloud} is for another event"));
            }
            if vote.verdict != Verdict::Confirm {
                return refuse(format!("the vote of {cloud} does not confirm"));
            }
            if vote.content != content {
                return refuse(format!("the vote of {cloud} is for another content"));
            }
        }
        if !self.votes.iter().any(|vote| vote.vote.envelope == envelope) {
            return refuse("no vote is for this envelope".into());
        }
        Ok(())
    }

    /// The votes reach the quorum, and would not without any one of them.
    fn check_quorum(&self, genesis: &Genesis) -> Result<(), Refused> {
        let weight = |vote: &ProvenVote| {
            let note = self.notes.iter().find(|note| note.body.origin.cloud == vote.cloud);
            let signatures = note.map_or(0, |note| note.signatures.len() as u64);
            if mutant!(NodeSignaturesAsClouds) { signatures } else { genesis.weight(&vote.cloud) }
        };
        let (total, quorum) = (self.votes.iter().map(weight).sum::<u64>(), genesis.quorum);
        if total < u64::from(quorum) {
            return refuse(format!("the votes have weight {total}, the quorum is {quorum}"));
        }
        let spare = |vote: &&ProvenVote| total - weight(vote) >= u64::from(quorum);
        match self.votes.iter().find(spare) {
            None => Ok(()),
            Some(vote) => refuse(format!("the vote of {} is not needed", vote.cloud)),
        }
    }

    /// The vote is in its cloud's own checkpoint and in the one that each other note audited; there
    /// is one proof for each of these sizes, and no other.
    fn check_proofs(&self, vote: &ProvenVote) -> Result<(), Refused> {
        let cloud = &vote.cloud;
        let mut sizes = BTreeSet::new();
        for note in &self.notes {
            let by = &note.body.origin.cloud;
            let own = by == cloud;
            let Some((size, root)) = head_in(note, vote) else {
                return match own {
                    true => refuse(format!("the note of {cloud} is of another epoch than its vote")),
                    false => refuse(format!("{by} has not audited the epoch of the vote of {cloud}")),
                };
            };
            if vote.root_at(size) != Some(root) {
                return match own {
                    true => refuse(format!("the vote of {cloud} is not in its checkpoint")),
                    false => refuse(format!("the vote of {cloud} is not in the checkpoint that {by} audited")),
                };
            }
            sizes.insert(size);
        }
        if !vote.proofs.iter().map(|proof| proof.size).eq(sizes) {
            return refuse(format!("a proof of the vote of {cloud} is not needed, or not in order"));
        }
        Ok(())
    }
}

impl ProvenVote {
    /// The root that the proof for this size leads to.
    fn root_at(&self, size: u64) -> Option<Hash> {
        let proof = self.proofs.iter().find(|proof| proof.size == size)?;
        let leaf = leaf_hash(&Leaf::Vote(self.vote.clone()).bytes());
        root_from_inclusion(leaf, self.index, size, &proof.path)
    }
}

/// What a note says of the log that holds the vote: its own checkpoint, or the one it audited.
pub(super) fn head_in(note: &SignedNote, vote: &ProvenVote) -> Option<(u64, Hash)> {
    let body = &note.body;
    if body.origin.cloud == vote.cloud {
        return (body.origin.epoch == vote.epoch).then_some((body.size, body.root));
    }
    let audit = body.audits.iter().find(|audit| audit.cloud == vote.cloud && audit.epoch == vote.epoch);
    audit.map(|audit| (audit.size, audit.root))
}

fn check_order<'a>(what: &str, clouds: impl Iterator<Item = &'a CloudId>, genesis: &Genesis) -> Result<(), Refused> {
    let clouds: Vec<_> = clouds.collect();
    if let Some(cloud) = clouds.iter().find(|cloud| genesis.voter(cloud).is_none()) {
        return refuse(format!("{cloud}, of which there is a {what}, is not a voter of this federation"));
    }
    match clouds.windows(2).find(|pair| pair[0] >= pair[1]) {
        None => Ok(()),
        Some(pair) if pair[0] == pair[1] => refuse(format!("a second {what} of {}: a cloud counts once", pair[0])),
        Some(_) => refuse(format!("the {what}s are not sorted by cloud")),
    }
}

fn refuse<T>(why: String) -> Result<T, Refused> {
    Err(Refused(why))
}
