//! Signing rounds. The leader takes what its replica says after a log index, asks followers for
//! their signatures over what *their* replicas say after that index, and completes a note with
//! exactly the epoch's threshold. One round at a time: whatever changes meanwhile waits for the
//! next, which is how rounds coalesce. Nothing is signed that Raft has not committed.

use super::board::Stats;
use super::signers::{follow, gather};
use super::{Shared, epochs};
use crate::peer::Method;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tercet_core::codec;
use tercet_core::epochs::Opening;
use tercet_core::ids::NodeId;
use tercet_core::mutant;
use tercet_core::records::Broken;
use tercet_core::transparency::{NodeSignature, NoteBody, SignedNote};
use tokio::time::Instant;

/// Pause after a round that found too few signatures: doubled each time, up to the longest.
const RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(1);
/// Rounds begin so far apart for each leaf that was new in the last one, within these bounds: a lone event waits for
/// little company, and a busy cloud gathers more into each note.
const GAP_PER_LEAF: Duration = Duration::from_micros(200);
const MIN_GAP: Duration = Duration::from_micros(800);
const MAX_GAP: Duration = Duration::from_millis(4);
/// How long a note waits that tells of other logs alone: no event becomes FINAL here by it, and often more comes.
const AUDIT_DELAY: Duration = Duration::from_millis(1);
/// How long the first signature of a process waits for the other clouds to show what they hold.
const GUARD_WAIT: Duration = Duration::from_millis(1_000);
/// How often a refused signature is thought over without any news.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    index: u64,
}

/// A follower's answer to `Method::Sign`.
pub(super) async fn answer(shared: Arc<Shared>, from: NodeId, request: Bytes) -> Result<Bytes, String> {
    let Ask { index } = codec::decode(&request).map_err(|error| error.to_string())?;
    follow(&shared, if mutant!(SignBeforeCommit) { 0 } else { index }).await?;
    #[cfg(feature = "mutants")]
    if mutant!(SignBeforeCommit) {
        let (_, body) =
            shared.replica.foresee(index).map_err(|error| error.to_string())?.ok_or("it is not here yet")?;
        return Ok(Bytes::from(codec::encode(&body.sign(&shared.node, &shared.key))));
    }
    let body = shared.replica.read(|view| Ok(view.state.note_body_at(index).cloned())).map_err(|e| e.to_string())?;
    let Some(body) = body else {
        return Err(format!("{} no longer remembers its note at log index {index}", shared.node));
    };
    tracing::trace!(%from, index, size = body.size, "signing");
    Ok(Bytes::from(codec::encode(&body.sign(&shared.node, &shared.key))))
}

/// Signs whenever there is something new, for as long as this node leads.
pub(super) async fn lead(shared: Arc<Shared>) {
    while let Err(error) = shared.replica.linearize().await {
        tracing::debug!("not signing yet: {error}");
        tokio::time::sleep(RETRY).await;
    }
    epochs::introduce_configured(&shared).await;
    wait_for_peers(&shared).await;
    if let Err(error) = sign_on(&shared).await {
        tracing::error!("signing stopped: {error}");
    }
}

/// The first signature of a process waits until each other cloud showed what it holds of our log,
/// or could not be reached for a while.
async fn wait_for_peers(shared: &Shared) {
    if shared.board.guarded.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut board = shared.board.watch();
    let all_answered = async {
        while !shared.board.all_answered() {
            if board.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(GUARD_WAIT, all_answered).await;
}

async fn sign_on(shared: &Shared) -> Result<(), Broken> {
    let (mut applied, mut board) = (shared.replica.applied(), shared.board.watch());
    let (mut last, mut opened, mut retry) = (None::<NoteBody>, false, RETRY);
    // Whether the note that is due has waited for company.
    let mut gathered = false;
    loop {
        applied.mark_unchanged();
        board.mark_unchanged();
        if shared.board.refuses(shared).await? {
            tokio::select! {
                biased;
                _ = applied.changed() => {}
                _ = board.changed() => {}
                () = tokio::time::sleep(REFUSED_RETRY) => {}
            }
            continue;
        }
        if !opened {
            epochs::open_own(shared).await;
            opened = true;
        }
        // With no other cloud in reach a signature gains nothing, and a state put back from an old copy
        // would fork its log unseen: first somebody must have shown what it holds.
        let heard = shared.board.any_answered();
        let Some((index, body, opening)) = due(shared, last.as_ref())?.filter(|_| heard) else {
            tokio::select! {
                biased;
                changed = applied.changed() => if changed.is_err() { return Ok(()) },
                _ = board.changed() => {}
                () = tokio::time::sleep(MAX_GAP), if mutant!(SignBeforeCommit) => {}
            }
            continue;
        };
        let signed = last.as_ref().filter(|last| last.origin == body.origin).map_or(0, |last| last.size);
        let leaves = body.size.saturating_sub(signed);
        if leaves == 0 && !gathered {
            gathered = true;
            tokio::time::sleep(AUDIT_DELAY).await;
            continue;
        }
        gathered = false;
        let started = Instant::now();
        match round(shared, index, body, &opening).await {
            Ok(note) => {
                Stats::add(&shared.board.stats.rounds_signed);
                retry = RETRY;
                last = Some(note.body.clone());
                shared.signed.send_replace(Some(Arc::new(note)));
                let gap = GAP_PER_LEAF.saturating_mul(u32::try_from(leaves).unwrap_or(u32::MAX));
                tokio::time::sleep_until(started + gap.clamp(MIN_GAP, MAX_GAP)).await;
            }
            Err(reason) => {
                Stats::add(&shared.board.stats.rounds_failed);
                tracing::debug!(index, "no note: {reason}");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(MAX_RETRY);
            }
        }
    }
}

/// What is to be signed now: the note as it stands after the latest applied index.
fn due(shared: &Shared, last: Option<&NoteBody>) -> Result<Option<(u64, NoteBody, Opening)>, Broken> {
    #[cfg(feature = "mutants")]
    if mutant!(SignBeforeCommit) {
        let foreseen = shared.replica.foresee(0)?.filter(|(_, body)| Some(body) != last && body.size > 0);
        let opening = shared.replica.read(|view| Ok(view.state.opening(&shared.me).cloned()))?;
        return Ok(foreseen.zip(opening).map(|((index, body), opening)| (index, body, opening)));
    }
    shared.replica.read(|view| {
        let Some(body) = view.state.note_body().filter(|body| Some(body) != last && body.size > 0) else {
            return Ok(None);
        };
        let opening = view.state.opening(&shared.me).cloned();
        Ok(opening.map(|opening| (view.applied, body, opening)))
    })
}

/// Collects exactly `threshold` signatures over `body`, the own one among them.
async fn round(shared: &Shared, index: u64, body: NoteBody, opening: &Opening) -> Result<SignedNote, String> {
    let own = || body.sign(&shared.node, &shared.key);
    let valid =
        |node: &NodeId, signed: &NodeSignature| signed.node == *node && body.verify_one(signed, opening).is_ok();
    let signatures = gather(shared, opening, own, (Method::Sign, &Ask { index }), valid).await?;
    Ok(SignedNote { body, signatures: signatures.into_iter().map(|(_, signature)| signature).collect() })
}
