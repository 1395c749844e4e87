//! Pulling another cloud's log: one connection to its leader, resumed from wherever the mirror
//! stands. Chunks are verified here, proposed by `ingest.rs`, and acknowledged once applied.

mod session;

use super::Shared;
use super::frames::{PROTOCOL, Receiver, Reply, Request, Sender, split};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::{CloudId, EpochId, Hash, NodeId};
use tercet_core::transparency::SignedNote;
use tokio::time::Instant;

/// How long a dial and a greeting may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between attempts: doubled after each round of nodes, up to the longest, with jitter.
const BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// A cloud that is away for less is not worth a warning: it may be starting, or electing.
const COMPLAIN_AFTER: Duration = Duration::from_secs(5);
/// Redirects followed at once; after that the next node is tried as if it had not answered.
const MAX_REDIRECTS: usize = 2;

/// What a server says about itself.
pub(super) struct Welcome {
    pub notes: Vec<SignedNote>,
    pub openings: Vec<EpochId>,
    pub evidence: Vec<Hash>,
}

enum Greeted {
    Welcome(Welcome, Sender, Receiver<Reply>),
    Redirect(Option<NodeId>),
}

/// Keeps a connection to another cloud's leader for as long as this node leads.
pub(super) async fn run(shared: Arc<Shared>, cloud: CloudId) {
    let entry = shared.directory.cloud(&cloud);
    let nodes: Vec<NodeId> =
        entry.map(|entry| entry.nodes.iter().map(|n| n.node.clone()).collect()).unwrap_or_default();
    if nodes.is_empty() {
        tracing::warn!(%cloud, "the configuration names no nodes of this cloud");
        return;
    }
    let (mut at, mut backoff, mut failures) = (0, BACKOFF, 0);
    let (mut down_since, mut logged) = (Instant::now(), false);
    loop {
        let greeted_by = shared.board.with(&cloud, |peer| peer.greeted_by.take()).flatten();
        if let Some(leader) = greeted_by.and_then(|leader| nodes.iter().position(|node| *node == leader)) {
            at = leader;
        }
        match find_leader(&shared, &nodes, &mut at).await {
            Ok((node, welcome, sender, receiver)) => {
                tracing::info!(%cloud, via = %node, "connected");
                (failures, logged) = (0, false);
                let begun = Instant::now();
                let ended = session::run(&shared, &cloud, &node, welcome, sender, receiver).await;
                shared.board.update(&cloud, |peer| (peer.link, peer.via) = (None, None));
                match ended {
                    Ok(()) => tracing::info!(%cloud, via = %node, "the stream ended"),
                    Err(error) => tracing::warn!(%cloud, via = %node, "the stream broke: {error}"),
                }
                down_since = Instant::now();
                // One that greets and hangs up at once, again and again, is not asked ever faster.
                backoff = if begun.elapsed() >= MAX_BACKOFF { BACKOFF } else { (backoff * 2).min(MAX_BACKOFF) };
                tokio::time::sleep(shared.jitter(backoff)).await;
            }
            Err(error) => {
                failures += 1;
                let long = failures >= nodes.len() && down_since.elapsed() >= COMPLAIN_AFTER;
                if long && !std::mem::replace(&mut logged, true) {
                    tracing::warn!(%cloud, "not reachable, trying on: {error}");
                }
                tokio::time::sleep(backoff / 2 + shared.jitter(backoff / 2)).await;
                if failures % nodes.len() == 0 {
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }
}

/// Tries one node, and whom it names as its leader. Leaves `at` at the node to try next.
async fn find_leader(
    shared: &Shared,
    nodes: &[NodeId],
    at: &mut usize,
) -> io::Result<(NodeId, Welcome, Sender, Receiver<Reply>)> {
    for _ in 0..=MAX_REDIRECTS {
        let node = nodes[*at % nodes.len()].clone();
        let greeted = greet(shared, &node).await;
        if !matches!(greeted, Ok(Greeted::Welcome(..))) {
            *at = (*at + 1) % nodes.len();
        }
        match greeted? {
            Greeted::Welcome(welcome, sender, receiver) => return Ok((node, welcome, sender, receiver)),
            Greeted::Redirect(leader) => {
                let known = leader.and_then(|leader| nodes.iter().position(|node| *node == leader));
                *at = known.ok_or_else(|| io::Error::other(format!("{node} does not know its leader")))?;
            }
        }
    }
    Err(io::Error::other("its nodes redirect to each other"))
}

async fn greet(shared: &Shared, node: &NodeId) -> io::Result<Greeted> {
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{node} did not {what} in time"));
    let dial = tokio::time::timeout(DIAL_TIMEOUT, shared.peers.open_federation(node));
    let connection = dial.await.map_err(|_| late("answer"))??;
    let (mut sender, mut receiver) = split::<Reply>(connection);
    let (fed, cloud, me) = (shared.fed, shared.me.clone(), shared.node.clone());
    sender.send(&Request::Hello { protocol: PROTOCOL, fed, cloud, node: me, notes: shared.notes() }).await?;
    let reply = tokio::time::timeout(WELCOME_TIMEOUT, receiver.recv()).await.map_err(|_| late("greet"))?;
    match reply.ok_or_else(|| io::Error::other(format!("{node} closed the connection")))?? {
        Reply::Welcome { notes, openings, evidence } => {
            Ok(Greeted::Welcome(Welcome { notes, openings, evidence }, sender, receiver))
        }
        Reply::Redirect { leader } => Ok(Greeted::Redirect(leader)),
        _ => Err(io::Error::other(format!("{node} did not greet"))),
    }
}
