//! Which imported events still have to reach their level, which must be sent again, and the counts
//! of the levels seen. It knows no network.

use super::{Prepared, Progress};
use crate::error::Problem;
use crate::events::{BatchItem, Wait, is_final};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::ids::{CloudId, EventKey};
use tokio::time::Instant;

/// After this long an accepted event that a cloud has never heard of is submitted there: soon if
/// the cloud that accepted it is silent, else only when it seems to be cut off from the others.
const LOST_AFTER: Duration = Duration::from_secs(3);
const CUT_OFF_AFTER: Duration = Duration::from_secs(120);
/// A cloud is silent once it has not answered for this long; a busy one misses a question or two.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// How far an event was counted in the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    Nothing,
    Final,
    Sealed,
}

/// One event on its way.
#[derive(Debug, Clone)]
pub struct Tracked {
    pub line: u64,
    pub key: EventKey,
    /// What to send again, kept until the event is FINAL.
    pub item: Option<BatchItem>,
    counted: Counted,
    sent: Instant,
    /// The cloud that accepted it.
    home: Option<CloudId>,
}

struct Later {
    at: Instant,
    /// Where it was found missing, if that is why it is sent again.
    cloud: Option<CloudId>,
    first: bool,
    event: Tracked,
}

pub struct Tracker {
    wait: Option<Wait>,
    /// Accepted and below the wanted level, oldest first: those that are not FINAL yet hold their
    /// bytes, the others do not.
    open: VecDeque<Tracked>,
    open_final: VecDeque<Tracked>,
    /// Taken out of `open` by a poll that has not returned.
    asked: usize,
    again: VecDeque<Later>,
    /// Since when a cloud does not answer.
    silent_since: BTreeMap<CloudId, Instant>,
    /// Where they shall be, but not seen SEALED: looked at once more at the end.
    rest: Vec<(EventKey, Counted)>,
}

impl Tracked {
    pub fn new(event: Prepared) -> Self {
        let Prepared { line, key, item } = event;
        Self { line, key, item: Some(item), counted: Counted::Nothing, sent: Instant::now(), home: None }
    }
}

/// Adds what a level says beyond what was counted before.
pub fn count(counted: Counted, level: Level, progress: &Progress) -> Counted {
    let reached = match level {
        Level::Sealed => Counted::Sealed,
        Level::Final => Counted::Final,
        Level::Pending | Level::Quarantined => Counted::Nothing,
    };
    if counted < Counted::Final && reached >= Counted::Final {
        progress.finals.fetch_add(1, Relaxed);
    }
    if counted < Counted::Sealed && reached == Counted::Sealed {
        progress.sealed.fetch_add(1, Relaxed);
    }
    counted.max(reached)
}

impl Tracker {
    pub fn new(wait: Option<Wait>) -> Self {
        Self {
            wait,
            open: VecDeque::new(),
            open_final: VecDeque::new(),
            asked: 0,
            silent_since: BTreeMap::new(),
            again: VecDeque::new(),
            rest: Vec::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.open.is_empty() && self.open_final.is_empty() && self.asked == 0 && self.again.is_empty()
    }

    /// How many events hold their bytes because they are not FINAL, at most.
    pub fn unsettled(&self) -> usize {
        self.open.len() + self.asked + self.again.len()
    }

    /// A cloud has it, at this level.
    pub fn accepted(&mut self, mut event: Tracked, home: CloudId, level: Level, progress: &Progress) {
        event.sent = Instant::now();
        event.home = Some(home);
        self.place(event, level, progress);
    }

    /// It was accepted before, and this cloud refuses it now: its level is looked at in the end.
    pub fn accepted_elsewhere(&mut self, event: Tracked, problem: &Problem) {
        tracing::debug!(line = event.line, %problem, "refused when sent again");
        self.rest.push((event.key, event.counted));
    }

    /// These have to be sent again after a pause.
    pub fn later(&mut self, events: Vec<Tracked>, first: bool, pause: Duration) {
        let at = Instant::now() + pause;
        self.again.extend(events.into_iter().map(|event| Later { at, cloud: None, first, event }));
    }

    /// The next batch that is due to be sent again, all for one cloud.
    pub fn due(&mut self, max: usize) -> Option<(Option<CloudId>, bool, Vec<Tracked>)> {
        let now = Instant::now();
        let head = self.again.front().filter(|later| later.at <= now)?;
        let (cloud, first) = (head.cloud.clone(), head.first);
        let mut events = Vec::new();
        while events.len() < max {
            match self.again.front() {
                Some(next) if next.at <= now && next.cloud == cloud && next.first == first => {
                    events.extend(self.again.pop_front().map(|later| later.event));
                }
                _ => break,
            }
        }
        Some((cloud, first, events))
    }

    /// The oldest open events; they return by `learn`.
    pub fn take_open(&mut self, max: usize) -> Vec<Tracked> {
        let count = max.min(self.open.len());
        let mut events: Vec<Tracked> = self.open.drain(..count).collect();
        let count = (max - count).min(self.open_final.len());
        events.extend(self.open_final.drain(..count));
        self.asked += events.len();
        events
    }

    /// What a cloud said about the events that were taken; nothing if it did not answer. Returns
    /// how many need not be asked about again.
    pub fn learn(
        &mut self,
        asked: Vec<Tracked>,
        levels: &[Option<Level>],
        cloud: &CloudId,
        progress: &Progress,
    ) -> usize {
        self.asked -= asked.len();
        let open_before = self.open.len() + self.open_final.len();
        let count = asked.len();
        let now = Instant::now();
        let answered = levels.len() == asked.len();
        if answered {
            self.silent_since.remove(cloud);
        } else {
            self.silent_since.entry(cloud.clone()).or_insert(now);
        }
        for (at, event) in asked.into_iter().enumerate() {
            match levels.get(at).filter(|_| answered) {
                Some(Some(level)) => self.place(event, *level, progress),
                Some(None) if event.item.is_some() && now - event.sent >= self.lost_after(&event) => {
                    self.again.push_back(Later { at: now, cloud: Some(cloud.clone()), first: false, event });
                }
                _ => self.reopen(event),
            }
        }
        count - (self.open.len() + self.open_final.len() - open_before)
    }

    /// All that was not seen SEALED.
    pub fn drain(&mut self) -> Vec<(EventKey, Counted)> {
        let again = self.again.drain(..).filter(|later| !later.first).map(|later| later.event);
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend(
            self.open.drain(..).chain(self.open_final.drain(..)).chain(again).map(|event| (event.key, event.counted)),
        );
        rest
    }

    fn place(&mut self, mut event: Tracked, level: Level, progress: &Progress) {
        event.counted = count(event.counted, level, progress);
        if is_final(level) {
            event.item = None;
        }
        // A quarantined event will hardly move again: nobody waits for it.
        let quarantined = level == Level::Quarantined;
        if quarantined {
            progress.quarantined.fetch_add(1, Relaxed);
        }
        let met = quarantined || self.wait.is_none_or(|wait| wait.is_met_by(level));
        match (met, event.counted) {
            (_, Counted::Sealed) => {}
            (true, counted) => self.rest.push((event.key, counted)),
            (false, _) => self.reopen(event),
        }
    }

    fn lost_after(&self, event: &Tracked) -> Duration {
        let since = |home| self.silent_since.get(home).is_some_and(|since| since.elapsed() >= SILENT_AFTER);
        let is_silent = event.home.as_ref().is_none_or(since);
        if is_silent { LOST_AFTER } else { CUT_OFF_AFTER }
    }

    fn reopen(&mut self, event: Tracked) {
        if event.item.is_some() { self.open.push_back(event) } else { self.open_final.push_back(event) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use tercet_core::ids::Hash;

    fn event(id: &str) -> Tracked {
        let item = BatchItem { json: RawValue::from_string("{}".into()).unwrap(), content: Hash([0; 32]) };
        Tracked::new(Prepared { line: 1, key: EventKey::new("", id).unwrap(), item })
    }

    fn gcp() -> CloudId {
        CloudId::new("gcp").unwrap()
    }

    #[tokio::test]
    async fn an_event_is_open_until_it_is_where_it_shall_be() {
        let (mut tracker, progress) = (Tracker::new(Some(Wait::Sealed)), Progress::default());
        tracker.accepted(event("a"), gcp(), Level::Pending, &progress);
        assert_eq!(tracker.unsettled(), 1);
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[Some(Level::Final)], &gcp(), &progress);
        assert_eq!((tracker.unsettled(), tracker.is_done()), (0, false));
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[Some(Level::Sealed)], &gcp(), &progress);
        assert!(tracker.is_done() && tracker.drain().is_empty());
        let summary = progress.summary();
        assert_eq!((summary.finals, summary.sealed), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_goes_to_another_cloud_when_its_own_is_silent() {
        let (mut tracker, progress) = (Tracker::new(Some(Wait::Final)), Progress::default());
        let aws = CloudId::new("aws").unwrap();
        tracker.accepted(event("a"), gcp(), Level::Pending, &progress);
        tokio::time::advance(LOST_AFTER).await;
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[None], &aws, &progress);
        assert!(tracker.due(10).is_none(), "its own cloud may still pass it on");
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[], &gcp(), &progress);
        tokio::time::advance(SILENT_AFTER).await;
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[None], &aws, &progress);
        let (cloud, first, events) = tracker.due(10).unwrap();
        assert_eq!((cloud, first, events.len()), (Some(aws), false, 1));
        assert!(tracker.is_done());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_goes_to_another_cloud_when_its_own_seems_cut_off() {
        let (mut tracker, progress) = (Tracker::new(Some(Wait::Final)), Progress::default());
        tracker.accepted(event("a"), gcp(), Level::Pending, &progress);
        tokio::time::advance(CUT_OFF_AFTER).await;
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[None], &CloudId::new("aws").unwrap(), &progress);
        assert!(tracker.due(10).is_some());
    }

    #[tokio::test]
    async fn a_cloud_that_does_not_answer_changes_nothing() {
        let (mut tracker, progress) = (Tracker::new(Some(Wait::Final)), Progress::default());
        tracker.accepted(event("a"), gcp(), Level::Pending, &progress);
        let asked = tracker.take_open(10);
        tracker.learn(asked, &[], &gcp(), &progress);
        assert_eq!(tracker.unsettled(), 1);
    }

    #[tokio::test]
    async fn without_a_wait_levels_are_looked_at_in_the_end() {
        let (mut tracker, progress) = (Tracker::new(None), Progress::default());
        tracker.accepted(event("a"), gcp(), Level::Pending, &progress);
        tracker.accepted(event("b"), gcp(), Level::Sealed, &progress);
        assert!(tracker.is_done());
        let rest = tracker.drain();
        assert_eq!(rest.len(), 1);
        count(rest[0].1, Level::Final, &progress);
        assert_eq!((progress.summary().finals, progress.summary().sealed), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_for_now_is_sent_again_after_the_pause() {
        let mut tracker = Tracker::new(None);
        tracker.later(vec![event("a"), event("b"), event("c")], true, Duration::from_secs(1));
        assert!(tracker.due(2).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tracker.due(2).unwrap().2.len(), 2);
        assert_eq!(tracker.due(2).unwrap().2.len(), 1);
    }
}
