//! Notes: a cloud's checkpoint plus what it audited, signed by exactly `threshold` of its nodes.

use crate::epochs::{Closing, Opening, OpeningError};
use crate::genesis::Genesis;
use crate::ids::{CloudId, EpochId, FedId, Hash, NodeId};
use crate::signature::{PublicKey, Signature, SigningKey};
use crate::wire::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest note text that is parsed, in bytes: hundreds of closings fit.
pub const MAX_NOTE_BYTES: usize = 64 << 10;

/// The C2SP signature type of Ed25519.
const ED25519: u8 = 1;

/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Names a log: `fed_id/cloud/epoch`, the first line of its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub fed: FedId,
    pub cloud: CloudId,
    pub epoch: EpochId,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fed, self.cloud, self.epoch)
    }
}

/// "I recomputed that root from the leaves and found no double vote."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub cloud: CloudId,
    pub epoch: EpochId,
    pub size: u64,
    pub root: Hash,
}

/// What the nodes sign: the cloud's own checkpoint, its audits sorted by cloud and epoch, its
/// closings in the order in which it promised them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteBody {
    pub origin: Origin,
    pub size: u64,
    pub root: Hash,
    pub audits: Vec<Audit>,
    pub closings: Vec<Closing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSignature {
    pub node: NodeId,
    /// The C2SP key id, which standard tools choose the key by. It is checked like the signature.
    pub key_id: [u8; 4],
    pub signature: Signature,
}

/// A note and its signatures, sorted by node id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNote {
    pub body: NoteBody,
    pub signatures: Vec<NodeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("not a note: {0}")]
    Malformed(String),
    #[error("the note is of {found}, not of {expected}")]
    OtherOrigin { found: String, expected: String },
    #[error("the note carries {found} signatures, exactly {threshold} are needed")]
    WrongCount { found: usize, threshold: u32 },
    #[error("node {0} is not a signer of this epoch, or signs twice")]
    UnknownNode(NodeId),
    #[error("the signature of node {0} does not verify")]
    BadSignature(NodeId),
    #[error("the epoch {0} is unknown; take a newer trust bundle")]
    UnknownEpoch(String),
    #[error(transparent)]
    Opening(#[from] OpeningError),
}

impl Origin {
    /// The log of an epoch.
    pub fn of(fed: &FedId, opening: &Opening) -> Self {
        Self { fed: *fed, cloud: opening.cloud.clone(), epoch: opening.id(fed) }
    }

    /// The C2SP key name of one of the log's nodes.
    pub fn key_name(&self, node: &NodeId) -> String {
        format!("{self}/{node}")
    }

    /// The C2SP verifier key of a node: what standard signed-note tools are given to check it.
    pub fn vkey(&self, node: &NodeId, key: &PublicKey) -> String {
        let name = self.key_name(node);
        let mut typed = vec![ED25519];
        typed.extend_from_slice(&key.to_bytes());
        format!("{name}+{}+{}", hex::encode(key_id(&name, key)), BASE64.encode(typed))
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let malformed = || NoteError::Malformed(format!("{:?} is not fed/cloud/epoch", shorten(text)));
        let mut parts = text.split('/');
        let (Some(fed), Some(cloud), Some(epoch), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        Ok(Self {
            fed: fed.parse().map_err(|_| malformed())?,
            cloud: cloud.parse().map_err(|_| malformed())?,
            epoch: epoch.parse().map_err(|_| malformed())?,
        })
    }
}

impl NoteBody {
    /// The signed text: a C2SP tlog-checkpoint with extension lines, ending in a newline.
    pub fn text(&self) -> String {
        let fed = &self.origin.fed;
        let mut out = format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0));
        let mut line = |word: &str, cloud: &CloudId, epoch: &EpochId, size: u64, root: &Hash| {
            out.push_str(&format!("{word} {fed}/{cloud}/{epoch} {size} {}\n", BASE64.encode(root.0)));
        };
        for audit in &self.audits {
            line("audited", &audit.cloud, &audit.epoch, audit.size, &audit.root);
        }
        for closing in &self.closings {
            line("closed", &closing.cloud, &closing.epoch, closing.size, &closing.root);
        }
        out
    }

    /// Whether an honest cloud that said `before` may say this later: within an epoch its log, its
    /// audits and its closings only grow.
    pub fn grew_from(&self, before: &Self) -> bool {
        let grew = |is: (u64, &Hash), was: (u64, &Hash)| is.0 > was.0 || is == was;
        let audited = before.audits.iter().all(|was| {
            let same = |is: &&Audit| (&is.cloud, is.epoch) == (&was.cloud, was.epoch);
            self.audits.iter().find(same).is_some_and(|is| grew((is.size, &is.root), (was.size, &was.root)))
        });
        self.origin == before.origin
            && grew((self.size, &self.root), (before.size, &before.root))
            && audited
            && self.closings.starts_with(&before.closings)
    }

    /// Whether no honest cloud signs both: of one epoch, and neither grew from the other.
    pub fn diverges_from(&self, other: &Self) -> bool {
        self.origin == other.origin && !self.grew_from(other) && !other.grew_from(self)
    }

    pub fn sign(&self, node: &NodeId, key: &SigningKey) -> NodeSignature {
        let key_id = key_id(&self.origin.key_name(node), &key.public());
        NodeSignature { node: node.clone(), key_id, signature: key.sign(self.text().as_bytes()) }
    }

    /// Verifies one node's signature; the leader does so before it counts one.
    pub fn verify_one(&self, signature: &NodeSignature, opening: &Opening) -> Result<(), NoteError> {
        self.check_form()?;
        self.check_signature(&self.text(), signature, opening)
    }

    /// Reads the signed text. What it accepts, `text` writes back byte for byte.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Malformed(format!("{} bytes, at most {MAX_NOTE_BYTES} are allowed", text.len())));
        }
        let mut lines = text.split_terminator('\n');
        let mut next = |what: &str| lines.next().ok_or_else(|| NoteError::Malformed(format!("the {what} is missing")));
        let origin = Origin::parse(next("origin line")?)?;
        let size = parse_size(next("size line")?)?;
        let root = parse_root(next("root line")?)?;
        let mut body = Self { origin, size, root, audits: Vec::new(), closings: Vec::new() };
        for line in lines {
            body.parse_extension(line)?;
        }
        body.check_form()?;
        if body.text() != text {
            return Err(NoteError::Malformed("the text is not in its one canonical form".into()));
        }
        Ok(body)
    }

    fn parse_extension(&mut self, line: &str) -> Result<(), NoteError> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [word, origin, size, root] = fields[..] else {
            return Err(NoteError::Malformed(format!("{:?} is not an extension line", shorten(line))));
        };
        let Origin { fed, cloud, epoch } = Origin::parse(origin)?;
        if fed != self.origin.fed {
            return Err(NoteError::Malformed("an extension line names another federation".into()));
        }
        let (size, root) = (parse_size(size)?, parse_root(root)?);
        match word {
            "audited" => self.audits.push(Audit { cloud, epoch, size, root }),
            "closed" => self.closings.push(Closing { cloud, epoch, size, root }),
            _ => {
                return Err(NoteError::Malformed(format!("unknown extension {:?}", shorten(word))));
            }
        }
        Ok(())
    }

    /// Audits are sorted, closings stand in the order in which they were promised, each log is
    /// named once, and none is the note's own.
    fn check_form(&self) -> Result<(), NoteError> {
        let audits: Vec<_> = self.audits.iter().map(|audit| (&audit.cloud, &audit.epoch)).collect();
        let mut closings: Vec<_> = self.closings.iter().map(|closing| (&closing.cloud, &closing.epoch)).collect();
        if audits.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(NoteError::Malformed("its audits are not sorted, or name a log twice".into()));
        }
        closings.sort_unstable();
        if closings.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(NoteError::Malformed("its closings name a log twice".into()));
        }
        if audits.iter().chain(&closings).any(|(cloud, _)| **cloud == self.origin.cloud) {
            return Err(NoteError::Malformed("a cloud neither audits nor closes its own log".into()));
        }
        Ok(())
    }

    fn check_signature(&self, text: &str, signed: &NodeSignature, opening: &Opening) -> Result<(), NoteError> {
        let expected = Origin::of(&self.origin.fed, opening);
        if self.origin != expected {
            return Err(NoteError::OtherOrigin { found: self.origin.to_string(), expected: expected.to_string() });
        }
        let node = &signed.node;
        let key = opening.key(node).ok_or_else(|| NoteError::UnknownNode(node.clone()))?;
        if signed.key_id != key_id(&self.origin.key_name(node), key) {
            return Err(NoteError::BadSignature(node.clone()));
        }
        key.verify(text.as_bytes(), &signed.signature).map_err(|_| NoteError::BadSignature(node.clone()))
    }
}

impl SignedNote {
    /// The whole C2SP signed note: text, empty line, signature lines.
    pub fn text(&self) -> String {
        let mut out = self.body.text();
        out.push('\n');
        for NodeSignature { node, key_id, signature } in &self.signatures {
            let mut blob = key_id.to_vec();
            blob.extend_from_slice(&signature.0);
            let name = self.body.origin.key_name(node);
            out.push_str(&format!("{SIGNATURE_PREFIX}{name} {}\n", BASE64.encode(blob)));
        }
        out
    }

    /// Parses strictly: what it accepts, `text` writes back byte for byte.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Malformed(format!("{} bytes, at most {MAX_NOTE_BYTES} are allowed", text.len())));
        }
        let Some(end) = text.find("\n\n") else {
            return Err(NoteError::Malformed("no empty line before the signatures".into()));
        };
        let body = NoteBody::parse(&text[..=end])?;
        let lines = text[end + 2..].split_terminator('\n');
        let signatures = lines.map(|line| parse_signature(&body.origin, line)).collect::<Result<Vec<_>, _>>()?;
        let note = Self { body, signatures };
        note.check_order()?;
        if note.text() != text {
            return Err(NoteError::Malformed("the text is not in its one canonical form".into()));
        }
        Ok(note)
    }

    /// Exactly `threshold` distinct, known, valid signatures of the epoch, and its origin.
    pub fn verify(&self, fed: &FedId, opening: &Opening) -> Result<(), NoteError> {
        let expected = Origin::of(fed, opening);
        if self.body.origin != expected {
            let found = self.body.origin.to_string();
            return Err(NoteError::OtherOrigin { found, expected: expected.to_string() });
        }
        self.body.check_form()?;
        let one_less = mutant!(ThresholdOneLess) && self.signatures.len() + 1 == opening.threshold as usize;
        if self.signatures.len() != opening.threshold as usize && !one_less {
            return Err(NoteError::WrongCount { found: self.signatures.len(), threshold: opening.threshold });
        }
        self.check_order()?;
        let text = self.body.text();
        self.signatures.iter().try_for_each(|signed| self.body.check_signature(&text, signed, opening))
    }

    /// The same for a verifier that starts from the genesis: it finds the epoch among those it was
    /// given, and believes it only if the cloud's root key signed it.
    pub fn verify_among(&self, genesis: &Genesis, openings: &[Opening]) -> Result<(), NoteError> {
        let fed = genesis.fed_id();
        let origin = &self.body.origin;
        let opening = openings.iter().find(|opening| Origin::of(&fed, opening) == *origin);
        let opening = opening.ok_or_else(|| NoteError::UnknownEpoch(origin.to_string()))?;
        opening.check(genesis)?;
        self.verify(&fed, opening)
    }

    fn check_order(&self) -> Result<(), NoteError> {
        match self.signatures.windows(2).find(|pair| pair[0].node >= pair[1].node) {
            None => Ok(()),
            Some(pair) if pair[0].node == pair[1].node => Err(NoteError::UnknownNode(pair[1].node.clone())),
            Some(_) => Err(NoteError::Malformed("the signatures are not sorted by node".into())),
        }
    }
}

/// The C2SP key id of an Ed25519 key under a name.
fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(&[b'\n', ED25519]);
    bytes.extend_from_slice(&key.to_bytes());
    let Hash([a, b, c, d, ..]) = sha256(&bytes);
    [a, b, c, d]
}

fn parse_signature(origin: &Origin, line: &str) -> Result<NodeSignature, NoteError> {
    let malformed = || NoteError::Malformed(format!("{:?} is not a signature line of {origin}", shorten(line)));
    let signed = line.strip_prefix(SIGNATURE_PREFIX).ok_or_else(malformed)?;
    let (name, blob) = signed.split_once(' ').ok_or_else(malformed)?;
    let (prefix, node) = name.rsplit_once('/').ok_or_else(malformed)?;
    if Origin::parse(prefix)? != *origin {
        return Err(malformed());
    }
    let node = NodeId::new(node).map_err(|_| malformed())?;
    let blob = BASE64.decode(blob).map_err(|_| malformed())?;
    let (key_id, signature) = blob.split_first_chunk::<4>().ok_or_else(malformed)?;
    let signature = Signature(signature.try_into().map_err(|_| malformed())?);
    Ok(NodeSignature { node, key_id: *key_id, signature })
}

fn parse_size(text: &str) -> Result<u64, NoteError> {
    text.parse().map_err(|_| NoteError::Malformed(format!("{:?} is not a size", shorten(text))))
}

fn parse_root(text: &str) -> Result<Hash, NoteError> {
    let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Hash).ok_or_else(|| NoteError::Malformed(format!("{:?} is not a root in base64", shorten(text))))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
