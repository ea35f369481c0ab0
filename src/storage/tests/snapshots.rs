//! Snapshots are believed when they are of the log as it is, and never otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::basics::{batch, id};
use crate::storage::disk::sim::SimDisk;
use crate::storage::snapshot::SNAPSHOT;
use crate::storage::*;

const ROOT: &str = "/data";

fn open(disk: &SimDisk) -> Result<Store> {
    let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
    Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options)
}

fn append(store: &Store, log: &Log, epoch: i32, values: &[&str]) {
    log.append_built(&mut batch(values), epoch).unwrap();
    store.flush().unwrap();
}

fn path() -> PathBuf {
    Path::new(ROOT).join("logs").join(id(1).to_string()).join(SNAPSHOT)
}

fn kept(log: &Log) -> Option<(i64, Vec<u8>)> {
    log.snapshot().map(|snapshot| (snapshot.end, snapshot.content.to_vec()))
}

#[test]
fn a_snapshot_covers_what_is_on_disk_and_ends_with_a_batch() {
    let store = open(&SimDisk::default()).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!(kept(&log), None);
    append(&store, &log, 0, &["a", "b"]);
    log.append_built(&mut batch(&["c"]), 0).unwrap();
    assert!(matches!(log.keep_snapshot(3, b"x"), Err(Error::OutOfRange { offset: 3, .. })), "not synced");
    assert!(matches!(log.keep_snapshot(1, b"x"), Err(Error::OutOfRange { offset: 1, .. })), "inside a batch");
    assert!(matches!(log.keep_snapshot(0, b"x"), Err(Error::OutOfRange { offset: 0, .. })));
    log.keep_snapshot(2, b"two").unwrap();
    assert_eq!(kept(&log), Some((2, b"two".to_vec())));
    store.flush().unwrap();
    log.keep_snapshot(3, b"three").unwrap();
    assert_eq!(kept(&log), Some((3, b"three".to_vec())));
    log.trim(3).unwrap();
    assert_eq!(kept(&log), None, "nothing that it tells of is there");
}

#[test]
fn after_a_cut_it_is_of_another_log_however_much_is_appended() {
    // With another epoch, with the same at another place, with the same at the same place and other records.
    for (cut, epoch, again) in [(2, 1, 2), (1, 0, 3), (2, 0, 2), (0, 0, 4)] {
        let disk = SimDisk::default();
        let store = open(&disk).unwrap();
        let log = store.log(id(1), LogConfig::default()).unwrap();
        (0..4).for_each(|_| append(&store, &log, 0, &["before"]));
        log.keep_snapshot(4, b"before").unwrap();
        log.truncate(0, cut, 0).unwrap();
        assert_eq!(kept(&log), None, "cut to {cut}");
        (0..again).for_each(|_| append(&store, &log, epoch, &["after!"]));
        (0..3).for_each(|_| append(&store, &log, epoch, &["more"]));
        assert_eq!(kept(&log), None, "cut to {cut}, epoch {epoch}");
        log.keep_snapshot(log.end(), b"after").unwrap();
        assert_eq!(kept(&log), Some((log.end(), b"after".to_vec())));
    }
}

#[test]
fn damage_anywhere_in_it_shows() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    append(&store, &log, 0, &["a"]);
    log.keep_snapshot(1, b"content").unwrap();
    let len = disk.content(&path()).unwrap().len();
    for at in 0..len {
        disk.flip(&path(), at, 0x10);
        assert_eq!(kept(&log), None, "byte {at}");
        disk.flip(&path(), at, 0x10);
    }
    assert_eq!(kept(&log), Some((1, b"content".to_vec())));
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_one_or_the_new() {
    for cut in 1.. {
        for seed in 0..8 {
            let disk = SimDisk::default();
            let store = open(&disk).unwrap();
            let log = store.log(id(1), LogConfig::default()).unwrap();
            append(&store, &log, 0, &["a"]);
            log.keep_snapshot(1, &[1; 2000]).unwrap();
            append(&store, &log, 0, &["b"]);
            disk.stop_after(cut);
            let done = log.keep_snapshot(2, &[2; 2000]).is_ok();
            drop((log, store));
            disk.power_cut(&mut fastrand::Rng::with_seed(seed));
            let store = open(&disk).unwrap();
            let log = store.log(id(1), LogConfig::default()).unwrap();
            assert_eq!(log.end(), 2);
            let found = kept(&log);
            // The name of the first was not synced either.
            let expected = [None, Some((1, vec![1; 2000])), Some((2, vec![2; 2000]))];
            assert!(expected.contains(&found), "cut at {cut}: {:?}", found.map(|(end, _)| end));
            if done {
                assert!(cut > 3, "{cut}");
                return;
            }
        }
    }
}

#[test]
fn a_salvage_makes_it_void() {
    let disk = SimDisk::default();
    let store = open(&disk).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    (0..3).for_each(|_| append(&store, &log, 0, &["value"]));
    log.keep_snapshot(3, b"all").unwrap();
    drop(log);
    store.close().unwrap();
    disk.kill();
    disk.flip(&path().with_file_name("00000000000000000000.log"), 70, 1);
    let store = open(&disk).unwrap();
    store.salvage(id(1), LogConfig::default(), Salvage::Skip).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!((log.end(), kept(&log)), (3, None));
}
