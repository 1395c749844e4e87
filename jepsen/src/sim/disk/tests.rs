use super::*;
use bytes::Bytes;

fn entry(index: u64) -> Record {
    (Position { term: 1, node: 1, index }, Bytes::from(index.to_string()))
}

fn told() -> (Done, tokio::sync::oneshot::Receiver<bool>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    (Done::new(move |result| _ = tell.send(result.is_ok())), told)
}

fn disk(seed: u64) -> Disk {
    Disk::new("gcp-1", seed, (Duration::from_micros(200), Duration::from_micros(1500)), Trace::new(None, false))
}

#[tokio::test(start_paused = true)]
async fn what_a_sync_covered_survives_and_the_rest_survives_as_a_prefix() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(seed);
        let mount = disk.mount();
        let (done, durable) = told();
        mount.append((0..5).map(entry).collect(), done).unwrap();
        assert_eq!(durable.await, Ok(true));
        let (done, never) = told();
        mount.append((5..9).map(entry).collect(), done).unwrap();
        disk.crash();
        assert_eq!(never.await, Ok(false), "the dead process's wait ends");
        let found = disk.mount();
        let last = Log::state(&found).last.unwrap().index;
        assert!((4..9).contains(&last));
        assert_eq!(found.read(0, 99, usize::MAX).unwrap(), (0..=last).map(entry).collect::<Vec<_>>());
        lengths.insert(last);
    }
    assert_eq!(lengths.len(), 5, "every prefix occurs");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_gone_changes_nothing_any_more() {
    let disk = disk(1);
    let old = disk.mount();
    disk.crash();
    let _new = disk.mount();
    let (done, _) = told();
    assert!(old.append(vec![entry(0)], done).is_err());
    assert!(Engine::write(&old, &[(&[1], &[1])]).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_final() {
    let disk = disk(1);
    let mount = disk.mount();
    disk.add_trouble(1, Trouble { sync_fails: true, ..Trouble::default() });
    let (done, failed) = told();
    mount.append(vec![entry(0)], done).unwrap();
    assert_eq!(failed.await, Ok(false));
    disk.take_trouble(1);
    let (done, _) = told();
    assert!(mount.append(vec![entry(1)], done).is_err());
    assert_eq!(disk.losses(), Losses { failed_syncs: 1, ..Losses::default() });
}

#[tokio::test(start_paused = true)]
async fn overlapping_troubles_of_a_disk_end_separately() {
    let disk = disk(1);
    let mount = disk.mount();
    let slow = Duration::from_secs(1);
    disk.add_trouble(1, Trouble { slow, ..Trouble::default() });
    disk.add_trouble(2, Trouble { full: true, ..Trouble::default() });
    disk.add_trouble(3, Trouble { slow, ..Trouble::default() });
    let (done, _) = told();
    assert!(mount.append(vec![entry(0)], done).is_err(), "there is no room");
    disk.take_trouble(2);
    for (written, (fault, least)) in (0..).zip([(1, slow * 2), (3, slow), (9, Duration::ZERO)]) {
        let begun = tokio::time::Instant::now();
        let (done, durable) = told();
        mount.append(vec![entry(written)], done).unwrap();
        assert_eq!(durable.await, Ok(true));
        assert!((least..least + slow / 2).contains(&begun.elapsed()), "fault {fault} and later ones slow it down");
        disk.take_trouble(fault);
    }
    assert_eq!(disk.losses(), Losses { refused_writes: 1, late_syncs: 2, ..Losses::default() });
}
