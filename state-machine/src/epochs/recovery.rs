//! A renewed cloud takes back its own past before it votes again: of every epoch that it ever had,
//! what the other voters hold of it. Their closing statements say how much that is of the newest
//! one; leaf 0 of each epoch says it of an older one.

use super::apply::{open, predecessor};
use super::{Closing, Opening};
use crate::events;
use crate::ids::{CloudId, EpochId};
use crate::ledger::StoredNodes;
use crate::records::{Broken, Records};
use crate::state::{State, Tx};
use crate::transparency::{Predecessor, empty_root};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A new epoch that waits until every other voter has closed the one before, and until the cloud
/// knows again what it said in all before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub opening: Opening,
    /// By voter and epoch: what it promised that it holds of this cloud's logs.
    pub closings: BTreeMap<(CloudId, EpochId), Closing>,
}

/// How much of the own past is here again.
enum Past {
    /// More is here once this epoch's log is longer.
    Lacks(EpochId),
    /// An epoch is not known yet, or its voters hold two logs of it: this cloud forked before it was
    /// lost. It stays silent; an operator must decide.
    Unclear,
    /// All of it: the heads of the own epochs, the newest first. What is beyond them is void.
    Whole(Vec<Predecessor>),
}

/// Takes the promises of another cloud about this cloud's epochs. A cloud that was renewed itself
/// may promise less than it did before: the larger promise counts.
pub(crate) fn take_closings(tx: &mut Tx<'_>, by: &CloudId, closings: &[Closing]) {
    let me = tx.state.me.clone();
    let Some(recovery) = &mut tx.state.hot.recovery else { return };
    for closing in closings.iter().filter(|closing| closing.cloud == me) {
        let known = recovery.closings.entry((by.clone(), closing.epoch)).or_insert_with(|| closing.clone());
        if known.size < closing.size {
            *known = closing.clone();
        }
    }
}

/// Opens the new epoch once every other voter has closed the one before and the own past is whole.
pub(crate) fn finish_recovery(tx: &mut Tx<'_>) -> Result<(), Broken> {
    let Some(recovery) = tx.state.hot.recovery.clone() else { return Ok(()) };
    let Past::Whole(heads) = past(tx.state, tx.records, &recovery)? else { return Ok(()) };
    for head in &heads {
        let log = tx.state.hot.logs.get_mut(&(tx.state.me.clone(), head.epoch));
        log.expect("the past is whole").closed = true;
    }
    tx.state.hot.recovery = None;
    let opening = &recovery.opening;
    let last = heads.iter().find(|head| head.size > 0).or(heads.first()).copied();
    open(tx, opening, opening.id(&tx.state.fed), last)?;
    events::answer_again(tx, &heads)?;
    events::vote_on_held(tx)
}

impl State {
    /// The own epoch that this cloud asks the others for, while it recovers.
    pub fn lost_epoch(&self, records: &dyn Records) -> Result<Option<EpochId>, Broken> {
        let Some(recovery) = &self.hot.recovery else { return Ok(None) };
        Ok(match past(self, records, recovery)? {
            Past::Lacks(epoch) => Some(epoch),
            Past::Unclear | Past::Whole(_) => None,
        })
    }
}

fn past(state: &State, records: &dyn Records, recovery: &Recovery) -> Result<Past, Broken> {
    let me = &state.me;
    let mut heads = Vec::new();
    let mut named: Option<Predecessor> = None;
    for number in (0..recovery.opening.number).rev() {
        let numbered = |opening: &&Opening| opening.cloud == *me && opening.number == number;
        let Some(opening) = state.hot.openings.iter().find(numbered) else { return Ok(Past::Unclear) };
        let epoch = opening.id(&state.fed);
        let promised: Vec<&Closing> = recovery.closings.values().filter(|closing| closing.epoch == epoch).collect();
        let newest = number + 1 == recovery.opening.number;
        if newest && !all_closed(state, recovery, &epoch) {
            return Ok(Past::Lacks(epoch));
        }
        let longest = promised.iter().max_by_key(|closing| closing.size);
        let none = Predecessor { epoch, size: 0, root: empty_root() };
        let head = match named {
            Some(named) if named.epoch == epoch => named,
            // A newer epoch goes on from an older one: of this one nobody held anything.
            Some(_) => none,
            None => longest.map_or(none, |it| Predecessor { epoch, size: it.size, root: it.root }),
        };
        let log = state.hot.logs.get(&(me.clone(), epoch)).filter(|log| log.size() >= head.size);
        let Some(log) = log else { return Ok(Past::Lacks(epoch)) };
        let nodes = StoredNodes { records, cloud: me, epoch: &epoch };
        let said = promised.iter().map(|closing| (closing.size, closing.root)).chain([(head.size, head.root)]);
        for (size, root) in said.filter(|(size, _)| *size <= head.size) {
            if nodes.root(&log.frontier, size)? != root {
                return Ok(Past::Unclear);
            }
        }
        heads.push(head);
        if head.size > 0 {
            named = predecessor(records, me, &epoch)?;
        }
    }
    Ok(Past::Whole(heads))
}

fn all_closed(state: &State, recovery: &Recovery, epoch: &EpochId) -> bool {
    let others: Vec<_> = state.genesis.clouds().filter(|cloud| **cloud != state.me).collect();
    let needed = if mutant!(ClosingsFromOneVoter) { 1 } else { others.len() };
    let closed = |cloud: &&&CloudId| recovery.closings.contains_key(&((**cloud).clone(), *epoch));
    others.iter().filter(closed).count() >= needed
}
