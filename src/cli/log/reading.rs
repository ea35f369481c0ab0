//! What `consume` and `tail` share: batches as they come, within bounds, each record written as the flags have it.

use std::time::Duration;

use serde_json::Value;

use super::codec::{Decoder, SchemaArgs};
use super::connect::Log;
use super::ward::Ward;
use crate::cli::app::App;
use crate::cli::exit::Failure;
use crate::cli::filter::{Filter, FilterArgs};
use crate::cli::limits::{End, Limits};
use crate::cli::pipe::Reader;
use crate::cli::records::{Delimiter, delimiter, separators};
use crate::log::client::{Consumer, Fetched};
use crate::output::{Format, Records, Separators, WriteError};
use crate::record::{Embed, Record};
use crate::storage::Record as Stored;
use crate::units::parse_duration;

/// How long, and how it is printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReadArgs {
    /// Stop normally after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, help_heading = "Reading")]
    pub duration: Option<Duration>,
    /// Stop normally after this long without a record
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Reading")]
    pub idle: Option<Duration>,
    /// Records of open and aborted transactions, too
    #[arg(hide_short_help = true, long, help_heading = "Reading")]
    pub uncommitted: bool,
    /// What stands between key and value; without it there are no keys
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter, help_heading = "Output")]
    pub key_delim: Option<Delimiter>,
    /// What stands after each record [default: \n]
    #[arg(hide_short_help = true, short = 'D', long, value_name = "TEXT", value_parser = delimiter, help_heading = "Output")]
    pub delim: Option<Delimiter>,
    /// A NUL byte stands after each record
    #[arg(hide_short_help = true, short = '0', long, conflicts_with = "delim", help_heading = "Output")]
    pub null: bool,
    /// With --json, a value that is JSON stands there as JSON
    #[arg(hide_short_help = true, long, help_heading = "Output")]
    pub parse: bool,
    /// Which records are wanted.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How values are decoded.
    #[command(flatten)]
    pub schemas: SchemaArgs,
    /// Keys have a schema, too
    #[arg(hide_short_help = true, long, help_heading = "Schemas")]
    pub decode_keys: bool,
}

impl ReadArgs {
    /// How a value that is JSON stands in an envelope.
    pub fn embed(&self) -> Embed {
        if self.parse { Embed::IfJson } else { Embed::Never }
    }

    fn separators(&self) -> Separators {
        separators(self.key_delim.as_ref(), self.delim.as_ref(), self.null)
    }
}

/// Writes records of fetched batches.
pub struct Writing<'a> {
    app: &'a App,
    filter: Option<Filter>,
    decoder: Option<Decoder>,
    records: Records<'a>,
    separators: Separators,
    /// Nothing but keys and values is printed, as they are: no record has to be put together for that.
    is_raw: bool,
    raw: Vec<u8>,
    /// Put together anew for every record that is not raw.
    record: Record,
    left: Option<u64>,
}

/// Raw output is handed on in pieces of so many bytes.
const RAW_BYTES: usize = 64 << 10;

impl<'a> Writing<'a> {
    /// Writes at most `count` records.
    ///
    /// # Errors
    /// A schema that is none.
    pub fn new(args: &ReadArgs, count: Option<u64>, app: &'a App) -> Result<Self, Failure> {
        let decoder = Decoder::new(&args.schemas, args.decode_keys, app)?;
        let separators = args.separators();
        let format = &app.printer.look().format;
        let is_value = *format == Format::Value || *format == Format::Auto;
        let is_raw = is_value && !app.printer.is_terminal();
        let records = app.printer.records(separators.clone(), args.embed());
        let record = Record { provenance: origin(Value::Null, Value::Null), ..Record::default() };
        Ok(Self {
            app,
            filter: args.filter.filter(),
            decoder,
            records,
            separators,
            is_raw,
            raw: Vec::new(),
            record,
            left: count,
        })
    }

    /// What comes is of this batch.
    pub fn begin(&mut self, fetched: &Fetched) {
        if !self.is_raw {
            self.record.provenance[0].1 = Value::from(&*fetched.topic);
            self.record.provenance[1].1 = fetched.partition.into();
        }
    }

    /// Gets ready for the records of a batch.
    ///
    /// # Errors
    /// A registry of schemas that does not answer.
    pub async fn prepare(&mut self, fetched: &Fetched) -> Result<(), Failure> {
        match &mut self.decoder {
            Some(decoder) => decoder.prepare(fetched).await,
            None => Ok(()),
        }
    }

    /// Writes a record of the batch that was begun, if the filter lets it through; true if so.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn put(&mut self, record: &Stored<'_>, fetched: &Fetched) -> Result<bool, WriteError> {
        if self.decoder.is_some() {
            return self.put_decoded(record, fetched);
        }
        if self.filter.as_ref().is_some_and(|filter| !wants(filter, record)) {
            return Ok(false);
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.is_raw {
            self.raw(record)?
        } else {
            self.one(record, fetched)?
        }
        Ok(true)
    }

    fn put_decoded(&mut self, record: &Stored<'_>, fetched: &Fetched) -> Result<bool, WriteError> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        let decoded = decoder.decode(record, fetched, self.app);
        let shown = decoded.shown(record);
        if self.filter.as_ref().is_some_and(|filter| !wants(filter, &shown)) {
            return Ok(false);
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.is_raw {
            self.raw(&shown)?;
            return Ok(true);
        }
        fill(&mut self.record, record, fetched);
        decoded.put(&mut self.record);
        self.records.write(&self.record)?;
        Ok(true)
    }

    /// Are there as many as were asked for?
    pub fn is_enough(&self) -> bool {
        self.left == Some(0)
    }

    /// Writes the records of a batch that are wanted; false when there are enough.
    fn batch(&mut self, fetched: &Fetched, log: &Log) -> anyhow::Result<bool> {
        self.begin(fetched);
        for record in fetched.wanted() {
            let record = record.map_err(|error| log.failure(&error))?;
            if self.is_enough() {
                return Ok(false);
            }
            self.put(&record, fetched)?;
        }
        Ok(!self.is_enough())
    }

    fn raw(&mut self, record: &Stored<'_>) -> Result<(), WriteError> {
        if let Some(delimiter) = &self.separators.key {
            self.raw.extend_from_slice(record.key.unwrap_or_default());
            self.raw.extend_from_slice(delimiter);
        }
        self.raw.extend_from_slice(record.value.unwrap_or_default());
        self.raw.extend_from_slice(&self.separators.record);
        if self.raw.len() >= RAW_BYTES { self.pass_on() } else { Ok(()) }
    }

    fn one(&mut self, stored: &Stored<'_>, fetched: &Fetched) -> Result<(), WriteError> {
        fill(&mut self.record, stored, fetched);
        self.records.write(&self.record)
    }

    fn pass_on(&mut self) -> Result<(), WriteError> {
        let written = self.app.printer.bytes(&self.raw);
        self.raw.clear();
        written
    }

    /// Everything out, so that the reader has it while we wait.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if !self.raw.is_empty() {
            self.pass_on()?;
        }
        self.app.printer.flush()
    }

    /// Reads to an end.
    ///
    /// # Errors
    /// The cluster's; output that cannot be written.
    pub async fn run(
        &mut self,
        consumer: (&mut Consumer, &mut Ward<'_>),
        limits: &mut Limits,
        log: &Log,
    ) -> anyhow::Result<End> {
        match self.read(consumer, limits, log).await {
            Err(error) if matches!(error.downcast_ref(), Some(WriteError::ReaderGone)) => Ok(End::ReaderGone),
            result => result,
        }
    }

    async fn read(
        &mut self,
        (consumer, ward): (&mut Consumer, &mut Ward<'_>),
        limits: &mut Limits,
        log: &Log,
    ) -> anyhow::Result<End> {
        if self.left == Some(0) {
            return Ok(End::Count);
        }
        let reader = Reader::of_stdout();
        let gone = Reader::any_gone(reader.as_ref());
        tokio::pin!(gone);
        loop {
            if !consumer.has_ready() {
                self.flush()?;
            }
            let is_reading = consumer.is_reading() || !ward.is_waiting();
            let fetched = tokio::select! {
                biased;
                fetched = consumer.next(), if is_reading => fetched,
                well = ward.recovered() => {
                    consumer.add(well);
                    continue;
                }
                () = &mut gone => return Ok(End::ReaderGone),
                end = limits.end() => {
                    self.flush()?;
                    return Ok(end);
                }
            };
            let fetched = match (fetched, consumer.lost()) {
                (Ok(fetched), _) => fetched,
                (Err(error), lost) if lost.is_empty() => return Err(log.failure(&error).into()),
                (Err(_), lost) => {
                    ward.admit(lost);
                    continue;
                }
            };
            for gap in consumer.gaps() {
                let place = format!("topic '{}' partition {}", gap.topic, gap.partition);
                self.app
                    .printer
                    .warn(&format!("{place} has no offset {}: reading goes on at {}", gap.from, gap.to));
            }
            let Some(fetched) = fetched else {
                self.flush()?;
                return Ok(End::Everything);
            };
            self.prepare(&fetched).await?;
            if !self.batch(&fetched, log)? {
                self.flush()?;
                return Ok(End::Count);
            }
            limits.is_active();
            if let Some(end) = limits.passed() {
                self.flush()?;
                return Ok(end);
            }
        }
    }

    /// Records that were asked for and have not come.
    pub fn left(&self) -> Option<u64> {
        self.left
    }
}

/// What was read is written, even when `--timeout` ends it in the middle of a batch.
impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Who reads it is gone, or there is an error already.
        let _ = self.pass_on();
    }
}

/// Does the filter let a record through?
pub fn wants(filter: &Filter, record: &Stored<'_>) -> bool {
    filter.wants(record.key, record.value, || record.headers.iter())
}

fn origin(topic: Value, partition: Value) -> Vec<(&'static str, Value)> {
    vec![("topic", topic), ("partition", partition), ("offset", Value::Null)]
}

/// A record by itself.
pub fn record(stored: &Stored<'_>, fetched: &Fetched) -> Record {
    let provenance = origin(Value::from(&*fetched.topic), fetched.partition.into());
    let mut record = Record { provenance, ..Record::default() };
    fill(&mut record, stored, fetched);
    record
}

/// Everything of a record but its topic and partition, which are there.
fn fill(record: &mut Record, stored: &Stored<'_>, fetched: &Fetched) {
    let body = fetched.batch.body();
    record.key = stored.key.map(|key| body.slice_ref(key));
    record.value = stored.value.map(|value| body.slice_ref(value));
    record.timestamp = (stored.timestamp >= 0).then_some(stored.timestamp);
    record.headers.clear();
    let headers = stored.headers.iter();
    record.headers.extend(headers.map(|(name, value)| {
        (String::from_utf8_lossy(name).into_owned(), value.map(|value| body.slice_ref(value)))
    }));
    record.provenance[2].1 = stored.offset.into();
}
