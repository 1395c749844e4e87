//! The published bytes of a certificate. Decoding accepts exactly what encoding writes.

use super::{Certificate, InclusionProof, ProvenVote};
use crate::content::{
    Content, Envelope, MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTE_NAME_BYTES, MAX_ATTRIBUTES, MAX_PAYLOAD_BYTES,
};
use crate::events::Level;
use crate::genesis::CLOUDS;
use crate::ids::{CloudId, EpochId, EventKey, Hash, TenantId};
use crate::time::WallMillis;
use crate::transparency::{Leaf, MAX_LEAF_BYTES, MAX_NOTE_BYTES, MAX_PATH, SignedNote};
use crate::wire::{Reader, WireError, Writer, domain};

/// The largest certificate that is read, in bytes: the largest payload and three full notes fit.
pub const MAX_CERTIFICATE_BYTES: usize = 1 << 20;

/// The longest name of a region, in bytes.
const MAX_REGION_BYTES: usize = 1024;

const FINAL: u8 = 1;
const SEALED: u8 = 2;

impl Certificate {
    pub fn bytes(&self) -> Vec<u8> {
        let level = match self.level {
            Level::Final => FINAL,
            Level::Sealed => SEALED,
            // No certificate has these; a reader refuses the byte.
            Level::Pending | Level::Quarantined => 0,
        };
        let mut out = Writer::new(domain::CERTIFICATE).u8(level);
        out = write_envelope(write_content(out, &self.content), &self.envelope);
        out = out.raw(&self.key_salt.0).raw(&self.content_salt.0).raw(&self.envelope_salt.0);
        out = out.u32(self.notes.len() as u32);
        for note in &self.notes {
            out = out.lp(note.text().as_bytes());
        }
        out = out.u32(self.votes.len() as u32);
        self.votes.iter().fold(out, write_vote).finish()
    }

    /// Reads the form alone; what it proves is `verify`'s business.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return invalid(format!("{} bytes, at most {MAX_CERTIFICATE_BYTES} are read", bytes.len()));
        }
        let mut reader = Reader::new(bytes, domain::CERTIFICATE)?;
        let level = match reader.u8()? {
            FINAL => Level::Final,
            SEALED => Level::Sealed,
            other => return invalid(format!("no level has number {other}")),
        };
        let certificate = Self {
            level,
            content: read_content(&mut reader)?,
            envelope: read_envelope(&mut reader)?,
            key_salt: Hash(reader.array()?),
            content_salt: Hash(reader.array()?),
            envelope_salt: Hash(reader.array()?),
            notes: read_list(&mut reader, "notes", CLOUDS, read_note)?,
            votes: read_list(&mut reader, "votes", CLOUDS, read_vote)?,
        };
        reader.finish()?;
        if certificate.bytes() != bytes {
            return invalid("it is not in its one canonical form".into());
        }
        Ok(certificate)
    }
}

/// The fields in the order in which the content hash covers them.
fn write_content(out: Writer, content: &Content) -> Writer {
    let mut out = write_key(out.lp(content.tenant.as_str().as_bytes()), &content.key);
    out = out.u32(content.attributes.len() as u32);
    for (name, value) in &content.attributes {
        out = out.lp(name.as_bytes()).lp(value.as_bytes());
    }
    out = out.lp(content.content_type.as_bytes());
    out = match &content.supersedes {
        None => out.u8(0),
        Some(key) => write_key(out.u8(1), key),
    };
    out.lp(&content.payload)
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, WireError> {
    let tenant = TenantId::new(reader.text(TenantId::MAX_BYTES)?).map_err(|error| WireError(error.to_string()))?;
    let key = read_key(reader)?;
    let attributes = read_list(reader, "attributes", MAX_ATTRIBUTES, |reader| {
        let name = reader.text(MAX_ATTRIBUTE_NAME_BYTES)?.to_owned();
        Ok((name, reader.text(MAX_ATTRIBUTE_BYTES)?.to_owned()))
    })?;
    let content_type = reader.text(MAX_ATTRIBUTE_BYTES)?.to_owned();
    let supersedes = match reader.u8()? {
        0 => None,
        1 => Some(read_key(reader)?),
        other => return invalid(format!("a superseded key is absent (0) or present (1), not {other}")),
    };
    let payload = reader.lp(MAX_PAYLOAD_BYTES)?.to_vec();
    Ok(Content { tenant, key, attributes, content_type, payload, supersedes })
}

fn write_key(out: Writer, key: &EventKey) -> Writer {
    out.lp(key.source().as_bytes()).lp(key.id().as_bytes())
}

fn read_key(reader: &mut Reader<'_>) -> Result<EventKey, WireError> {
    let source = reader.text(EventKey::MAX_BYTES)?;
    EventKey::new(source, reader.text(EventKey::MAX_BYTES)?).map_err(|error| WireError(error.to_string()))
}

fn write_envelope(out: Writer, envelope: &Envelope) -> Writer {
    let out = out.lp(envelope.origin_cloud.as_str().as_bytes()).u64(envelope.logical_clock);
    out.lp(envelope.region.as_bytes()).u64(envelope.created_at.0)
}

fn read_envelope(reader: &mut Reader<'_>) -> Result<Envelope, WireError> {
    Ok(Envelope {
        origin_cloud: read_cloud(reader)?,
        logical_clock: reader.u64()?,
        region: reader.text(MAX_REGION_BYTES)?.to_owned(),
        created_at: WallMillis(reader.u64()?),
    })
}

fn read_cloud(reader: &mut Reader<'_>) -> Result<CloudId, WireError> {
    CloudId::new(reader.text(CloudId::MAX_BYTES)?).map_err(|error| WireError(error.to_string()))
}

fn read_note(reader: &mut Reader<'_>) -> Result<SignedNote, WireError> {
    SignedNote::parse(reader.text(MAX_NOTE_BYTES)?).map_err(|error| WireError(error.to_string()))
}

fn write_vote(out: Writer, proven: &ProvenVote) -> Writer {
    let out = out.lp(proven.cloud.as_str().as_bytes()).raw(&proven.epoch.0).u64(proven.index);
    let out = out.lp(&Leaf::Vote(proven.vote.clone()).bytes()).u32(proven.proofs.len() as u32);
    proven.proofs.iter().fold(out, |out, InclusionProof { size, path }| {
        path.iter().fold(out.u64(*size).u32(path.len() as u32), |out, hash| out.raw(&hash.0))
    })
}

fn read_vote(reader: &mut Reader<'_>) -> Result<ProvenVote, WireError> {
    let cloud = read_cloud(reader)?;
    let epoch = EpochId(reader.array()?);
    let index = reader.u64()?;
    let Leaf::Vote(vote) = Leaf::decode(reader.lp(MAX_LEAF_BYTES)?)? else {
        return invalid(format!("the leaf of {cloud} is not a vote"));
    };
    let proofs = read_list(reader, "proofs", CLOUDS, |reader| {
        let size = reader.u64()?;
        let path = read_list(reader, "hashes of a proof", MAX_PATH, |reader| reader.array().map(Hash))?;
        Ok(InclusionProof { size, path })
    })?;
    Ok(ProvenVote { cloud, epoch, index, vote, proofs })
}

/// A count of at most `max`, and then so many items.
fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    what: &str,
    max: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = reader.u32()? as usize;
    if count > max {
        return invalid(format!("{count} {what}, at most {max} are allowed"));
    }
    (0..count).map(|_| item(reader)).collect()
}

fn invalid<T>(why: String) -> Result<T, WireError> {
    Err(WireError(why))
}
