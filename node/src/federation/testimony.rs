//! After a conviction the honest clouds show each other what the liar told each of them: its votes
//! in branches of its log that only one of them mirrors, and its notes that fit no mirror. So all of
//! them see the same facts, and reach the same levels.

use super::Shared;
use super::board::Link;
use super::frames::{Answer, MAX_ASKED_TAGS, Question};
use std::sync::Arc;
use std::time::Duration;
use tercet_core::command::Command;
use tercet_core::evidence::{self, Statement};
use tercet_core::ids::Tag;
use tercet_core::mirrors::{self, LogChunk};
use tercet_core::state::MAX_TESTIMONY;
use tercet_core::transparency::SignedNote;
use tokio::time::Instant;

/// How often to look whether there is something to ask; nothing is sent while nobody is convicted.
const LOOK: Duration = Duration::from_millis(250);
/// Pause between two questions of the same kind: doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The most statements and notes taken from one answer.
const MAX_STATEMENTS: usize = 2 * MAX_ASKED_TAGS;
const MAX_STRAYS: usize = 64;

pub(super) async fn run(shared: Arc<Shared>) {
    let (mut due, mut pause, mut asked) = (Instant::now(), PAUSE, (0, Vec::new()));
    loop {
        tokio::time::sleep(LOOK).await;
        let read = shared.replica.read(|view| {
            let convictions = view.state.evidence_ids().len();
            Ok((convictions, view.state.wanted_testimony(MAX_TESTIMONY)))
        });
        let (convictions, wanted) = match read {
            Ok(read) => read,
            Err(error) => return tracing::error!("asking for testimony stopped: {error}"),
        };
        if convictions == 0 {
            continue;
        }
        if (convictions, &wanted) != (asked.0, &asked.1) {
            (due, pause) = (due.min(Instant::now() + PAUSE), PAUSE);
            asked = (convictions, wanted.clone());
        }
        if Instant::now() < due {
            continue;
        }
        for link in shared.board.links() {
            // Notes are asked for also when no event is.
            let (first, more) = wanted.split_at(wanted.len().min(MAX_ASKED_TAGS));
            for tags in std::iter::once(first).chain(more.chunks(MAX_ASKED_TAGS)) {
                ask(&shared, &link, tags.to_vec()).await;
            }
        }
        due = Instant::now() + pause;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn ask(shared: &Shared, link: &Link, tags: Vec<Tag>) {
    let flagged = shared.replica.read(|view| Ok(view.state.is_flagged(&link.cloud))).unwrap_or(true);
    if flagged {
        return;
    }
    let Some(Answer::Testimony { statements, strays }) = link.ask(Question::Testimony(tags)).await else { return };
    for statement in statements.into_iter().take(MAX_STATEMENTS) {
        testify(shared, statement).await;
    }
    for note in strays.into_iter().take(MAX_STRAYS) {
        keep(shared, note).await;
    }
}

async fn testify(shared: &Shared, statement: Statement) {
    let openings = shared.replica.read(|view| Ok(view.state.openings())).unwrap_or_default();
    if let Err(error) = statement.verify(&shared.directory.genesis, &openings) {
        return tracing::warn!("testimony was dropped: {error}");
    }
    propose(shared, Command::Evidence(evidence::Command::Testify(Box::new(statement)))).await;
}

/// Keeps a signed note that fits no mirror here: once its cloud is convicted, what it says of the
/// other logs counts.
pub(super) async fn keep(shared: &Shared, note: SignedNote) {
    let (cloud, epoch) = (note.body.origin.cloud.clone(), note.body.origin.epoch);
    let known = shared.replica.read(|view| {
        let held = view.state.stray_notes().into_iter().any(|chunk| chunk.note.body == note.body);
        Ok((held, view.state.opening_of(&epoch).cloned()))
    });
    let Ok((false, Some(opening))) = known else { return };
    if note.verify(&shared.fed, &opening).is_err() {
        return;
    }
    let chunk = LogChunk {
        cloud,
        epoch,
        first_index: 0,
        leaves: Vec::new(),
        note,
        consistency: Vec::new(),
        bodies: Vec::new(),
    };
    let ingest = mirrors::Command::Ingest { chunks: vec![chunk], bodies: Vec::new() };
    propose(shared, Command::Mirrors(ingest)).await;
}

/// What is not proposed now is asked for again.
async fn propose(shared: &Shared, command: Command) {
    if let Err(error) = shared.replica.propose(None, command).await {
        tracing::debug!("testimony waits: {error}");
    }
}
