use super::*;
use std::sync::mpsc;

fn position(term: u64, index: u64) -> Position {
    Position { term, node: 1, index }
}

fn record(term: u64, index: u64) -> Record {
    (position(term, index), Bytes::from(format!("entry {index} of term {term}")))
}

fn append(log: &dyn Log, records: Vec<Record>) {
    let (tell, told) = mpsc::channel();
    log.append(records, Done::new(move |result| tell.send(result).unwrap())).unwrap();
    told.recv().unwrap().unwrap();
}

fn vote(log: &dyn Log, term: u64) {
    let (tell, told) = mpsc::channel();
    let vote = SavedVote { term, node: 2, committed: false };
    log.save_vote(vote, Done::new(move |result| tell.send(result).unwrap())).unwrap();
    told.recv().unwrap().unwrap();
}

/// Closing a log lets go of its lock in the background, so reopening may have to wait for that.
fn reopen(dir: &Path) -> Wal {
    Wal::open(dir).unwrap()
}

fn last_file(dir: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    files.sort();
    files.pop().unwrap()
}

fn on_both_logs(case: impl Fn(&mut dyn FnMut() -> Arc<dyn Log>)) {
    let memory = MemoryLog::default();
    case(&mut || Arc::new(memory.clone()));
    let dir = tempfile::tempdir().unwrap();
    case(&mut || Arc::new(reopen(&dir.path().join("wal"))));
}

#[test]
fn entries_vote_and_committed_pointer_survive_reopening() {
    on_both_logs(|open| {
        let log = open();
        append(&*log, (0..5).map(|index| record(1, index)).collect());
        vote(&*log, 3);
        log.save_committed(position(1, 2)).unwrap();
        log.save_mark(Some(position(9, 9)), Done::new(|result| result.unwrap())).unwrap();
        append(&*log, vec![record(3, 5)]);
        assert_eq!(*log.durable().borrow(), 6);
        drop(log);
        let log = open();
        let state = log.state();
        assert_eq!(state.last, Some(position(3, 5)));
        assert_eq!(state.committed, Some(position(1, 2)));
        assert_eq!(state.mark, Some(position(9, 9)));
        assert_eq!(state.vote, Some(SavedVote { term: 3, node: 2, committed: false }));
        assert_eq!(log.read(1, 9, usize::MAX).unwrap().len(), 5);
        assert_eq!(log.read(4, 5, usize::MAX).unwrap(), [record(1, 4)]);
        assert_eq!(*log.durable().borrow(), 6);
    });
}

#[test]
fn reads_are_bounded_by_bytes_but_give_at_least_one_entry() {
    on_both_logs(|open| {
        let log = open();
        append(&*log, (0..5).map(|index| record(1, index)).collect());
        assert_eq!(log.read(0, 5, 1).unwrap(), [record(1, 0)]);
        assert_eq!(log.read(0, 5, 40).unwrap().len(), 2);
        assert_eq!(log.read(3, 3, 40).unwrap(), []);
    });
}

#[test]
fn truncation_beyond_the_end_changes_nothing_and_elsewhere_it_makes_room() {
    on_both_logs(|open| {
        let log = open();
        append(&*log, (0..5).map(|index| record(1, index)).collect());
        log.truncate_after(Some(position(1, 4))).unwrap();
        log.truncate_after(Some(position(9, 9))).unwrap();
        assert_eq!(log.state().last, Some(position(1, 4)));
        log.truncate_after(Some(position(1, 1))).unwrap();
        assert_eq!(*log.durable().borrow(), 2);
        append(&*log, vec![record(2, 2)]);
        drop(log);
        assert_eq!(open().read(0, 9, usize::MAX).unwrap(), [record(1, 0), record(1, 1), record(2, 2)]);
    });
}

#[test]
fn purging_keeps_what_follows_and_may_reach_beyond_the_end() {
    on_both_logs(|open| {
        let log = open();
        append(&*log, (0..5).map(|index| record(1, index)).collect());
        log.purge(position(1, 2)).unwrap();
        assert_eq!(log.read(0, 9, usize::MAX).unwrap().len(), 2);
        log.purge(position(7, 40)).unwrap();
        append(&*log, vec![record(8, 41)]);
        drop(log);
        let log = open();
        assert_eq!(log.state().purged, Some(position(7, 40)));
        assert_eq!(log.read(0, 99, usize::MAX).unwrap(), [record(8, 41)]);
    });
}

#[test]
fn a_tail_torn_anywhere_leaves_the_entries_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("wal");
    let log = reopen(&dir);
    append(&log, (0..3).map(|index| record(1, index)).collect());
    drop(log);
    let file = last_file(&dir);
    let before = fs::read(&file).unwrap();
    let log = reopen(&dir);
    append(&log, vec![record(1, 3)]);
    drop(log);
    let after = fs::read(&file).unwrap();
    assert!(after.len() > before.len() + 40);
    for cut in before.len()..after.len() {
        for zeros in [0, (after.len() - cut).max(4), 4096, 100_000] {
            let mut torn = after[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            if torn.len() >= after.len() && torn[..after.len()] == after[..] {
                continue;
            }
            for entry in fs::read_dir(&dir).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            fs::write(&file, &torn).unwrap();
            let log = reopen(&dir);
            assert_eq!(log.read(0, 9, usize::MAX).unwrap().len(), 3, "cut {cut}, {zeros} zeros");
            append(&log, vec![record(1, 3)]);
        }
    }
}

#[test]
fn a_flipped_bit_in_an_entry_is_refused_and_never_shortens_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("wal");
    let log = reopen(&dir);
    append(&log, (0..2).map(|index| record(1, index)).collect());
    drop(log);
    let file = last_file(&dir);
    let bytes = fs::read(&file).unwrap();
    let mut shortened = 0;
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bad).unwrap();
        if let Ok(log) = Wal::open(&dir) {
            shortened += usize::from(log.read(0, 9, usize::MAX).unwrap().len() < 2);
        }
        for entry in fs::read_dir(&dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    assert_eq!(shortened, 0, "of {} bits", bytes.len() * 8);
}

#[test]
fn whoever_waits_when_the_log_stops_gets_an_error() {
    let (tell, told) = mpsc::channel();
    drop(Done::new(move |result| tell.send(result.is_err()).unwrap()));
    assert_eq!(told.recv(), Ok(true));
}
