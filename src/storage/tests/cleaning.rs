//! Compaction, retention, truncation, salvage: what makes a log shorter or smaller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::basics::{batch, id, values};
use crate::storage::disk::sim::{Faults, SimDisk};
use crate::storage::*;

const ROOT: &str = "/data";
const COMPACT: LogConfig = LogConfig { segment_bytes: 600, compact: true };

fn open(disk: &SimDisk) -> Store {
    let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
    Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options).unwrap()
}

/// Offset, key, value of every record.
type Entries = Vec<(i64, String, Option<String>)>;

#[track_caller]
fn entries(log: &Log) -> Entries {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut reader = log.reader(log.state().start, i64::MAX);
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            found.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    found
}

fn newest(entries: &Entries) -> BTreeMap<String, Option<String>> {
    entries.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect()
}

fn put(log: &Log, records: &[(&str, Option<&str>)]) {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"1")), (b"h", None)];
        builder.push_copied(50, Some(key.as_bytes()), value.map(str::as_bytes), &headers).unwrap();
    }
    log.append_built(&mut builder, 0).unwrap();
}

fn compact(log: &Log, now_ms: i64) -> Result<Compacted> {
    log.compact(&mut Compaction {
        bound: i64::MAX,
        now_ms,
        delete_retention_ms: 1000,
        keys_max: 1000,
        discard: &mut |_| false,
        packing: &mut Plain,
    })
}

#[test]
fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), COMPACT).unwrap();
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            put(&log, &[(key, Some(&format!("{key}{round} {}", "x".repeat(100)))), ("always", Some("same"))]);
        }
    }
    put(&log, &[("a", None)]);
    store.flush().unwrap();
    let before = entries(&log);
    log.roll().unwrap();
    store.flush().unwrap();
    let (dirty, all) = log.compactable_bytes(i64::MAX).unwrap();
    assert!(dirty == all && all > 3000, "{dirty} of {all}");
    let done = compact(&log, 5000).unwrap();
    assert_eq!(done.bytes_before, all);
    assert_eq!(done.records_removed as usize, before.len() - 4);
    assert!(done.bytes_after < all / 4, "{done:?}");
    let after = entries(&log);
    assert_eq!(newest(&after), newest(&before));
    assert_eq!(after.len(), 4);
    assert!(after.iter().all(|entry| before.contains(entry)), "{after:?}");
    // Reading from an offset that is gone goes on with the next.
    let next = log.read_batch(0).unwrap().header;
    assert!((next.base_offset..next.end_offset()).contains(&after[0].0), "{next:?}");
    assert_eq!(log.end(), 61);
    // A tombstone stays until its time has come.
    assert_eq!(compact(&log, 5999).unwrap().records_removed, 0);
    assert!(log.state().segments <= 3, "what has become small is put together: {:?}", log.state());
    assert_eq!(compact(&log, 6000).unwrap().records_removed, 1);
    assert!(!newest(&entries(&log)).contains_key("a"));
    let expected = entries(&log);
    // What was written, and opened again after a power cut.
    drop((store, log));
    disk.power_cut(&mut fastrand::Rng::with_seed(3));
    let store = open(&disk);
    let log = store.log(id(1), COMPACT).unwrap();
    assert_eq!(entries(&log), expected);
    put(&log, &[("d", Some("more"))]);
    assert_eq!(entries(&log).len(), expected.len() + 1);
    log.verify().unwrap();
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), COMPACT).unwrap();
    for sequence in 0..3 {
        let mut builder = BatchBuilder::new();
        builder.set_producer(7, 2, sequence);
        builder.push_copied(50, Some(b"k"), Some(b"v"), &[]).unwrap();
        log.append_built(&mut builder, 0).unwrap();
    }
    put(&log, &[("k", Some("newest"))]);
    log.roll().unwrap();
    store.flush().unwrap();
    compact(&log, 0).unwrap();
    let kept = log.read_batch(0).unwrap().header;
    let sequence = (kept.producer_id, kept.producer_epoch, kept.base_sequence, kept.base_offset, kept.count);
    assert_eq!(sequence, (7, 2, 2, 2, 0));
    assert_eq!(entries(&log), [(3, "k".to_owned(), Some("newest".to_owned()))]);
}

#[test]
fn a_power_cut_at_any_operation_of_a_compaction_leaves_old_or_new() {
    for seed in 0..16 {
        let mut stop_after = 1;
        while stopped_compaction(seed, stop_after) {
            stop_after += 1;
        }
        assert!(stop_after > 8, "only {stop_after} operations");
    }
}

/// `true` when the stop came before the end.
fn stopped_compaction(seed: u64, stop_after: u64) -> bool {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), COMPACT).unwrap();
    for round in 0..12 {
        let value = format!("{round} {}", "y".repeat(90));
        put(&log, &[("a", Some(&value)), ("b", None), (["c", "d"][round % 2], Some(&value))]);
    }
    log.roll().unwrap();
    store.flush().unwrap();
    // What the first leaves small, the second puts together.
    compact(&log, 0).unwrap();
    put(&log, &[("a", Some("last")), ("e", Some("new"))]);
    log.roll().unwrap();
    store.flush().unwrap();
    let before = entries(&log);
    disk.stop_after(stop_after);
    let done = compact(&log, 0);
    drop((store, log));
    let mut random = fastrand::Rng::with_seed(seed << 20 | stop_after);
    if seed == 0 {
        disk.kill()
    } else {
        disk.power_cut(&mut random)
    }
    let store = open(&disk);
    let log = store.log(id(1), COMPACT).unwrap_or_else(|error| panic!("stop after {stop_after}: {error}"));
    let after = entries(&log);
    assert_eq!(newest(&after), newest(&before), "stop after {stop_after}");
    assert!(after.iter().all(|entry| before.contains(entry)));
    log.verify().unwrap();
    drop((store, log));
    disk.power_cut(&mut random);
    assert_eq!(entries(&open(&disk).log(id(1), COMPACT).unwrap_or_else(|_| unreachable!())), after);
    done.is_err()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn compaction_is_invisible_to_who_wants_the_newest(
        writes in proptest::collection::vec((0u8..6, proptest::option::weighted(0.8, 0u16..1000), 0usize..120), 1..120),
        keys_max in 1usize..8,
        rounds in 1usize..4,
    ) {
        let store = Store::memory(Options::default()).unwrap();
        let log = store.log(id(1), COMPACT).unwrap();
        let mut now = 0;
        for part in writes.chunks(writes.len().div_ceil(rounds)) {
            for (key, value, pad) in part {
                let value = value.map(|value| format!("{value}{}", "p".repeat(*pad)));
                put(&log, &[(&format!("key{key}"), value.as_deref())]);
            }
            let before = newest(&entries(&log));
            log.roll().unwrap();
            for _ in 0..12 {
                log.compact(&mut Compaction {
                    bound: i64::MAX, now_ms: now, delete_retention_ms: 10, keys_max,
                    discard: &mut |_| false, packing: &mut Plain,
                }).unwrap();
                now += 4;
            }
            let after = newest(&entries(&log));
            for (key, value) in &before {
                // Only tombstones may be gone altogether.
                prop_assert!(after.get(key) == Some(value) || value.is_none() && !after.contains_key(key), "{}", key);
            }
            prop_assert!(after.keys().all(|key| before.contains_key(key)));
            log.verify().unwrap();
        }
    }
}

#[test]
fn compressed_batches_go_through_the_callers_codec() {
    /// Stands for a compression: every byte is turned over.
    struct Over(usize);
    impl Packing for Over {
        fn unpack(&mut self, compression: u8, body: &[u8], _bytes_max: usize) -> std::io::Result<Vec<u8>> {
            assert_eq!(compression, 3);
            self.0 += 1;
            Ok(body.iter().map(|byte| !byte).collect())
        }
        fn pack(&mut self, compression: u8, records: &[u8]) -> std::io::Result<Vec<u8>> {
            self.unpack(compression, records, 0)
        }
    }
    let store = Store::memory(Options::default()).unwrap();
    let log = store.log(id(1), COMPACT).unwrap();
    for value in ["1", "2"] {
        let mut builder = BatchBuilder::new();
        builder.push_copied(1, Some(b"a"), Some(value.as_bytes()), &[]).unwrap();
        builder.push_copied(1, Some(value.as_bytes()), Some(b"x"), &[]).unwrap();
        let mut bytes = builder.to_vec(0, 0);
        bytes[22] |= 3;
        bytes[HEADER_LEN..].iter_mut().for_each(|byte| *byte = !*byte);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        log.append(Checked::produced(&bytes).unwrap(), 0, Importance::Normal).unwrap();
    }
    log.roll().unwrap();
    assert!(matches!(compact(&log, 0), Err(Error::Batch(BatchError::Compressed(3)))));
    let mut over = Over(0);
    let done = log.compact(&mut Compaction {
        bound: i64::MAX,
        now_ms: 0,
        delete_retention_ms: 0,
        keys_max: 10,
        discard: &mut |_| false,
        packing: &mut over,
    });
    assert_eq!(done.unwrap().records_removed, 1);
    let first = log.read_batch(0).unwrap();
    assert_eq!((first.header.count, first.header.compression()), (1, 3));
    let body: Vec<u8> = first.body().iter().map(|byte| !byte).collect();
    let records: Vec<_> = Records::new(&first.header, &body).collect();
    assert_eq!(records[0].as_ref().unwrap().key, Some(&b"1"[..]));
}

#[test]
fn a_log_that_is_not_compacted_stays_as_it_is() {
    let store = Store::memory(Options::default()).unwrap();
    let log = store.log(id(1), LogConfig { segment_bytes: 100, compact: false }).unwrap();
    (0..9).for_each(|_| put(&log, &[("a", Some("b"))]));
    assert_eq!(compact(&log, 0).unwrap(), Compacted::default());
}

#[test]
fn retention_trims_whole_segments_and_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path(), Options { flushing: Flushing::Manual, ..Options::default() }).unwrap();
    let log = store.log(id(1), LogConfig { segment_bytes: 300, compact: false }).unwrap();
    for number in 0..40i64 {
        let mut builder = BatchBuilder::new();
        builder.push(number * 1000, None, b"", &vec![b'r'; 100].into()).unwrap();
        log.append_built(&mut builder, 0).unwrap();
    }
    store.flush().unwrap();
    let files = || std::fs::read_dir(folder.path().join("logs").join(id(1).to_string())).unwrap().count();
    let before = files();
    let retention = Retention { age_max_ms: Some(10_000), bytes_max: None };
    assert_eq!(log.retain(&retention, 30_000, 10).unwrap(), 10, "not past the high watermark");
    let start = log.retain(&retention, 30_000, 40).unwrap();
    assert!((18..=20).contains(&start), "{start}");
    assert_eq!(files(), before, "first the checkpoint is written");
    store.flush().unwrap();
    assert!(files() < before / 2 + 2, "{} of {before}", files());
    assert_eq!(log.batch_at_time(0, 0).unwrap().unwrap().header.base_offset, start);
    assert_eq!(log.batch_at_time(25_500, 0).unwrap().unwrap().header.base_offset, 26);
    assert_eq!(log.batch_at_time(39_000, 0).unwrap().unwrap().header.base_offset, 39);
    assert!(log.batch_at_time(39_001, 0).unwrap().is_none());
    let small = Retention { age_max_ms: None, bytes_max: Some(0) };
    assert!(log.retain(&small, 0, 40).unwrap() > start);
    assert_eq!(log.trim(40).unwrap(), 40);
    store.flush().unwrap();
    assert_eq!(log.state().size, 0);
    drop((store, log));
    let store = Store::open(folder.path(), Options::default()).unwrap();
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!((log.state().start, log.end()), (40, 40));
    assert_eq!(log.append_built(&mut batch(&["next"]), 0).unwrap().base, 40);
}

#[test]
fn bytes_from_an_offset_on_are_about_known() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig { segment_bytes: 600, compact: false }).unwrap();
    assert_eq!(log.bytes_from(0), 0);
    for _ in 0..40 {
        put(&log, &[("key", Some("value"))]);
    }
    let state = log.state();
    assert!(state.segments > 3);
    let each = state.size / 40;
    for offset in [-5, 0, 1, 17, 39, 40, 90] {
        assert_eq!(log.bytes_from(offset), each * (40 - offset.clamp(0, 40) as u64), "{offset}");
    }
    log.trim(20).unwrap();
    assert_eq!(log.bytes_from(0), log.state().size);
}

#[test]
fn a_follower_cuts_to_where_it_and_its_leader_agree() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let config = LogConfig { segment_bytes: 300, compact: false };
    let (leader, follower) = (store.log(id(1), config).unwrap(), store.log(id(2), config).unwrap());
    let copy = |from: &Log, to: &Log| {
        while let Some(chunk) = from.read(to.end(), 4096, i64::MAX).unwrap() {
            to.append_replicated(Checked::new(&chunk.read().unwrap()).unwrap()).unwrap();
        }
    };
    (0..9).for_each(|n| assert!(leader.append_built(&mut batch(&[&format!("old {n}")]), 1).is_ok()));
    copy(&leader, &follower);
    // Both go on alone.
    (0..5).for_each(|n| assert!(follower.append_built(&mut batch(&[&format!("lost {n}")]), 2).is_ok()));
    (0..7).for_each(|n| assert!(leader.append_built(&mut batch(&[&format!("new {n}")]), 3).is_ok()));
    store.flush().unwrap();
    assert_eq!(follower.epochs(), [(1, 0), (2, 9)]);
    // The leader answers for the follower's newest epoch.
    let (epoch, end) = leader.end_of_epoch(2).unwrap();
    assert_eq!((epoch, end), (1, 9));
    assert!(matches!(follower.truncate(epoch, end, 10), Err(Error::OutOfRange { offset: 9, start: 10, .. })));
    assert_eq!(follower.truncate(epoch, end, 9).unwrap(), 9);
    assert!(matches!(
        follower.append_replicated(Checked::new(&leader.read_batch(10).unwrap().bytes).unwrap()),
        Err(Error::NotNext { given: 10, end: 9 })
    ));
    copy(&leader, &follower);
    store.flush().unwrap();
    let expected = values(&leader, 0);
    assert_eq!(values(&follower, 0), expected);
    assert_eq!(follower.epochs(), [(1, 0), (3, 9)]);
    drop((store, leader, follower));
    disk.power_cut(&mut fastrand::Rng::with_seed(1));
    let store = open(&disk);
    let follower = store.log(id(2), config).unwrap();
    assert_eq!(values(&follower, 0), expected);
    assert_eq!(follower.epochs(), [(1, 0), (3, 9)]);
    // Its leader no longer has what comes next.
    follower.reset(100).unwrap();
    let state = follower.state();
    assert_eq!((state.start, state.end, state.leader_epoch), (100, 100, None));
    assert_eq!(follower.append_built(&mut batch(&["far"]), 3).unwrap().base, 100);
    store.flush().unwrap();
    drop((store, follower));
    disk.power_cut(&mut fastrand::Rng::with_seed(2));
    let store = open(&disk);
    assert_eq!(values(&store.log(id(2), config).unwrap(), 100), [(100, "far".to_owned())]);
}

fn segment(base: i64) -> PathBuf {
    PathBuf::from(format!("{ROOT}/logs/{}/{base:020}.log", id(1)))
}

/// Ten flushed batches in several segments, of which the fifth is damaged.
fn damaged() -> (SimDisk, LogConfig) {
    let disk = SimDisk::default();
    let store = open(&disk);
    let config = LogConfig { segment_bytes: 700, compact: false };
    let log = store.log(id(1), config).unwrap();
    for number in 0..10 {
        log.append_built(&mut batch(&[&format!("value {number}"), &"s".repeat(100)]), 0).unwrap();
    }
    store.flush().unwrap();
    let bad = log.read(8, 0, i64::MAX).unwrap().unwrap();
    drop(store);
    disk.kill();
    let base = if bad.position == 0 { 8 } else { 6 };
    disk.flip(&segment(base), bad.position as usize + 90, 1);
    // Without its index the segment is checked as a whole, which is how the damage is found at once.
    let index = segment(base).with_extension("idx");
    disk::Disk::remove_file(&disk, &index).unwrap();
    (disk, config)
}

#[test]
fn salvage_keeps_what_is_good_and_tells_what_is_lost() {
    let all =
        |range: std::ops::Range<i64>| range.filter(|n| n % 2 == 0).map(|n| (n, format!("value {}", n / 2)));
    let texts =
        |log: &Log| values(log, 0).into_iter().filter(|(offset, _)| offset % 2 == 0).collect::<Vec<_>>();
    for how in [Salvage::Cut, Salvage::Skip] {
        let (disk, config) = damaged();
        let store = open(&disk);
        let error = store.log(id(1), config).unwrap_err();
        assert!(matches!(error, Error::Corrupt { offset: 8, .. }), "{error}");
        let done = store.salvage(id(1), config, how).unwrap();
        let expected: Vec<_> = match how {
            Salvage::Cut => all(0..8).collect(),
            Salvage::Skip => all(0..8).chain(all(10..20)).collect(),
        };
        let lost = if how == Salvage::Cut { (8, 20) } else { (8, 10) };
        assert_eq!((done.lost.as_slice(), done.batches), (&[lost][..], expected.len() as u64));
        assert!(!disk::Disk::list(&disk, &done.kept_in.unwrap()).unwrap().is_empty());
        let log = store.log(id(1), config).unwrap();
        assert_eq!(texts(&log), expected);
        assert_eq!(log.end(), done.end);
        log.append_built(&mut batch(&["more"]), 0).unwrap();
        store.flush().unwrap();
        drop((store, log));
        disk.power_cut(&mut fastrand::Rng::with_seed(4));
        let store = open(&disk);
        let log = store.log(id(1), config).unwrap();
        assert_eq!(values(&log, done.end), [(done.end, "more".to_owned())]);
        log.verify().unwrap();
        // Nothing is wrong with it now.
        let again = store.salvage(id(1), config, how).unwrap();
        assert_eq!((again.lost.len(), again.kept_in, again.end), (0, None, done.end + 1));
    }
}

#[test]
fn what_is_discarded_can_be_found_in_the_trash_until_it_is_emptied() {
    let disk = SimDisk::default();
    let store = open(&disk);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    log.append_built(&mut batch(&["gone"]), 0).unwrap();
    store.flush().unwrap();
    store.discard(id(1)).unwrap();
    assert!(matches!(log.append_built(&mut batch(&["more"]), 0), Err(Error::Closed)));
    assert!(store.list().unwrap().is_empty());
    let trash = Path::new(ROOT).join("trash");
    assert_eq!(disk::Disk::list(&disk, &trash).unwrap().len(), 1);
    let log = store.log(id(1), LogConfig::default()).unwrap();
    assert_eq!(log.end(), 0);
    assert_eq!(store.empty_trash(1 << 40).unwrap(), 0);
    assert_eq!(store.empty_trash(0).unwrap(), 1);
    drop((store, log));
    disk.power_cut(&mut fastrand::Rng::with_seed(4));
    let store = open(&disk);
    assert_eq!(store.log(id(1), LogConfig::default()).unwrap().end(), 0);
    disk.set_faults(Faults::default());
}
