//! Failing disks, nodes that lose their data, and clouds that lose all of it.

use super::{CLOUDS, Fault, LOOK, MAX_ENDED, Nemesis, PATIENCE, RECOVERY, any_cloud};
use crate::random::Random;
use crate::sim::disk::{Backup, Trouble};
use crate::sim::network::Seat;
use crate::sim::port::CALL_LIMIT;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

impl Nemesis {
    pub(super) async fn spoil_disk(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let Some(seat) = self.any_running(random) else { return };
        let disk = self.cluster.with(&seat, |place| place.disk.clone());
        let mut harm = self.begin(fault, std::slice::from_ref(&seat), String::new());
        let before = disk.losses();
        let trouble = match fault {
            Fault::SyncFails => Trouble { sync_fails: true, ..Trouble::default() },
            Fault::DiskFull => Trouble { full: true, ..Trouble::default() },
            _ => Trouble {
                slow: random.between(Duration::from_millis(20), Duration::from_millis(800)),
                ..Trouble::default()
            },
        };
        disk.add_trouble(harm.number, trouble);
        tokio::time::sleep(storm).await;
        disk.take_trouble(harm.number);
        let after = disk.losses();
        let (count, what) = match fault {
            Fault::SyncFails => (after.failed_syncs - before.failed_syncs, "syncs failed"),
            Fault::DiskFull => (after.refused_writes - before.refused_writes, "writes found no room"),
            _ => (after.late_syncs - before.late_syncs, "syncs were late"),
        };
        if count > 0 {
            self.prove(&mut harm, format!("{count} {what}"));
        }
        self.restart(&seat).await;
        self.end(harm);
    }

    /// One node loses its applied state, or its whole disk, while the others of its cloud are whole.
    pub(super) async fn damage(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let cloud = any_cloud(random);
        let seats = self.cluster.seats_of(cloud);
        if !self.take(cloud) {
            return;
        }
        if self.until(PATIENCE, || self.is_whole(&seats)).await {
            let seat = random.choose(&seats).clone();
            // Half of the time one of the others has missed what the wiped node had, and the third, which
            // still has it, is away: together those two could elect a leader that never saw it.
            let others: Vec<Seat> = seats.iter().filter(|other| **other != seat).cloned().collect();
            let alone = fault == Fault::WipedNode && random.below(2) == 0;
            let (mut on, mut detail) = (vec![seat.clone()], String::new());
            if alone {
                on.extend(others.clone());
                detail = format!("after {} was cut off; {} is killed as well", others[0], others[1]);
            }
            let mut harm = self.begin(fault, &on, detail);
            if alone {
                for other in seats.iter().filter(|other| **other != others[0]) {
                    self.cluster.network.cut(other, &others[0]);
                    self.cluster.network.cut(&others[0], other);
                    harm.cuts.extend([(other.clone(), others[0].clone()), (others[0].clone(), other.clone())]);
                }
                tokio::time::sleep(storm).await;
                self.cluster.kill(&others[1]);
                harm.cuts.drain(..).for_each(|(from, to)| self.cluster.network.heal(&from, &to));
            }
            self.cluster.kill(&seat);
            let disk = self.cluster.with(&seat, |place| place.disk.clone());
            let before = disk.holds();
            if fault == Fault::WipedNode {
                disk.wipe()
            } else {
                disk.lose_state()
            }
            let (entries, rows) = (before.0 - disk.holds().0, before.1 - disk.holds().1);
            if entries + rows > 0 {
                self.prove(&mut harm, format!("{entries} log entries and {rows} rows of state of {seat} are gone"));
            }
            tokio::time::sleep(storm / 4).await;
            self.restart(&seat).await;
            if alone {
                tokio::time::sleep(storm).await;
                self.restart(&others[1]).await;
            }
            self.end(harm);
            // Not before it has caught up may another one lose data: until then it counts as lost.
            self.must(|| self.is_whole(&seats), "a cloud is whole again after a node lost its data", &seats).await;
        }
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(cloud);
    }

    fn take(&self, cloud: &str) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(cloud.to_owned())
    }

    /// All nodes run, have applied the same, and take part in votes.
    fn is_whole(&self, seats: &[Seat]) -> bool {
        let applied = |seat: &Seat| {
            let running = self.cluster.running(seat)?;
            running.core.replica.takes_part().then(|| *running.core.replica.applied().borrow())
        };
        let all: Option<BTreeSet<u64>> = seats.iter().map(applied).collect();
        all.is_some_and(|all| all.len() == 1 && !all.contains(&0)) && self.cluster.leader(seats).is_some()
    }

    /// What has to come true, whatever else is harmed meanwhile: faults end, and nodes are started again.
    async fn must(&self, done: impl Fn() -> bool, what: &str, seats: &[Seat]) {
        if !self.until(RECOVERY, done).await {
            let states: Vec<String> = seats.iter().map(|seat| self.describe(seat)).collect();
            let why = format!("not within {} s: {}", RECOVERY.as_secs(), states.join("; "));
            self.monitor.violated(what, why);
        }
    }

    fn describe(&self, seat: &Seat) -> String {
        let Some(running) = self.cluster.running(seat) else { return format!("{seat} is down") };
        let replica = &running.core.replica;
        let (leadership, applied) = (replica.leadership().borrow().clone(), *replica.applied().borrow());
        let part = if replica.takes_part() { "" } else { ", takes no part in votes" };
        let leader = leadership.leader.map_or("no leader".to_owned(), |leader| format!("leader {leader}"));
        format!("{seat} in term {} with {leader}, applied {applied}{part}", leadership.term)
    }

    async fn until(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let looking = async {
            while !done() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(limit, looking).await.is_ok()
    }

    /// A cloud loses every disk, or gets old copies of all of them back. Either way it must not be
    /// believed before the others have closed its epoch and given it back; its operator then opens a
    /// new one. PENDING promises to survive a minority only, so the nemesis waits until the others
    /// hold everything.
    pub(super) async fn lose_cloud(&self, fault: Fault, storm: Duration, random: &mut Random) {
        let cloud = any_cloud(random);
        let seats = self.cluster.seats_of(cloud);
        if !self.take(cloud) {
            return;
        }
        if self.take_epoch() {
            self.end_epoch(cloud, &seats, fault, storm).await;
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).1 = false;
        }
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(cloud);
    }

    /// One epoch ends at a time: what one cloud gives back, another may not have lost.
    fn take_epoch(&self) -> bool {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let free = !ended.1 && ended.0 < MAX_ENDED;
        ended.1 |= free;
        free
    }

    async fn end_epoch(&self, cloud: &str, seats: &[Seat], fault: Fault, storm: Duration) {
        let backups: Vec<_> = seats.iter().map(|seat| self.cluster.with(seat, |place| place.disk.backup())).collect();
        if fault == Fault::RestoredCloud {
            // Let it move on, so that the copy is old.
            tokio::time::sleep(storm).await;
        }
        self.port.keep_out(seats);
        // Whoever was let in before has its answer by then.
        tokio::time::sleep(CALL_LIMIT).await;
        if self.until(PATIENCE, || self.is_mirrored(cloud)).await {
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
            let mut harm = self.begin(fault, seats, String::new());
            seats.iter().for_each(|seat| self.cluster.kill(seat));
            self.monitor.forget(cloud);
            let entries = |seat: &Seat| self.cluster.with(seat, |place| place.disk.holds().0);
            let held: usize = seats.iter().map(entries).sum();
            let behind =
                |(seat, backup): (&Seat, &Backup)| self.cluster.with(seat, |place| backup.is_behind(&place.disk));
            let behind = seats.iter().zip(&backups).map(behind).min().unwrap_or_default();
            if fault == Fault::RestoredCloud {
                for (seat, backup) in seats.iter().zip(&backups) {
                    self.cluster.with(seat, |place| place.disk.restore(backup));
                    self.restart(seat).await;
                }
                // It must say nothing that it did not say before: convictions would show it.
                tokio::time::sleep(storm).await;
                seats.iter().for_each(|seat| self.cluster.kill(seat));
                self.monitor.forget(cloud);
            }
            seats.iter().for_each(|seat| self.cluster.with(seat, |place| place.disk.wipe()));
            match fault {
                Fault::RestoredCloud if behind == 0 => {}
                Fault::RestoredCloud => {
                    self.prove(&mut harm, format!("every copy was at least {behind} entries behind"))
                }
                _ => self.prove(&mut harm, format!("{held} log entries on its disks are gone")),
            }
            self.cluster.renew(cloud);
            tokio::time::sleep(storm / 4).await;
            for seat in seats {
                self.restart(seat).await;
            }
            self.port.admit(seats);
            let begun = Instant::now();
            while let Err(why) = self.port.put_tenants(cloud).await {
                self.cluster.trace.note(|| format!("tenants at {cloud}: {why}"));
                if begun.elapsed() > PATIENCE * 6 {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            self.end(harm);
            // Not before all is back may anything else be lost.
            let all = self.plain_seats();
            self.must(|| self.is_mirrored(cloud), "the others hold what a renewed cloud holds", &all).await;
        } else {
            self.port.admit(seats);
        }
    }

    /// Both other clouds hold this cloud's whole log, of all its epochs, with the bodies.
    fn is_mirrored(&self, cloud: &str) -> bool {
        let id = self.cluster.with(&format!("{cloud}-1"), |place| place.cloud.clone());
        let size = |at: &str| {
            let running = self.cluster.running(&self.cluster.leader(&self.cluster.seats_of(at))?)?;
            let read = running.core.replica.read(|view| {
                let missing = !view.state.missing_bodies(1).is_empty();
                let past = view.state.unfinished_past(view.records, &id)?.is_some();
                Ok(view.state.head(&id).map(|head| (head.epoch, head.size)).filter(|_| !missing && !past))
            });
            read.ok().flatten()
        };
        let sizes = CLOUDS.map(size);
        sizes[0].is_some_and(|(_, size)| size > 0) && sizes.iter().all(|size| *size == sizes[0])
    }
}
