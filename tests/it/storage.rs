//! The journal under `kill -9`: a real process writes, is killed at any moment, and what it said was safe is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use bandy::storage::{BatchBuilder, Durability, Error, LogConfig, LogId, Options, Store};
use bytes::Bytes;

/// Tells the child what to write to.
const FOLDER: &str = "BANDY_TEST_STORAGE_FOLDER";
const LIFE: &str = "BANDY_TEST_STORAGE_LIFE";
const LOGS: u8 = 3;
const CONFIG: LogConfig = LogConfig { segment_bytes: 64 << 10, compact: false };

fn id(number: u8) -> LogId {
    LogId::from_bytes([number; 16])
}

fn open(folder: &Path, life: u64) -> Store {
    let durability = if life % 5 == 4 { Durability::Os } else { Durability::Group };
    Store::open(folder, Options { durability, reserve_bytes: 0, ..Options::default() }).unwrap()
}

/// Appends from several threads and writes `ack LOG OFFSET VALUE` once that is safe, until `count` acks were written.
fn write_and_tell(folder: &Path, life: u64, count: u64, out: &(impl Fn(&str) + Sync)) {
    let store = open(folder, life);
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let (store, told) = (&store, &told);
            scope.spawn(move || {
                let number = writer % LOGS;
                let log = store.log(id(number), CONFIG).unwrap();
                let mut builder = BatchBuilder::new();
                for step in 0u64.. {
                    if told.load(Ordering::Relaxed) >= count {
                        return;
                    }
                    let records = step % 3 + 1;
                    let value = |record: u64| format!("{life}.{writer}.{step}.{record}");
                    for record in 0..records {
                        // Long ones, so that kills meet writes.
                        let body = Bytes::from(vec![b'.'; (step as usize * 7919) % 8_000]);
                        builder.push(0, None, format!("{} ", value(record)).as_bytes(), &body).unwrap();
                    }
                    let appended = log.append_built(&mut builder, life as i32).unwrap();
                    if !appended.safe {
                        log.wait(appended.end).unwrap();
                    }
                    for record in 0..records {
                        out(&format!("ack {number} {} {}", appended.base + record as i64, value(record)));
                    }
                    told.fetch_add(records, Ordering::Relaxed);
                    if step % 50 == 49 {
                        log.trim(appended.base.saturating_sub(200)).unwrap();
                    }
                }
            });
        }
    });
}

/// Every record that is there, by log and offset, and each log's start.
fn everything(folder: &Path) -> (BTreeMap<(u8, i64), String>, BTreeMap<u8, i64>) {
    let store = open(folder, 0);
    let (mut found, mut starts) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..LOGS {
        let log = match store.log(id(number), CONFIG) {
            Err(error @ Error::Corrupt { .. }) => panic!("a kill is no damage: {error}"),
            log => log.unwrap(),
        };
        starts.insert(number, log.state().start);
        let mut reader = log.reader(log.state().start, i64::MAX);
        while let Some(batch) = reader.next_batch().unwrap() {
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                let text = String::from_utf8_lossy(record.value.unwrap());
                let name = text.split(' ').next().unwrap().to_owned();
                assert_eq!(found.insert((number, record.offset), name), None);
            }
        }
    }
    (found, starts)
}

#[track_caller]
fn check(folder: &Path, acknowledged: &BTreeMap<(u8, i64), String>, context: &str) {
    let (found, starts) = everything(folder);
    for (place, value) in acknowledged.iter().filter(|((log, offset), _)| *offset >= starts[log]) {
        assert_eq!(found.get(place), Some(value), "{context}: log {} offset {}", place.0, place.1);
    }
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    const LIVES: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(7);
    for life in 0..LIVES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["storage::a_writer_tells_what_is_safe", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(LIFE, life.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kill_at = random.usize(1..400);
        let mut acks = 0;
        // What was written before the kill arrived counts as well.
        while let Some(Ok(line)) = lines.next() {
            let Some(ack) = line.strip_prefix("ack ") else { continue };
            // The last line may be cut short.
            let [log, offset, value] = ack.split(' ').collect::<Vec<_>>()[..] else { continue };
            if value.split('.').count() != 4 {
                continue;
            }
            let place: (u8, i64) = (log.parse().unwrap(), offset.parse().unwrap());
            if acks < kill_at {
                let before = acknowledged.insert(place, value.to_owned());
                assert_eq!(before, None, "an offset was given twice: {place:?}");
            }
            acks += 1;
            if acks == kill_at {
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "life {life}: {status}");
        if life % 5 == 4 {
            check(folder.path(), &acknowledged, &format!("life {life}"));
        }
    }
    assert!(acknowledged.len() > 50 * LIVES as usize, "only {} acknowledgements", acknowledged.len());
}

/// Also what the test above starts and kills.
#[test]
fn a_writer_tells_what_is_safe() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let life = std::env::var(LIFE).unwrap().parse().unwrap();
        let out = |line: &str| drop(writeln!(std::io::stdout().lock(), "{line}"));
        write_and_tell(Path::new(&folder), life, u64::MAX, &out);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let told = std::sync::Mutex::new(BTreeMap::new());
    write_and_tell(folder.path(), 1, 600, &|line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let place = (fields[1].parse().unwrap(), fields[2].parse().unwrap());
        told.lock().unwrap().insert(place, fields[3].to_owned());
    });
    let told = told.into_inner().unwrap();
    assert!(told.len() >= 600);
    check(folder.path(), &told, "one life");
}
