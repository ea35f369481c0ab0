//! Power cuts and kills at every operation: what was acknowledged is there, nothing is invented, nothing is refused.

use std::path::Path;
use std::sync::Arc;

use super::basics::{batch, id, values};
use crate::storage::disk::sim::{Faults, SimDisk};
use crate::storage::*;

const ROOT: &str = "/data";

fn options(durability: Durability) -> Options {
    Options {
        durability,
        flushing: Flushing::Manual,
        sync_each_max: 1,
        reserve_bytes: 0,
        allocate_max: 4096,
        ..Options::default()
    }
}

/// Small segments, of which there are many, or larger ones whose index has several entries.
fn config(seed: u64) -> LogConfig {
    LogConfig { segment_bytes: if seed.is_multiple_of(2) { 900 } else { 12_000 }, compact: false }
}

fn open(disk: &SimDisk, durability: Durability) -> Result<Store> {
    Store::open_on(Arc::new(disk.clone()), Path::new(ROOT), options(durability))
}

/// What a log may hold after a crash.
#[derive(Debug, Clone, Default)]
struct Model {
    /// Everything appended and not cut, by offset; several while a cut is under way.
    candidates: Vec<Vec<String>>,
    /// Acknowledged up to here.
    safe: usize,
    /// The start that was asked for last.
    start: i64,
}

impl Model {
    fn new() -> Self {
        Self { candidates: vec![Vec::new()], ..Self::default() }
    }

    fn current(&mut self) -> &mut Vec<String> {
        self.candidates.last_mut().unwrap()
    }

    #[track_caller]
    fn check(&self, log: &Log, context: &str) {
        let state = log.state();
        assert!(state.start <= self.start, "{context}: {state:?}, asked for {}", self.start);
        assert!(state.end >= self.safe as i64, "{context}: {state:?}, acknowledged {}", self.safe);
        let found = values(log, state.start);
        let offsets: Vec<i64> = found.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (state.start..state.end).collect::<Vec<_>>(), "{context}");
        let fits = self.candidates.iter().any(|candidate| {
            found.iter().all(|(offset, value)| candidate.get(*offset as usize) == Some(value))
        });
        assert!(fits, "{context}: found {found:?}, of {:?}", self.candidates);
    }
}

/// One life of a process: two logs, appends, syncs, cuts at both ends. Ends at the first error.
fn live(store: &Store, models: &mut [Model; 2], random: &mut fastrand::Rng, config: LogConfig) -> Result<()> {
    let logs = [store.log(id(1), config)?, store.log(id(2), config)?];
    let large = config.segment_bytes > 1000;
    let steps = if models.iter().all(|model| model.candidates[0].is_empty()) { 40 } else { 10 };
    let durability = store.shared.options.durability;
    let mut epoch = logs[0].state().leader_epoch.max(logs[1].state().leader_epoch).unwrap_or(0);
    for step in 0..steps {
        let number = random.usize(0..2);
        let (log, model) = (&logs[number], &mut models[number]);
        match random.u8(0..12) {
            0..=6 => {
                let count = random.usize(1..4);
                let long = match random.u8(0..4) {
                    _ if large => 1500,
                    0 => 700,
                    _ => 10,
                };
                let texts: Vec<String> =
                    (0..count).map(|n| format!("{step} {n} {:long$}", random.u64(..))).collect();
                let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
                assert_eq!(model.current().len() as i64, log.end());
                // Whether a write that fails is there is not known.
                model.current().extend(texts.iter().cloned());
                let appended = log.append_built(&mut batch(&refs), epoch)?;
                if appended.safe && durability == Durability::Each {
                    model.safe = appended.end as usize;
                }
            }
            7 | 8 => {
                store.flush()?;
                for (log, model) in logs.iter().zip(models.iter_mut()) {
                    log.sync()?;
                    model.safe = model.safe.max(log.state().flushed_end as usize);
                }
            }
            9 => epoch += 1,
            10 => {
                let to = random.i64(0..=log.end());
                model.start = model.start.max(to);
                log.trim(to)?;
            }
            _ => {
                let start = log.state().start;
                let to = random.i64(start..=log.end());
                let before = model.safe;
                // A cut inside of a batch takes the whole batch: it can reach this far down.
                let low = log.read(to.min(log.end() - 1).max(start), 0, i64::MAX).ok().flatten();
                let low = low.map_or(to, |chunk| chunk.base_offset.min(to)).max(0) as usize;
                model.safe = model.safe.min(low);
                match log.truncate(epoch, to, start) {
                    Ok(end) => {
                        let all = model.current().clone();
                        model.candidates = vec![all[..end as usize].to_vec()];
                        model.safe = before.min(end as usize);
                        model.start = model.start.min(end);
                    }
                    Err(Error::OutOfRange { .. }) => model.safe = before,
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

fn run(seed: u64, durability: Durability, power: bool, stop_at: u64) -> bool {
    let context = format!("seed {seed}, {durability:?}, power {power}, stop at {stop_at}");
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = SimDisk::default();
    disk.set_faults(Faults { stop_at: Some(stop_at), ..Faults::default() });
    let mut models = [Model::new(), Model::new()];
    let lived = open(&disk, durability).and_then(|store| {
        live(&store, &mut models, &mut random, config(seed))?;
        if seed.is_multiple_of(2) { store.close() } else { Ok(()) }
    });
    let stopped = lived.is_err();
    let mut random = fastrand::Rng::with_seed(seed ^ stop_at << 20);
    for life in 0..3 {
        let context = format!("{context}, life {life}");
        if power {
            disk.power_cut(&mut random)
        } else {
            disk.kill()
        }
        let store = open(&disk, durability).unwrap_or_else(|error| panic!("{context}: {error}"));
        for (number, model) in models.iter_mut().enumerate() {
            let log = store
                .log(id(number as u8 + 1), config(seed))
                .unwrap_or_else(|error| panic!("{context}: {error}"));
            model.check(&log, &context);
            // What was found counts from now on: recovery has synced it.
            let end = log.end() as usize;
            let found = values(&log, log.state().start);
            model.candidates.retain(|candidate| {
                candidate.len() >= end
                    && found.iter().all(|(offset, value)| &candidate[*offset as usize] == value)
            });
            model.candidates.truncate(1);
            model.current().truncate(end);
            model.safe = end;
            model.start = log.state().start;
        }
        live(&store, &mut models, &mut random, config(seed))
            .unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    stopped
}

/// Stops at every operation of a few runs, and after the last.
fn everywhere(seeds: std::ops::Range<u64>, durability: Durability, power: bool) {
    for seed in seeds {
        let mut stop_at = 1;
        while run(seed, durability, power, stop_at) {
            stop_at += 1;
        }
        assert!(stop_at > 50, "the run has only {stop_at} operations");
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged_by_group() {
    everywhere(0..12, Durability::Group, true);
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged_by_each() {
    everywhere(10..16, Durability::Each, true);
}

#[test]
fn a_kill_at_any_operation_loses_nothing_acknowledged() {
    everywhere(20..24, Durability::Group, false);
}

#[test]
fn many_logs_are_removed_at_the_price_of_one_checkpoint() {
    let disk = SimDisk::default();
    let store = open(&disk, Durability::Group).unwrap();
    let ids: Vec<LogId> = (0..100).map(id).collect();
    for id in &ids {
        store.log(*id, config(0)).unwrap().append_built(&mut batch(&["v"]), 0).unwrap();
    }
    store.flush().unwrap();
    // To move and to remove each takes two operations.
    disk.stop_after(220);
    store.remove_all(&ids).unwrap();
    assert_eq!(store.list().unwrap(), []);
    drop(store);
    disk.kill();
    assert_eq!(open(&disk, Durability::Group).unwrap().list().unwrap(), []);
}
