//! `bandy mq move`: messages from one queue to another, or dead letters back to where they came from.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::complete;
use super::connect::Broker;
use super::ls::passive;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::figures::per_second;
use crate::cli::signals;
use crate::mq::client::{
    ConsumeOptions, Consumer, Delivery, Message, PublishOptions, Publisher, Reason, Topology,
};
use crate::mq::wire::{Properties, Table, Value};
use crate::shutdown::Shutdown;
use crate::units::parse_count;
use crate::wait::until;

/// Arguments of `mq move`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Queue to take from
    #[arg(value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub from: String,
    /// Queue to move to
    #[arg(required_unless_present = "origin", conflicts_with = "origin", value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub to: Option<String>,
    /// Dead letters back to where they were: published anew to the exchange, or put into the queue they died in
    #[arg(long, value_name = "exchange|queue", num_args = 0..=1, require_equals = true, default_missing_value = "exchange")]
    pub origin: Option<Origin>,
    /// Move N messages [default: as many as there are at the start]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Where a dead letter goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// The exchange that it was published to, with its routing key: everybody who is bound gets it again
    Exchange,
    /// The queue that it died in, and no other
    Queue,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq move jobs old-jobs             # all that wait now
  bandy mq move jobs.dead --origin        # dead letters back to where they came from, by x-death
  bandy mq move jobs.dead --origin=queue  # or straight into the queue they died in, past all others
  bandy mq move jobs.dead jobs -n 1       # one, to see what happens

A message is taken out when the broker has confirmed it at its new place: none is lost, and after a lost connection \
the last ones may be there twice. Order, body, properties and headers stay as they are, types included.

Exit: 0 moved · 3 unreachable · 5 no such queue · 6 fewer than -n · 7 some could not be moved and are where they were \
· see 'bandy help exit-codes'";

/// Deliveries on their way: enough to keep both connections busy.
const PREFETCH: u16 = 1000;

/// A queue that gives nothing for so long is empty, whatever it said at first: others may take from it.
const IDLE: Duration = Duration::from_secs(1);

/// Reasons that are told apart.
const REASONS_MAX: usize = 10;

/// Progress is drawn so often.
const PROGRESS: Duration = Duration::from_millis(200);

/// Longest time for putting things in order when the user has lost patience.
const TIDY_MAX: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such queue, messages that nobody takes.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(relocate(args, app))
}

async fn relocate(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.to.as_ref() == Some(&args.from) {
        return Err(
            Failure::new(Exit::Usage, format!("'{}' is both: a queue moved to itself", args.from)).into()
        );
    }
    let shutdown = Shutdown::new();
    let broker = Broker::resolve(&args.connect, app, "move")?;
    let waiting = waiting(args, &broker, &shutdown).await?;
    let wanted = args.count.unwrap_or(waiting);
    let mut work = Work::start(args, &broker, &shutdown, wanted).await?;
    let started = Instant::now();
    let result = {
        let limit = broker.timeout.and_then(|timeout| started.checked_add(timeout));
        tokio::select! {
            biased;
            signal = signals::interrupted() => Ok(Exit::Signal(signal)),
            () = until(limit) => Err(Failure::new(Exit::Timeout, "not finished in time").into()),
            result = work.run(&broker, app, started) => result.map(|()| Exit::Done),
        }
    };
    // What is confirmed by now is taken out; everything else stays.
    if timeout(TIDY_MAX, work.finish()).await.is_err() {
        app.printer.warn("the broker did not answer in time: some messages may be at both places");
    }
    work.report(args, app, started);
    let Work { consumer, moved, stayed, failed, .. } = work;
    // What stays goes back to its place now.
    let _ = timeout(TIDY_MAX, consumer.close()).await;
    match (result?, failed.as_slice()) {
        (Exit::Done, [first, ..]) => {
            let message = format!(
                "{stayed} of {} left in '{}': {first}",
                counted(stayed + moved, "message"),
                args.from
            );
            Err(Failure::new(Exit::Partly, message).into())
        }
        (Exit::Done, []) if args.count.is_some_and(|count| moved < count) => {
            Err(Failure::new(Exit::Nothing, format!("there were {moved} of {}", counted(wanted, "message")))
                .into())
        }
        (exit, _) => Ok(exit),
    }
}

/// How many messages wait, and whether both queues exist.
async fn waiting(args: &Args, broker: &Broker, shutdown: &Shutdown) -> Result<u64, Failure> {
    let connection = broker.open(shutdown).await?;
    let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
    let from = channel.queue_declare(passive(&args.from)).await.map_err(|error| broker.failure(&error))?;
    if let Some(to) = &args.to {
        channel.queue_declare(passive(to)).await.map_err(|error| broker.failure(&error))?;
    }
    let _ = connection.close().await;
    Ok(from.messages.into())
}

/// A message that has been published at its new place, and not yet confirmed there.
struct Moving {
    id: u64,
    delivery: Delivery,
}

struct Work {
    /// The queue, or none for the origin.
    to: Option<String>,
    origin: Origin,
    user: Option<String>,
    wanted: u64,
    taken: u64,
    moved: u64,
    stayed: u64,
    /// Confirmed at the new place, but the old connection was gone: they are at both.
    twice: u64,
    /// Why, each reason once.
    failed: Vec<String>,
    consumer: Consumer,
    publisher: Publisher,
    moving: VecDeque<Moving>,
}

impl Work {
    async fn start(args: &Args, broker: &Broker, shutdown: &Shutdown, wanted: u64) -> anyhow::Result<Self> {
        let prefetch = u16::try_from(wanted.min(PREFETCH.into())).unwrap_or(PREFETCH).max(1);
        let options = ConsumeOptions { queue: args.from.clone(), prefetch, ..ConsumeOptions::default() };
        let failure = |error| broker.failure(&error);
        let publisher =
            Publisher::start(broker.config.clone(), Topology::default(), PublishOptions::default(), shutdown)
                .await
                .map_err(failure)?;
        let consumer = Consumer::start(broker.config.clone(), Topology::default(), options, shutdown)
            .await
            .map_err(failure)?;
        Ok(Self {
            to: args.to.clone(),
            origin: args.origin.unwrap_or(Origin::Exchange),
            user: broker.password().map(|(user, _)| user.to_owned()),
            wanted,
            taken: 0,
            moved: 0,
            stayed: 0,
            twice: 0,
            failed: Vec::new(),
            consumer,
            publisher,
            moving: VecDeque::new(),
        })
    }

    async fn run(&mut self, broker: &Broker, app: &App, started: Instant) -> anyhow::Result<()> {
        let mut drawn = started;
        while self.taken < self.wanted {
            let delivery = match self.consumer.try_next() {
                Some(delivery) => delivery,
                None => match timeout(IDLE, self.consumer.next()).await {
                    Ok(next) => match next.map_err(|error| broker.failure(&error))? {
                        Some(delivery) => delivery,
                        None => break,
                    },
                    Err(_) => break,
                },
            };
            self.taken += 1;
            match self.message(&delivery) {
                Ok(message) => {
                    let id = self.publisher.publish(message).await.map_err(|error| broker.failure(&error))?;
                    self.moving.push_back(Moving { id, delivery });
                }
                Err(why) => self.leave(why),
            }
            self.settle();
            if drawn.elapsed() >= PROGRESS {
                drawn = Instant::now();
                self.draw(app, started);
            }
        }
        self.publisher.flush().await.map_err(|error| broker.failure(&error))?;
        self.settle();
        Ok(())
    }

    /// The message at its new place.
    fn message(&self, delivery: &Delivery) -> Result<Message, String> {
        let properties = Properties::parse(&delivery.properties).map_err(|error| error.to_string())?;
        if let (Some(theirs), Some(user)) = (properties.user_id(), &self.user)
            && theirs != user.as_bytes()
        {
            let theirs = String::from_utf8_lossy(theirs);
            // The broker would close the channel for it.
            return Err(format!(
                "a message of user_id '{theirs}' is only that user's to publish: -u {theirs}"
            ));
        }
        let (exchange, routing_key) = match &self.to {
            Some(queue) => ("".into(), Bytes::from(queue.clone())),
            None => {
                let headers = properties.headers().map_err(|error| error.to_string())?.unwrap_or_default();
                let death = last_death(headers).ok_or("a message has no x-death: it is no dead letter")?;
                match self.origin {
                    Origin::Exchange => (death.exchange.as_str().into(), Bytes::from(death.routing_key)),
                    Origin::Queue => ("".into(), Bytes::from(death.queue)),
                }
            }
        };
        Ok(Message {
            exchange,
            routing_key,
            properties: delivery.properties.clone(),
            body: delivery.body.clone(),
            mandatory: true,
        })
    }

    /// Takes out what is confirmed at its new place, and puts back what is not wanted there.
    fn settle(&mut self) {
        let settled = self.publisher.settled();
        let failures = self.publisher.take_failures();
        while self.moving.front().is_some_and(|moving| moving.id < settled) {
            let Some(Moving { id, delivery }) = self.moving.pop_front() else { break };
            match failures.iter().find(|failure| failure.id == id) {
                Some(failure) => {
                    let place = match failure.message.exchange.is_empty() {
                        true => String::from_utf8_lossy(&failure.message.routing_key).into_owned(),
                        false => failure.message.exchange.to_string(),
                    };
                    let why = match failure.reason {
                        Reason::Unroutable { .. } => format!("no queue takes what goes to '{place}'"),
                        Reason::Rejected => format!("'{place}' refused it: it is full, most likely"),
                    };
                    self.leave(why);
                }
                None => {
                    self.moved += 1;
                    if !self.consumer.ack(&delivery) {
                        self.twice += 1;
                    }
                }
            }
        }
        let _ = self.consumer.flush();
    }

    /// It goes back to its place when the connection closes: put back now, it would come again at once.
    fn leave(&mut self, why: String) {
        self.stayed += 1;
        if !self.failed.contains(&why) && self.failed.len() < REASONS_MAX {
            self.failed.push(why);
        }
    }

    /// Waits for the answers that are due, and takes out what is confirmed.
    async fn finish(&mut self) {
        let _ = self.publisher.flush().await;
        self.settle();
        let _ = self.consumer.flush();
    }

    fn draw(&self, app: &App, started: Instant) {
        if app.printer.look().err.width.is_some() && !app.global.quiet {
            let rate = per_second(self.moved as f64 / started.elapsed().as_secs_f64().max(0.001));
            app.printer.say_own(&format!("\r{} of {} moved  {rate}\x1b[K", self.moved, self.wanted));
        }
    }

    fn report(&self, args: &Args, app: &App, started: Instant) {
        if app.printer.look().err.width.is_some() && !app.global.quiet {
            app.printer.say_own("\r\x1b[K");
        }
        let to = match (&self.to, self.origin) {
            (Some(to), _) => format!("'{to}'"),
            (None, Origin::Exchange) => "the exchanges they came from".to_owned(),
            (None, Origin::Queue) => "the queues they died in".to_owned(),
        };
        let rate = per_second(self.moved as f64 / started.elapsed().as_secs_f64().max(0.001));
        app.printer.note(&format!("{} moved from '{}' to {to}, {rate}", self.moved, args.from));
        if self.twice > 0 {
            app.printer
                .warn(&format!("up to {} of them are at both places: a connection was lost", self.twice));
        }
        for why in self.failed.iter().skip(1) {
            app.printer.note(&format!("also: {why}"));
        }
    }
}

/// The latest entry of `x-death`, which comes first.
struct Death {
    queue: String,
    exchange: String,
    routing_key: Vec<u8>,
}

fn last_death(headers: Table<'_>) -> Option<Death> {
    let Some(Value::Array(deaths)) = headers.get("x-death") else { return None };
    let Some(Value::Table(death)) = deaths.iter().next() else { return None };
    let text = |name: &str| match death.get(name) {
        Some(Value::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    let routing_key = match death.get("routing-keys")? {
        Value::Array(keys) => match keys.iter().next()? {
            Value::Text(key) => key.to_vec(),
            _ => return None,
        },
        _ => return None,
    };
    Some(Death { queue: text("queue")?, exchange: text("exchange")?, routing_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mq::wire::{ArrayBuf, TableBuf};

    #[test]
    fn the_latest_death_is_the_first() {
        let keys: ArrayBuf = [Value::text("orders.eu"), Value::text("cc")].into_iter().collect();
        let death = |queue: &'static str| {
            TableBuf::new()
                .with("queue", Value::text(queue))
                .with("exchange", Value::text("shop"))
                .with("routing-keys", Value::Array(keys.as_array()))
        };
        let (jobs, retry) = (death("jobs"), death("retry"));
        let deaths: ArrayBuf =
            [Value::Table(jobs.as_table()), Value::Table(retry.as_table())].into_iter().collect();
        let headers = TableBuf::new().with("x-death", Value::Array(deaths.as_array()));
        let death = last_death(headers.as_table()).unwrap();
        assert_eq!((death.queue.as_str(), death.exchange.as_str()), ("jobs", "shop"));
        assert_eq!(death.routing_key, b"orders.eu");
        assert!(last_death(TableBuf::new().as_table()).is_none());
    }
}
