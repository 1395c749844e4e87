//! Detours: when a cloud's own connection is cut or falls behind, its log is taken from the third
//! cloud; bodies that did not come along with the leaves are asked for wherever there is a
//! connection. It looks at local state a few times a second and sends nothing without need.

use super::board::{Link, Wish};
use super::frames::MAX_ASKED_TAGS;
use super::{Shared, investigate};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::{CloudId, EpochId, Tag};
use tercet_core::records::Broken;
use tokio::time::{Instant, MissedTickBehavior};

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// How long a cloud's own connection may be down or behind before a detour is taken.
const PATIENCE: Duration = Duration::from_millis(500);
/// A connection that brings nothing for so long, though there is news, is dialled again.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// How long a body may be missing before it is asked for; then the pause doubles up to the longest.
const BODY_PATIENCE: Duration = Duration::from_millis(300);
const MAX_BODY_PAUSE: Duration = Duration::from_secs(60);
/// Missing bodies that are looked after at a time.
const MAX_MISSING: usize = 2048;
/// Pause between two looks at the same dispute: doubled each time, up to the longest, since an audit
/// that nobody can prove wrong stays in dispute for ever.
const DISPUTE_PAUSE: Duration = Duration::from_secs(1);
const MAX_DISPUTE_PAUSE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Watch {
    behind_since: Option<Instant>,
    /// Since when, and through whom.
    detour: Option<(Instant, CloudId)>,
    restarted: Option<Instant>,
    /// Whether leaves of a closed epoch are being taken from the third cloud.
    past: bool,
}

struct Missing {
    due: Instant,
    pause: Duration,
    asked: usize,
}

#[derive(Default)]
struct Relay {
    watches: BTreeMap<CloudId, Watch>,
    missing: BTreeMap<Tag, Missing>,
    tenants: usize,
    epochs: usize,
    /// The own epoch that is being taken back.
    lost: Option<EpochId>,
    disputed: BTreeMap<CloudId, (Instant, Duration)>,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut relay = Relay::default();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = relay.look(&shared) {
            tracing::error!("relaying stopped: {error}");
            return;
        }
    }
}

impl Relay {
    fn look(&mut self, shared: &Arc<Shared>) -> Result<(), Broken> {
        for cloud in shared.board.clouds() {
            self.look_at(shared, &cloud)?;
        }
        self.look_at_epochs(shared)?;
        self.look_at_the_past(shared)?;
        self.look_for_bodies(shared)?;
        self.look_at_disputes(shared)
    }

    /// Decides whether a cloud's log needs a detour.
    fn look_at(&mut self, shared: &Shared, cloud: &CloudId) -> Result<(), Broken> {
        let now = Instant::now();
        let thirds: Vec<CloudId> = shared.board.clouds().into_iter().filter(|other| other != cloud).collect();
        let behind = shared.replica.read(|view| {
            let have = view.state.head(cloud).map_or(0, |head| head.size);
            let told = |third: &CloudId| {
                let note = view.state.note(third)?;
                note.body.audits.iter().find(|audit| audit.cloud == *cloud).map(|audit| audit.size)
            };
            Ok(thirds.iter().filter_map(told).any(|size| size > have))
        })?;
        let direct = shared.board.with(cloud, |peer| (peer.link.clone(), peer.progress, peer.misfit));
        let (link, progress, misfit) = direct.unwrap_or_default();
        let watch = self.watches.entry(cloud.clone()).or_default();
        let poor = link.is_none() || misfit || behind;
        watch.behind_since = if poor { watch.behind_since.or(Some(now)) } else { None };
        let waited = watch.behind_since.map_or(Duration::ZERO, |since| now - since);

        if let Some((since, via)) = &watch.detour {
            let recovered = progress.is_some_and(|at| at > *since) && !poor;
            let via_link = shared.board.link(via);
            if recovered || via_link.is_none() {
                if let Some(link) = via_link {
                    link.wish(Wish::StopRelay(cloud.clone()));
                }
                watch.detour = None;
            } else if let Some(link) = via_link {
                // The connection may be a new one; asking again changes nothing on the same one.
                link.wish(Wish::Relay(cloud.clone()));
            }
        } else if waited >= PATIENCE
            && let Some(link) = thirds.iter().find_map(|third| shared.board.link(third))
            && link.wish(Wish::Relay(cloud.clone()))
        {
            watch.detour = Some((now, link.cloud));
        }

        let quiet = waited >= RESTART_AFTER
            && progress.is_none_or(|at| now - at >= RESTART_AFTER)
            && watch.restarted.is_none_or(|at| now - at >= RESTART_AFTER);
        if let Some(link) = link.filter(|_| quiet && behind && !misfit) {
            watch.restarted = Some(now);
            link.wish(Wish::Restart);
        }
        Ok(())
    }

    /// Connections follow when an epoch begins. A recovering cloud takes its own lost log from
    /// everybody who holds it.
    fn look_at_epochs(&mut self, shared: &Shared) -> Result<(), Broken> {
        let (epochs, lost) =
            shared.replica.read(|view| Ok((view.state.openings().len(), view.state.lost_epoch(view.records)?)))?;
        let before = std::mem::replace(&mut self.lost, lost);
        let news = std::mem::replace(&mut self.epochs, epochs) != epochs || before != lost;
        for link in shared.board.links() {
            let _ = lost.is_some() && link.wish(Wish::Relay(shared.me.clone()));
            let _ = news && link.wish(Wish::FollowEpochs);
            let _ = before.is_some() && lost.is_none() && link.wish(Wish::StopRelay(shared.me.clone()));
        }
        Ok(())
    }

    /// What a cloud's new epoch adopted of its closed one, and is missing here, is with the third cloud.
    fn look_at_the_past(&mut self, shared: &Shared) -> Result<(), Broken> {
        for cloud in shared.board.clouds() {
            let past = shared.replica.read(|view| view.state.unfinished_past(view.records, &cloud))?.is_some();
            let watch = self.watches.entry(cloud.clone()).or_default();
            let ended = std::mem::replace(&mut watch.past, past) && !past;
            for link in shared.board.links().into_iter().filter(|link| link.cloud != cloud) {
                let _ = past && link.wish(Wish::Relay(cloud.clone())) && link.wish(Wish::FollowEpochs);
                let _ = ended && link.wish(Wish::StopRelay(cloud.clone()));
            }
        }
        Ok(())
    }

    /// Asks for bodies that are missing for a while, each time another cloud.
    fn look_for_bodies(&mut self, shared: &Shared) -> Result<(), Broken> {
        let now = Instant::now();
        let missing = shared.replica.read(|view| Ok(view.state.missing_bodies(MAX_MISSING)))?;
        if missing.is_empty() {
            self.missing.clear();
            return Ok(());
        }
        let tenants = shared.replica.read(|view| Ok(view.state.tenants().len()))?;
        // A body may have been dropped because its tenant was unknown: a new tenant is a new chance.
        let fresh_chance = std::mem::replace(&mut self.tenants, tenants) != tenants;
        let mut still = BTreeMap::new();
        for tag in missing {
            let fresh = Missing { due: now + BODY_PATIENCE, pause: BODY_PATIENCE, asked: 0 };
            let mut entry = self.missing.remove(&tag).unwrap_or(fresh);
            if fresh_chance && entry.asked > 0 {
                (entry.due, entry.pause) = (now, BODY_PATIENCE);
            }
            still.insert(tag, entry);
        }
        self.missing = still;
        let links = shared.board.links();
        if links.is_empty() {
            return Ok(());
        }
        let mut questions: Vec<(Link, Vec<Tag>)> = links.into_iter().map(|link| (link, Vec::new())).collect();
        for (tag, entry) in self.missing.iter().filter(|(_, entry)| entry.due <= now) {
            let turn = entry.asked % questions.len();
            if questions[turn].1.len() < MAX_ASKED_TAGS {
                questions[turn].1.push(*tag);
            }
        }
        for (link, tags) in questions.into_iter().filter(|(_, tags)| !tags.is_empty()) {
            if !link.wish(Wish::Bodies(tags.clone())) {
                continue;
            }
            for tag in &tags {
                let Some(entry) = self.missing.get_mut(tag) else { continue };
                entry.due = now + entry.pause;
                entry.pause = (entry.pause * 2).min(MAX_BODY_PAUSE);
                entry.asked += 1;
            }
        }
        Ok(())
    }

    /// An audit of another cloud that contradicts a mirror here: one of two clouds lied.
    fn look_at_disputes(&mut self, shared: &Arc<Shared>) -> Result<(), Broken> {
        let now = Instant::now();
        let disputes = shared.replica.read(|view| Ok(view.state.disputes()))?;
        for dispute in disputes {
            let (due, pause) = self.disputed.get(&dispute.cloud).copied().unwrap_or((now, DISPUTE_PAUSE));
            if now < due {
                continue;
            }
            if let Some(link) = shared.board.link(&dispute.by) {
                let next = (now + pause, (pause * 2).min(MAX_DISPUTE_PAUSE));
                self.disputed.insert(dispute.cloud.clone(), next);
                investigate::start_with_latest(shared, dispute.cloud, link);
            }
        }
        Ok(())
    }
}
