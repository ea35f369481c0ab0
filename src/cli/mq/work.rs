//! A command per message: acknowledged when it ends with 0, tried again when not, then dead-lettered or refused.

use std::ffi::OsString;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::connect::Broker;
use super::envelope::{Mode, Shape};
use super::incoming::{self, Bounds, Next, ReadArgs};
use crate::cli::app::App;
use crate::cli::command;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::limits::End;
use crate::exec::{RecordCommand, Retries, Verdict};
use crate::mq::client::{Consumer, Delivery, Error, Message, PublishOptions, Publisher, Topology};
use crate::mq::wire::Fields;
use crate::record::Record;
use crate::shutdown::Shutdown;

/// What becomes of messages that a command is run for.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Commands")]
pub struct WorkArgs {
    /// Commands at the same time
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = command::parse_jobs)]
    pub jobs: usize,
    /// Run a command that fails so many times more, after growing pauses
    #[arg(long, value_name = "N", default_value = "3")]
    pub retries: u32,
    /// Put the messages of commands that fail into this queue, instead of refusing them
    #[arg(long, value_name = "QUEUE", value_parser = super::queue::parse_name)]
    pub dead_letter: Option<String>,
    /// What a command prints is the answer to whoever sent the message with 'mq request'
    #[arg(hide_short_help = true, long, requires = "command")]
    pub reply: bool,
}

/// The header of an answer that is a failure: the exit code of the command.
pub const EXIT_HEADER: &str = "bandy-exit";

/// A command for every message.
pub struct Work<'a> {
    app: &'a App,
    args: &'a WorkArgs,
    command: RecordCommand,
    mode: Mode,
}

/// A command that has ended.
type Ended = (Delivery, Record, Verdict, Bytes);

impl<'a> Work<'a> {
    /// The command after `--`; `None` without one.
    ///
    /// # Errors
    /// There is no such command (127), or it cannot be executed (126): before any message is taken.
    pub fn new(
        args: &'a WorkArgs,
        words: Vec<OsString>,
        read: &ReadArgs,
        app: &'a App,
    ) -> Result<Option<Self>, Failure> {
        let retries = Retries::times(args.retries);
        let command = command::per_record(words, read.embed(), retries, ("message", "taken"), app)?;
        let Some(command) = command else { return Ok(None) };
        Ok(Some(Self { app, args, command, mode: Mode::Queue }))
    }

    /// For messages of topics.
    #[must_use]
    pub fn of_topics(self) -> Self {
        Self { mode: Mode::Topic, ..self }
    }

    /// Runs it for what comes until the end, and closes the consumer.
    ///
    /// # Errors
    /// The broker's; a command that cannot be run at all; `--timeout`.
    pub async fn run(
        self,
        broker: &Broker,
        mut consumer: Consumer,
        mut bounds: Bounds,
        asked: Option<u64>,
    ) -> anyhow::Result<Exit> {
        let shutdown = Shutdown::new();
        let mut tally = Tally::default();
        let mut answers = Answers { broker, publisher: None };
        let worked = self.work(&mut consumer, &mut bounds, (&mut tally, &mut answers), &shutdown).await;
        // What is done is told; what is not goes back. Commands that were left running are ended.
        let _ = tokio::time::timeout(incoming::GOODBYE_MAX, consumer.close()).await;
        let end = worked?;
        self.exit(&bounds, end, asked, &tally)
    }

    fn exit(&self, bounds: &Bounds, end: End, asked: Option<u64>, tally: &Tally) -> anyhow::Result<Exit> {
        let exit = bounds.exit(end, asked)?;
        match exit {
            Exit::Done | Exit::Nothing if tally.failed > 0 => {
                let exit = if tally.done > 0 { Exit::Partly } else { Exit::Failed };
                if tally.failed > 1 {
                    let total = tally.done + tally.failed;
                    let text = format!("{} of {} failed", tally.failed, counted(total, "message"));
                    return Err(Failure::new(exit, text).into());
                }
                Ok(exit)
            }
            exit => Ok(exit),
        }
    }

    async fn work(
        &self,
        consumer: &mut Consumer,
        bounds: &mut Bounds,
        (tally, answers): (&mut Tally, &mut Answers<'_>),
        shutdown: &Shutdown,
    ) -> anyhow::Result<End> {
        let mut running = FuturesUnordered::new();
        let mut seed = 0;
        let mut end = None;
        loop {
            let has_room = running.len() < self.args.jobs && end.is_none();
            if !has_room && running.is_empty() {
                return Ok(end.unwrap_or(End::Count));
            }
            let queue = consumer.queue().to_owned();
            tokio::select! {
                biased;
                Some(ended) = running.next() => {
                    self.ended(ended, consumer, (tally, answers)).await?;
                    bounds.is_active();
                }
                next = next(bounds, consumer, has_room) => match next {
                    Ok(Next::Delivery(delivery)) => {
                        seed += 1;
                        running.push(self.one(delivery, queue, seed, shutdown));
                    }
                    Ok(Next::End(over @ (End::Count | End::Passed | End::Everything))) => end = Some(over),
                    // At once: what runs is ended, and its message goes back.
                    Ok(Next::End(over)) => return Ok(over),
                    Err(error) => return Err(answers.broker.failure(&error).into()),
                },
            }
        }
    }

    async fn one(&self, delivery: Delivery, queue: String, seed: u64, shutdown: &Shutdown) -> Ended {
        let record = incoming::record(self.app, &delivery, &queue, self.mode);
        let (verdict, printed) = match self.args.reply {
            true => self.command.answer(&record, seed, shutdown).await,
            false => (self.command.run(&record, seed, shutdown).await, Bytes::new()),
        };
        (delivery, record, verdict, printed)
    }

    /// What becomes of a message whose command has ended.
    async fn ended(
        &self,
        (delivery, record, verdict, printed): Ended,
        consumer: &mut Consumer,
        (tally, answers): (&mut Tally, &mut Answers<'_>),
    ) -> anyhow::Result<()> {
        if verdict.is_hopeless()
            && self.command.program.is_missing(std::env::var_os("PATH").as_deref()).is_some()
        {
            consumer.nack(&delivery, true);
            return Err(command::not_run(&self.command.program, verdict, ("message", "taken")).into());
        }
        if self.args.reply {
            answers.answer(&delivery, verdict, printed).await?;
        }
        if verdict == Verdict::Done {
            tally.done += 1;
            consumer.ack(&delivery);
            // It makes room for the next.
            let _ = consumer.flush();
            return Ok(());
        }
        tally.failed += 1;
        let fate = match &self.args.dead_letter {
            Some(queue) => {
                answers.dead_letter(queue, &delivery, &record, verdict).await?;
                consumer.ack(&delivery);
                let _ = consumer.flush();
                format!("it is in {queue} now")
            }
            None => {
                consumer.nack(&delivery, false);
                "refused: it is with the queue's dead letters, if it has any".to_owned()
            }
        };
        if tally.failed == 1 {
            let times = match self.args.retries {
                0 => String::new(),
                retries => format!(", {} times", u64::from(retries) + 1),
            };
            self.app.printer.warn(&format!("the command failed for a message ({verdict}{times}); {fate}"));
        }
        Ok(())
    }
}

/// The next message if there is room for its command, or the end.
async fn next(bounds: &mut Bounds, consumer: &mut Consumer, has_room: bool) -> Result<Next, Error> {
    match has_room {
        true => bounds.next(consumer, None).await,
        false => Ok(Next::End(bounds.cut().await)),
    }
}

#[derive(Debug, Default)]
struct Tally {
    done: u64,
    failed: u64,
}

/// Answers and dead letters: a publisher, once there is something to publish.
struct Answers<'a> {
    broker: &'a Broker,
    publisher: Option<Publisher>,
}

impl Answers<'_> {
    /// Publishes one message and waits until the broker has it. False if no queue wanted it.
    async fn publish(&mut self, message: Message) -> Result<bool, Failure> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => {
                let config = self.broker.config.clone();
                let started = Publisher::start(
                    config,
                    Topology::default(),
                    PublishOptions::default(),
                    &Shutdown::new(),
                )
                .await;
                none.insert(started.map_err(|error| self.broker.failure(&error))?)
            }
        };
        let sent = async {
            publisher.publish(message).await?;
            publisher.flush().await
        };
        sent.await.map_err(|error| self.broker.failure(&error))?;
        Ok(publisher.take_failures().is_empty())
    }

    async fn answer(&mut self, delivery: &Delivery, verdict: Verdict, printed: Bytes) -> Result<(), Failure> {
        let Ok(properties) = delivery.properties() else { return Ok(()) };
        let Some(reply_to) = properties.reply_to() else {
            tracing::info!("a message without reply_to: its answer goes nowhere");
            return Ok(());
        };
        let mut headers = crate::mq::wire::TableBuf::new();
        if verdict != Verdict::Done {
            headers.push(EXIT_HEADER, crate::mq::wire::Value::U8(verdict.exit_code()));
        }
        let table = headers.as_table();
        let headers = (!table.is_empty()).then_some(table);
        let fields = Fields { correlation_id: properties.correlation_id(), headers, ..Fields::default() };
        let message = Message {
            routing_key: Bytes::copy_from_slice(reply_to),
            properties: fields.to_vec().into(),
            body: if verdict == Verdict::Done { printed } else { Bytes::new() },
            mandatory: true,
            ..Message::default()
        };
        if !self.publish(message).await? {
            tracing::info!("whoever asked has left before the answer came");
        }
        Ok(())
    }

    /// Puts a message into another queue, with where it came from as RabbitMQ tells it of dead letters.
    async fn dead_letter(
        &mut self,
        queue: &str,
        delivery: &Delivery,
        record: &Record,
        verdict: Verdict,
    ) -> Result<(), Failure> {
        let origin =
            |name| record.origin(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let mut shape = Shape { mandatory: true, ..Shape::default() };
        for (name, value) in [
            ("x-first-death-queue", origin("queue")),
            ("x-first-death-exchange", delivery.exchange.to_string()),
            ("x-first-death-reason", "rejected".to_owned()),
            ("bandy-failure", verdict.to_string()),
        ] {
            shape.headers.push((name.to_owned(), Some(value.into()), None));
        }
        let routing_key = Bytes::copy_from_slice(queue.as_bytes());
        let message = shape.message(record, routing_key).map_err(|why| Failure::new(Exit::Failed, why))?;
        if self.publish(message).await? {
            return Ok(());
        }
        let failure = self.broker.no_queue(queue);
        Err(Failure { message: format!("{}: the message that failed goes back", failure.message), ..failure })
    }
}
