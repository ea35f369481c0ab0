//! Opening a log of any bytes: it is served whole, cut with all that was cut kept, or refused; it can be written to and
//! opened again, and a salvage makes anything readable.
//!
//! `cargo +nightly fuzz run storage_recovery -- -malloc_limit_mb=64`: no length on disk is a reason to allocate.

#![no_main]

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use bandy::storage::disk::memory::MemoryDisk;
use bandy::storage::disk::{Disk, Mode};
use bandy::storage::{BatchBuilder, Error, Flushing, Log, LogConfig, LogId, Options, Salvage, Store};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const ROOT: &str = "/data";
const CONFIG: LogConfig = LogConfig { segment_bytes: 4096, compact: false };

fn id() -> LogId {
    LogId::from_bytes([1; 16])
}

fn write(disk: &MemoryDisk, name: &str, content: &[u8]) {
    let path = Path::new(ROOT).join(name);
    disk.create_dir(path.parent().expect("it has one")).expect("memory");
    let file = disk.open(&path, Mode::Truncate).expect("memory");
    file.write_at(&[IoSlice::new(content)], 0).expect("memory");
}

fn open(disk: &Arc<MemoryDisk>) -> Result<Store, Error> {
    let options = Options { flushing: Flushing::Manual, reserve_bytes: 0, ..Options::default() };
    Store::open_on(Arc::clone(disk) as Arc<dyn Disk>, Path::new(ROOT), options)
}

fn read_all(log: &Log) -> usize {
    let mut reader = log.reader(log.state().start, i64::MAX);
    let mut count = 0;
    while let Ok(Some(batch)) = reader.next_batch() {
        if let Ok(records) = batch.records() {
            records.for_each(drop);
        }
        count += 1;
    }
    let _ = log.batch_at_time(0, 0);
    count
}

fn append(log: &Log) -> bool {
    let mut builder = BatchBuilder::new();
    builder.push(1, None, b"", &Bytes::from_static(b"more")).expect("it is small");
    log.append_built(&mut builder, i32::MAX).is_ok()
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, u8)| {
    let (segment, index, epochs, flushed, choice) = input;
    let disk = Arc::new(MemoryDisk::new());
    // Some good batches first, as a real log has them.
    let mut content = Vec::new();
    for number in 0..choice & 3 {
        let mut builder = BatchBuilder::new();
        builder.push(5, None, b"", &Bytes::from(vec![b'v'; 30])).expect("it is small");
        content.extend(builder.to_vec(number.into(), 0));
    }
    content.extend_from_slice(&segment);
    let folder = format!("logs/{}", id());
    write(&disk, &format!("{folder}/{:020}.log", 0), &content);
    write(&disk, &format!("{folder}/{:020}.idx", 0), &index);
    if choice & 4 != 0 {
        write(&disk, &format!("{folder}/epochs"), &epochs);
    }
    if choice & 8 != 0 {
        write(&disk, &format!("{folder}/{:020}.log", 1), &epochs);
    }
    if choice & 16 != 0 {
        let crc = crc32c::crc32c(&flushed).to_be_bytes();
        write(&disk, "flushed", &[&flushed[..], &crc].concat());
    }
    let Ok(store) = open(&disk) else { return };
    let log = match store.log(id(), CONFIG) {
        Ok(log) => log,
        Err(_) => {
            let how = if choice & 32 != 0 { Salvage::Cut } else { Salvage::Skip };
            store.salvage(id(), CONFIG, how).expect("memory");
            store.log(id(), CONFIG).expect("it was salvaged")
        }
    };
    let before = read_all(&log);
    let appended = append(&log);
    store.flush().expect("memory");
    let end = log.end();
    drop((store, log));
    let store = open(&disk).expect("we wrote it");
    let log = store.log(id(), CONFIG).expect("we wrote it");
    assert_eq!(log.end(), end);
    assert_eq!(read_all(&log), before + usize::from(appended));
});
