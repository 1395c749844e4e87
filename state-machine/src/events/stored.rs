//! The bytes of an event's record. It is written with each of the four changes that an event lives through, so it is small:
//! what several votes have in common is there once, and an epoch is named by its place among those that this cloud knows.

use super::level::{Level, Marks};
use super::record::{Branch, EventRecord, RecordedVote};
use crate::codec::{CodecError, VERSION};
use crate::ids::{CloudId, EpochId, EventKey, Hash, Tag, TenantId};
use crate::transparency::{Verdict, Vote};
use std::collections::BTreeSet;

/// Bits of the byte after the version. The level is in the lowest two.
const REVIEW: u8 = 1 << 2;
const CONFLICT: u8 = 1 << 3;
const DISSENT: u8 = 1 << 4;
const ACTIONABLE: u8 = 1 << 5;
const LISTED: u8 = 1 << 6;
const SETTLED: u8 = 1 << 7;

/// Bits of a vote.
const REJECTS: u8 = 1;
const BRANCHED: u8 = 2;

const LEVELS: [Level; 4] = [Level::Pending, Level::Quarantined, Level::Final, Level::Sealed];

/// The epochs that a state knows, in the order in which it learned them: it is the same at every replica.
pub(crate) type Epochs = [(CloudId, EpochId)];

pub(crate) fn encode(record: &EventRecord, epochs: &Epochs) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let marks = record.marks;
    let bits = [
        (marks.review, REVIEW),
        (marks.conflict, CONFLICT),
        (marks.dissent, DISSENT),
        (marks.actionable, ACTIONABLE),
        (record.key.is_some(), LISTED),
        (record.settled.is_some(), SETTLED),
    ];
    let level = LEVELS.iter().position(|level| *level == record.level).expect("every level is listed") as u8;
    out.extend([VERSION, bits.into_iter().filter(|(set, _)| *set).fold(level, |all, (_, bit)| all | bit)]);
    if let Some((tenant, key)) = &record.key {
        for text in [tenant.as_str(), key.source(), key.id()] {
            put_bytes(&mut out, text.as_bytes());
        }
        put_number(&mut out, record.seq.unwrap_or(0));
    }
    put_number(&mut out, record.contents.len() as u64);
    record.contents.iter().for_each(|content| out.extend(content.0));
    if let Some(settled) = &record.settled {
        out.extend(settled.0);
    }
    // Mostly one: three clouds that saw the same content in the same envelope.
    let mut answers: Vec<(u32, Hash, Hash)> = Vec::new();
    for vote in record.votes.iter().map(answer) {
        if !answers.contains(&vote) {
            answers.push(vote);
        }
    }
    put_number(&mut out, answers.len() as u64);
    for (config, content, envelope) in &answers {
        put_number(&mut out, u64::from(*config));
        if record.settled != Some(*content) {
            out.push(1);
            out.extend(content.0);
        } else {
            out.push(0);
        }
        out.extend(envelope.0);
    }
    put_number(&mut out, record.votes.len() as u64);
    for vote in &record.votes {
        let rejects = if vote.verdict() == Verdict::Confirm { 0 } else { REJECTS };
        out.push(rejects | if vote.branch.is_some() { BRANCHED } else { 0 });
        match epochs.iter().position(|(cloud, epoch)| (cloud, epoch) == (&vote.cloud, &vote.epoch)) {
            Some(at) => put_number(&mut out, at as u64 + 1),
            None => {
                put_number(&mut out, 0);
                put_bytes(&mut out, vote.cloud.as_str().as_bytes());
                out.extend(vote.epoch.0);
            }
        }
        put_number(&mut out, vote.index);
        let same = answers.iter().position(|known| *known == answer(vote));
        put_number(&mut out, same.expect("every answer is listed") as u64);
        if let Some(branch) = &vote.branch {
            put_number(&mut out, branch.size);
            out.extend(branch.root.0);
            put_number(&mut out, branch.audited_by.len() as u64);
            branch.audited_by.iter().for_each(|cloud| put_bytes(&mut out, cloud.as_str().as_bytes()));
        }
    }
    out
}

/// What a vote says beside its verdict.
fn answer(vote: &RecordedVote) -> (u32, Hash, Hash) {
    (vote.vote.config, vote.vote.content, vote.vote.envelope)
}

pub(crate) fn decode(tag: Tag, bytes: &[u8], epochs: &Epochs) -> Result<EventRecord, CodecError> {
    let mut from = Source(bytes);
    let version = from.byte()?;
    if version != VERSION {
        return Err(CodecError(format!("version {version}, this build reads {VERSION}")));
    }
    let bits = from.byte()?;
    let has = |bit: u8| bits & bit != 0;
    let mut record = EventRecord::new(tag);
    record.level = LEVELS[usize::from(bits & 3)];
    record.marks =
        Marks { review: has(REVIEW), conflict: has(CONFLICT), dissent: has(DISSENT), actionable: has(ACTIONABLE) };
    if has(LISTED) {
        let tenant = TenantId::new(from.text()?).map_err(bad)?;
        let (source, id) = (from.text()?, from.text()?);
        record.key = Some((tenant, EventKey::new(source, id).map_err(bad)?));
        record.seq = Some(from.number()?);
    }
    record.contents = from.list(Source::hash)?;
    record.settled = if has(SETTLED) { Some(from.hash()?) } else { None };
    let settled = record.settled;
    let answers = from.list(|from| {
        let config = u32::try_from(from.number()?).map_err(bad)?;
        let content = match (from.byte()?, settled) {
            (0, Some(settled)) => settled,
            (1, _) => from.hash()?,
            _ => return Err(CodecError("an answer without a content".into())),
        };
        Ok((config, content, from.hash()?))
    })?;
    record.votes = from.list(|from| {
        let bits = from.byte()?;
        let (cloud, epoch) = match from.number()? {
            0 => (CloudId::new(from.text()?).map_err(bad)?, EpochId(from.array()?)),
            at => epochs.get(at as usize - 1).cloned().ok_or_else(|| CodecError(format!("no epoch {at} is known")))?,
        };
        let index = from.number()?;
        let answer =
            answers.get(from.number()? as usize).ok_or_else(|| CodecError("a vote without an answer".into()))?;
        let &(config, content, envelope) = answer;
        let verdict = if bits & REJECTS == 0 { Verdict::Confirm } else { Verdict::RejectOperator };
        let branch = match bits & BRANCHED {
            0 => None,
            _ => {
                let (size, root) = (from.number()?, from.hash()?);
                let by = from.list(|from| CloudId::new(from.text()?).map_err(bad))?;
                Some(Branch { size, root, audited_by: BTreeSet::from_iter(by) })
            }
        };
        let vote = Vote { config, tag, verdict, content, envelope };
        Ok(RecordedVote { cloud, epoch, index, vote, branch })
    })?;
    if from.0.is_empty() { Ok(record) } else { Err(CodecError(format!("{} bytes left over", from.0.len()))) }
}

fn bad(error: impl std::fmt::Display) -> CodecError {
    CodecError(error.to_string())
}

/// A number in as few bytes as it needs: seven bits each, the lowest first (LEB128).
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is left to read.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| CodecError("it is cut short".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    fn hash(&mut self) -> Result<Hash, CodecError> {
        self.array().map(Hash)
    }

    fn number(&mut self) -> Result<u64, CodecError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(CodecError("a number of more than 64 bits".into()))
    }

    fn text(&mut self) -> Result<&'a str, CodecError> {
        let length = self.number()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(bad)
    }

    /// A count, and so many items. The count reserves nothing: a damaged one must not.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
        let count = self.number()?;
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash() -> impl Strategy<Value = Hash> {
        // Few, so that votes agree often.
        (0_u8..4).prop_map(|byte| Hash([byte; 32]))
    }

    fn cloud() -> impl Strategy<Value = CloudId> {
        prop::sample::select(vec!["aws", "azure", "gcp"]).prop_map(|name| CloudId::new(name).unwrap())
    }

    fn vote() -> impl Strategy<Value = RecordedVote> {
        let branch = (any::<u64>(), hash(), prop::collection::btree_set(cloud(), 0..3));
        let branch = branch.prop_map(|(size, root, audited_by)| Branch { size, root, audited_by });
        let answer = (0_u32..3, any::<bool>(), hash(), hash());
        (cloud(), 0_u8..3, any::<u64>(), answer, prop::option::of(branch)).prop_map(
            |(cloud, epoch, index, (config, confirms, content, envelope), branch)| {
                let verdict = if confirms { Verdict::Confirm } else { Verdict::RejectOperator };
                let vote = Vote { config, tag: TAG, verdict, content, envelope };
                RecordedVote { cloud, epoch: EpochId([epoch; 16]), index, vote, branch }
            },
        )
    }

    const TAG: Tag = Tag([7; 32]);

    fn record() -> impl Strategy<Value = EventRecord> {
        let key = ("[a-z]{1,9}", "\\PC{0,9}", "\\PC{1,9}", any::<u64>());
        let lists = (prop::collection::vec(vote(), 0..5), prop::collection::vec(hash(), 0..4));
        let marks = any::<[bool; 4]>();
        (prop::option::of(key), lists, 0_usize..4, marks, prop::option::of(hash())).prop_map(
            |(key, (votes, contents), level, [review, conflict, dissent, actionable], settled)| EventRecord {
                tag: TAG,
                seq: key.as_ref().map(|(.., seq)| *seq),
                key: key.map(|(tenant, source, id, _)| {
                    (TenantId::new(tenant).unwrap(), EventKey::new(source, id).unwrap())
                }),
                votes,
                contents,
                level: LEVELS[level],
                marks: Marks { review, conflict, dissent, actionable },
                settled,
            },
        )
    }

    fn epochs() -> Vec<(CloudId, EpochId)> {
        ["gcp", "aws"].map(|name| (CloudId::new(name).unwrap(), EpochId([1; 16]))).to_vec()
    }

    proptest! {
        #[test]
        fn a_record_reads_as_it_was_written(record in record()) {
            let bytes = encode(&record, &epochs());
            prop_assert_eq!(decode(TAG, &bytes, &epochs()).unwrap(), record);
        }

        #[test]
        fn a_record_that_is_cut_short_or_goes_on_is_refused(record in record(), more in any::<u8>()) {
            let mut bytes = encode(&record, &epochs());
            for end in 0..bytes.len() {
                prop_assert!(decode(TAG, &bytes[..end], &epochs()).is_err());
            }
            bytes.push(more);
            prop_assert!(decode(TAG, &bytes, &epochs()).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = decode(TAG, &[&[VERSION], bytes.as_slice()].concat(), &epochs());
        }
    }

    #[test]
    fn three_clouds_that_agree_take_little_more_than_what_they_agree_on() {
        let names = ["aws", "azure", "gcp"].map(|name| (CloudId::new(name).unwrap(), EpochId([1; 16])));
        let mut record = EventRecord::new(TAG);
        record.contents = vec![Hash([1; 32])];
        record.settled = Some(Hash([2; 32]));
        for (cloud, epoch) in names.clone() {
            let vote = Vote {
                config: 0,
                tag: TAG,
                verdict: Verdict::Confirm,
                content: Hash([2; 32]),
                envelope: Hash([3; 32]),
            };
            record.votes.push(RecordedVote { cloud, epoch, index: 1_000_000, vote, branch: None });
        }
        assert_eq!(encode(&record, &names).len(), 3 * 32 + 6 + 3 * 6 + 1);
    }
}
