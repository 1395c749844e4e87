//! The published bytes of evidence. Decoding accepts exactly what encoding writes.

use super::{Evidence, Lie, Statement};
use crate::ids::{CloudId, Hash};
use crate::leases::SignedVote;
use crate::transparency::{Leaf, MAX_LEAF_BYTES, MAX_NOTE_BYTES, MAX_PATH, SignedNote};
use crate::wire::{Reader, WireError, Writer, domain};

const DOUBLE_VOTE: u8 = 1;
const FORK_AT_SIZE: u8 = 2;
const FORK_AT_INDEX: u8 = 3;
const DIVERGING_NOTES: u8 = 4;
const DOUBLE_LEASE_VOTE: u8 = 5;

impl Evidence {
    pub fn bytes(&self) -> Vec<u8> {
        let out = Writer::new(domain::EVIDENCE).lp(self.cloud.as_str().as_bytes());
        match &self.lie {
            Lie::DoubleVote(a, b) => out.u8(DOUBLE_VOTE).raw(&a.bytes()).raw(&b.bytes()).finish(),
            Lie::ForkAtSize(a, b) => out.u8(FORK_AT_SIZE).lp(a.text().as_bytes()).lp(b.text().as_bytes()).finish(),
            Lie::ForkAtIndex(a, b) => out.u8(FORK_AT_INDEX).raw(&a.bytes()).raw(&b.bytes()).finish(),
            Lie::DivergingNotes(a, b) => {
                out.u8(DIVERGING_NOTES).lp(a.text().as_bytes()).lp(b.text().as_bytes()).finish()
            }
            Lie::DoubleLeaseVote(a, b) => out.u8(DOUBLE_LEASE_VOTE).raw(&a.bytes()).raw(&b.bytes()).finish(),
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes, domain::EVIDENCE)?;
        let cloud = CloudId::new(reader.text(CloudId::MAX_BYTES)?).map_err(|error| WireError(error.to_string()))?;
        let lie = match reader.u8()? {
            DOUBLE_VOTE => Lie::DoubleVote(read_statement(&mut reader)?, read_statement(&mut reader)?),
            FORK_AT_SIZE => Lie::ForkAtSize(read_note(&mut reader)?.into(), read_note(&mut reader)?.into()),
            FORK_AT_INDEX => Lie::ForkAtIndex(read_statement(&mut reader)?, read_statement(&mut reader)?),
            DIVERGING_NOTES => Lie::DivergingNotes(read_note(&mut reader)?.into(), read_note(&mut reader)?.into()),
            DOUBLE_LEASE_VOTE => {
                let (a, b) = (SignedVote::read(&mut reader)?, SignedVote::read(&mut reader)?);
                Lie::DoubleLeaseVote(a.into(), b.into())
            }
            other => return Err(WireError(format!("no evidence is of kind {other}"))),
        };
        reader.finish()?;
        let evidence = Self { cloud, lie };
        if !evidence.is_ordered() {
            return Err(WireError("the two parts of the evidence are not in order".into()));
        }
        if evidence.bytes() != bytes {
            return Err(WireError("the evidence is not in its one canonical form".into()));
        }
        Ok(evidence)
    }
}

impl Statement {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let out = Writer::default().lp(self.note.text().as_bytes()).u64(self.index).lp(&self.leaf.bytes());
        self.proof.iter().fold(out.u32(self.proof.len() as u32), |out, hash| out.raw(&hash.0)).finish()
    }
}

fn read_note(reader: &mut Reader<'_>) -> Result<SignedNote, WireError> {
    SignedNote::parse(reader.text(MAX_NOTE_BYTES)?).map_err(|error| WireError(error.to_string()))
}

fn read_statement(reader: &mut Reader<'_>) -> Result<Box<Statement>, WireError> {
    let note = read_note(reader)?;
    let index = reader.u64()?;
    let leaf = Leaf::decode(reader.lp(MAX_LEAF_BYTES)?)?;
    let hashes = reader.u32()? as usize;
    if hashes > MAX_PATH {
        return Err(WireError(format!("a proof of {hashes} hashes, at most {MAX_PATH} are possible")));
    }
    let proof = (0..hashes).map(|_| reader.array().map(Hash)).collect::<Result<_, _>>()?;
    Ok(Box::new(Statement { note, index, leaf, proof }))
}
