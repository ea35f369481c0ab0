//! What `pub` and `send` share: records from the command line or stdin, published in a row, every one confirmed.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fastrand::Rng;
use tokio::time::Instant;

use super::connect::Broker;
use super::envelope::Shape;
use super::header;
use crate::bench::Rate;
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::feed::Item;
use crate::cli::figures::counted;
use crate::cli::records::InputArgs;
use crate::cli::refusals::Refusals;
use crate::cli::source::{Lines, Source};
use crate::mq::client::{self, Message, Publisher, Reason};
use crate::output::{Format, Records};
use crate::record::{Embed, Record};
use crate::units::{parse_count, parse_duration};

/// What is written, and how.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Message")]
pub struct WriteArgs {
    /// Key of the application's own, as the header bandy-key
    #[arg(short, long, value_name = "KEY")]
    pub key: Option<String>,
    /// Header: NAME=VALUE, 'NAME: VALUE', NAME:=JSON or NAME:TYPE=VALUE (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header::parse)]
    pub headers: Vec<header::Written>,
    /// Property of AMQP, such as message_id=7; without a value, none (repeatable)
    #[arg(hide_short_help = true, short, long = "property", value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// MIME type of the body
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// 0 to 9 or more: a queue with priorities hands out the highest first
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// Drop it if nobody has taken it by then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// So many copies of BODY, or at most so many records of the input
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Fill in {{ n }}, {{now}}, {{uuid}} and {{rand 10 100}}
    #[arg(short = 'T', long)]
    pub template: bool,
    /// Not faster than this: 100/s, 60/m
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Print what was taken; with -o in that format
    #[arg(hide_short_help = true, long)]
    pub tee: bool,
    /// Where records come from.
    #[command(flatten)]
    pub input: InputArgs,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

impl WriteArgs {
    /// What the flags say of every message.
    ///
    /// # Errors
    /// Usage: a property that there is not, or a value that it does not take.
    pub fn shape(&self) -> Result<Shape, Failure> {
        let key = self.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        let mut shape = Shape { headers: self.headers.clone(), key, ..Shape::default() };
        if let Some(kind) = &self.content_type {
            shape.property("content_type", kind).map_err(usage)?;
        }
        if let Some(priority) = self.priority {
            shape.property("priority", &priority.to_string()).map_err(usage)?;
        }
        if let Some(expires) = self.expires {
            shape.property("expiration", &expires.as_millis().to_string()).map_err(usage)?;
        }
        for text in &self.properties {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                usage(format!("'{text}' is not a property")).tip("write NAME=VALUE, such as -p message_id=7")
            })?;
            shape.property(name, value).map_err(usage)?;
        }
        Ok(shape)
    }

    /// Where the records come from. `body` is that of the command line.
    ///
    /// # Errors
    /// Usage: two places at once, or a template that is none.
    pub fn source(&self, body: Option<&str>, app: &App) -> Result<Source, Failure> {
        Source::open(body, &self.input, (self.count, self.template), app)
    }
}

/// Where a record goes: its routing key, or why it has none.
pub type Route<'a> = &'a dyn Fn(&Record) -> Result<Bytes, Failure>;

/// What became of everything.
pub struct Tally<'a> {
    /// Confirmed.
    pub taken: u64,
    /// Not taken.
    refusals: Refusals<'a>,
}

impl Tally<'_> {
    /// The exit code, and what is to be said of several.
    ///
    /// # Errors
    /// Some were not taken.
    pub fn exit(self) -> anyhow::Result<Exit> {
        self.refusals.exit(self.taken)
    }
}

/// Publishes everything of a source.
pub struct Outgoing<'a> {
    broker: &'a Broker,
    publisher: Publisher,
    shape: Shape,
    /// The properties of a record that says nothing of its own.
    plain: Option<Bytes>,
    tally: Tally<'a>,
    /// Messages that were sent and not taken.
    lost: u64,
    lines: Lines,
    tee: Option<Tee<'a>>,
    pace: Option<(Rate, Instant)>,
    /// What a message that no queue wants is: told by the caller.
    unroutable: &'a dyn Fn(&Message) -> Option<Failure>,
}

impl<'a> Outgoing<'a> {
    /// Through `publisher`, as the flags have it. `unroutable` is asked what to make of a message that came back.
    pub fn new(
        app: &'a App,
        broker: &'a Broker,
        publisher: Publisher,
        (args, shape): (&WriteArgs, Shape),
        unroutable: &'a dyn Fn(&Message) -> Option<Failure>,
    ) -> Self {
        let wants_format = app.global.output.is_some();
        let tee = (args.tee || wants_format).then(|| Tee::new(app, args, shape.is_topic));
        let pace = args.rate.clone().map(|rate| (rate, Instant::now()));
        let (tally, lines) = (Tally { taken: 0, refusals: Refusals::new(app) }, Lines::default());
        Self { broker, publisher, shape, plain: None, tally, lost: 0, lines, tee, pace, unroutable }
    }

    /// Publishes all records and waits until the broker has answered for each.
    ///
    /// # Errors
    /// The connection is lost for good, or the broker closed the channel.
    pub async fn run(mut self, mut source: Source, route: Route<'_>) -> anyhow::Result<Tally<'a>> {
        self.lines.places = source.places();
        let mut rng = Rng::new();
        let mut number = 0;
        loop {
            let batch = tokio::select! {
                biased;
                batch = source.next(number, &mut rng) => batch,
                // Nothing more to send just now: whoever types hears of what was not taken.
                flushed = self.publisher.flush(), if self.publisher.waiting() > 0 => {
                    flushed.map_err(|error| self.failed(&error))?;
                    self.settle()?;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            number += batch.len() as u64;
            for Item { line, record } in batch {
                let message = record.and_then(|record| Ok((self.message(&record, route, line)?, record)));
                match message {
                    Ok((message, record)) => self.publish(message, record, line).await?,
                    Err(failure) => self.refuse(failure, line),
                }
            }
            self.settle()?;
        }
        let closed = self.publisher.close().await;
        self.settle()?;
        closed.map_err(|error| self.failed(&error))?;
        Ok(self.tally)
    }

    fn message(&mut self, record: &Record, route: Route<'_>, line: u64) -> Result<Message, Failure> {
        let routing_key = route(record)?;
        if Shape::is_plain(record)
            && let Some(properties) = &self.plain
        {
            return Ok(Message {
                exchange: self.shape.exchange.clone().unwrap_or_default(),
                routing_key,
                properties: properties.clone(),
                body: record.value.clone().unwrap_or_default(),
                mandatory: self.shape.mandatory,
            });
        }
        let message =
            self.shape.message(record, routing_key).map_err(|why| usage(self.lines.at(line, why)))?;
        if Shape::is_plain(record) {
            self.plain = Some(message.properties.clone());
        }
        Ok(message)
    }

    async fn publish(&mut self, message: Message, record: Record, line: u64) -> anyhow::Result<()> {
        if let Some((rate, since)) = &self.pace
            && let Some(start) = rate.start(self.lines.sent())
        {
            let due = *since + start;
            if due > Instant::now() {
                self.settle()?;
                tokio::time::sleep_until(due).await;
            }
        }
        let place = self.tee.is_some().then(|| {
            let routing_key = String::from_utf8_lossy(&message.routing_key).into_owned();
            (message.exchange.as_ref().into(), routing_key)
        });
        match self.publisher.publish(message).await {
            Ok(id) => {
                self.lines.note(id, line);
                if let (Some(tee), Some(place)) = (&mut self.tee, place) {
                    tee.waiting.push_back((id, record, place));
                }
                Ok(())
            }
            Err(error @ (client::Error::TooLong(_) | client::Error::Properties { .. })) => {
                self.refuse(Failure::new(Exit::Usage, self.lines.at(line, error)), line);
                Ok(())
            }
            Err(error) => Err(self.failed(&error).into()),
        }
    }

    /// The end of everything, with what is in doubt.
    fn failed(&self, error: &client::Error) -> Failure {
        let mut failure = self.broker.failure(error);
        let settled = self.lines.sent().saturating_sub(self.publisher.waiting() as u64);
        if self.lines.sent() > 1 {
            failure.message = format!(
                "{}; {settled} of {} answered",
                failure.message,
                counted(self.lines.sent(), "record")
            );
        }
        failure
    }

    /// Says the first of several that are refused.
    fn refuse(&mut self, failure: Failure, line: u64) {
        self.tally.refusals.add(failure, || self.lines.which(line));
    }

    /// Looks at the answers that have come.
    fn settle(&mut self) -> anyhow::Result<()> {
        let settled = self.publisher.settled();
        for failure in self.publisher.take_failures() {
            if let Some(tee) = &mut self.tee {
                tee.waiting.retain(|(id, ..)| *id != failure.id);
            }
            let line = self.lines.of(failure.id);
            let told = match &failure.reason {
                Reason::Unroutable { .. } => match (self.unroutable)(&failure.message) {
                    // Nobody there is in order, and need not be said again and again.
                    None => {
                        self.shape.mandatory = false;
                        continue;
                    }
                    Some(failure) => failure,
                },
                Reason::Rejected => {
                    let why = "the broker did not take the message: the queue is full, most likely";
                    Failure::new(Exit::Failed, self.lines.at(line, why))
                }
            };
            self.lost += 1;
            self.refuse(told, line);
        }
        self.tally.taken = settled.saturating_sub(self.lost);
        self.tally.refusals.taken(self.tally.taken);
        self.lines.forget(settled);
        if let Some(tee) = &mut self.tee {
            tee.write(settled)?;
        }
        Ok(())
    }
}

/// What `-o json` tells of a message that was taken.
#[derive(serde::Serialize)]
struct Receipt<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    exchange: &'a str,
    routing_key: &'a str,
    /// When the broker had confirmed it.
    timestamp: u64,
}

/// Prints what was taken, or receipts of it.
struct Tee<'a> {
    app: &'a App,
    records: Records<'a>,
    /// Receipts as JSON, instead of the records.
    receipts: bool,
    /// Records are not told from where they went.
    plain: bool,
    is_topic: bool,
    /// With exchange and routing key.
    waiting: VecDeque<(u64, Record, (String, String))>,
}

impl<'a> Tee<'a> {
    fn new(app: &'a App, args: &WriteArgs, is_topic: bool) -> Self {
        Self {
            app,
            records: app.printer.records(args.input.separators(), Embed::Never),
            receipts: !args.tee && app.printer.look().format == Format::Json,
            plain: app.global.output.is_none(),
            is_topic,
            waiting: VecDeque::new(),
        }
    }

    fn write(&mut self, settled: u64) -> anyhow::Result<()> {
        while self.waiting.front().is_some_and(|(id, ..)| *id < settled) {
            let Some((_, mut record, (exchange, routing_key))) = self.waiting.pop_front() else { break };
            if self.receipts {
                let address = Some(routing_key.as_str());
                let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.app.printer.json(&Receipt {
                    topic: address.filter(|_| self.is_topic),
                    queue: address.filter(|_| !self.is_topic),
                    exchange: &exchange,
                    routing_key: &routing_key,
                    timestamp: timestamp.as_millis() as u64,
                })?;
                continue;
            }
            if !self.plain {
                record.provenance = vec![
                    (if self.is_topic { "topic" } else { "queue" }, routing_key.clone().into()),
                    ("exchange", exchange.into()),
                    ("routing_key", routing_key.into()),
                ];
            }
            self.records.write(&record)?;
        }
        Ok(())
    }
}

/// What a person is told at the end: `3 messages → jobs`.
pub fn summary(app: &App, taken: u64, whereto: &str) {
    if app.printer.look().format != Format::Json {
        app.printer.status(&format!("{} → {whereto}", counted(taken, "message")));
    }
}
