//! What one cloud can bring to another, as the commands that the receiver's Raft group would commit:
//! chunks under signed notes, bodies that are missed, and everything about lies. The same that
//! `tercetd`'s federation exchanges, without its transport.

use super::clouds::{Cloud, Clouds};
use super::federation::id;
use tercet_core::command::Command;
use tercet_core::evidence::{self, Evidence, Statement};
use tercet_core::genesis::CLOUDS;
use tercet_core::ids::CloudId;
use tercet_core::mirrors;
use tercet_core::transparency::SignedNote;

/// More than a model ever misses or wants at once.
const MANY: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// One cloud's log: the sender's own, or its mirror. It begins where the receiver's mirror ends. What
    /// is missing of its closed epochs comes with it, and for a recovering cloud its own past.
    Log(u8),
    /// The same, begun earlier: it overlaps with what the receiver has learned meanwhile.
    Overlap(u8),
    /// Bodies that the receiver misses.
    Bodies,
    /// Evidence, notes that fit no mirror, testimony, and a comparison of what both were shown.
    Proofs,
}

impl What {
    /// Names the delivery among the steps of a cloud.
    pub fn code(self) -> u16 {
        match self {
            Self::Log(log) => 0x100 | u16::from(log),
            Self::Overlap(log) => 0x110 | u16::from(log),
            Self::Bodies => 0x121,
            Self::Proofs => 0x122,
        }
    }

    pub fn commands(self, clouds: &Clouds, from: &Cloud, to: &Cloud) -> Vec<Command> {
        match self {
            Self::Log(log) => {
                [chunk(clouds, from, to, &id(log.into()), false), past(from, to, &id(log.into()))].concat()
            }
            Self::Overlap(log) => chunk(clouds, from, to, &id(log.into()), true),
            Self::Bodies => bodies(from, to),
            Self::Proofs => proofs(from, to),
        }
    }
}

fn ingest(chunk: mirrors::LogChunk) -> Command {
    Command::Mirrors(mirrors::Command::Ingest { chunks: vec![chunk], bodies: Vec::new() })
}

fn chunk(clouds: &Clouds, from: &Cloud, to: &Cloud, log: &CloudId, whole: bool) -> Vec<Command> {
    let own = from.state.me() == log;
    let Some(note) = (if own { clouds.note(from) } else { from.state.note(log) }) else { return Vec::new() };
    let Some(have) = to.state.log_size(log, &note.body.origin.epoch) else { return Vec::new() };
    let begin = if whole { 0 } else { have.min(note.body.size) };
    let chunk = from.state.log_chunk(&from.rows, log, begin, note).expect("records are whole");
    chunk.map(ingest).into_iter().collect()
}

/// What the receiver may still learn of closed epochs: of this log, and a recovering cloud of its own.
fn past(from: &Cloud, to: &Cloud, log: &CloudId) -> Vec<Command> {
    let mut commands = Vec::new();
    let own = Some(to.state.me()).filter(|_| to.state.is_recovering());
    let current = to.state.opening(log).map(|opening| opening.id(&to.state.genesis().fed_id()));
    for (cloud, epoch, _, _) in from.state.logs() {
        let is_past = Some(&cloud) == own || (cloud == *log && current != Some(epoch));
        let (Some(note), Some(have)) = (from.state.note_in(&cloud, &epoch), to.state.log_size(&cloud, &epoch)) else {
            continue;
        };
        if is_past && have <= note.body.size {
            let chunk = from.state.log_chunk(&from.rows, &cloud, have, note).expect("records are whole");
            commands.extend(chunk.map(ingest));
        }
    }
    commands
}

fn bodies(from: &Cloud, to: &Cloud) -> Vec<Command> {
    let missing = to.state.missing_bodies(MANY);
    let bodies = from.state.bodies(&from.rows, &missing).expect("records are whole");
    if bodies.is_empty() {
        return Vec::new();
    }
    vec![Command::Mirrors(mirrors::Command::Ingest { chunks: Vec::new(), bodies })]
}

fn proofs(from: &Cloud, to: &Cloud) -> Vec<Command> {
    let mut proofs: Vec<Evidence> = (0..CLOUDS).filter_map(|log| fork(from, to, &id(log))).collect();
    proofs.extend(from.state.evidence(&from.rows).expect("records are whole"));
    proofs.retain(|proof| !to.state.has_evidence(&proof.id()));
    let accuse = |proof| Command::Evidence(evidence::Command::Accuse(Box::new(proof)));
    let mut commands: Vec<Command> = proofs.into_iter().map(accuse).collect();
    commands.extend(from.state.stray_notes().into_iter().map(ingest));
    let wanted = to.state.wanted_testimony(MANY);
    let statements = from.state.testimony(&from.rows, &wanted).expect("records are whole");
    let testify = |statement| Command::Evidence(evidence::Command::Testify(Box::new(statement)));
    commands.extend(statements.into_iter().map(testify));
    commands
}

/// Two clouds compare what a third one showed each of them, and prove a fork where they differ.
fn fork(from: &Cloud, to: &Cloud, log: &CloudId) -> Option<Evidence> {
    let (theirs, ours) = (from.state.note(log)?, to.state.note(log)?);
    if theirs.body.origin != ours.body.origin {
        return None;
    }
    let leaf = |cloud: &Cloud, index| cloud.state.leaf(&cloud.rows, log, index).expect("records are whole");
    let common = theirs.body.size.min(ours.body.size);
    let index = (0..common).find(|index| leaf(from, *index) != leaf(to, *index))?;
    let statement = |cloud: &Cloud, note: &SignedNote| {
        let proof = cloud.state.proof(&cloud.rows, log, index, note.body.size).expect("records are whole")?;
        Some(Statement { note: note.clone(), index, leaf: leaf(cloud, index)?, proof })
    };
    Some(Evidence::fork_at_index(statement(from, theirs)?, statement(to, ours)?))
}
