//! Submissions, bodies from other clouds, operators' decisions, and this cloud's own vote. A key is
//! voted on once, ever: whoever wants another answer submits a new event that supersedes it.

use super::{BodyRef, Command, EventRecord, Level, MAX_SUBMIT, Marks, PackedBody, Receipt, RecordedVote, Submission};
use crate::command::Reply;
use crate::content::{Content, Envelope, salted};
use crate::fact::Fact;
use crate::ids::{EpochId, EventKey, Hash, Tag, TenantId};
use crate::ledger::{self, Log, StoredNodes, keys};
use crate::records::Broken;
use crate::rejection::Rejection;
use crate::state::Tx;
use crate::tenants::{Confirm, Tenant};
use crate::time::WallMillis;
use crate::transparency::{Leaf, Predecessor, Verdict, Vote};
use crate::wire::sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most different contents of one key whose bodies are kept: one a cloud, and one to spare.
pub const MAX_CONTENTS: usize = 4;
/// The most tags with votes and without a body that are remembered.
pub const MAX_MISSING: usize = 65_536;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    match command {
        Command::Submit { items, .. } if items.len() > MAX_SUBMIT => {
            let limit = format!("{} events in one command, at most {MAX_SUBMIT} are allowed", items.len());
            Ok(Err(Rejection::TooLarge(limit)))
        }
        Command::Submit { .. } if !tx.state.may_vote() => Ok(Err(Rejection::EpochNotOpen)),
        Command::Submit { created_at, items } => {
            let receipts = items.iter().map(|item| submit(tx, *created_at, item)).collect::<Result<_, _>>()?;
            Ok(Ok(Reply::Submitted(receipts)))
        }
        Command::Decide { .. } if !tx.state.may_vote() => Ok(Err(Rejection::EpochNotOpen)),
        Command::Decide { tenant, key, content, verdict } => decide(tx, tenant, key, content, *verdict),
    }
}

fn submit(tx: &mut Tx<'_>, created_at: WallMillis, item: &Submission) -> Result<Result<Receipt, Rejection>, Broken> {
    let content = &item.content;
    let Some(tenant) = tx.state.tenants.get(&content.tenant).cloned() else {
        return Ok(Err(Rejection::UnknownTenant(content.tenant.clone())));
    };
    if let Err(error) = content.check() {
        return Ok(Err(Rejection::InvalidContent(error.to_string())));
    }
    let content_hash = content.hash();
    let tag = tenant.secret.tag(&tx.state.fed, &tenant.id, &content.key);
    let known = if mutant!(DedupOff) { None } else { tx.take_record(&tag)? };
    let pending = tx.state.hot.pending.get(&tenant.id).copied().unwrap_or(0);
    let answer = match &known {
        Some((record, _)) if !record.contents.is_empty() => match record.place_of(&content_hash) {
            Some(at) => Some(Ok(known_receipt(tx, record, at)?)),
            None => Some(Err(Rejection::IdReuse { key: content.key.clone(), first: record.contents[0] })),
        },
        _ if pending >= tenant.max_pending => {
            Some(Err(Rejection::QuotaExceeded { tenant: tenant.id.clone(), pending }))
        }
        _ => None,
    };
    if let Some(answer) = answer {
        if let Some((record, changed)) = known {
            tx.give_back(record, changed);
        }
        return Ok(answer);
    }
    let known = known.map(|(record, _)| record);
    tx.state.hot.logical_clock += 1;
    let envelope = Envelope {
        origin_cloud: tx.state.me.clone(),
        logical_clock: tx.state.hot.logical_clock,
        region: tx.state.region.clone(),
        created_at,
    };
    let packed = crate::codec::encode(&BodyRef { envelope: &envelope, content, signature: &item.signature });
    let (hash, origin_cloud) = (envelope.hash(&content_hash), envelope.origin_cloud.clone());
    let level = accept(tx, &tenant, tag, known, content_hash, (content, &envelope, packed))?;
    Ok(Ok(Receipt { tag, content_hash, new: true, hash, origin_cloud, level }))
}

fn known_receipt(tx: &Tx<'_>, record: &EventRecord, at: usize) -> Result<Receipt, Broken> {
    let (body, content_hash) = (tx.state.body(tx.records, record, at)?, record.contents[at]);
    Ok(Receipt {
        tag: record.tag,
        content_hash,
        new: false,
        hash: body.envelope.hash(&content_hash),
        origin_cloud: body.envelope.origin_cloud,
        level: record.level,
    })
}

/// Takes a body that another cloud sent. What this cloud cannot judge yet (an unknown tenant) it
/// does not keep; it stays missing, and is asked for again.
pub(crate) fn receive(tx: &mut Tx<'_>, packed: &PackedBody) -> Result<(), Broken> {
    // The proposing leader has unpacked it before.
    let Ok(remote) = packed.unpack() else { return Ok(()) };
    let Some(tenant) = tx.state.tenants.get(&remote.content.tenant).cloned() else { return Ok(()) };
    if remote.content.check().is_err() {
        return Ok(());
    }
    let content_hash = remote.content.hash();
    let tag = tenant.secret.tag(&tx.state.fed, &tenant.id, &remote.content.key);
    let known = match tx.take_record(&tag)? {
        Some((record, changed))
            if record.place_of(&content_hash).is_some() || record.contents.len() >= MAX_CONTENTS =>
        {
            tx.give_back(record, changed);
            return Ok(());
        }
        known => known.map(|(record, _)| record),
    };
    let clock = &mut tx.state.hot.logical_clock;
    *clock = (*clock).max(remote.envelope.logical_clock);
    let body = (&remote.content, &remote.envelope, packed.bytes().to_vec());
    accept(tx, &tenant, tag, known, content_hash, body)?;
    Ok(())
}

/// Stores a new body, lists the event if it is its first, and votes if the tenant's policy says so.
fn accept(
    tx: &mut Tx<'_>,
    tenant: &Tenant,
    tag: Tag,
    known: Option<Box<EventRecord>>,
    content_hash: Hash,
    (content, envelope, packed): (&Content, &Envelope, Vec<u8>),
) -> Result<Level, Broken> {
    let mut record = known.unwrap_or_else(|| Box::new(EventRecord::new(tag)));
    record.contents.push(content_hash);
    if record.key.is_none() {
        let hot = &mut tx.state.hot;
        hot.next_seq += 1;
        hot.counts.added(record.level);
        if record.level == Level::Pending {
            *hot.pending.entry(tenant.id.clone()).or_default() += 1;
        }
        record.key = Some((tenant.id.clone(), content.key.clone()));
        record.seq = Some(hot.next_seq);
        ledger::list(tx.records, &tenant.id, hot.next_seq, &tag)?;
    }
    let seq = record.seq.expect("it was listed with its first body");
    tx.records.put(keys::body(seq, record.contents.len() - 1), packed);
    tx.facts.push(Fact::EventAccepted {
        tenant: tenant.id.clone(),
        key: content.key.clone(),
        content_hash,
        origin_cloud: envelope.origin_cloud.clone(),
    });
    let unanswered = tx.state.may_vote() && !record.has_vote_of(&tx.state.me);
    if unanswered && tenant.confirm == Confirm::Auto {
        vote(tx, tenant, &mut record, content, envelope, content_hash, Verdict::Confirm)?;
    } else if unanswered && record.contents.len() == 1 {
        // Whoever mirrors this log learns that there is a body to fetch, also when its origin is gone.
        append_own(tx, &Leaf::Held { config: 0, tag })?;
    }
    if !tx.lacks_body(&record) {
        tx.state.hot.missing.remove(&tag);
    }
    let level = record.level;
    tx.put_record(record);
    tx.touched.push(tag);
    Ok(level)
}

/// Appends this cloud's one vote on a key to its own log.
fn vote(
    tx: &mut Tx<'_>,
    tenant: &Tenant,
    record: &mut EventRecord,
    content: &Content,
    envelope: &Envelope,
    content_hash: Hash,
    verdict: Verdict,
) -> Result<(), Broken> {
    let hash = envelope.hash(&content_hash);
    let mut salted_content = tenant.secret.salted_content(&content_hash);
    if mutant!(RandomSalt) {
        let leaf = tx.state.own_log().map_or(0, Log::size).to_be_bytes();
        salted_content = salted(&content_hash, &sha256(&leaf));
    }
    if mutant!(ContentHashOverEnvelope) {
        salted_content = tenant.secret.salted_content(&hash);
    }
    let vote = Vote {
        config: 0,
        tag: record.tag,
        verdict,
        content: salted_content,
        envelope: tenant.secret.salted_envelope(&hash),
    };
    let (epoch, index) = append_own(tx, &Leaf::Vote(vote.clone()))?;
    record.votes.push(RecordedVote { cloud: tx.state.me.clone(), epoch, index, vote, branch: None });
    tx.facts.push(Fact::Voted { tenant: tenant.id.clone(), key: content.key.clone(), verdict });
    Ok(())
}

fn append_own(tx: &mut Tx<'_>, leaf: &Leaf) -> Result<(EpochId, u64), Broken> {
    let me = tx.state.me.clone();
    let epoch = tx.state.hot.current[&me];
    let log = tx.state.hot.logs.get_mut(&(me.clone(), epoch)).expect("may_vote saw the own log");
    Ok((epoch, ledger::append(tx.records, &me, &epoch, &mut log.frontier, leaf)?))
}

impl Tx<'_> {
    /// Whether some cloud confirmed a content of this event whose body is not here.
    pub fn lacks_body(&self, record: &EventRecord) -> bool {
        let Some(tenant) = record.key.as_ref().and_then(|(tenant, _)| self.state.tenants.get(tenant)) else {
            return true;
        };
        let held: Vec<Hash> = record.contents.iter().map(|content| tenant.secret.salted_content(content)).collect();
        held.len() < MAX_CONTENTS && record.votes.iter().any(|vote| !held.contains(&vote.vote.content))
    }
}

fn decide(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    key: &EventKey,
    content_hash: &Hash,
    verdict: Verdict,
) -> Result<Result<Reply, Rejection>, Broken> {
    let Some(tenant) = tx.state.tenants.get(tenant).cloned() else {
        return Ok(Err(Rejection::UnknownTenant(tenant.clone())));
    };
    if tenant.confirm != Confirm::Manual {
        return Ok(Err(Rejection::NotManual(tenant.id.clone())));
    }
    let tag = tenant.secret.tag(&tx.state.fed, &tenant.id, key);
    let Some(mut record) = tx.record(&tag)?.filter(|record| record.key.is_some()) else {
        return Ok(Err(Rejection::UnknownEvent { tenant: tenant.id.clone(), key: key.clone() }));
    };
    let Some(at) = record.place_of(content_hash) else {
        return Ok(Err(Rejection::UnknownContent(*content_hash)));
    };
    if let Some(own) = record.vote_of(&tx.state.me).filter(|_| !mutant!(VotesTwice)) {
        let same = own.verdict() == verdict && own.vote.content == tenant.secret.salted_content(content_hash);
        return Ok(if same { Ok(Reply::Done) } else { Err(Rejection::AlreadyVoted(key.clone())) });
    }
    let body = tx.state.body(tx.records, &record, at)?;
    vote(tx, &tenant, &mut record, &body.content, &body.envelope, *content_hash, verdict)?;
    tx.put_record(record);
    tx.touched.push(tag);
    Ok(Ok(Reply::Done))
}

impl EventRecord {
    pub(crate) fn new(tag: Tag) -> Self {
        Self {
            tag,
            key: None,
            seq: None,
            votes: Vec::new(),
            contents: Vec::new(),
            level: Level::Pending,
            marks: Marks::default(),
            settled: None,
        }
    }

    /// The place of a content among those held.
    fn place_of(&self, content: &Hash) -> Option<usize> {
        self.contents.iter().position(|held| held == content)
    }

    /// The first vote of a cloud; a lying cloud has more.
    pub fn vote_of(&self, cloud: &crate::ids::CloudId) -> Option<&RecordedVote> {
        self.votes.iter().find(|vote| vote.cloud == *cloud)
    }

    pub(crate) fn has_vote_of(&self, cloud: &crate::ids::CloudId) -> bool {
        self.vote_of(cloud).is_some()
    }
}

/// After a renewal: leaves beyond the heads that the others closed are void, and are written again in
/// the new epoch. The same answers, since a late message may still show the first ones; but a key
/// that was answered again before keeps that answer, which the others hold.
pub(crate) fn answer_again(tx: &mut Tx<'_>, heads: &[Predecessor]) -> Result<(), Broken> {
    let me = tx.state.me.clone();
    let ends: BTreeMap<EpochId, u64> = heads.iter().map(|head| (head.epoch, head.size)).collect();
    let is_void = |vote: &RecordedVote| vote.cloud == me && ends.get(&vote.epoch).is_some_and(|end| vote.index >= *end);
    for closed in heads.iter().rev() {
        let end = tx.state.hot.logs.get(&(me.clone(), closed.epoch)).map_or(0, Log::size);
        for void in closed.size..end {
            let leaf = StoredNodes { records: tx.records, cloud: &me, epoch: &closed.epoch }.leaf(void)?;
            let leaf = leaf.ok_or_else(|| Broken(format!("log {me}/{} lacks leaf {void}", closed.epoch)))?;
            let Some(tag) = leaf.tag() else { continue };
            let Some(mut record) = tx.record(&tag)? else { continue };
            if record.votes.iter().any(|vote| vote.cloud == me && !is_void(vote)) {
                record.votes.retain(|vote| !is_void(vote));
            } else {
                let (epoch, index) = append_own(tx, &leaf)?;
                for vote in record.votes.iter_mut().filter(|vote| is_void(vote)) {
                    (vote.epoch, vote.index) = (epoch, index);
                }
            }
            tx.put_record(record);
            tx.touched.push(tag);
        }
    }
    Ok(())
}

/// After a recovery: votes on everything that is held, wanted and not yet answered.
pub(crate) fn vote_on_held(tx: &mut Tx<'_>) -> Result<(), Broken> {
    let tenants: Vec<Arc<Tenant>> = tx.state.tenants.values().filter(|t| t.confirm == Confirm::Auto).cloned().collect();
    tx.write_changed();
    for tenant in tenants {
        for (_, mut record) in tx.state.events(tx.records, &tenant.id, 0, usize::MAX)? {
            let Some(content_hash) = record.contents.first().copied() else { continue };
            if record.has_vote_of(&tx.state.me) {
                continue;
            }
            let body = tx.state.body(tx.records, &record, 0)?;
            vote(tx, &tenant, &mut record, &body.content, &body.envelope, content_hash, Verdict::Confirm)?;
            tx.touched.push(record.tag);
            tx.put_record(record);
        }
    }
    Ok(())
}
