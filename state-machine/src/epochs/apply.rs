//! Opening the own epoch, learning the epochs of others, closing what a cloud has lost. What a cloud
//! takes back of its own past is in `recovery.rs`.

use super::recovery::{self, Recovery};
use super::{Closing, Command, Opening};
use crate::command::Reply;
use crate::fact::Fact;
use crate::ids::{CloudId, EpochId, Hash};
use crate::ledger::{self, Log, StoredNodes};
use crate::records::{Broken, Records};
use crate::rejection::Rejection;
use crate::state::{State, Tx};
use crate::transparency::{Leaf, NoteBody, Open, Predecessor};
use std::collections::BTreeMap;

pub(crate) fn apply(tx: &mut Tx<'_>, command: &Command) -> Result<Result<Reply, Rejection>, Broken> {
    let Command::Open(opening) = command;
    if let Err(error) = opening.check(&tx.state.genesis) {
        return Ok(Err(Rejection::BadEpoch(error.to_string())));
    }
    if opening.cloud != tx.state.me {
        return Ok(Err(Rejection::BadEpoch(format!("it is an epoch of cloud {}, not of this one", opening.cloud))));
    }
    let id = opening.id(&tx.state.fed);
    let current = tx.state.hot.current.get(&opening.cloud).copied();
    if current == Some(id) {
        return Ok(Ok(Reply::Done));
    }
    let known = tx.state.opening(&opening.cloud).map(|known| known.number);
    if known.is_some_and(|known| opening.number <= known) {
        let why = format!("epoch number {} was used before; the next is {}", opening.number, known.unwrap_or(0) + 1);
        return Ok(Err(Rejection::BadEpoch(why)));
    }
    begin(tx, opening, id);
    if opening.number == 0 || mutant!(RejoinsWithoutClosings) {
        open(tx, opening, id, None)?;
    } else {
        tx.state.hot.recovery = Some(Recovery { opening: opening.clone(), closings: BTreeMap::new() });
        // The others may have closed the old epoch before this cloud knew that it needs their word.
        let heard = tx.state.hot.logs.iter().filter_map(|((cloud, _), log)| Some((cloud.clone(), log.note.clone()?)));
        for (cloud, note) in heard.collect::<Vec<_>>() {
            recovery::take_closings(tx, &cloud, &note.body.closings);
        }
    }
    Ok(Ok(Reply::Done))
}

fn begin(tx: &mut Tx<'_>, opening: &Opening, id: EpochId) {
    tx.state.hot.current.insert(opening.cloud.clone(), id);
    learn(tx, opening, id);
}

fn learn(tx: &mut Tx<'_>, opening: &Opening, id: EpochId) {
    let cloud = opening.cloud.clone();
    tx.state.hot.openings.push(opening.clone());
    tx.state.epochs.push((cloud.clone(), id));
    tx.state.hot.logs.insert((cloud.clone(), id), Log::default());
    tx.facts.push(Fact::EpochIntroduced { cloud, epoch: id });
}

/// Writes leaf 0: from here on this cloud votes.
pub(super) fn open(
    tx: &mut Tx<'_>,
    opening: &Opening,
    id: EpochId,
    predecessor: Option<Predecessor>,
) -> Result<(), Broken> {
    let leaf = Leaf::Open(Open {
        opening: crate::wire::sha256(&opening.bytes(&tx.state.fed)),
        config: 0,
        config_hash: Hash(tx.state.fed.0),
        predecessor,
    });
    let log = tx.state.hot.logs.get_mut(&(opening.cloud.clone(), id)).expect("begin made it");
    ledger::append(tx.records, &opening.cloud, &id, &mut log.frontier, &leaf).map(|_| ())
}

/// Learns an epoch of another cloud. A later one closes the one before, for good: this cloud
/// promises in its next note what it holds of it, and takes no more than what the next epoch adopts.
pub(crate) fn introduce(tx: &mut Tx<'_>, opening: &Opening) -> Result<Result<Reply, Rejection>, Broken> {
    if let Err(error) = opening.check(&tx.state.genesis) {
        return Ok(Err(Rejection::BadEpoch(error.to_string())));
    }
    let (id, cloud) = (opening.id(&tx.state.fed), opening.cloud.clone());
    if tx.state.epochs.iter().any(|(_, known)| *known == id) {
        return Ok(Ok(Reply::Done));
    }
    let same_number = |known: &&Opening| known.cloud == cloud && known.number == opening.number;
    if tx.state.hot.openings.iter().find(same_number).is_some() {
        let why = format!("another epoch number {} of cloud {cloud} is known; its root key signed two", opening.number);
        return Ok(Err(Rejection::BadEpoch(why)));
    }
    let current = tx.state.opening(&cloud).map(|known| known.number);
    if cloud == tx.state.me {
        if tx.state.hot.recovery.is_none() || current.is_none_or(|current| opening.number >= current) {
            return Ok(Err(Rejection::BadEpoch("this cloud opens its own epochs itself".into())));
        }
        // A recovering cloud mirrors its own past.
        learn(tx, opening, id);
        return Ok(Ok(Reply::Done));
    }
    // One after the other: who promises what it holds of an epoch knew all before it.
    let next = current.map_or(0, |current| current + 1);
    if opening.number != next {
        let why = format!("it is epoch number {} of cloud {cloud}; number {next} comes first", opening.number);
        return Ok(Err(Rejection::BadEpoch(why)));
    }
    if let Some(old) = tx.state.hot.current.get(&cloud).copied() {
        let log = tx.state.hot.logs.get_mut(&(cloud.clone(), old)).expect("every current epoch has a log");
        log.closed = true;
        let (size, root) = (log.size(), log.frontier.root());
        tx.state.hot.closings.push(Closing { cloud: cloud.clone(), epoch: old, size, root });
        tx.facts.push(Fact::EpochClosed { cloud: cloud.clone(), epoch: old });
    }
    begin(tx, opening, id);
    Ok(Ok(Reply::Done))
}

/// Whether leaf 0 of an epoch says what its opening and the genesis say, and admits everything that
/// this cloud holds of the epochs before.
pub(crate) fn open_leaf_fits(state: &State, cloud: &CloudId, epoch: &EpochId, open: &Open) -> bool {
    if mutant!(RejoinsWithoutClosings) {
        return true;
    }
    let Some(opening) = state.opening_of(epoch) else { return false };
    opening.cloud == *cloud
        && open.opening == crate::wire::sha256(&opening.bytes(&state.fed))
        && open.config == 0
        && open.config_hash.0 == state.fed.0
        && goes_on(state, opening, open.predecessor)
}

/// Whether the predecessor takes in what this cloud closed: as much of its own epoch, and nothing of
/// the epochs between.
fn goes_on(state: &State, opening: &Opening, predecessor: Option<Predecessor>) -> bool {
    let Some(head) = predecessor else { return opening.number == 0 };
    let earlier = state.hot.openings.iter().filter(|known| known.cloud == opening.cloud);
    let earlier: Vec<_> = earlier.filter(|known| known.number < opening.number).collect();
    let Some(of) = earlier.iter().find(|known| known.id(&state.fed) == head.epoch) else { return false };
    let since = earlier.iter().filter(|known| known.number >= of.number).map(|known| known.id(&state.fed));
    let mut closed = since.flat_map(|epoch| state.hot.closings.iter().filter(move |closing| closing.epoch == epoch));
    closed.all(|closing| match closing.size {
        0 => true,
        size => closing.epoch == head.epoch && (size < head.size || (size, closing.root) == (head.size, head.root)),
    })
}

/// Whether a note of a closed epoch is within what the cloud itself adopted of it: the leaf that opens
/// a later epoch names the longest head that any voter closed, and who closed a shorter one may
/// still learn the rest. Beyond it everything is void.
pub(crate) fn admits(tx: &Tx<'_>, note: &NoteBody) -> Result<bool, Broken> {
    let head = adopted(tx.state, tx.records, &note.origin.cloud, &note.origin.epoch)?;
    Ok(head.is_some_and(|head| note.size < head.size || (note.size, note.root) == (head.size, head.root)))
}

/// The head of a closed epoch that a later epoch of its cloud names in leaf 0, if that leaf is here.
pub(crate) fn adopted(
    state: &State,
    records: &dyn Records,
    cloud: &CloudId,
    epoch: &EpochId,
) -> Result<Option<Predecessor>, Broken> {
    let Some(closed) = state.opening_of(epoch) else { return Ok(None) };
    for later in state.hot.openings.iter().filter(|later| later.cloud == *cloud && later.number > closed.number) {
        let head = predecessor(records, cloud, &later.id(&state.fed))?;
        if let Some(head) = head.filter(|head| head.epoch == *epoch) {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// What leaf 0 of an epoch names, if that leaf is here.
pub(super) fn predecessor(
    records: &dyn Records,
    cloud: &CloudId,
    epoch: &EpochId,
) -> Result<Option<Predecessor>, Broken> {
    match (StoredNodes { records, cloud, epoch }).leaf(0)? {
        Some(Leaf::Open(open)) => Ok(open.predecessor),
        Some(Leaf::Vote(_) | Leaf::Held { .. }) | None => Ok(None),
    }
}
