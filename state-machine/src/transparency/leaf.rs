//! The leaves of a cloud's log and their exact bytes.

use crate::ids::{EpochId, Hash, Tag};
use crate::wire::{Reader, WireError, Writer, domain};
use serde::{Deserialize, Serialize};

/// A leaf: the opening of an epoch (leaf 0, and only there), a vote, or the notice of a held content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leaf {
    Open(Open),
    Vote(Vote),
    /// The cloud accepted a content for this tag and waits for its operator: no answer, but the
    /// others learn that there is something to answer, and fetch the body.
    Held {
        config: u32,
        tag: Tag,
    },
}

/// Leaf 0 of every epoch: under which rules this cloud speaks, and where its last epoch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Hash over the epoch's opening: keys, threshold, number.
    pub opening: Hash,
    /// Number of the federation's configuration, 0 for the genesis.
    pub config: u32,
    /// Hash of the genesis (weights, quorum, root keys).
    pub config_hash: Hash,
    /// Where the cloud's log ended before, if it had one.
    pub predecessor: Option<Predecessor>,
}

/// The closed head that an epoch goes on from: of the latest epoch before it of which any voter holds
/// leaves, or else of the one just before. Leaves beyond it are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

/// A cloud's one and only answer for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub config: u32,
    pub tag: Tag,
    pub verdict: Verdict,
    /// The salted hash of the content that was answered.
    pub content: Hash,
    /// The salted hash of the envelope that this cloud saw first.
    pub envelope: Hash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Confirm,
    /// An operator of this cloud refused the content.
    RejectOperator,
}

const OPEN: u8 = 0;
const VOTE: u8 = 1;
const HELD: u8 = 2;

const CONFIRM: u8 = 1;
const REJECT_OPERATOR: u8 = 2;

impl Leaf {
    /// The tag that the leaf is about.
    pub fn tag(&self) -> Option<Tag> {
        match self {
            Self::Open(_) => None,
            Self::Vote(vote) => Some(vote.tag),
            Self::Held { tag, .. } => Some(*tag),
        }
    }

    /// What is hashed into the log, and what other clouds are sent.
    pub fn bytes(&self) -> Vec<u8> {
        let out = Writer::new(domain::LEAF);
        match self {
            Self::Open(open) => {
                let out = out.u8(OPEN).raw(&open.opening.0).u32(open.config).raw(&open.config_hash.0);
                match &open.predecessor {
                    None => out.u8(0).finish(),
                    Some(Predecessor { epoch, size, root }) => out.u8(1).raw(&epoch.0).u64(*size).raw(&root.0).finish(),
                }
            }
            Self::Vote(vote) => vote.write(out.u8(VOTE)).finish(),
            Self::Held { config, tag } => out.u8(HELD).u32(*config).raw(&tag.0).finish(),
        }
    }

    /// Accepts exactly what `bytes` writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes, domain::LEAF)?;
        let leaf = match reader.u8()? {
            OPEN => Self::Open(Open::read(&mut reader)?),
            VOTE => Self::Vote(Vote::read(&mut reader)?),
            HELD => Self::Held { config: reader.u32()?, tag: Tag(reader.array()?) },
            other => return Err(WireError(format!("no leaf has type {other}"))),
        };
        reader.finish()?;
        Ok(leaf)
    }
}

impl Open {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            opening: Hash(reader.array()?),
            config: reader.u32()?,
            config_hash: Hash(reader.array()?),
            predecessor: match reader.u8()? {
                0 => None,
                1 => Some(Predecessor {
                    epoch: EpochId(reader.array()?),
                    size: reader.u64()?,
                    root: Hash(reader.array()?),
                }),
                other => {
                    return Err(WireError(format!("a predecessor is absent (0) or present (1), not {other}")));
                }
            },
        })
    }
}

impl Vote {
    fn write(&self, out: Writer) -> Writer {
        let verdict = match self.verdict {
            Verdict::Confirm => CONFIRM,
            Verdict::RejectOperator => REJECT_OPERATOR,
        };
        out.u32(self.config).raw(&self.tag.0).u8(verdict).raw(&self.content.0).raw(&self.envelope.0)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            config: reader.u32()?,
            tag: Tag(reader.array()?),
            verdict: match reader.u8()? {
                CONFIRM => Verdict::Confirm,
                REJECT_OPERATOR => Verdict::RejectOperator,
                other => return Err(WireError(format!("no verdict has number {other}"))),
            },
            content: Hash(reader.array()?),
            envelope: Hash(reader.array()?),
        })
    }
}
