//! Topics of a data directory (`dir:PATH`), read without its broker.

use std::collections::HashMap;
use std::path::Path;

use super::position::Position;
use super::reading::{ReadArgs, Writing};
use crate::cli::app::App;
use crate::cli::errors::near_miss;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::journal;
use crate::log::batch::{Marker, Unpacked};
use crate::log::client::Fetched;
use crate::log::dump::{self, Owned};
use crate::output::WriteError;
use crate::storage::{Examined, Inspection, LogId, StoredBatch};

/// What is read of a directory, from where to where.
pub struct Wanted<'a> {
    /// The topics.
    pub topics: &'a [String],
    /// Only these partitions; all if there are none.
    pub partitions: &'a [i32],
    /// Where to begin.
    pub from: Position,
    /// Where to end.
    pub to: Position,
    /// At most so many records.
    pub count: Option<u64>,
    /// How they are printed.
    pub read: &'a ReadArgs,
}

/// The ends of transactions by producer: offset of the marker, and whether it commits.
type Markers = HashMap<i64, Vec<(i64, bool)>>;

/// Prints the records of topics.
///
/// # Errors
/// No data directory, no such topic or partition, the system's, output that cannot be written.
pub fn consume(dir: &Path, wanted: &Wanted<'_>, app: &App) -> anyhow::Result<Exit> {
    let inspection = journal::open(dir, app)?;
    let mut writing = Writing::new(wanted.read, wanted.count, app)?;
    let mut exit = Exit::Done;
    for topic in wanted.topics {
        for (partition, id) in partitions(&inspection, topic, wanted.partitions, dir)? {
            if writing.is_enough() {
                break;
            }
            match read(&inspection, (topic, partition, id), wanted, &mut writing, app) {
                Ok(false) => {}
                Ok(true) => exit = Exit::Partly,
                Err(error) if matches!(error.downcast_ref(), Some(WriteError::ReaderGone)) => {
                    return Ok(Exit::Done);
                }
                Err(error) => return Err(error),
            }
        }
    }
    writing.flush()?;
    let is_short = writing.left().is_some_and(|left| left > 0);
    Ok(if exit == Exit::Done && is_short { Exit::Nothing } else { exit })
}

fn partitions(
    inspection: &Inspection,
    topic: &str,
    only: &[i32],
    dir: &Path,
) -> anyhow::Result<Vec<(i32, LogId)>> {
    let owners = dump::owners(inspection)?;
    let own = |(id, owned): (&LogId, &Owned)| match owned {
        Owned::Partition { topic: name, partition, .. } if name == topic => Some((*partition, *id)),
        Owned::Partition { .. } | Owned::Definitions => None,
    };
    let mut found: Vec<(i32, LogId)> = owners.iter().filter_map(own).collect();
    if found.is_empty() {
        let names = owners.values().filter_map(|owned| match owned {
            Owned::Partition { topic, .. } => Some(topic.as_str()),
            Owned::Definitions => None,
        });
        let failure = Failure::new(Exit::NotFound, format!("no topic '{topic}' in {}", dir.display()));
        return Err(match near_miss(topic, names) {
            Some(near) => failure.tip(format!("did you mean '{near}'?")),
            None => failure.tip(format!("bandy log dump --dir {}    shows what is in it", dir.display())),
        }
        .into());
    }
    if let Some(missing) = only.iter().find(|it| !found.iter().any(|(partition, _)| partition == *it)) {
        let count = counted(found.len() as u64, "partition");
        let text = format!("topic '{topic}' has {count}, and no partition {missing}");
        return Err(Failure::new(Exit::NotFound, text).into());
    }
    found.retain(|(partition, _)| only.is_empty() || only.contains(partition));
    found.sort_unstable();
    Ok(found)
}

/// Prints one partition; true if something of it is damaged.
fn read(
    inspection: &Inspection,
    (topic, partition, id): (&str, i32, LogId),
    wanted: &Wanted<'_>,
    writing: &mut Writing<'_>,
    app: &App,
) -> anyhow::Result<bool> {
    let mut markers = Markers::new();
    let (mut since, mut until) = (None, None);
    // Once to know how it ends, and what has become of transactions.
    let examined = inspection.examine(id, |batch| {
        let header = &batch.header;
        if header.is_control() {
            let marker = Unpacked::first(&batch.bytes).ok().flatten().and_then(|batch| batch.marker());
            let ends = markers.entry(header.producer_id).or_default();
            ends.push((header.base_offset, marker == Some(Marker::Commit)));
        }
        for (position, found) in [(wanted.from, &mut since), (wanted.to, &mut until)] {
            if let Position::Time(time) = position
                && found.is_none()
                && header.max_timestamp >= time
            {
                *found = first_of(batch, time);
            }
        }
        true
    })?;
    let (from, to) = (offset(wanted.from, &examined, since), offset(wanted.to, &examined, until));
    let mut failed = None;
    inspection.examine(id, |stored| {
        let header = &stored.header;
        if header.end_offset() <= from {
            return true;
        }
        if header.base_offset >= to || writing.is_enough() {
            return false;
        }
        if header.is_control() || !(wanted.read.uncommitted || is_committed(stored, &markers)) {
            return true;
        }
        failed = print((topic, partition), stored, (from, to), writing).err();
        failed.is_none()
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(journal::warn_of(&examined, app)),
    }
}

fn print(
    (topic, partition): (&str, i32),
    stored: &StoredBatch,
    (from, to): (i64, i64),
    writing: &mut Writing<'_>,
) -> anyhow::Result<()> {
    let Some(batch) = Unpacked::first(&stored.bytes)? else { return Ok(()) };
    let fetched = Fetched { topic: topic.into(), partition, from, to: Some(to), high_watermark: to, batch };
    writing.begin(&fetched);
    for record in fetched.wanted() {
        let record = record?;
        if writing.is_enough() {
            break;
        }
        writing.put(&record, &fetched)?;
    }
    Ok(())
}

/// The first record of a time or later.
fn first_of(stored: &StoredBatch, time: i64) -> Option<i64> {
    let batch = Unpacked::first(&stored.bytes).ok().flatten()?;
    let mut records = batch.records().flatten();
    records.find(|record| record.timestamp >= time).map(|record| record.offset)
}

fn offset(position: Position, examined: &Examined, of_time: Option<i64>) -> i64 {
    let Examined { start, end, .. } = *examined;
    let offset = match position {
        Position::Start => start,
        Position::End => end,
        Position::Offset(offset) => offset,
        Position::AfterStart(count) => start.saturating_add(count),
        Position::BeforeEnd(count) => end.saturating_sub(count),
        Position::Time(_) => of_time.unwrap_or(end),
    };
    offset.clamp(start, end.max(start))
}

/// Belongs a batch to no transaction, or to one that was committed?
fn is_committed(stored: &StoredBatch, markers: &Markers) -> bool {
    if !stored.header.is_transactional() {
        return true;
    }
    let ends = markers.get(&stored.header.producer_id).map(Vec::as_slice).unwrap_or_default();
    ends.iter().find(|(offset, _)| *offset > stored.header.base_offset).is_some_and(|(_, commits)| *commits)
}
