//! Opening the own epoch, learning the epochs of others, closing what a cloud has lost.

use super::{Closing, Command, Opening};
use crate::command::Reply;
use crate::events;
use crate::fact::Fact;
use crate::ids::{CloudId, EpochId, Hash};
use crate::ledger::{self, Log, StoredNodes};
use crate::records::{Broken, Records};
use crate::rejection::Rejection;
use crate::state::{State, Tx};
use crate::transparency::{Leaf, NoteBody, Open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A new epoch that waits until every other voter has closed the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub opening: Opening,
    /// By voter: what it holds of the lost epoch.
    pub closings: BTreeMap<CloudId, Closing>,
}

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
        open(tx, opening, id, None);
    } else {
        tx.state.hot.recovery = Some(Recovery { opening: opening.clone(), closings: BTreeMap::new() });
        // The others may have closed the old epoch before this cloud knew that it needs their word.
        let heard = tx.state.hot.logs.iter().filter_map(|((cloud, _), log)| Some((cloud.clone(), log.note.clone()?)));
        for (cloud, note) in heard.collect::<Vec<_>>() {
            take_closings(tx, &cloud, &note.body.closings);
        }
    }
    Ok(Ok(Reply::Done))
}

fn begin(tx: &mut Tx<'_>, opening: &Opening, id: EpochId) {
    let hot = &mut tx.state.hot;
    hot.openings.push(opening.clone());
    hot.current.insert(opening.cloud.clone(), id);
    hot.logs.insert((opening.cloud.clone(), id), Log::default());
}

/// Writes leaf 0: from here on this cloud votes.
fn open(tx: &mut Tx<'_>, opening: &Opening, id: EpochId, predecessor: Option<(u64, Hash)>) {
    let leaf = Leaf::Open(Open {
        opening: crate::wire::sha256(&opening.bytes(&tx.state.fed)),
        config: 0,
        config_hash: Hash(tx.state.fed.0),
        predecessor,
    });
    let log = tx.state.hot.logs.get_mut(&(opening.cloud.clone(), id)).expect("begin made it");
    ledger::append(tx.records, &opening.cloud, &id, &mut log.frontier, &leaf);
    tx.facts.push(Fact::EpochOpened { cloud: opening.cloud.clone(), epoch: id });
}

/// Learns an epoch of another cloud. A later one closes the one before, for good: this cloud
/// promises in its next note what it holds of it, and takes no more than what the next epoch adopts.
pub(crate) fn introduce(tx: &mut Tx<'_>, opening: &Opening) -> Result<Result<Reply, Rejection>, Broken> {
    if let Err(error) = opening.check(&tx.state.genesis) {
        return Ok(Err(Rejection::BadEpoch(error.to_string())));
    }
    let (id, cloud) = (opening.id(&tx.state.fed), opening.cloud.clone());
    if tx.state.hot.openings.iter().any(|known| known.id(&tx.state.fed) == id) {
        return Ok(Ok(Reply::Done));
    }
    let same_number = |known: &&Opening| known.cloud == cloud && known.number == opening.number;
    if tx.state.hot.openings.iter().find(same_number).is_some() {
        let why = format!("another epoch number {} of cloud {cloud} is known; its root key signed two", opening.number);
        return Ok(Err(Rejection::BadEpoch(why)));
    }
    let current = tx.state.opening(&cloud).map(|known| known.number);
    if cloud == tx.state.me && tx.state.hot.recovery.is_none() {
        return Ok(Err(Rejection::BadEpoch("this cloud opens its own epochs itself".into())));
    }
    if current.is_some_and(|current| opening.number < current) {
        // An old epoch: its keys verify old notes, and a recovering cloud mirrors its own past.
        tx.state.hot.openings.push(opening.clone());
        tx.state.hot.logs.insert((cloud, id), Log::default());
        return Ok(Ok(Reply::Done));
    }
    if let Some(old) = tx.state.hot.current.get(&cloud).copied() {
        let log = tx.state.hot.logs.get_mut(&(cloud.clone(), old)).expect("every current epoch has a log");
        log.closed = true;
        let (size, root) = (log.size(), log.frontier.root());
        tx.state.hot.closings.push(Closing { cloud: cloud.clone(), epoch: old, size, root });
        tx.facts.push(Fact::EpochClosed { cloud: cloud.clone(), epoch: old });
    }
    begin(tx, opening, id);
    tx.facts.push(Fact::EpochOpened { cloud, epoch: id });
    Ok(Ok(Reply::Done))
}

/// Whether leaf 0 of an epoch says what its opening and the genesis say, and admits everything that
/// this cloud holds of the epoch before.
pub(crate) fn open_leaf_fits(state: &State, cloud: &CloudId, epoch: &EpochId, open: &Open) -> bool {
    if mutant!(RejoinsWithoutClosings) {
        return true;
    }
    let Some(opening) = state.hot.openings.iter().find(|known| known.id(&state.fed) == *epoch) else { return false };
    let held = state.hot.closings.iter().filter(|closing| closing.cloud == *cloud).map(|closing| closing.size).max();
    open.opening == crate::wire::sha256(&opening.bytes(&state.fed))
        && open.config == 0
        && open.config_hash.0 == state.fed.0
        && open.predecessor.is_some() == (opening.number > 0)
        && open.predecessor.map_or(0, |(size, _)| size) >= held.unwrap_or(0)
}

/// Whether a note of a closed epoch is within what the cloud itself adopted of it: the leaf that opens
/// the next epoch names the longest head that any voter closed, and who closed a shorter one may
/// still learn the rest. Beyond it everything is void.
pub(crate) fn admits(tx: &Tx<'_>, note: &NoteBody) -> Result<bool, Broken> {
    let head = adopted(tx.state, tx.records, &note.origin.cloud, &note.origin.epoch)?;
    Ok(head.is_some_and(|(size, root)| note.size < size || (note.size == size && note.root == root)))
}

/// The head of a closed epoch that the cloud's next epoch names in its leaf 0, if that leaf is here.
pub(crate) fn adopted(
    state: &State,
    records: &dyn Records,
    cloud: &CloudId,
    epoch: &EpochId,
) -> Result<Option<(u64, Hash)>, Broken> {
    let Some(closed) = state.opening_of(epoch) else { return Ok(None) };
    let later = state.hot.openings.iter().filter(|later| later.cloud == *cloud && later.number > closed.number);
    let Some(next) = later.min_by_key(|later| later.number) else { return Ok(None) };
    let next = next.id(&state.fed);
    let next_log = StoredNodes { records, cloud, epoch: &next };
    match next_log.leaf(0)? {
        Some(Leaf::Open(open)) => Ok(open.predecessor),
        Some(Leaf::Vote(_) | Leaf::Held { .. }) | None => Ok(None),
    }
}

/// Takes the promises of another cloud about this cloud's lost epoch.
pub(crate) fn take_closings(tx: &mut Tx<'_>, by: &CloudId, closings: &[Closing]) {
    let me = tx.state.me.clone();
    let Some(recovery) = &mut tx.state.hot.recovery else { return };
    if let Some(closing) = closings.iter().rev().find(|closing| closing.cloud == me) {
        recovery.closings.insert(by.clone(), closing.clone());
    }
}

/// Opens the new epoch once every other voter has closed the old one and the union of what they
/// hold is here again.
pub(crate) fn finish_recovery(tx: &mut Tx<'_>) -> Result<(), Broken> {
    let Some(recovery) = &tx.state.hot.recovery else { return Ok(()) };
    let others: Vec<_> = tx.state.genesis.clouds().filter(|cloud| **cloud != tx.state.me).collect();
    let needed = if mutant!(ClosingsFromOneVoter) { 1 } else { others.len() };
    if others.into_iter().filter(|cloud| recovery.closings.contains_key(cloud)).count() < needed {
        return Ok(());
    }
    let Recovery { opening, closings } = recovery.clone();
    let head = closings.values().max_by_key(|closing| closing.size).expect("two voters closed it").clone();
    let at = (head.cloud.clone(), head.epoch);
    if head.size > 0 {
        let Some(log) = tx.state.hot.logs.get(&at) else { return Ok(()) };
        if log.size() < head.size {
            return Ok(());
        }
        let nodes = StoredNodes { records: tx.records, cloud: &at.0, epoch: &at.1 };
        for closing in closings.values() {
            if closing.epoch == head.epoch && nodes.root(&log.frontier, closing.size)? != closing.root {
                // Two voters hold different logs of the lost epoch: this cloud forked before it was
                // lost. It stays silent; an operator must decide.
                return Ok(());
            }
        }
    }
    if let Some(log) = tx.state.hot.logs.get_mut(&at) {
        log.closed = true;
    }
    tx.state.hot.recovery = None;
    let id = opening.id(&tx.state.fed);
    open(tx, &opening, id, Some((head.size, head.root)));
    events::answer_again(tx, &head.epoch, head.size)?;
    events::vote_on_held(tx)
}
