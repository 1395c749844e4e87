//! What the honest clouds of a run hold, judged by `invariants/`: every few seconds and at the end.
//! A cloud's view is read from its running replica that applied most, and is replaced only by one that
//! goes as far: a restarted replica lags, and that is no fall. It only reads.

use super::cluster::Cluster;
use crate::invariants::{self, Broken, CloudView, Views};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, EpochId};

/// What is violated by a run that looked too seldom.
pub const EVALUATED: &str = "the invariants were evaluated";

pub struct HonestViews {
    genesis: Genesis,
    liars: BTreeSet<CloudId>,
    latest: BTreeMap<CloudId, Latest>,
    lost: BTreeSet<EpochId>,
    rested: BTreeSet<CloudId>,
    pub checks: Checks,
}

struct Latest {
    applied: u64,
    view: CloudView,
}

/// How often invariants were evaluated: those of all states and those of quiet ones on views of all
/// honest clouds, those of changes and of clouds at rest once a cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checks {
    pub always: u64,
    pub on_change: u64,
    pub at_rest: u64,
    pub when_quiet: u64,
}

impl Checks {
    pub fn all(self) -> u64 {
        self.always + self.on_change + self.at_rest + self.when_quiet
    }
}

impl HonestViews {
    pub fn new(genesis: Genesis, liars: BTreeSet<CloudId>) -> Self {
        let (latest, lost, rested, checks) = Default::default();
        Self { genesis, liars, latest, lost, rested, checks }
    }

    fn honest(&self) -> impl Iterator<Item = &CloudId> {
        self.genesis.clouds().filter(|cloud| !self.liars.contains(*cloud))
    }

    /// Reads all honest clouds at one moment, and judges what they hold.
    pub fn look(&mut self, cluster: &Cluster) -> Vec<Broken> {
        let mut broken = Vec::new();
        let honest: Vec<CloudId> = self.honest().cloned().collect();
        for cloud in &honest {
            if let Some((applied, view)) = read(cluster, cloud, self.latest.get(cloud).map(|latest| &latest.view)) {
                broken.extend(self.take(applied, view));
            }
        }
        let rests = |cloud: &&CloudId| self.latest.get(*cloud).is_some_and(|it| is_at_rest(cluster, cloud, it.applied));
        let resting: BTreeSet<CloudId> = honest.iter().filter(rests).cloned().collect();
        broken.extend(self.judge(&resting));
        broken
    }

    /// Takes a view of a cloud that has applied its log up to this index, unless a later one is known, or
    /// the cloud goes on in an epoch whose state it lost.
    pub fn take(&mut self, applied: u64, view: CloudView) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut own = view.logs.iter().filter(|((of, _), log)| *of == view.cloud && log.root.is_some());
        if own.any(|((_, epoch), _)| self.lost.contains(epoch)) {
            return broken;
        }
        if let Some(before) = self.latest.get(&view.cloud) {
            if applied < before.applied {
                return broken;
            }
            broken = invariants::broken_by(&before.view, &view);
            self.checks.on_change += 1;
        }
        self.latest.insert(view.cloud.clone(), Latest { applied, view });
        broken
    }

    /// What is wrong with the views. The resting clouds have committed nothing that theirs lacks.
    pub fn judge(&mut self, resting: &BTreeSet<CloudId>) -> Vec<Broken> {
        let broken = self.with_views(|views| {
            let owners = views.clouds.iter().filter(|view| resting.contains(&view.cloud));
            let at_rest = owners.flat_map(|owner| invariants::broken_at_rest(owner, views));
            invariants::broken(&invariants::ALWAYS, views).into_iter().chain(at_rest).collect()
        });
        self.checks.always += u64::from(self.unseen().is_none());
        let judged = resting.iter().filter(|cloud| self.latest.contains_key(*cloud));
        self.checks.at_rest += judged.clone().count() as u64;
        self.rested.extend(judged.cloned());
        broken
    }

    /// What is wrong, or not looked at yet, although all is told.
    pub fn unquiet(&mut self) -> Vec<Broken> {
        self.checks.when_quiet += 1;
        let mut broken = self.with_views(|views| invariants::broken(&invariants::WHEN_QUIET, views));
        broken.extend(self.unseen().or_else(|| self.restless()).map(|why| (EVALUATED, why)));
        broken
    }

    /// Whether these are enough evaluations for a run of this length: one a minute, and every honest
    /// cloud at rest once.
    pub fn judge_work(&self, simulated: Duration) -> Result<(), String> {
        let (always, minutes) = (self.checks.always, simulated.as_secs() / 60);
        if always < minutes {
            return Err(format!("all honest clouds were looked at {always} times in {minutes} minutes"));
        }
        self.restless().map_or(Ok(()), Err)
    }

    /// A cloud lost its state: it starts anew, in its next epoch. Put back from a backup, it does not know
    /// what it answered since, holds less of its log than others, and may answer a key once more in
    /// another way. Nobody hears of that while it refuses to sign; if it signed, it would be convicted.
    pub fn forget(&mut self, cloud: &CloudId, epoch: EpochId) {
        self.latest.remove(cloud);
        self.lost.insert(epoch);
    }

    /// An honest cloud of which there is no view.
    fn unseen(&self) -> Option<String> {
        let cloud = self.honest().find(|cloud| !self.latest.contains_key(*cloud))?;
        Some(format!("no replica of {cloud} could be read"))
    }

    /// An honest cloud that was never at rest when it was looked at.
    fn restless(&self) -> Option<String> {
        let cloud = self.honest().find(|cloud| !self.rested.contains(*cloud))?;
        Some(format!("{cloud} was never found at rest, so the mirrors of its log were not compared with it"))
    }

    fn with_views<T>(&self, judge: impl FnOnce(&Views<'_>) -> T) -> T {
        let clouds: Vec<&CloudView> = self.latest.values().map(|latest| &latest.view).collect();
        judge(&Views { genesis: &self.genesis, liars: &self.liars, clouds: &clouds })
    }
}

/// What the cloud's running replica holds that applied most, and how far it applied.
fn read(cluster: &Cluster, cloud: &CloudId, before: Option<&CloudView>) -> Option<(u64, CloudView)> {
    let running = cluster.seats_of(cloud.as_str()).into_iter().filter_map(|seat| cluster.running(&seat));
    let foremost = running.max_by_key(|running| *running.core.replica.applied().borrow())?;
    let read = foremost.core.replica.read(|view| {
        let seen = CloudView::read_all(view.state, view.records, before)?;
        Ok((view.applied, seen))
    });
    read.ok()
}

/// Whether a cloud has committed nothing behind this index: what is committed is in a log of its. A log
/// that ends earlier may as well have been purged, after its replica applied all: then that replica
/// says so while it runs, and a stopped one is not believed.
fn is_at_rest(cluster: &Cluster, cloud: &CloudId, index: u64) -> bool {
    cluster.seats_of(cloud.as_str()).iter().all(|seat| {
        let disk = cluster.with(seat, |place| place.disk.clone());
        let ends = match cluster.running(seat) {
            Some(running) => *running.core.replica.applied().borrow() <= index,
            None => disk.entry(index).is_some(),
        };
        ends && disk.entry(index + 1).is_none()
    })
}

#[cfg(test)]
mod tests;
