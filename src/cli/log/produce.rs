//! `bandy log produce`: records into topics, each of them confirmed.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use fastrand::Rng;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::complete;
use super::connect::Log;
use crate::bench::Rate;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::feed::Item;
use crate::cli::records::InputArgs;
use crate::cli::source::{Lines, Source};
use crate::log::client::{Acks, Error, Message, Outcome, ProduceOptions, Producer, Receipt, admin};
use crate::log::wire::{Compression, ErrorCode};
use crate::output::{Format, Separators};
use crate::record::{Embed, Record};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration, parse_size};

/// Arguments of `log produce`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bandy log produce orders '{\"id\": 7}' -k ada     one record with a key
  journalctl -f | bandy log produce logs          one per line
  bandy log produce orders -K '\\t' -z zstd < dump  keys and values, packed
  bandy log consume a --json | bandy log produce b --json
  bandy log produce orders hello -o json          where it went: topic, partition, offset

Every record is confirmed by all replicas in sync before the command ends, once and in order.

Exit: 0 all taken · 5 no such topic · 7 some were not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to append to; with --json, that of the record if left out
    #[arg(add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// What to append; without it, or with -, each line of stdin
    pub value: Option<String>,
    /// Key of every record
    #[arg(short, long, value_name = "KEY", help_heading = "Record")]
    pub key: Option<String>,
    /// Header: NAME=VALUE or 'NAME: VALUE' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header, help_heading = "Record")]
    pub headers: Vec<(String, Bytes)>,
    /// Partition of every record, instead of that of its key
    #[arg(short, long, value_name = "N", help_heading = "Record")]
    pub partition: Option<i32>,
    /// With --json, the partition of the record
    #[arg(long, conflicts_with = "partition", help_heading = "Record")]
    pub keep_partition: bool,
    /// So many copies of VALUE, or at most so many records of the input
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Record")]
    pub count: Option<u64>,
    /// Fill in {{ n }}, {{now}}, {{uuid}} and {{rand 10 100}}
    #[arg(short = 'T', long, help_heading = "Record")]
    pub template: bool,
    /// An empty value is no value: a tombstone
    #[arg(long, help_heading = "Record")]
    pub tombstones: bool,
    /// How batches are packed
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", help_heading = "Sending")]
    pub compress: Codec,
    /// Who has to have a record
    #[arg(long, value_name = "WHO", default_value = "all", help_heading = "Sending")]
    pub acks: Who,
    /// Not faster than this: 100/s, 60/m
    #[arg(long, value_name = "RATE", help_heading = "Sending")]
    pub rate: Option<Rate>,
    /// Close a batch at this size
    #[arg(long, value_name = "SIZE", default_value = "512k", value_parser = parse_size, help_heading = "Sending")]
    pub batch: u64,
    /// Try again for this long what a broker does not take
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, help_heading = "Sending")]
    pub retry_for: Duration,
    /// Create the topic if it is missing
    #[arg(long, help_heading = "Sending")]
    pub create: bool,
    /// Print what was taken; with -o in that format
    #[arg(long, help_heading = "Sending")]
    pub tee: bool,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A codec of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// Not packed
    None,
    /// Small, slow
    Gzip,
    /// Quick
    Snappy,
    /// Quicker
    Lz4,
    /// Small and quick
    Zstd,
}

/// Who has to have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// All replicas in sync
    All,
    /// The leader
    Leader,
    /// Nobody: what gets lost is not noticed
    None,
}

fn header(text: &str) -> Result<(String, Bytes), String> {
    let split = text.split_once('=').or_else(|| text.split_once(": "));
    let (name, value) = split.ok_or("a header is NAME=VALUE or 'NAME: VALUE'")?;
    Ok((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such topic, records that are none.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_with_driver(args.connect.timeout, produce(args, app))
}

async fn produce(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.topic.is_none() && !app.global.json && args.input.input_format.is_none() {
        return Err(Failure::new(Exit::Usage, "which topic?")
            .tip("bandy log produce TOPIC [VALUE]; with --json it may stand in the record")
            .into());
    }
    let mut log = Log::resolve(&args.connect, app, "produce")?;
    log.config.retry_for = args.retry_for;
    let source = Source::open(args.value.as_deref(), &args.input, (args.count, args.template), app)?;
    let shutdown = Shutdown::new();
    let cluster = log.open(&shutdown).await?;
    let producer = Producer::new(cluster.clone(), options(args));
    let mut outgoing = Outgoing::new(args, app, &log, producer);
    if let Some(topic) = &args.topic {
        if args.create && matches!(cluster.topic(topic, false).await, Err(Error::NoTopic(_))) {
            let new =
                admin::NewTopic { name: topic.clone(), partitions: -1, replicas: -1, ..Default::default() };
            match admin::create_topic(&cluster, &new).await {
                Ok(()) => app.printer.status(&format!("created the topic {topic}")),
                Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
                Err(error) => return Err(log.failure(&error).into()),
            }
        }
        if let Err(error) = outgoing.producer.topic(topic).await {
            let failure = log.about(&error, topic, &cluster).await;
            return Err(match failure.exit {
                Exit::NotFound => failure.tip("add --create to make it now"),
                _ => failure,
            }
            .into());
        }
    }
    outgoing.run(source).await
}

fn options(args: &Args) -> ProduceOptions {
    ProduceOptions {
        acks: match args.acks {
            Who::All => Acks::All,
            Who::Leader => Acks::Leader,
            Who::None => Acks::None,
        },
        compression: match args.compress {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        },
        batch_bytes: usize::try_from(args.batch).unwrap_or(usize::MAX),
        create: args.create,
        ..ProduceOptions::default()
    }
}

/// Where a record is, as it is printed.
#[derive(Serialize)]
struct Row<'a> {
    topic: &'a str,
    partition: i32,
    offset: Option<i64>,
    timestamp: i64,
}

/// Sends everything of a source.
struct Outgoing<'a> {
    args: &'a Args,
    app: &'a App,
    log: &'a Log,
    producer: Producer,
    lines: Lines,
    /// What is printed once it is taken, by number: the time, and the record itself for --tee.
    waiting: HashMap<u64, (i64, Option<Record>)>,
    prints: bool,
    printed: u64,
    taken: u64,
    refused: u64,
    first: Option<(Exit, String)>,
    places: Vec<Run>,
}

/// Records one after the other in a partition.
struct Run {
    topic: std::sync::Arc<str>,
    partition: i32,
    offset: i64,
    count: i64,
}

/// Places that are named in the summary; of more, only the number is.
const PLACES_MAX: usize = 4;

impl<'a> Outgoing<'a> {
    fn new(args: &'a Args, app: &'a App, log: &'a Log, producer: Producer) -> Self {
        let prints = args.tee || app.global.output.is_some();
        Self {
            args,
            app,
            log,
            producer,
            lines: Lines::default(),
            waiting: HashMap::new(),
            prints,
            printed: 0,
            taken: 0,
            refused: 0,
            first: None,
            places: Vec::new(),
        }
    }

    async fn run(mut self, mut source: Source) -> anyhow::Result<Exit> {
        self.lines.are_named = source.has_lines();
        let (mut rng, mut number, since) = (Rng::new(), 0, Instant::now());
        loop {
            let batch = tokio::select! {
                biased;
                batch = source.next(number, &mut rng) => batch,
                // Nothing more to send just now: whoever types hears of what was not taken.
                flushed = self.producer.flush(), if self.producer.waiting() > 0 => {
                    flushed.map_err(|error| self.failed(&error))?;
                    self.settle()?;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            let now = Timestamp::now().as_millisecond();
            for Item { line, record } in batch {
                if let Some(start) = self.args.rate.as_ref().and_then(|rate| rate.start(number)) {
                    self.pace(since + start).await?;
                }
                number += 1;
                match record {
                    Ok(record) => self.send(record, line, now).await?,
                    Err(failure) => self.refuse(failure, line),
                }
            }
            self.settle()?;
        }
        let flushed = self.producer.flush().await;
        self.settle()?;
        flushed.map_err(|error| self.failed(&error))?;
        self.finish()
    }

    /// Waits until the next record is due; what was sent is confirmed meanwhile.
    async fn pace(&mut self, due: Instant) -> anyhow::Result<()> {
        while Instant::now() < due {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                flushed = self.producer.flush(), if self.producer.waiting() > 0 => {
                    flushed.map_err(|error| self.failed(&error))?;
                    self.settle()?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, record: Record, line: u64, now: i64) -> anyhow::Result<()> {
        let topic = match (&self.args.topic, record.origin("topic")) {
            (Some(topic), _) => topic.clone(),
            (None, Some(Value::String(topic))) => topic.clone(),
            (None, _) => {
                let text = self.at(line, "the record has no topic");
                self.refuse(Failure::new(Exit::Usage, text).tip("bandy log produce TOPIC --json"), line);
                return Ok(());
            }
        };
        let partition = match record.origin("partition").and_then(Value::as_i64) {
            Some(partition) if self.args.keep_partition => Some(i32::try_from(partition).unwrap_or(-1)),
            _ => self.args.partition,
        };
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        if !record.headers.is_empty() || !self.args.headers.is_empty() {
            // A header of the command line stands for those of that name in the record.
            let own = |name: &str| self.args.headers.iter().any(|(own, _)| own == name);
            let theirs = record.headers.iter().filter(|(name, _)| !own(name));
            headers.extend(theirs.map(|(name, value)| (name.as_bytes(), value.as_deref())));
            headers.extend(self.args.headers.iter().map(|(name, value)| (name.as_bytes(), Some(&value[..]))));
        }
        let value = record.value.as_deref().filter(|value| !(self.args.tombstones && value.is_empty()));
        let timestamp = record.timestamp.unwrap_or(now);
        let key = self.args.key.as_deref().map(str::as_bytes).or(record.key.as_deref());
        let message = Message { key, value, headers: &headers, timestamp };
        let sent = match self.producer.topic(&topic).await {
            Ok(handle) => self.producer.produce(handle, partition, &message).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(id) => {
                self.lines.note(id, line);
                if self.prints {
                    let tee = self.args.tee.then_some(record);
                    self.waiting.insert(id, (timestamp, tee));
                }
            }
            Err(error @ (Error::NoPartition { .. } | Error::NoTopic(_) | Error::Refused { .. })) => {
                let failure = self.log.failure(&error);
                let text = self.at(line, &failure.message);
                self.refuse(Failure { message: text, ..failure }, line);
            }
            Err(error) => return Err(self.failed(&error).into()),
        }
        Ok(())
    }

    fn at(&self, line: u64, text: &str) -> String {
        if self.lines.are_named { format!("line {line}: {text}") } else { text.to_owned() }
    }

    /// The end of everything, with what is in doubt.
    fn failed(&self, error: &Error) -> Failure {
        let mut failure = self.log.failure(error);
        let sent = self.producer.sent();
        if sent > 1 {
            let settled = sent - self.producer.waiting();
            failure.message = format!("{}; {settled} of {sent} records were answered", failure.message);
        }
        failure
    }

    /// Says the first of several that are refused.
    fn refuse(&mut self, failure: Failure, line: u64) {
        self.refused += 1;
        if self.first.is_none() {
            let place =
                if self.lines.are_named { format!("at line {line}") } else { format!("was number {line}") };
            self.first = Some((failure.exit, place));
            self.app.report(&failure.into());
        }
    }

    /// Looks at the answers that have come.
    fn settle(&mut self) -> anyhow::Result<()> {
        let outcomes: Vec<Outcome> = self.producer.outcomes().collect();
        for Outcome { ids, result } in outcomes {
            match result {
                Ok(receipt) => {
                    self.taken += ids.len() as u64;
                    self.print(&ids, &receipt)?;
                    self.remember(receipt, ids.len() as i64);
                }
                Err(error) => {
                    for id in ids {
                        self.waiting.remove(&id);
                        let line = self.lines.of(id);
                        let failure = self.log.failure(&error);
                        let text = self.at(line, &failure.message);
                        self.refuse(Failure { message: text, ..failure }, line);
                    }
                }
            }
        }
        if self.prints {
            self.app.printer.flush()?;
        }
        Ok(())
    }

    fn print(&mut self, ids: &[u64], receipt: &Receipt) -> anyhow::Result<()> {
        if !self.prints {
            return Ok(());
        }
        let mut separators = Separators::default();
        if self.args.input.null {
            separators.record = vec![0];
        } else if let Some(delimiter) = &self.args.input.delim {
            separators.record.clone_from(&delimiter.0);
        }
        separators.key = self.args.input.key_delim.as_ref().map(|delimiter| delimiter.0.clone());
        let printer = &self.app.printer;
        for (id, place) in ids.iter().zip(0..) {
            let Some((timestamp, tee)) = self.waiting.remove(id) else { continue };
            let timestamp = receipt.append_time.unwrap_or(timestamp);
            let offset = (receipt.offset >= 0).then(|| receipt.offset + place);
            if tee.is_none() && printer.look().format == Format::Json {
                let (topic, partition) = (&*receipt.topic, receipt.partition);
                printer.json(&Row { topic, partition, offset, timestamp })?;
                continue;
            }
            let mut record = tee.unwrap_or_default();
            record.timestamp = Some(timestamp);
            record.provenance = vec![
                ("topic", Value::from(&*receipt.topic)),
                ("partition", receipt.partition.into()),
                ("offset", offset.map_or(Value::Null, Value::from)),
            ];
            if self.args.tee && self.app.global.output.is_none() {
                record.provenance.clear();
            }
            let mut records = printer.records(separators.clone(), Embed::Never);
            match printer.look().format {
                Format::Template(_) => printer.numbered(&record, self.printed + 1)?,
                _ => records.write(&record)?,
            }
            self.printed += 1;
        }
        Ok(())
    }

    /// Where records went, for the summary.
    fn remember(&mut self, receipt: Receipt, count: i64) {
        let Receipt { topic, partition, offset, .. } = receipt;
        let follows = |run: &&mut Run| {
            run.topic == topic && run.partition == partition && run.offset + run.count == offset
        };
        let is_room = self.places.len() <= PLACES_MAX;
        match self.places.iter_mut().find(follows) {
            Some(run) => run.count += count,
            None if is_room => self.places.push(Run { topic, partition, offset, count }),
            None => {}
        }
    }

    fn finish(self) -> anyhow::Result<Exit> {
        if self.app.printer.look().format != Format::Json {
            self.app.printer.status(&self.summary());
        }
        let Some((exit, place)) = self.first else { return Ok(Exit::Done) };
        let exit = if self.taken > 0 { Exit::Partly } else { exit };
        if self.refused > 1 {
            let text = format!("{} records were not taken, the first {place}", self.refused);
            return Err(Failure::new(exit, text).into());
        }
        Ok(exit)
    }

    /// `3 records → orders (p0 @12–14)`.
    fn summary(&self) -> String {
        let noun = if self.taken == 1 { "record" } else { "records" };
        let mut topics: Vec<&str> = self.places.iter().map(|place| &*place.topic).collect();
        topics.dedup();
        let topic = match (topics.as_slice(), &self.args.topic) {
            ([one], _) => (*one).to_owned(),
            ([], Some(topic)) => topic.clone(),
            _ => "several topics".to_owned(),
        };
        let known = self.places.iter().all(|place| place.offset >= 0);
        if self.places.is_empty() || self.places.len() > PLACES_MAX || !known {
            return format!("{} {noun} → {topic}", self.taken);
        }
        let mut places: Vec<&Run> = self.places.iter().collect();
        places.sort_by_key(|run| (run.partition, run.offset));
        let place = |run: &&Run| match run.count {
            1 => format!("p{} @{}", run.partition, run.offset),
            count => format!("p{} @{}–{}", run.partition, run.offset, run.offset + count - 1),
        };
        let places: Vec<String> = places.iter().map(place).collect();
        format!("{} {noun} → {topic} ({})", self.taken, places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn headers_are_written_in_two_ways() {
        assert_eq!(header("a=b: c").unwrap(), ("a".to_owned(), "b: c".into()));
        assert_eq!(header("a: b").unwrap(), ("a".to_owned(), "b".into()));
        assert_eq!(header("a=").unwrap(), ("a".to_owned(), "".into()));
        assert!(header("a").is_err());
    }
}
