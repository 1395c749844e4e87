//! One suite for all engines: what the trait promises.

use super::folder::OpenError;
use super::sled::SledEngine;
use super::{Engine, MemoryEngine, folder, open};
use crate::config::EngineKind;
use crate::storage::refs;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tercet_core::records::{MemoryRecords, Records, Row};

/// Runs a case against every engine, each in a folder of its own. `reopen` closes and opens again.
fn on_every_engine(case: impl Fn(&mut dyn FnMut() -> Arc<dyn Engine>)) {
    let memory: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    case(&mut || memory.clone());
    for kind in [EngineKind::Sled, EngineKind::Fjall] {
        let dir = tempfile::tempdir().unwrap();
        case(&mut || open(kind, &dir.path().join("state")).unwrap());
    }
}

fn row(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Row {
    (key.as_ref().to_vec(), value.as_ref().to_vec())
}

fn all(engine: &dyn Engine) -> Vec<Row> {
    engine.scan(&[], &[0xff; 8], usize::MAX).unwrap()
}

#[test]
fn what_was_written_is_read_back_after_reopening() {
    on_every_engine(|reopen| {
        let engine = reopen();
        engine.write(&refs(&[row("a", "1"), row("b", ""), row("c", vec![7; 300_000])])).unwrap();
        engine.write(&refs(&[row("a", "2")])).unwrap();
        engine.write(&refs(&[])).unwrap();
        drop(engine);
        let engine = reopen();
        assert_eq!(engine.get(b"a").unwrap(), Some(b"2".to_vec()));
        assert_eq!(engine.get(b"b").unwrap(), Some(Vec::new()));
        assert_eq!(engine.get(b"c").unwrap().unwrap().len(), 300_000);
        assert_eq!(engine.get(b"d").unwrap(), None);
    });
}

#[test]
fn scans_are_ordered_half_open_and_limited() {
    on_every_engine(|reopen| {
        let engine = reopen();
        let mut model = MemoryRecords::default();
        let rows: Vec<Row> =
            (0u32..1300).map(|n| row((n.wrapping_mul(2_654_435_761)).to_be_bytes(), n.to_be_bytes())).collect();
        model.0.extend(rows.clone());
        engine.write(&refs(&rows)).unwrap();
        let bounds: [&[u8]; 6] = [&[], &[0], &[0x40, 1], &[0x80], &[0xff], &[0xff; 5]];
        for from in bounds {
            for to in bounds {
                for limit in [0, 1, 10, usize::MAX] {
                    let rows = model.scan(from, to, limit).unwrap();
                    let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
                    assert_eq!(engine.keys(from, to, limit).unwrap(), keys);
                    assert_eq!(engine.scan(from, to, limit).unwrap(), rows);
                }
            }
        }
    });
}

#[test]
fn a_cleared_store_is_empty_and_takes_new_rows() {
    on_every_engine(|reopen| {
        let engine = reopen();
        let rows: Vec<Row> = (0u32..2000).map(|n| row(n.to_be_bytes(), "old")).collect();
        engine.write(&refs(&rows)).unwrap();
        engine.clear().unwrap();
        assert_eq!(all(&*engine), []);
        engine.write(&refs(&[row("new", "1")])).unwrap();
        drop(engine);
        assert_eq!(all(&*reopen()), [row("new", "1")]);
    });
}

#[test]
fn a_crash_between_the_batches_of_a_generation_is_finished_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state");
    let rows: Vec<Row> = (0u32..1200).map(|n| row(n.to_be_bytes(), "new")).collect();
    for batches in 0..=3 {
        let _ = fs::remove_dir_all(&dir);
        let sled = folder::open(&dir, SledEngine::open).unwrap();
        let old: Vec<Row> = rows.iter().map(|(key, _)| row(key, "old")).collect();
        sled.write(&refs(&old)).unwrap();
        sled.write_and_crash_after(rows.clone(), batches);
        drop(sled);
        assert_eq!(all(&*open(EngineKind::Sled, &dir).unwrap()), rows, "crash after {batches} batches");
    }
}

#[test]
fn a_generation_whose_redo_file_was_never_named_did_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state");
    let engine = open(EngineKind::Sled, &dir).unwrap();
    engine.write(&refs(&[row("a", "1")])).unwrap();
    drop(engine);
    fs::write(dir.join("generation.draft"), b"half a generation").unwrap();
    assert_eq!(all(&*open(EngineKind::Sled, &dir).unwrap()), [row("a", "1")]);
}

#[test]
fn one_process_opens_a_folder() {
    for kind in [EngineKind::Sled, EngineKind::Fjall] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        let _first = open(kind, &dir).unwrap();
        let second = open(kind, &dir).err().map(|error| error.to_string());
        assert!(second.is_some_and(|text| text.contains("in use")));
    }
}

#[test]
fn a_store_that_cannot_be_read_is_set_aside() {
    for kind in [EngineKind::Sled, EngineKind::Fjall] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        open(kind, &state).unwrap().write(&refs(&[row("a", "1")])).unwrap();
        damage_every_file(&state);
        let engine = open(kind, &state).unwrap();
        assert_eq!(all(&*engine), []);
        assert!(dir.path().join("state.broken-1").is_dir(), "{kind:?}");
        engine.write(&refs(&[row("b", "2")])).unwrap();
        drop(engine);
        assert_eq!(all(&*open(kind, &state).unwrap()), [row("b", "2")]);
    }
}

#[test]
fn a_condemned_folder_is_set_aside_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let engine = folder::open(&state, |_, condemn| Ok::<_, OpenError>(condemn)).unwrap();
    assert_eq!(engine.damaged("a bad record").0, "a bad record");
    drop(engine);
    assert_eq!(all(&*open(EngineKind::Fjall, &state).unwrap()), []);
    assert!(dir.path().join("state.broken-1").is_dir());
}

fn damage_every_file(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage_every_file(&path);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        for byte in &mut bytes {
            *byte ^= 0x5a;
        }
        fs::write(&path, bytes).unwrap();
    }
}
