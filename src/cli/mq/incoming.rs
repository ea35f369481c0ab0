//! What `recv` and `sub` share: deliveries within bounds, and each written and flushed before it is acknowledged.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

use super::connect::Broker;
use super::envelope::{self, Mode};
use crate::cli::app::App;
use crate::cli::exit::Exit;
use crate::cli::limits::{End, Limits};
use crate::cli::pipe::Reader;
use crate::cli::records::{Delimiter, delimiter, separators};
use crate::mq::client::{Consumer, Delivery, Error};
use crate::output::{Format, Records, WriteError};
use crate::record::{Embed, Record};
use crate::units::{parse_count, parse_duration};

/// How long, and how it is printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReadArgs {
    /// Stop normally after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, help_heading = "Taking")]
    pub duration: Option<Duration>,
    /// Stop normally after this long without a message
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Taking")]
    pub idle: Option<Duration>,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Taking")]
    pub count: Option<u64>,
    /// What stands between key and value; without it there are no keys
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter, help_heading = "Output")]
    pub key_delim: Option<Delimiter>,
    /// What stands after each message [default: \n]
    #[arg(hide_short_help = true, short = 'D', long, value_name = "TEXT", value_parser = delimiter, help_heading = "Output")]
    pub delim: Option<Delimiter>,
    /// A NUL byte stands after each message
    #[arg(hide_short_help = true, short = '0', long, conflicts_with = "delim", help_heading = "Output")]
    pub null: bool,
    /// With --json, a body that is JSON stands there as JSON
    #[arg(hide_short_help = true, long, help_heading = "Output")]
    pub parse: bool,
}

impl ReadArgs {
    /// How a value that is JSON stands in an envelope.
    pub fn embed(&self) -> Embed {
        if self.parse { Embed::IfJson } else { Embed::Never }
    }

    /// Prints records as the flags have it.
    pub fn records<'a>(&self, app: &'a App) -> Records<'a> {
        let separators = separators(self.key_delim.as_ref(), self.delim.as_ref(), self.null);
        app.printer.records(separators, self.embed())
    }

    /// True if nothing but values is printed.
    fn only_values(&self, app: &App) -> bool {
        let format = &app.printer.look().format;
        let values = *format == Format::Value || (*format == Format::Auto && !app.printer.is_terminal());
        values && self.key_delim.is_none()
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// A message.
    Delivery(Delivery),
    /// The end.
    End(End),
}

/// Within which bounds deliveries are taken.
pub struct Bounds {
    limits: Limits,
    left: Option<u64>,
    /// Deliveries since the clock was looked at.
    unwatched: u32,
}

/// So many deliveries that are here already are taken between two looks at the clock and at signals.
const UNWATCHED_MAX: u32 = 64;

impl Bounds {
    /// The bounds of the flags; `count` messages, if not all that come.
    pub fn new(args: &ReadArgs, count: Option<u64>, timeout: Option<Duration>) -> Self {
        let limits = Limits::new(args.duration, args.idle, timeout);
        Self { limits, left: count, unwatched: 0 }
    }

    /// Takes no more than these: what was ready, unless somebody else is faster.
    pub fn at_most(&mut self, ready: u64) {
        self.left = Some(self.left.map_or(ready, |left| left.min(ready)));
        self.limits.set_idle(RIVAL);
    }

    /// There was work until now.
    pub fn is_active(&mut self) {
        self.limits.is_active();
    }

    /// Does something that may take its time; not longer than signals and `--timeout` allow.
    ///
    /// # Errors
    /// The end, if it came first.
    pub async fn hurry<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        self.limits.hurry(work).await
    }

    /// The next message that is here already.
    pub fn ready(&mut self, consumer: &mut Consumer) -> Option<Next> {
        if self.left == Some(0) {
            return Some(Next::End(End::Count));
        }
        self.unwatched += 1;
        if self.unwatched > UNWATCHED_MAX {
            self.unwatched = 0;
            if let Some(end) = self.limits.passed() {
                return Some(Next::End(end));
            }
        }
        let delivery = consumer.try_next()?;
        Some(self.taken(delivery))
    }

    /// A signal or `--timeout`, while nothing is taken.
    pub async fn cut(&mut self) -> End {
        self.limits.cut().await
    }

    /// The last one does not count.
    pub fn again(&mut self) {
        self.left = self.left.map(|left| left + 1);
    }

    fn taken(&mut self, delivery: Delivery) -> Next {
        self.limits.is_active();
        self.left = self.left.map(|left| left.saturating_sub(1));
        Next::Delivery(delivery)
    }

    /// The next message. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// The broker ended it, or cannot be reached any more.
    pub async fn next(&mut self, consumer: &mut Consumer, reader: Option<&Reader>) -> Result<Next, Error> {
        if let Some(next) = self.ready(consumer) {
            return Ok(next);
        }
        tokio::select! {
            biased;
            delivery = consumer.next() => match delivery? {
                Some(delivery) => Ok(self.taken(delivery)),
                // It was cancelled.
                None => Ok(Next::End(End::Everything)),
            },
            () = Reader::any_gone(reader) => Ok(Next::End(End::ReaderGone)),
            end = self.limits.end() => Ok(Next::End(end)),
        }
    }

    /// How the command ends. `asked` is the number of messages that was asked for.
    ///
    /// # Errors
    /// `--timeout` has passed.
    pub fn exit(&self, end: End, asked: Option<u64>) -> anyhow::Result<Exit> {
        let is_short = asked.is_some() && self.left != Some(0);
        Ok(self.limits.exit(end, is_short)?)
    }
}

/// A message that was ready is here by then, or somebody else has it.
const RIVAL: Duration = Duration::from_secs(1);

/// What becomes of a message that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is acknowledged.
    Acked,
    /// It stays unacknowledged, and goes back to the queue at the end.
    Kept,
}

/// How messages are written.
pub struct Writing<'a> {
    /// Everything a command has.
    pub app: &'a App,
    /// For its errors.
    pub broker: &'a Broker,
    /// The flags.
    pub args: &'a ReadArgs,
    /// What keys are.
    pub mode: Mode,
    /// What becomes of what was written.
    pub fate: Fate,
    /// One at a time into a pipe: the next when the one before was read. For readers that may leave.
    pub one_by_one: bool,
}

/// So many written messages wait to be flushed and acknowledged at once.
const HELD_MAX: usize = 256;

/// How long the broker may take to say goodbye.
pub const GOODBYE_MAX: Duration = Duration::from_secs(2);

impl Writing<'_> {
    /// Writes what comes until the end, and closes the consumer.
    ///
    /// # Errors
    /// The broker's, `--timeout`, output that cannot be written.
    pub async fn run(
        &self,
        mut consumer: Consumer,
        mut bounds: Bounds,
        asked: Option<u64>,
    ) -> anyhow::Result<Exit> {
        let reader = Reader::of_stdout();
        let result = self.write(&mut consumer, &mut bounds, reader.as_ref()).await;
        // What is done is told; what is not goes back.
        let _ = timeout(GOODBYE_MAX, consumer.close()).await;
        let end = result?;
        bounds.exit(end, asked)
    }

    async fn write(
        &self,
        consumer: &mut Consumer,
        bounds: &mut Bounds,
        reader: Option<&Reader>,
    ) -> anyhow::Result<End> {
        let mut records = self.args.records(self.app);
        let only_values = self.args.only_values(self.app);
        let mut held = Vec::new();
        loop {
            let next = match bounds.ready(consumer) {
                Some(next) => next,
                None => {
                    if let Some(end) = self.settle(&mut held, consumer)? {
                        return Ok(end);
                    }
                    bounds.next(consumer, reader).await.map_err(|error| self.broker.failure(&error))?
                }
            };
            let delivery = match next {
                Next::Delivery(delivery) => delivery,
                Next::End(end) => return Ok(self.settle(&mut held, consumer)?.unwrap_or(end)),
            };
            let written = match only_values {
                true => records.write(&Record::of(delivery.body.clone())),
                false => records.write(&self.record(&delivery, consumer.queue())),
            };
            held.push(delivery);
            if let Some(end) = gone(written)? {
                return Ok(end);
            }
            if let (true, Some(reader)) = (self.one_by_one, reader) {
                if let Some(end) = gone(self.app.printer.flush())? {
                    return Ok(end);
                }
                if !bounds.hurry(reader.takes()).await.unwrap_or(false) {
                    return Ok(End::ReaderGone);
                }
            }
            if (held.len() >= HELD_MAX || self.one_by_one)
                && let Some(end) = self.settle(&mut held, consumer)?
            {
                return Ok(end);
            }
        }
    }

    /// Passes on what was written, then acknowledges it.
    fn settle(&self, held: &mut Vec<Delivery>, consumer: &mut Consumer) -> anyhow::Result<Option<End>> {
        if let Some(end) = gone(self.app.printer.flush())? {
            return Ok(Some(end));
        }
        if self.fate == Fate::Acked {
            for delivery in held.drain(..) {
                // One of a connection that is gone comes again.
                consumer.ack(&delivery);
            }
        }
        held.clear();
        Ok(None)
    }

    fn record(&self, delivery: &Delivery, queue: &str) -> Record {
        record(self.app, delivery, queue, self.mode)
    }
}

/// The record of a message; without properties that are malformed.
pub fn record(app: &App, delivery: &Delivery, queue: &str, mode: Mode) -> Record {
    envelope::record(delivery, queue, mode).unwrap_or_else(|error| {
        app.printer.warn(&format!("a message has malformed properties, which are left out: {error}"));
        Record::of(delivery.body.clone())
    })
}

/// The end, if the reader has left.
fn gone(written: Result<(), WriteError>) -> Result<Option<End>, WriteError> {
    match written {
        Ok(()) => Ok(None),
        Err(WriteError::ReaderGone) => Ok(Some(End::ReaderGone)),
        Err(error) => Err(error),
    }
}
