//! Records to their topics, and what becomes of each.

use std::collections::HashMap;

use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{Args, Ready};
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::feed::Item;
use crate::cli::figures::counted;
use crate::cli::lines::{self, Runs};
use crate::cli::log::codec::Encoder;
use crate::cli::log::connect::Log;
use crate::cli::records::{Places, PlainLines};
use crate::cli::refusals::Refusals;
use crate::cli::source::{Lines, Source};
use crate::log::client::{Ending, Error, Message, Outcome, Producer, Receipt};
use crate::log::server::check_topic_name;
use crate::output::Format;
use crate::record::{Embed, Record};

/// Where a record is, as it is printed.
#[derive(Serialize)]
struct Row<'a> {
    topic: &'a str,
    partition: i32,
    offset: Option<i64>,
    timestamp: i64,
}

/// Makes of a key or a value what its schema says, if it has one.
fn encode(encoder: &Option<Encoder>, what: &str, part: &mut Option<Bytes>) -> Result<(), String> {
    if let (Some(encoder), Some(plain)) = (encoder, &*part) {
        let encoded = encoder.encode(plain);
        *part = Some(encoded.map_err(|why| format!("the {what} does not fit the schema: {why}"))?);
    }
    Ok(())
}

/// Sends everything of a source.
pub(super) struct Outgoing<'a> {
    pub(super) encoder: Option<Encoder>,
    pub(super) key_encoder: Option<Encoder>,
    args: &'a Args,
    app: &'a App,
    log: &'a Log,
    pub(super) producer: Producer,
    lines: Lines,
    /// What is printed once it is taken, by number: the time, and the record itself for --tee.
    waiting: HashMap<u64, (i64, Option<Record>)>,
    prints: bool,
    printed: u64,
    taken: u64,
    refusals: Refusals<'a>,
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
    pub(super) fn new(args: &'a Args, app: &'a App, log: &'a Log, producer: Producer) -> Self {
        let prints = args.tee || app.global.output.is_some();
        Self {
            encoder: None,
            key_encoder: None,
            args,
            app,
            log,
            producer,
            lines: Lines::default(),
            waiting: HashMap::new(),
            prints,
            printed: 0,
            taken: 0,
            refusals: Refusals::new(app),
            places: Vec::new(),
        }
    }

    /// Sends everything there is.
    ///
    /// # Errors
    /// The cluster's; output that cannot be written.
    pub(super) async fn all(&mut self, source: Ready) -> anyhow::Result<()> {
        match source {
            Ready::Lines(lines) => self.run_lines(lines).await,
            Ready::Records(source) => self.run(source).await,
        }
    }

    async fn run(&mut self, mut source: Source) -> anyhow::Result<()> {
        self.lines.places = source.places();
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
        Ok(())
    }

    /// Lines straight from what was read into batches: nothing is made for each of them.
    async fn run_lines(&mut self, plain: PlainLines) -> anyhow::Result<()> {
        let places = Places::new(plain.files.len(), false);
        self.lines.places = Some(places.clone());
        let topic = self.args.topic.as_deref().unwrap_or_default();
        let topic = self.producer.topic(topic).await.map_err(|error| self.failed(&error))?;
        let (delimiter, finder) = (plain.delimiter, plain.key.as_ref().map(memchr::memmem::Finder::new));
        let mut runs = Runs::start(plain.files, delimiter, places);
        let args = self.args;
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            args.headers.iter().map(|(name, value)| (name.as_bytes(), Some(&value[..]))).collect();
        loop {
            let run = tokio::select! {
                biased;
                run = runs.next() => run,
                // Nothing more to send just now: whoever types hears of what was not taken.
                flushed = self.producer.flush(), if self.producer.waiting() > 0 => {
                    flushed.map_err(|error| self.failed(&error))?;
                    self.settle()?;
                    continue;
                }
            };
            let run = match run {
                None => break,
                Some(Ok(run)) => run,
                Some(Err(failure)) => {
                    self.refuse(failure, 0);
                    continue;
                }
            };
            let timestamp = Timestamp::now().as_millisecond();
            for (text, line) in lines::split(&run.bytes, delimiter).zip(run.first..) {
                let at = finder.as_ref().and_then(|finder| Some((finder.find(text)?, finder.needle().len())));
                let (own, value) = match at {
                    Some((at, len)) => (Some(&text[..at]), &text[at + len..]),
                    None => (None, text),
                };
                let key = args.key.as_deref().map(str::as_bytes).or(own);
                let value = Some(value).filter(|value| !(args.tombstones && value.is_empty()));
                let message = Message { key, value, headers: &headers, timestamp };
                match self.producer.put(topic, args.partition, &message) {
                    Ok((id, is_full)) => {
                        self.lines.note(id, line);
                        if is_full {
                            let room = self.producer.make_room().await;
                            room.map_err(|error| self.failed(&error))?;
                        }
                    }
                    Err(error) => self.refuse_record(&error, line)?,
                }
            }
            self.settle()?;
        }
        let flushed = self.producer.flush().await;
        self.settle()?;
        flushed.map_err(|error| self.failed(&error))?;
        Ok(())
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

    async fn send(&mut self, mut record: Record, line: u64, now: i64) -> anyhow::Result<()> {
        if let Some(key) = self.args.key.as_deref() {
            record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        }
        let encoded = encode(&self.encoder, "value", &mut record.value);
        let encoded = encoded.and_then(|()| encode(&self.key_encoder, "key", &mut record.key));
        if let Err(why) = encoded {
            self.refuse(Failure::new(Exit::Usage, self.at(line, &why)), line);
            return Ok(());
        }
        let topic = match (&self.args.topic, record.origin("topic")) {
            (Some(topic), _) => topic.clone(),
            (None, Some(Value::String(topic))) => topic.clone(),
            (None, _) => {
                let text = self.at(line, "the record has no topic");
                self.refuse(Failure::new(Exit::Usage, text).tip("bandy log produce TOPIC --json"), line);
                return Ok(());
            }
        };
        if let Err(why) = check_topic_name(&topic) {
            self.refuse(Failure::new(Exit::Usage, self.at(line, &why)), line);
            return Ok(());
        }
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
        let key = record.key.as_deref();
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
            Err(error) => self.refuse_record(&error, line)?,
        }
        Ok(())
    }

    /// A record that has not even been sent; anything else is the end.
    fn refuse_record(&mut self, error: &Error, line: u64) -> Result<(), Failure> {
        if !matches!(error, Error::NoPartition { .. } | Error::NoTopic(_) | Error::Refused { .. }) {
            return Err(self.failed(error));
        }
        let failure = self.log.failure(error);
        let text = self.at(line, &failure.message);
        self.refuse(Failure { message: text, ..failure }, line);
        Ok(())
    }

    fn at(&self, line: u64, text: &str) -> String {
        self.lines.at(line, text)
    }

    /// The end of everything, with what is in doubt.
    fn failed(&self, error: &Error) -> Failure {
        let mut failure = self.log.failure(error);
        let sent = self.producer.sent();
        if sent > 1 {
            let settled = sent - self.producer.waiting();
            failure.message =
                format!("{}; {settled} of {} answered", failure.message, counted(sent, "record"));
        }
        failure
    }

    /// Says the first of several that are refused.
    fn refuse(&mut self, failure: Failure, line: u64) {
        self.refusals.add(failure, || self.lines.which(line));
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
        // Of a transaction nothing counts if one record was not taken.
        if self.args.transaction.is_none() {
            self.refusals.taken(self.taken);
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
        let printer = &self.app.printer;
        let mut records = printer.records(self.args.input.separators(), Embed::Never);
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

    /// Gives the transaction up, if that takes no longer.
    pub(super) async fn abort(&mut self, at_most: std::time::Duration) {
        let ended = tokio::time::timeout(at_most, self.producer.abandon_transaction()).await;
        if !matches!(ended, Ok(Ok(()))) {
            self.app.printer.warn("the transaction is left open until its timeout, or the next of its name");
        }
    }

    /// Ends the transaction, if there is one, and tells how it went.
    pub(super) async fn conclude(mut self, sent: anyhow::Result<()>) -> anyhow::Result<Exit> {
        if self.args.transaction.is_none() {
            sent?;
            return self.finish();
        }
        let is_whole = sent.is_ok() && self.refusals.is_empty();
        let ending = if is_whole { Ending::Commit } else { Ending::Abort };
        let ended = self.producer.end_transaction(ending).await;
        // What came of a record that was not taken is told already.
        if self.refusals.is_empty() {
            sent?;
        }
        ended.map_err(|error| {
            let failure = self.log.failure(&error);
            let text = format!("{}: the transaction was not ended", failure.message);
            Failure { message: text, ..failure }
        })?;
        if !is_whole {
            self.refusals.tell(Exit::Failed);
            let text =
                format!("the transaction was aborted: none of its {} records counts", self.producer.sent());
            return Err(Failure::new(Exit::Failed, text).into());
        }
        self.finish()
    }

    fn finish(self) -> anyhow::Result<Exit> {
        if self.app.printer.look().format != Format::Json {
            self.app.printer.status(&self.summary());
        }
        self.refusals.exit(self.taken)
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
