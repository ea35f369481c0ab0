//! Torn or damaged: what recovery cuts and keeps, and what it refuses to open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::basics::{batch, id, values};
use crate::storage::disk::sim::{Faults, SimDisk};
use crate::storage::disk::{Disk as _, Mode};
use crate::storage::*;

const ROOT: &str = "/data";

fn open(disk: &SimDisk) -> Store {
    let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
    Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap()
}

fn segment(base: i64) -> PathBuf {
    PathBuf::from(format!("{ROOT}/logs/{}/{base:020}.log", id(1)))
}

/// A log of three batches, two flushed, after a kill; and where the third begins.
fn three() -> (SimDisk, usize) {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    let body = "x".repeat(2000);
    log.append_built(&mut batch(&["one", &body]), 0).unwrap();
    log.append_built(&mut batch(&["two", &body]), 0).unwrap();
    store.flush().unwrap();
    let position = log.state().size as usize;
    log.append_built(&mut batch(&["three", &body]), 0).unwrap();
    drop(store);
    disk.kill();
    (disk, position)
}

#[test]
fn a_flipped_bit_below_the_checkpoint_is_refused_and_nothing_is_cut() {
    for position in [0, 9, 13, 16, 30, 100, 2100] {
        let (disk, _) = three();
        disk.flip(&segment(0), position, 0x04);
        let before = disk.content(&segment(0));
        let error = open(&disk).log(id(1), LogConfig::default()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "byte {position}: {error}");
        assert_eq!(disk.content(&segment(0)), before, "byte {position}");
    }
}

/// Three batches of which nothing was flushed, after a kill; and where they begin and end.
fn unflushed() -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    let body = "x".repeat(300);
    let mut ends = vec![0];
    for text in ["one", "two", "three"] {
        log.append_built(&mut batch(&[text, &body]), 0).unwrap();
        ends.push(log.state().size as usize);
    }
    drop((store, log));
    disk.kill();
    (disk, ends)
}

#[test]
fn a_flipped_bit_in_a_batch_that_was_whole_is_refused_before_any_checkpoint() {
    let (disk, ends) = unflushed();
    let all = values(&open(&disk).log(id(1), LogConfig::default()).unwrap(), 0);
    assert_eq!(all.len(), 6);
    let mut refused = 0;
    for position in 0..ends[3] {
        for bits in [0x01, 0x80] {
            let (disk, _) = unflushed();
            disk.flip(&segment(0), position, bits);
            let before = disk.content(&segment(0));
            let store = open(&disk);
            match store.log(id(1), LogConfig::default()) {
                // Of the leader's epoch nobody knows more than that it does not fall.
                Ok(log) => {
                    assert_eq!(values(&log, 0), all, "byte {position}");
                    let is_epoch = |start: &usize| (12..16).contains(&position.wrapping_sub(*start));
                    assert!(ends.iter().any(is_epoch), "byte {position}");
                }
                Err(Error::Corrupt { .. }) => {
                    refused += 1;
                    assert_eq!(disk.content(&segment(0)), before, "byte {position}");
                }
                Err(error) => panic!("byte {position}: {error}"),
            }
            assert_eq!(store.counts().torn_tails, 0, "byte {position}");
        }
    }
    assert!(refused >= (ends[3] - 4 * 3) * 2, "{refused}");
}

#[test]
fn a_write_that_ended_anywhere_is_cut_and_kept() {
    let (_, ends) = unflushed();
    // With fewer zeros at its end it could be a whole batch.
    for end in ends[2] + 1..ends[3] - 9 {
        let (disk, _) = unflushed();
        let content = disk.content(&segment(0)).unwrap();
        for (position, byte) in content.iter().enumerate().take(ends[3]).skip(end) {
            disk.flip(&segment(0), position, *byte);
        }
        let store = open(&disk);
        let log = store.log(id(1), LogConfig::default()).unwrap_or_else(|error| panic!("at {end}: {error}"));
        assert_eq!(log.end(), 4, "at {end}");
        let Some(cut) = log.recovery().cut.clone() else {
            assert!(content[ends[2]..end].iter().all(|byte| *byte == 0), "at {end}");
            continue;
        };
        let kept = disk.content(&cut.kept_in).unwrap();
        assert_eq!((cut.offset, kept.len() as u64), (4, cut.bytes));
        assert!(content[ends[2]..end].starts_with(&kept), "at {end}");
        log.append_built(&mut batch(&["again"]), 0).unwrap();
        assert_eq!(values(&log, 4), [(4, "again".to_owned())]);
    }
}

#[test]
fn a_sector_that_was_never_written_means_torn_whatever_follows() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    log.append_built(&mut batch(&["flushed"]), 0).unwrap();
    store.flush().unwrap();
    let bad = log.state().size as usize;
    let mut random = fastrand::Rng::with_seed(1);
    let body: String = (0..4 << 10).map(|_| random.alphanumeric()).collect();
    for _ in 0..6 {
        log.append_built(&mut batch(&[&body]), 0).unwrap();
    }
    drop(store);
    disk.kill();
    disk.flip(&segment(0), bad + 70, 1);
    let error = open(&disk).log(id(1), LogConfig::default()).unwrap_err();
    let text = "nothing of it is missing, so it was not a write cut short";
    assert!(
        matches!(&error, Error::Corrupt { offset: 1, .. }) && error.to_string().contains(text),
        "{error}"
    );
    // The same damage, but a sector of the batch was never written: a write cut short.
    let mut content = disk.content(&segment(0)).unwrap();
    content[bad + 1024..bad + 2048].iter_mut().enumerate().for_each(|(at, byte)| {
        disk.flip(&segment(0), bad + 1024 + at, *byte);
        *byte = 0;
    });
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!(log.end(), 1);
    assert_eq!(store.counts().torn_tails, 1);
}

#[test]
fn files_that_are_gone_are_noticed() {
    let (disk, _) = three();
    disk::Disk::remove_file(&disk, &segment(0)).unwrap();
    let error = open(&disk).log(id(1), LogConfig::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset: 0, .. }), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_not_ignored() {
    let (disk, _) = three();
    disk.flip(Path::new("/data/flushed"), 20, 1);
    let options = Options { flushing: Flushing::Manual, ..Options::default() };
    let error = Store::open_on(Arc::new(disk), Path::new(ROOT), options).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error}");
}

#[test]
fn a_damaged_index_is_made_anew() {
    let disk = SimDisk::default();
    let config = LogConfig { segment_bytes: 20_000, compact: false };
    let store = open(&disk);
    let log = store.log(id(1), config).unwrap();
    for number in 0..60 {
        log.append_built(&mut batch(&[&format!("{number}"), &"y".repeat(1500)]), 0).unwrap();
    }
    store.flush().unwrap();
    let expected = values(&log, 0);
    drop(store);
    disk.kill();
    let index = segment(0).with_extension("idx");
    let before = disk.content(&index).unwrap();
    for position in (0..before.len()).step_by(3) {
        disk.flip(&index, position, 0x40);
        let store = open(&disk);
        let log = store.log(id(1), config).unwrap();
        assert_eq!(values(&log, 0), expected);
        assert_eq!(log.read_record(3).unwrap().value.unwrap().len(), 1500);
        drop(store);
        assert_eq!(disk.content(&index).unwrap(), before, "byte {position}");
    }
}

#[test]
fn a_failed_sync_takes_the_log_offline_for_good() {
    for many in [false, true] {
        let disk = SimDisk::default();
        let options = Options {
            flushing: Flushing::Manual,
            sync_each_max: usize::from(!many),
            reserve_bytes: 0,
            ..Options::default()
        };
        let store = Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap();
        let log = store.log(id(1), LogConfig::default()).unwrap();
        log.append_built(&mut batch(&["kept"]), 0).unwrap();
        store.flush().unwrap();
        disk.set_faults(Faults { fail_sync: true, ..Faults::default() });
        log.append_built(&mut batch(&["lost"]), 0).unwrap();
        store.flush().unwrap();
        assert_eq!(log.safe_end(), 1);
        let offline = "is offline since a failure to sync: input/output error";
        for error in [
            log.append_built(&mut batch(&["more"]), 0).unwrap_err(),
            log.wait(2).unwrap_err(),
            log.read(0, 1, 1).unwrap_err(),
            log.truncate(0, 1, 0).unwrap_err(),
            log.trim(1).unwrap_err(),
            log.sync().unwrap_err(),
        ] {
            assert!(
                matches!(error, Error::Poisoned { .. }) && error.to_string().ends_with(offline),
                "{error}"
            );
        }
        store.flush().unwrap();
        assert_eq!(log.safe_end(), 1);
        assert_eq!(store.counts().offline_logs, 1);
        // The same log under a new handle is the same.
        assert!(
            store.log(id(1), LogConfig::default()).unwrap().append_built(&mut batch(&["more"]), 0).is_err()
        );
        // The next process finds in memory what the disk never got. It writes it again before it believes it.
        drop((store, log));
        disk.kill();
        let store = open(&disk);
        let log = store.log(id(1), LogConfig::default()).unwrap();
        assert_eq!(log.end(), 2);
        drop((store, log));
        disk.power_cut(&mut fastrand::Rng::with_seed(1));
        let store = open(&disk);
        let log = store.log(id(1), LogConfig::default()).unwrap();
        assert_eq!(values(&log, 0), [(0, "kept".to_owned()), (1, "lost".to_owned())]);
    }
}

#[test]
fn a_failed_write_takes_the_log_offline() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    let other = store.log(id(2), LogConfig::default()).unwrap();
    log.append_built(&mut batch(&["kept"]), 0).unwrap();
    other.append_built(&mut batch(&["kept"]), 0).unwrap();
    disk.fail_next(std::io::ErrorKind::Other);
    let error = log.append_built(&mut batch(&["lost"]), 0).unwrap_err();
    assert!(error.to_string().contains("is offline since a failure to write"), "{error}");
    other.append_built(&mut batch(&["fine"]), 0).unwrap();
    store.flush().unwrap();
    assert_eq!((log.safe_end(), other.safe_end()), (0, 2));
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again() {
    let disk = SimDisk::default();
    let options =
        Options { flushing: Flushing::Manual, reserve_bytes: 8192, allocate_max: 0, ..Options::default() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap();
    let log = store.log(id(1), LogConfig { segment_bytes: 10_000, compact: false }).unwrap();
    disk.set_faults(Faults { capacity: Some(40_000), ..Faults::default() });
    let body = "z".repeat(900);
    let mut taken = 0;
    let error = loop {
        match log.append_built(&mut batch(&[&body]), 0) {
            Ok(appended) => taken = appended.end,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(taken > 20 && store.is_full());
    assert!(
        matches!(log.append_built(&mut batch(&["small"]), 0), Err(Error::Full { .. })),
        "read-only from now on"
    );
    store.flush().unwrap();
    assert_eq!((log.safe_end(), log.end()), (taken, taken), "what was taken is safe");
    // The reserve was given up: what leads to space being freed can be written.
    let essential = log.append_built_as(&mut batch(&["acknowledged"]), 0, Importance::Essential).unwrap();
    assert_eq!(essential.base, taken);
    store.flush().unwrap();
    assert!(store.is_full());
    log.trim(taken).unwrap();
    store.flush().unwrap();
    store.flush().unwrap();
    assert!(!store.is_full());
    log.append_built(&mut batch(&["small"]), 0).unwrap();
    store.flush().unwrap();
    drop((store, log));
    disk.power_cut(&mut fastrand::Rng::with_seed(1));
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!(values(&log, taken), [(taken, "acknowledged".to_owned()), (taken + 1, "small".to_owned())]);
}

#[test]
fn a_small_disk_keeps_a_small_reserve() {
    let disk = SimDisk::default();
    disk.set_faults(Faults { capacity: Some(64 << 20), ..Faults::default() });
    let options = Options { flushing: Flushing::Manual, ..Options::default() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap();
    assert!(!store.is_full(), "half the disk and more is free");
    let log = store.log(id(1), LogConfig::default()).unwrap();
    log.append_built(&mut batch(&["taken"]), 0).unwrap();
    let reserve = disk.open(&Path::new(ROOT).join("reserve"), Mode::Existing).unwrap();
    assert_eq!(reserve.len().unwrap(), 1 << 20, "the 64th part");
}

#[test]
fn short_writes_are_continued() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    disk.set_faults(Faults { write_max: Some(7), ..Faults::default() });
    let long = "w".repeat(5000);
    log.append_built(&mut batch(&["a", &long, "b"]), 0).unwrap();
    store.flush().unwrap();
    assert_eq!(values(&log, 0), [(0, "a".to_owned()), (1, long), (2, "b".to_owned())]);
}

#[test]
fn a_check_that_begins_before_the_newest_epoch_is_no_damage() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let config = LogConfig { segment_bytes: 10_000, compact: false };
    let log = store.log(id(1), config).unwrap();
    let body = "e".repeat(1500);
    // The index notes the batches at 0 and 3; the one at 4 has a newer epoch, and is the last that is flushed.
    for epoch in [1, 1, 1, 1, 2] {
        log.append_built(&mut batch(&[&body]), epoch).unwrap();
    }
    store.flush().unwrap();
    // Finishes the segment, and with it the index.
    for _ in 0..3 {
        log.append_built(&mut batch(&[&body]), 2).unwrap();
    }
    assert_eq!(log.state().segments, 2);
    drop((store, log));
    disk.kill();
    let store = open(&disk);
    let log = store.log(id(1), config).unwrap();
    assert_eq!((log.end(), log.epochs()), (8, vec![(1, 0), (2, 4)]));
}
