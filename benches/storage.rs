//! What the journal costs: checksums and records in memory, appends at every durability, many logs at once.
//!
//! `cargo bench --bench storage [FOLDER [PART]...]`: on the file system of FOLDER, or of the system's temporary directory;
//! parts are idle, memory, row, writers, flight, dirty, reads. Compare within one run: a sync takes ten times as long when
//! another program syncs as well.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bandy::storage::disk::{Disk, DiskFile, Mode, OsDisk};
use bandy::storage::{BatchBuilder, Checked, Durability, Importance, Log, LogConfig, LogId, Options, Store};
use bytes::Bytes;

const PARTITION: LogConfig = LogConfig { segment_bytes: 128 << 20, compact: false };
const SLICE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 7;
const RUN: Duration = Duration::from_millis(1500);

/// The real disk, but a sync says that it worked and does nothing: what the rest of the path costs.
#[derive(Debug)]
struct NoSync(OsDisk);

#[derive(Debug)]
struct NoSyncFile(Arc<dyn DiskFile>);

impl Disk for NoSync {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NoSyncFile(self.0.open(path, mode)?)))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<bool> {
        Ok(true)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn total_bytes(&self) -> io::Result<u64> {
        self.0.total_bytes()
    }
    fn lock(&self, path: &Path, content: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock(path, content)
    }
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }
    fn boot_id(&self) -> String {
        self.0.boot_id()
    }
}

impl DiskFile for NoSyncFile {
    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.0.write_at(parts, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.0.allocate(position, len)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn file(&self) -> Option<&Arc<std::fs::File>> {
        self.0.file()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Memory,
    Os,
    NoSync,
    Group,
    Each,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::NoSync => "group, no sync",
            Self::Group => "group",
            Self::Each => "each",
        }
    }

    fn open(self, folder: &Path) -> Store {
        let durability = match self {
            Self::Memory => Durability::Memory,
            Self::Os => Durability::Os,
            Self::NoSync | Self::Group => Durability::Group,
            Self::Each => Durability::Each,
        };
        let options = Options { durability, reserve_bytes: 0, ..Options::default() };
        match self {
            Self::NoSync => Store::open_on(Arc::new(NoSync(OsDisk::new(folder))), folder, options).unwrap(),
            _ => Store::open(folder, options).unwrap(),
        }
    }
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(base: &Path, name: &str) -> Self {
        let path = base.join(format!("bandy-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn percentile(times: &mut [u32], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 - 1.0) * share) as usize;
    times.get(at).map_or(0.0, |&nanos| f64::from(nanos) / 1000.0)
}

/// The best of some rounds, per record.
fn measure(name: &str, records: u32, bytes: usize, mut operation: impl FnMut()) {
    let rounds = (0..60).map(|_| {
        let start = Instant::now();
        operation();
        start.elapsed()
    });
    let best = rounds.min().unwrap().as_secs_f64();
    let (rate, speed) = (f64::from(records) / best / 1e6, bytes as f64 / best / 1e9);
    println!("{name:<46} {:>8.1} us  {rate:>7.1} M records/s  {speed:>6.1} GB/s", best * 1e6);
}

fn in_memory() {
    for (count, size) in [(10_000u32, 100), (150, 100), (1000, 10_000)] {
        let body = Bytes::from(vec![b'x'; size]);
        let mut builder = BatchBuilder::new();
        let fill = |builder: &mut BatchBuilder| {
            builder.clear();
            (0..count).for_each(|_| builder.push(1, None, b"head", &body).unwrap());
        };
        fill(&mut builder);
        let bytes = builder.to_vec(0, 0);
        let what = format!("{count} x {size} B");
        measure(&format!("{what}: header and checksum"), count, bytes.len(), || {
            black_box(Checked::produced(black_box(&bytes)).unwrap());
        });
        measure(&format!("{what}: borrowed records"), count, bytes.len(), || {
            for batch in Checked::new(&bytes).unwrap().batches() {
                batch.records().unwrap().for_each(|record| drop(black_box(record)));
            }
        });
        measure(&format!("{what}: build"), count, bytes.len(), || {
            fill(&mut builder);
            black_box(builder.len());
        });
    }
}

/// Writers that each wait for their own record.
fn writers(level: Level, count: usize, folder: &Path) -> (f64, f64, f64) {
    let folder = Folder::new(folder, "writers");
    let store = level.open(&folder.0);
    let log = store.log(LogId::random().unwrap(), PARTITION).unwrap();
    let stop = AtomicBool::new(false);
    let body = Bytes::from(vec![b'x'; 1024]);
    let start = Instant::now();
    let mut times: Vec<u32> = std::thread::scope(|scope| {
        let write = || {
            let mut builder = BatchBuilder::new();
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                builder.push(1, None, b"", &body).unwrap();
                let appended = log.append_built(&mut builder, 0).unwrap();
                if !appended.safe {
                    log.wait(appended.end).unwrap();
                }
                times.push(begun.elapsed().as_nanos() as u32);
            }
            times
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(write)).collect();
        std::thread::sleep(RUN);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    drop(log);
    store.close().unwrap();
    (rate, percentile(&mut times, 0.5), percentile(&mut times, 0.99))
}

/// One writer that lets so many records be on their way, for a while.
fn pipelined(store: &Store, window: i64) -> f64 {
    let log = store.log(LogId::random().unwrap(), PARTITION).unwrap();
    let body = Bytes::from(vec![b'x'; 1024]);
    let mut builder = BatchBuilder::new();
    let start = Instant::now();
    let mut end = 0;
    while start.elapsed() < SLICE {
        builder.push(1, None, b"", &body).unwrap();
        end = log.append_built(&mut builder, 0).unwrap().end;
        if end > window {
            log.wait(end - window).unwrap();
        }
    }
    let rate = end as f64 / start.elapsed().as_secs_f64();
    store.discard(log.id()).unwrap();
    store.empty_trash(0).unwrap();
    rate
}

/// Levels in turn, again and again, so that all have the same neighbours; the median and the best of each.
fn in_turn(window: i64, folder: &Path) {
    let names = ["os", "no-sync", "group", "group-reserved"];
    let folders: Vec<Folder> = names.iter().map(|name| Folder::new(folder, name)).collect();
    let reserved = Options { allocate_max: 4 << 20, reserve_bytes: 0, ..Options::default() };
    let stores = [
        Level::Os.open(&folders[0].0),
        Level::NoSync.open(&folders[1].0),
        Level::Group.open(&folders[2].0),
        Store::open(&folders[3].0, reserved).unwrap(),
    ];
    let mut rates = vec![Vec::new(); stores.len()];
    for _ in 0..ROUNDS {
        for (store, rates) in stores.iter().zip(&mut rates) {
            // What the slice before left to be written is not this one's.
            OsDisk::new(folder).sync_all().unwrap();
            rates.push(pipelined(store, window) / 1e3);
        }
    }
    print!("{window:>5}");
    for (name, rates) in names.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        print!("  {name} {:.1} (best {:.1})", rates[ROUNDS / 2], rates[ROUNDS - 1]);
    }
    println!(
        "  group/no-sync {:.0} % (best {:.0} %)",
        100.0 * rates[2][ROUNDS / 2] / rates[1][ROUNDS / 2],
        100.0 * rates[2][ROUNDS - 1] / rates[1][ROUNDS - 1]
    );
}

/// What the disk itself takes for 4 KiB appended and synced.
fn raw_sync(folder: &Path) {
    let folder = Folder::new(folder, "raw");
    let file = OsDisk::new(&folder.0).open(&folder.0.join("file"), Mode::Create).unwrap();
    let page = [1; 4096];
    let mut times: Vec<u32> = (0..500)
        .map(|number| {
            let start = Instant::now();
            file.write_at(&[io::IoSlice::new(&page)], number * 4096).unwrap();
            file.sync().unwrap();
            start.elapsed().as_nanos() as u32
        })
        .collect();
    let (best, median, slow) =
        (percentile(&mut times, 0.0), percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("4 KiB appended and synced by itself: best {best:.0} us, p50 {median:.0} us, p99 {slow:.0} us");
}

/// A broker's way: writers hand over, one thread appends what has come together, and each waits for its own.
fn appender(level: Level, count: usize, folder: &Path) -> (f64, f64) {
    let folder = Folder::new(folder, "appender");
    let store = level.open(&folder.0);
    let log = store.log(LogId::random().unwrap(), PARTITION).unwrap();
    let body = Bytes::from(vec![b'x'; 1024]);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<std::sync::mpsc::SyncSender<()>>(count);
    let stop = AtomicBool::new(false);
    let write = |sender: std::sync::mpsc::SyncSender<_>| {
        let (done, told) = std::sync::mpsc::sync_channel(1);
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            sender.send(done.clone()).unwrap();
            told.recv().unwrap();
            times.push(begun.elapsed().as_nanos() as u32);
        }
        times
    };
    let start = Instant::now();
    let mut times: Vec<u32> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let receiver = receiver;
            let mut builder = BatchBuilder::new();
            while let Ok(first) = receiver.recv() {
                let waiting: Vec<_> = std::iter::once(first).chain(receiver.try_iter()).collect();
                waiting.iter().for_each(|_| builder.push(1, None, b"", &body).unwrap());
                let appended = log.append_built(&mut builder, 0).unwrap();
                log.wait(appended.end).unwrap();
                waiting.iter().for_each(|writer| assert!(writer.send(()).is_ok()));
            }
        });
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let sender = sender.clone();
                let write = &write;
                scope.spawn(move || write(sender))
            })
            .collect();
        drop(sender);
        std::thread::sleep(RUN);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    drop(log);
    store.close().unwrap();
    (rate, percentile(&mut times, 0.5))
}

/// One round with so many dirty logs; the median time.
fn dirty_logs(count: usize, sync_each_max: usize, folder: &Path) -> f64 {
    let folder = Folder::new(folder, "dirty");
    let options = Options { sync_each_max, reserve_bytes: 0, ..Options::default() };
    let store = Store::open(&folder.0, options).unwrap();
    let logs: Vec<Log> =
        (0..count).map(|_| store.log(LogId::random().unwrap(), LogConfig::default()).unwrap()).collect();
    let body = Bytes::from(vec![b'x'; 4096]);
    let mut builder = BatchBuilder::new();
    let mut times: Vec<u32> = (0..30)
        .map(|_| {
            let start = Instant::now();
            for log in &logs {
                builder.push(1, None, b"", &body).unwrap();
                log.append_built(&mut builder, 0).unwrap();
            }
            logs.iter().for_each(|log| log.wait(log.end()).unwrap());
            start.elapsed().as_nanos() as u32
        })
        .collect();
    percentile(&mut times, 0.5) / 1000.0
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn idle_logs(folder: &Path) {
    const COUNT: usize = 10_000;
    let folder = Folder::new(folder, "idle");
    let store = Store::open(&folder.0, Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    let before = resident_bytes();
    let ids: Vec<LogId> = (0..COUNT).map(|_| LogId::random().unwrap()).collect();
    let start = Instant::now();
    let logs: Vec<Log> = ids.iter().map(|id| store.log(*id, LogConfig::default()).unwrap()).collect();
    let empty = resident_bytes() - before;
    println!(
        "{COUNT} empty logs: {:.0} us each, {} B each",
        start.elapsed().as_micros() as f64 / COUNT as f64,
        empty / COUNT as u64
    );
    let mut builder = BatchBuilder::new();
    let start = Instant::now();
    for log in &logs {
        builder.push(1, None, b"", &Bytes::from_static(b"one message")).unwrap();
        log.append_built(&mut builder, 0).unwrap();
    }
    logs.iter().for_each(|log| log.wait(1).unwrap());
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let each = (resident_bytes() - before) / COUNT as u64;
    println!(
        "{COUNT} logs of one message: {:.0} us each until on disk, {each} B each, {files} open files",
        start.elapsed().as_micros() as f64 / COUNT as f64
    );
    drop(logs);
    let start = Instant::now();
    store.close().unwrap();
    println!("closed in {} ms", start.elapsed().as_millis());
    let store = Store::open(&folder.0, Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    let start = Instant::now();
    let logs: Vec<Log> = ids.iter().map(|id| store.log(*id, LogConfig::default()).unwrap()).collect();
    println!("opened again: {:.0} us each", start.elapsed().as_micros() as f64 / COUNT as f64);
    drop(logs);
}

fn appends_in_a_row(level: Level, size: usize, folder: &Path) -> (f64, f64) {
    let folder = Folder::new(folder, "row");
    let store = level.open(&folder.0);
    let log = store.log(LogId::random().unwrap(), PARTITION).unwrap();
    let mut builder = BatchBuilder::new();
    let record = Bytes::from(vec![b'x'; 100.min(size)]);
    (0..size.div_ceil(110)).for_each(|_| builder.push(1, None, b"", &record).unwrap());
    let bytes = builder.to_vec(0, 0);
    let done = AtomicU64::new(0);
    let start = Instant::now();
    let most = (1u64 << 30) / bytes.len() as u64;
    while start.elapsed() < RUN && done.fetch_add(1, Ordering::Relaxed) < most {
        log.append(Checked::produced(&bytes).unwrap(), 0, Importance::Normal).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let done = done.into_inner() as f64;
    drop(log);
    store.close().unwrap();
    (done / seconds, done * bytes.len() as f64 / seconds / 1e9)
}

fn reads(folder: &Path) {
    let folder = Folder::new(folder, "reads");
    let store = Store::open(&folder.0, Options { durability: Durability::Os, ..Options::default() }).unwrap();
    let log = store.log(LogId::random().unwrap(), LogConfig::default()).unwrap();
    let body = Bytes::from(vec![b'x'; 1000]);
    let mut builder = BatchBuilder::new();
    for _ in 0..20_000 {
        (0..10).for_each(|_| builder.push(1, None, b"", &body).unwrap());
        log.append_built(&mut builder, 0).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(1);
    let start = Instant::now();
    (0..20_000).for_each(|_| drop(black_box(log.read_record(random.i64(0..200_000)).unwrap())));
    println!(
        "one record of 1 kB anywhere in 200 MB: {:.1} us",
        start.elapsed().as_secs_f64() * 1e6 / 20_000.0
    );
    let start = Instant::now();
    let mut reader = log.reader(0, i64::MAX);
    let mut count = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        count += batch.records().unwrap().count();
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("records in order, checked: {:.2} M/s, {:.2} GB/s", rate / 1e6, rate * 1010.0 / 1e9);
}

fn in_a_row(folder: &Path) {
    println!("one writer in a row, batches of 1, 10 and 1000 records of 100 B");
    for level in [Level::Memory, Level::Os, Level::Group] {
        for size in [110, 1100, 110_000] {
            let (rate, speed) = appends_in_a_row(level, size, folder);
            println!("{:<16} {size:>8} B  {:>9.1} k/s  {speed:>6.2} GB/s", level.name(), rate / 1e3);
        }
    }
}

fn waiting_writers(folder: &Path) {
    println!("writers that wait for their own 1 KiB record, each appending by itself");
    for count in [1, 16, 256] {
        for level in [Level::Os, Level::NoSync, Level::Group, Level::Each] {
            let (rate, median, slow) = writers(level, count, folder);
            let name = level.name();
            println!(
                "{count:>4} {name:<16} {:>8.1} k/s  p50 {median:>8.1} us  p99 {slow:>8.1} us",
                rate / 1e3
            );
        }
    }
    println!("the same through one appender, which takes what has come together");
    for count in [1, 16, 256] {
        for level in [Level::Os, Level::NoSync, Level::Group] {
            let (rate, median) = appender(level, count, folder);
            println!("{count:>4} {:<16} {:>8.1} k/s  p50 {median:>8.1} us", level.name(), rate / 1e3);
        }
    }
}

fn in_flight(folder: &Path) {
    println!("one writer, so many 1 KiB records in flight, k/s");
    for window in [1, 16, 256, 1000] {
        in_turn(window, folder);
    }
    raw_sync(folder);
}

fn many_dirty(folder: &Path) {
    println!("dirty logs of 4 KiB, ms a round: one by one, and with the whole file system from 5 on");
    for count in [1, 2, 4, 10, 50, 200] {
        let (each, mixed) = (dirty_logs(count, usize::MAX, folder), dirty_logs(count, 4, folder));
        println!("{count:>4}  {each:>8.2}  {mixed:>8.2}");
    }
}

type Part = (&'static str, fn(&Path));

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let folder = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let parts: [Part; 7] = [
        ("idle", idle_logs),
        ("memory", |_| in_memory()),
        ("row", in_a_row),
        ("writers", waiting_writers),
        ("flight", in_flight),
        ("dirty", many_dirty),
        ("reads", reads),
    ];
    for (name, run) in parts {
        if args.len() < 2 || args.iter().skip(1).any(|arg| arg == name) {
            run(&folder);
            println!();
        }
    }
}
