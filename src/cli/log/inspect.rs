//! `bandy log dump` and `salvage`: a broker's data directory without the broker.

use serde::Serialize;

use super::reading;
use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::journal::{self, DirectoryArgs, Known};
use crate::log::batch::{Marker, Unpacked};
use crate::log::client::Fetched;
use crate::log::dump::{self, Owned};
use crate::record::Embed;
use crate::storage::{Inspection, LogConfig, LogId, StoredBatch};

/// Arguments of `log dump`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DUMP_EXAMPLES)]
pub struct DumpArgs {
    /// Topic, TOPIC-PARTITION, or UUID of a log, whose records to show; without one, what is in the directory
    pub topic: Option<String>,
    #[command(flatten)]
    directory: DirectoryArgs,
}

const DUMP_EXAMPLES: &str = "\
Examples:
  bandy log dump --dir /var/lib/log         # its partitions, with what is torn or damaged
  bandy log dump --dir /var/lib/log --json  # with files, offsets and leader epochs
  bandy log dump orders --dir /var/lib/log  # every record of a topic, one JSON object a line
  bandy log dump orders-3 > p3.ndjson       # of one partition: 'log produce --json' takes it back

Records stand with the leader epoch, producer and sequence number of their batch; markers of transactions stand \
among them. Nothing is changed. A broker may run meanwhile: what it is writing may look torn.

Exit: 0 shown · 1 no such directory · 5 no such topic · 7 shown, and something is damaged · see 'bandy help exit-codes'";

/// Arguments of `log salvage`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SALVAGE_EXAMPLES)]
pub struct SalvageArgs {
    /// Topics, TOPIC-PARTITION, or UUIDs of logs; all that are damaged without
    pub topics: Vec<String>,
    #[command(flatten)]
    how: journal::RepairArgs,
    #[command(flatten)]
    directory: DirectoryArgs,
}

const SALVAGE_EXAMPLES: &str = "\
Examples:
  bandy log salvage --dir /var/lib/log --dry-run  # what is damaged, and what would be lost
  bandy log salvage orders --dir /var/lib/log     # keep all whole batches of that topic
  bandy log salvage orders-3 --cut -y             # keep what stands before the damage

For partitions that a broker refuses because data that had been on disk is damaged. Restore them from a copy if there \
is one. The broker has to be stopped. What is taken out is kept in trash/ of the directory for a week.

Exit: 0 done, or nothing is damaged · 1 a broker uses the directory, or it is none · 5 no such topic \
· see 'bandy help exit-codes'";

/// Every log, with its name.
fn logs(inspection: &Inspection) -> anyhow::Result<Vec<Known>> {
    let owners = dump::owners(inspection)?;
    let named = |id: LogId| match owners.get(&id) {
        Some(Owned::Definitions) => {
            Known { id, kind: "definitions", name: "definitions".to_owned(), config: LogConfig::default() }
        }
        Some(Owned::Partition { topic, partition, config }) => {
            Known { id, kind: "partition", name: format!("{topic}-{partition}"), config: *config }
        }
        None => Known { id, kind: "unknown", name: String::new(), config: LogConfig::default() },
    };
    let mut logs: Vec<Known> = inspection.logs()?.into_iter().map(named).collect();
    logs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(logs)
}

/// The logs of a name: a topic's are those of all its partitions.
fn chosen(all: &[Known], names: &[String]) -> Result<Vec<Known>, Failure> {
    let mut found = Vec::new();
    for name in names {
        let is_of = |known: &&Known| known.name.rsplit_once('-').is_some_and(|(topic, _)| topic == name);
        let mut partitions: Vec<Known> =
            all.iter().filter(|it| it.kind == "partition").filter(is_of).cloned().collect();
        if partitions.is_empty() {
            partitions = journal::chosen(all, std::slice::from_ref(name))?;
        }
        let number = |known: &Known| known.name.rsplit_once('-').and_then(|(_, it)| it.parse::<i32>().ok());
        partitions.sort_by_key(number);
        found.extend(partitions);
    }
    Ok(found)
}

/// Runs `dump`.
///
/// # Errors
/// No data directory, no such topic, the system's.
pub fn dump(args: &DumpArgs, app: &App) -> anyhow::Result<Exit> {
    let inspection = journal::open(&args.directory.path(Pillar::Log, app), app)?;
    let all = logs(&inspection)?;
    let Some(name) = &args.topic else { return journal::list(&inspection, &all, app) };
    let mut exit = Exit::Done;
    for known in chosen(&all, std::slice::from_ref(name))? {
        let mut failed = None;
        let examined = inspection.examine(known.id, |batch| {
            failed = self::batch(&known, batch, app).err();
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if journal::warn_of(&examined, app) {
            exit = Exit::Partly;
        }
    }
    Ok(exit)
}

/// The end of a transaction.
#[derive(Serialize)]
struct Control<'a> {
    op: &'static str,
    topic: &'a str,
    partition: i32,
    offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    epoch: i32,
}

fn batch(known: &Known, stored: &StoredBatch, app: &App) -> anyhow::Result<()> {
    let (topic, partition) = known.name.rsplit_once('-').unwrap_or((&known.name, "-1"));
    let partition = partition.parse().unwrap_or(-1);
    let header = stored.header;
    let Some(batch) = Unpacked::first(&stored.bytes)? else { return Ok(()) };
    if header.is_control() {
        let op = match batch.marker() {
            Some(Marker::Commit) => "commit",
            Some(Marker::Abort) => "abort",
            None => "control",
        };
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        let (offset, epoch) = (header.base_offset, header.leader_epoch);
        let control = Control { op, topic, partition, offset, producer_id, producer_epoch, epoch };
        return Ok(app.printer.json(&control)?);
    }
    let fetched = whole(topic, partition, batch);
    let mut line = Vec::new();
    for record in fetched.wanted() {
        let stored = record?;
        let mut record = reading::record(&stored, &fetched);
        record.provenance.push(("epoch", header.leader_epoch.into()));
        if header.producer_id >= 0 {
            record.provenance.extend([
                ("producer_id", header.producer_id.into()),
                ("producer_epoch", header.producer_epoch.into()),
            ]);
        }
        if header.base_sequence >= 0 {
            let sequence = i64::from(header.base_sequence) + stored.offset - header.base_offset;
            record.provenance.push(("sequence", sequence.into()));
        }
        if header.is_transactional() {
            record.provenance.push(("transactional", true.into()));
        }
        line.clear();
        record.write_json(Embed::Never, &mut line);
        line.push(b'\n');
        app.printer.bytes(&line)?;
    }
    Ok(())
}

/// A batch of which everything is wanted.
fn whole(topic: &str, partition: i32, batch: Unpacked) -> Fetched {
    Fetched { topic: topic.into(), partition, from: 0, to: None, high_watermark: -1, batch }
}

/// Runs `salvage`.
///
/// # Errors
/// No data directory, no such topic, a broker that uses it, the system's.
pub fn salvage(args: &SalvageArgs, app: &App) -> anyhow::Result<Exit> {
    let dir = args.directory.path(Pillar::Log, app);
    let inspection = journal::open(&dir, app)?;
    let all = logs(&inspection)?;
    let chosen = if args.topics.is_empty() { all } else { chosen(&all, &args.topics)? };
    journal::salvage(&dir, inspection, &chosen, &args.how, app)
}
