//! Proving a fork. Another cloud holds a validly signed history of a log that is not the one held
//! here: both notes are signed, so either their sizes are equal and the notes themselves are the
//! proof, or the first index at which the histories part is found, and the two leaves prove it.
//! What the other side answers needs no trust: the evidence is verified before it is proposed.

use super::Shared;
use super::board::{Link, Stats, lock};
use super::frames::{Answer, Question};
use crate::raft::ProposeError;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::command::Command;
use tercet_core::evidence::{self, Evidence, Statement};
use tercet_core::ids::{CloudId, Hash};
use tercet_core::records::Broken;
use tercet_core::transparency::SignedNote;

/// How long one investigation may take: about 64 questions at most.
const HUNT_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);

/// Investigates, beside everything else, a signed note that does not fit. `link` leads to a cloud
/// that holds the leaves under it.
pub(super) fn start(shared: &Arc<Shared>, theirs: SignedNote, link: Link) {
    spawn(shared, theirs.body.origin.cloud.clone(), Some(theirs), link);
}

/// The same, under the latest note of `cloud` that the other side holds.
pub(super) fn start_with_latest(shared: &Arc<Shared>, cloud: CloudId, link: Link) {
    spawn(shared, cloud, None, link);
}

fn spawn(shared: &Arc<Shared>, cloud: CloudId, theirs: Option<SignedNote>, link: Link) {
    let flagged = shared.replica.read(|view| Ok(view.state.is_flagged(&cloud))).unwrap_or(true);
    // One investigation of a cloud at a time, and none of a convicted one.
    if flagged || !lock(&shared.board.hunts).insert(cloud.clone()) {
        return;
    }
    Stats::add(&shared.board.stats.hunts);
    let task = shared.clone();
    shared.tasks.spawn(async move {
        let hunt = async {
            match hunt(&task, &cloud, theirs, &link).await {
                Ok(Some(evidence)) => accuse(&task, evidence).await,
                Ok(None) => {}
                Err(error) => tracing::error!(%cloud, "the search for a fork failed: {error}"),
            }
        };
        tokio::select! {
            biased;
            () = task.stop.cancelled() => {}
            ended = tokio::time::timeout(HUNT_TIMEOUT, hunt) => if ended.is_err() {
                tracing::warn!(%cloud, "the search for a fork took too long");
            },
        }
        lock(&task.board.hunts).remove(&cloud);
    });
}

/// Looks for the contradiction between the mirror of `cloud` here and what `link` holds.
async fn hunt(
    shared: &Shared,
    cloud: &CloudId,
    theirs: Option<SignedNote>,
    link: &Link,
) -> Result<Option<Evidence>, Broken> {
    let theirs = match theirs {
        Some(note) => note,
        None => match link.ask(Question::Note(cloud.clone())).await {
            Some(Answer::Note(Some(note))) => *note,
            _ => return Ok(None),
        },
    };
    let (ours, head, opening) = shared.replica.read(|view| {
        Ok((view.state.note(cloud).cloned(), view.state.head(cloud), view.state.opening(cloud).cloned()))
    })?;
    let (Some(ours), Some(head), Some(opening)) = (ours, head, opening) else { return Ok(None) };
    let same_log = ours.body.origin == theirs.body.origin && ours.body.origin.cloud == *cloud;
    if !same_log || theirs.verify(&shared.fed, &opening).is_err() {
        return Ok(None);
    }
    if ours.body.size == theirs.body.size {
        let forked = ours.body.root != theirs.body.root;
        return Ok(forked.then(|| Evidence::fork_at_size(ours, theirs)));
    }
    // Our leaves prove at most what our note covers.
    if head.size < ours.body.size {
        return Ok(None);
    }
    let common = ours.body.size.min(theirs.body.size);
    let Some(index) = first_difference(shared, cloud, common, link).await? else {
        return Ok(None);
    };
    tracing::warn!(%cloud, index, "its log forks; it is being proven");
    let mine = shared.replica.read(|view| {
        let leaf = view.state.leaf(view.records, cloud, index)?;
        Ok(leaf.zip(view.state.proof(view.records, cloud, index, ours.body.size)?))
    })?;
    let question = Question::Leaf { cloud: cloud.clone(), index, size: theirs.body.size };
    let (Some((leaf, proof)), Some(Answer::Leaf(Some((their_leaf, their_proof))))) = (mine, link.ask(question).await)
    else {
        return Ok(None);
    };
    let here = Statement { note: ours, index, leaf, proof };
    let there = Statement { note: theirs, index, leaf: their_leaf, proof: their_proof };
    Ok(Some(Evidence::fork_at_index(here, there)))
}

/// The first index below `common` at which the two logs hold different leaves: the roots agree
/// before it and differ after it, so halving finds it.
async fn first_difference(shared: &Shared, cloud: &CloudId, common: u64, link: &Link) -> Result<Option<u64>, Broken> {
    let (mut same, mut differs) = (0, common);
    match agree(shared, cloud, common, link).await? {
        Some(false) => {}
        Some(true) | None => return Ok(None),
    }
    while differs - same > 1 {
        let middle = same + (differs - same) / 2;
        match agree(shared, cloud, middle, link).await? {
            Some(true) => same = middle,
            Some(false) => differs = middle,
            None => return Ok(None),
        }
    }
    Ok(Some(differs - 1))
}

/// Whether both sides have the same root at a size; `None` if one cannot say.
async fn agree(shared: &Shared, cloud: &CloudId, size: u64, link: &Link) -> Result<Option<bool>, Broken> {
    let mine: Option<Hash> = shared.replica.read(|view| view.state.root_at(view.records, cloud, size))?;
    Ok(match link.ask(Question::Root { cloud: cloud.clone(), size }).await {
        Some(Answer::Root(theirs)) => mine.zip(theirs).map(|(mine, theirs)| mine == theirs),
        _ => None,
    })
}

/// Verifies evidence, found or received, and proposes it.
pub(super) async fn accuse(shared: &Shared, evidence: Evidence) {
    let id = evidence.id();
    let (held, openings) = match shared.replica.read(|view| Ok((view.state.has_evidence(&id), view.state.openings()))) {
        Ok(read) => read,
        Err(error) => return tracing::error!("evidence {id} was not looked at: {error}"),
    };
    if held {
        return;
    }
    if let Err(error) = evidence.verify(&shared.directory.genesis, &openings) {
        tracing::warn!(evidence = %id, cloud = %evidence.cloud, "{error}");
        return;
    }
    let cloud = evidence.cloud.clone();
    let command = Command::Evidence(evidence::Command::Accuse(Box::new(evidence)));
    loop {
        match shared.replica.propose(None, command.clone()).await {
            Ok(committed) => {
                match committed.reply {
                    Ok(_) => {
                        Stats::add(&shared.board.stats.convictions);
                        tracing::error!(%cloud, evidence = %id, "cloud {cloud} is proven to have lied");
                    }
                    Err(rejection) => tracing::warn!(%cloud, evidence = %id, "{rejection}"),
                }
                return;
            }
            Err(ProposeError::Overloaded | ProposeError::NoLeader | ProposeError::OutcomeUnknown) => {
                tokio::time::sleep(RETRY).await;
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => return,
        }
    }
}
