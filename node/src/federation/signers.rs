//! Gathering signatures of this cloud's nodes: exactly as many as the epoch's threshold, the own one
//! among them. Each node signs what its own replica says, so one broken replica or one stolen key
//! does not speak for its cloud.

use super::Shared;
use super::board::{Stats, lock};
use crate::peer::Method;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;
use tercet_core::codec;
use tercet_core::epochs::Opening;
use tercet_core::ids::NodeId;

/// How long a follower waits until it has applied the asked index.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the leader waits for one follower.
const SIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long without an answer another follower is asked as well.
const HEDGE: Duration = Duration::from_millis(50);

/// Which followers did not answer last time: they are asked last. And which were complained about.
#[derive(Default)]
pub(super) struct Signers {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    slow: BTreeSet<NodeId>,
    logged: BTreeSet<NodeId>,
}

impl Signers {
    fn failed(&self, shared: &Shared, node: &NodeId, reason: &str) {
        Stats::add(&shared.board.stats.signatures_refused);
        let mut known = lock(&self.known);
        known.slow.insert(node.clone());
        if known.logged.insert(node.clone()) {
            tracing::warn!(%node, "no signature for this cloud: {reason}");
        }
    }

    fn signed(&self, node: &NodeId) {
        let mut known = lock(&self.known);
        known.slow.remove(node);
        if known.logged.remove(node) {
            tracing::info!(%node, "signs again");
        }
    }

    fn in_order(&self, shared: &Shared, opening: &Opening) -> VecDeque<NodeId> {
        let slow = &lock(&self.known).slow;
        let others = || opening.keys.iter().map(|(node, _)| node).filter(|node| **node != shared.node);
        let quick = others().filter(|node| !slow.contains(*node));
        quick.chain(others().filter(|node| slow.contains(*node))).cloned().collect()
    }
}

/// Asks followers one after the other until there are enough valid signatures. `method` and `request` are what they
/// are asked; `check` says what is wrong with a signature.
pub(super) async fn gather<S: DeserializeOwned>(
    shared: &Shared,
    opening: &Opening,
    own: impl FnOnce() -> S,
    (method, request): (Method, &impl Serialize),
    check: impl Fn(&NodeId, &S) -> bool,
) -> Result<Vec<(NodeId, S)>, String> {
    let threshold = opening.threshold as usize;
    let mut signatures = BTreeMap::new();
    if opening.key(&shared.node) == Some(&shared.key.public()) {
        signatures.insert(shared.node.clone(), own());
    }
    let request = Bytes::from(codec::encode(request));
    let mut candidates = shared.signers.in_order(shared, opening);
    let mut asked = FuturesUnordered::new();
    while signatures.len() < threshold {
        while signatures.len() + asked.len() < threshold
            && let Some(node) = candidates.pop_front()
        {
            asked.push(ask(shared, node, method, request.clone()));
        }
        if asked.is_empty() {
            return Err(format!("{} of {threshold} signatures", signatures.len()));
        }
        tokio::select! {
            biased;
            Some((node, answer)) = asked.next() => {
                let checked = answer.and_then(|signature: S| match check(&node, &signature) {
                    true => Ok(signature),
                    false => Err("its replica says something else".to_owned()),
                });
                match checked {
                    Ok(signature) => {
                        shared.signers.signed(&node);
                        signatures.insert(node, signature);
                    }
                    Err(reason) => shared.signers.failed(shared, &node, &reason),
                }
            }
            () = tokio::time::sleep(HEDGE) => if let Some(node) = candidates.pop_front() {
                asked.push(ask(shared, node, method, request.clone()));
            },
        }
    }
    Ok(signatures.into_iter().take(threshold).collect())
}

async fn ask<S: DeserializeOwned>(
    shared: &Shared,
    node: NodeId,
    method: Method,
    request: Bytes,
) -> (NodeId, Result<S, String>) {
    let answer = match tokio::time::timeout(SIGN_TIMEOUT, shared.peers.call(&node, method, request)).await {
        Ok(Ok(answer)) => codec::decode(&answer).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    (node, answer)
}

/// A follower that is asked waits until it has applied that log index.
pub(super) async fn follow(shared: &Shared, index: u64) -> Result<(), String> {
    let mut applied = shared.replica.applied();
    let waited = tokio::time::timeout(FOLLOW_TIMEOUT, applied.wait_for(|applied| *applied >= index)).await;
    if matches!(waited, Ok(Ok(_))) { Ok(()) } else { Err(format!("{} has not applied {index} yet", shared.node)) }
}
