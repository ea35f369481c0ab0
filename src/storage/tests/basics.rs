//! What a store does when nothing fails.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::storage::*;

pub(crate) fn id(number: u8) -> LogId {
    LogId::from_bytes([number; 16])
}

pub(crate) fn batch(values: &[&str]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(1000, None, b"", &Bytes::copy_from_slice(value.as_bytes())).unwrap();
    }
    batch
}

#[track_caller]
pub(crate) fn values(log: &Log, from: i64) -> Vec<(i64, String)> {
    let mut reader = log.reader(from, i64::MAX);
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            if record.offset >= from {
                found.push((record.offset, String::from_utf8_lossy(record.value.unwrap()).into_owned()));
            }
        }
    }
    found
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 400, compact: false }
}

fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|n| (n, format!("value {n}"))).collect()
}

fn append_numbered(log: &Log, range: std::ops::Range<i64>) {
    for number in range {
        let appended = log.append_built(&mut batch(&[&format!("value {number}")]), 0).unwrap();
        assert_eq!((appended.base, appended.end), (number, number + 1));
    }
}

#[test]
fn what_is_appended_is_read_and_found_again_after_a_stop() {
    for durability in [Durability::Os, Durability::Group, Durability::Each] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { durability, reserve_bytes: 0, ..Options::default() };
        let store = Store::open(folder.path(), options.clone()).unwrap();
        assert!(!store.start().unwrap().clean);
        let log = store.log(id(1), small()).unwrap();
        append_numbered(&log, 0..50);
        log.wait(50).unwrap();
        assert_eq!(values(&log, 0), numbered(0..50));
        assert_eq!(values(&log, 31), numbered(31..50));
        assert!(log.state().segments > 5, "{:?}", log.state());
        store.close().unwrap();

        let store = Store::open(folder.path(), options).unwrap();
        assert!(store.start().unwrap().clean);
        assert_eq!(store.list().unwrap(), [id(1)]);
        let log = store.log(id(1), small()).unwrap();
        assert_eq!(log.recovery().cut, None);
        assert_eq!(log.recovery().recovered, 0, "a clean stop leaves nothing above the checkpoint");
        assert_eq!(values(&log, 0), numbered(0..50));
        append_numbered(&log, 50..60);
        assert_eq!(values(&log, 45), numbered(45..60));
    }
}

#[test]
fn a_store_in_memory_does_the_same_without_files() {
    let store = Store::memory(Options::default()).unwrap();
    let log = store.log(id(1), small()).unwrap();
    append_numbered(&log, 0..50);
    assert_eq!(log.safe_end(), 50);
    assert_eq!(values(&log, 3), numbered(3..50));
    assert_eq!(log.trim(30).unwrap(), 30);
    assert!(matches!(log.read(29, 1, 50), Err(Error::OutOfRange { offset: 29, start: 30, end: 50 })));
    assert_eq!(values(&log, 30), numbered(30..50));
    assert!(log.read(30, 1, 50).unwrap().unwrap().file().is_none());
    assert_eq!(log.truncate(0, 40, 0).unwrap(), 40);
    assert_eq!(values(&log, 30), numbered(30..40));
    append_numbered(&log, 40..45);
    assert_eq!(values(&log, 30), numbered(30..45));
    store.close().unwrap();
}

#[test]
fn a_directory_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let error = Store::open(folder.path(), Options::default()).unwrap_err();
    let expected = format!("is in use by another process (process {})", std::process::id());
    assert!(error.to_string().ends_with(&expected), "{error}");
    drop(store);
    Store::open(folder.path(), Options::default()).unwrap();
}

#[test]
fn observers_hear_of_every_sync() {
    struct Notes(Mutex<Vec<i64>>);
    impl Observer for Notes {
        fn synced(&self, synced: Synced) {
            assert_eq!(synced.log, id(1));
            self.0.lock().unwrap().push(synced.end);
        }
        fn failed(&self, _log: LogId, error: &Error) {
            panic!("{error}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path(), Options { flushing: Flushing::Manual, ..Options::default() }).unwrap();
    let log = store.log(id(1), small()).unwrap();
    let notes = Arc::new(Notes(Mutex::default()));
    assert!(log.observe(Arc::clone(&notes) as Arc<dyn Observer>));
    append_numbered(&log, 0..3);
    assert_eq!(log.safe_end(), 0);
    store.flush().unwrap();
    append_numbered(&log, 3..5);
    store.flush().unwrap();
    store.flush().unwrap();
    assert_eq!(*notes.0.lock().unwrap(), [3, 5]);
    assert_eq!(log.state().flushed_end, 5);
}

#[test]
fn large_bodies_and_many_records_in_a_batch_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    let mut builder = BatchBuilder::new();
    let bodies: Vec<Bytes> = (0..3000u32).map(|n| vec![n as u8; (n as usize * 7) % 5000].into()).collect();
    for body in &bodies {
        builder.push(5, Some(b"k"), b"head", body).unwrap();
    }
    let appended = log.append_built(&mut builder, 7).unwrap();
    assert!(builder.is_empty());
    assert_eq!(appended.end, 3000);
    for (number, body) in bodies.iter().enumerate().step_by(97) {
        let record = log.read_record(number as i64).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.unwrap(), [&b"head"[..], body].concat());
    }
    assert_eq!(log.verify().unwrap(), 1);
    assert_eq!(log.state().leader_epoch, Some(7));
    assert!(matches!(log.append_built(&mut batch(&["x"]), 6), Err(Error::EpochFell { given: 6, newest: 7 })));
}

#[test]
fn a_producer_cannot_say_that_there_are_more_records_than_it_sends() {
    let mut good = BatchBuilder::new();
    good.push_copied(0, Some(b"k"), Some(b"v"), &[]).unwrap();
    let good = good.to_vec(0, -1);
    assert!(Checked::produced(&good).is_ok());
    let lie = |count: i32, more: &[u8]| {
        let mut batch = [&good[..], more].concat();
        let length = i32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    };
    for (count, more) in [(2, &b""[..]), (i32::MAX, b""), (1, b"x"), (2, b"\x7f")] {
        let batch = lie(count, more);
        assert!(matches!(Checked::produced(&batch), Err(BatchError::Header { what: "record count", .. })));
    }
}

#[test]
fn produced_batches_are_kept_verbatim_but_for_offset_and_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    let one = batch(&["a", "b"]).to_vec(0, -1);
    let two = batch(&["c"]).to_vec(77, -1);
    let both = [one.clone(), two.clone()].concat();
    log.append(Checked::produced(&one).unwrap(), 3, Importance::Normal).unwrap();
    let appended = log.append(Checked::produced(&both).unwrap(), 3, Importance::Normal).unwrap();
    assert_eq!((appended.base, appended.end), (2, 5));
    let read = log.read(2, 0, 5).unwrap().unwrap();
    let bytes = read.read().unwrap();
    let mut expected = one.clone();
    expected[..8].copy_from_slice(&2i64.to_be_bytes());
    expected[12..16].copy_from_slice(&3i32.to_be_bytes());
    assert_eq!(bytes, expected);
    assert_eq!(read.base_offset, 2);
    let all = log.read(0, usize::MAX, 5).unwrap().unwrap();
    assert_eq!(all.len, 2 * one.len() + two.len());
    assert!(all.file().is_some());
    let bounded = log.read(0, usize::MAX, 4).unwrap().unwrap();
    assert_eq!(bounded.len, 2 * one.len(), "not past the bound");
    assert_eq!(log.read(5, 1, 5).unwrap().map(|chunk| chunk.len), None);
    assert!(matches!(log.read(6, 1, 9), Err(Error::OutOfRange { .. })));
    let mut damaged = one;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(Checked::new(&damaged), Err(BatchError::Checksum { .. })));
}

#[test]
fn what_nobody_waits_for_is_synced_with_what_somebody_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    let log = store.log(id(1), small()).unwrap();
    let started = std::time::Instant::now();
    log.append_built_as(&mut batch(&["patient"]), 0, Importance::Patient).unwrap();
    log.wait(1).unwrap();
    assert!(started.elapsed() > std::time::Duration::from_millis(150), "it can wait");
    log.append_built_as(&mut batch(&["patient"]), 0, Importance::Patient).unwrap();
    log.append_built_as(&mut batch(&["urgent"]), 0, Importance::Essential).unwrap();
    log.wait(3).unwrap();
}
