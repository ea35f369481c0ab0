//! `mq create`, `bind`, `unbind`, `purge`, `rm`, `wait`: what is at the broker, and what is to be there.

use std::time::Duration;

use super::complete;
use super::connect::Broker;
use super::header;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::confirm::SureArgs;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};
use crate::cli::wait;
use crate::mq::client::{Channel, Connection, Declared, Error};
use crate::mq::wire::method::{exchange, queue};
use crate::mq::wire::{TableBuf, Value};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration, parse_size};

/// A connection and a channel on it.
struct Line<'a> {
    broker: &'a Broker,
    connection: Connection,
    channel: Channel,
}

impl<'a> Line<'a> {
    async fn open(broker: &'a Broker) -> Result<Self, Failure> {
        let connection = broker.open(&Shutdown::new()).await?;
        let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
        Ok(Self { broker, connection, channel })
    }

    /// What the broker says about a queue that has to be there.
    async fn queue(&self, queue: &str) -> Result<Declared, Failure> {
        let declare = queue::Declare { queue, passive: true, ..Default::default() };
        self.channel.queue_declare(declare).await.map_err(|error| self.failure(&error))
    }

    /// An exchange that has to be there.
    async fn exchange(&self, exchange: &str) -> Result<(), Failure> {
        let declare = exchange::Declare { exchange, passive: true, kind: "topic", ..Default::default() };
        self.channel.exchange_declare(declare).await.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &Error) -> Failure {
        self.broker.failure(error)
    }

    async fn close(self) -> Result<(), Failure> {
        let closed = self.channel.close().await;
        let _ = self.connection.close().await;
        closed.map_err(|error| self.broker.failure(&error))
    }
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// What a shell is offered.
const TYPES: &[(&str, &str)] = &[
    ("classic", "a queue"),
    ("quorum", "a queue"),
    ("stream", "a queue that is read again and again"),
    ("topic", "an exchange: by patterns of words"),
    ("direct", "an exchange: by equal keys"),
    ("fanout", "an exchange: to all that are bound"),
    ("headers", "an exchange: by headers"),
];

/// Arguments of `mq create`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq create jobs                    # a durable queue
  bandy mq create jobs --dead-letter jobs.dead --ttl 1h
  bandy mq create jobs --type quorum -a x-delivery-limit:=5
  bandy mq create -x orders --type topic  # an exchange

It is no error if it is there already, with the same settings.

Exit: 0 it is there · 1 it is there with other settings · see 'bandy help exit-codes'")]
pub struct CreateArgs {
    /// Queue to create
    #[arg(required_unless_present = "exchange", conflicts_with = "exchange", value_parser = super::queue::parse_name)]
    pub queue: Option<String>,
    /// Create an exchange instead
    #[arg(short = 'x', long, value_name = "NAME", value_parser = super::queue::parse_exchange)]
    pub exchange: Option<String>,
    /// Of a queue: classic, quorum, stream; of an exchange: topic (default), direct, fanout, headers, …
    #[arg(long = "type", value_name = "TYPE", add = completions::words(TYPES))]
    pub kind: Option<String>,
    /// Drop messages that nobody has taken by then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Queue")]
    pub ttl: Option<Duration>,
    /// Messages at most; the oldest is dropped for a new one
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Queue")]
    pub max_length: Option<u64>,
    /// Bytes of messages at most
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Queue")]
    pub max_bytes: Option<u64>,
    /// What happens when it is full: drop-head, reject-publish or reject-publish-dlx
    #[arg(long, value_name = "HOW", help_heading = "Queue")]
    pub overflow: Option<String>,
    /// Queue for messages that are refused, expire or do not fit
    #[arg(long, value_name = "QUEUE", value_parser = super::queue::parse_name, help_heading = "Queue")]
    pub dead_letter: Option<String>,
    /// Priorities from 0 to N
    #[arg(long, value_name = "N", help_heading = "Queue")]
    pub max_priority: Option<u8>,
    /// Delete the queue when nobody has used it for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Queue")]
    pub expires: Option<Duration>,
    /// Delete it when its last consumer, or its last binding, has gone
    #[arg(long)]
    pub auto_delete: bool,
    /// Do not keep it over a restart of the broker
    #[arg(long)]
    pub transient: bool,
    /// Any other argument: NAME=VALUE, NAME:=JSON or NAME:TYPE=VALUE (repeatable)
    #[arg(short, long = "argument", value_name = "ARGUMENT", value_parser = header::parse)]
    pub arguments: Vec<header::Written>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl CreateArgs {
    fn table(&self) -> Result<TableBuf, Failure> {
        let mut table = TableBuf::new();
        let mut number = |name: &str, value: Option<i64>| {
            if let Some(value) = value {
                table.push(name, Value::I64(value));
            }
        };
        let milliseconds = |given: Option<Duration>| given.and_then(|it| i64::try_from(it.as_millis()).ok());
        let signed = |given: Option<u64>| given.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
        number("x-message-ttl", milliseconds(self.ttl));
        number("x-expires", milliseconds(self.expires));
        number("x-max-length", signed(self.max_length));
        number("x-max-length-bytes", signed(self.max_bytes));
        number("x-max-priority", self.max_priority.map(i64::from));
        if let Some(how) = &self.overflow {
            table.push("x-overflow", Value::text(how));
        }
        if let Some(queue) = &self.dead_letter {
            table.push("x-dead-letter-exchange", Value::text(""));
            table.push("x-dead-letter-routing-key", Value::text(queue));
        }
        if let (Some(kind), None) = (&self.kind, &self.exchange) {
            table.push("x-queue-type", Value::text(kind));
        }
        for (name, value, kind) in &self.arguments {
            header::push(&mut table, name, value.as_deref(), kind.as_ref()).map_err(usage)?;
        }
        Ok(table)
    }

    /// A flag that an exchange has not.
    fn queue_flag(&self) -> Option<&'static str> {
        [
            (self.ttl.is_some(), "--ttl"),
            (self.max_length.is_some(), "--max-length"),
            (self.max_bytes.is_some(), "--max-bytes"),
            (self.overflow.is_some(), "--overflow"),
            (self.dead_letter.is_some(), "--dead-letter"),
            (self.max_priority.is_some(), "--max-priority"),
            (self.expires.is_some(), "--expires"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

/// Runs `mq create`.
///
/// # Errors
/// The endpoint's; it is there with other settings, or may not be made.
pub fn create(args: &CreateArgs, app: &App) -> anyhow::Result<Exit> {
    if let (Some(_), Some(flag)) = (&args.exchange, args.queue_flag()) {
        return Err(usage(format!("{flag} is for queues, not for exchanges")).into());
    }
    app.client(args.connect.timeout, async {
        let broker = Broker::resolve(&args.connect, app, "create")?;
        let table = args.table()?;
        let line = Line::open(&broker).await?;
        let (what, name, created) = match (&args.queue, &args.exchange) {
            (_, Some(name)) => ("exchange", name, declare_exchange(args, name, &table, &line).await),
            (Some(name), None) => ("queue", name, declare_queue(args, name, &table, &line).await),
            (None, None) => return Err(usage("which queue?").into()),
        };
        created.map_err(|error| differs(&error, (what, name), &broker))?;
        line.close().await?;
        app.printer.status(&format!("the {what} {name} is there"));
        Ok(Exit::Done)
    })
}

async fn declare_exchange(
    args: &CreateArgs,
    name: &str,
    table: &TableBuf,
    line: &Line<'_>,
) -> Result<(), Error> {
    let declare = exchange::Declare {
        exchange: name,
        kind: args.kind.as_deref().unwrap_or("topic"),
        durable: !args.transient,
        auto_delete: args.auto_delete,
        arguments: table.as_table(),
        ..Default::default()
    };
    line.channel.exchange_declare(declare).await
}

async fn declare_queue(
    args: &CreateArgs,
    name: &str,
    table: &TableBuf,
    line: &Line<'_>,
) -> Result<(), Error> {
    let declare = queue::Declare {
        queue: name,
        durable: !args.transient,
        auto_delete: args.auto_delete,
        arguments: table.as_table(),
        ..Default::default()
    };
    line.channel.queue_declare(declare).await.map(drop)
}

/// Names the setting that differs, from RabbitMQ's words: `inequivalent arg 'durable' for queue 'q' in vhost '/':
/// received 'false' but current is 'true'`.
fn differs(error: &Error, (what, name): (&str, &str), broker: &Broker) -> Failure {
    let (Error::Channel { text, .. } | Error::Connection { text, .. }) = error else {
        return broker.failure(error);
    };
    let flag = if what == "exchange" { "-x " } else { "" };
    let remove = format!("bandy mq rm {flag}{}", word(name));
    let difference = text.split_once("inequivalent arg '").and_then(|(_, rest)| {
        let (setting, rest) = rest.split_once('\'')?;
        let (_, words) = rest.split_once("received ")?;
        let (wanted, has) = words.split_once(" but current is ")?;
        Some(format!("its {setting} is {}, not {}", value(has), value(wanted)))
    });
    match difference {
        Some(difference) => Failure::new(
            Exit::Failed,
            format!("{what} '{name}' is at {} with other settings: {difference}", broker.url),
        )
        .there_for(remove, "removes it, with what is in it"),
        None => broker.failure(error),
    }
}

/// RabbitMQ's words for a value: `none`, `'true'`, `the value '5' of type 'long'`.
fn value(text: &str) -> &str {
    let text = text.strip_prefix("the value ").unwrap_or(text);
    let text = text.split_once(" of type ").map_or(text, |(value, _)| value);
    text.trim_matches('\'')
}

/// Arguments of `mq bind` and `mq unbind`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq bind amq.topic audit -k 'orders.#'  # topics below orders go to the queue audit, too
  bandy mq bind orders audit                   # everything of a topic or fanout exchange
  bandy mq bind a b --to-exchange              # messages of the exchange a go to the exchange b
  bandy mq unbind amq.topic audit -k 'orders.#'

Exit: 0 done · 5 no such queue or exchange · see 'bandy help exit-codes'")]
pub struct BindArgs {
    /// Exchange whose messages are wanted
    #[arg(value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges))]
    pub exchange: String,
    /// Queue that they go to
    #[arg(value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    /// Which ones: a routing key, or a pattern at a topic exchange
    #[arg(short, long, value_name = "PATTERN", default_value = "#")]
    pub key: String,
    /// Header that they have, at an exchange of type headers; x-match=any for one of several (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header::parse)]
    pub headers: Vec<header::Written>,
    /// The second name is an exchange, too
    #[arg(long)]
    pub to_exchange: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `mq bind`, or `mq unbind`.
///
/// # Errors
/// The endpoint's; no such queue or exchange.
pub fn bind(args: &BindArgs, binds: bool, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let broker = Broker::resolve(&args.connect, app, if binds { "bind" } else { "unbind" })?;
        let mut table = TableBuf::new();
        for (name, value, kind) in &args.headers {
            header::push(&mut table, name, value.as_deref(), kind.as_ref()).map_err(usage)?;
        }
        let line = Line::open(&broker).await?;
        // To remove a binding of what is not there is no error to a broker.
        if !binds {
            line.exchange(&args.exchange).await?;
            if args.to_exchange {
                line.exchange(&args.queue).await?
            } else {
                line.queue(&args.queue).await.map(drop)?
            }
        }
        bound(args, binds, &table, &line).await.map_err(|error| broker.failure(&error))?;
        if binds && super::sub::binding_key(&args.key) != args.key {
            let meant = super::sub::binding_key(&args.key);
            let key = &args.key;
            app.printer.note(&format!(
                "the key is '{key}' as it stands; at a topic exchange '{meant}' is the pattern"
            ));
        }
        line.close().await?;
        let what = if binds { "→" } else { "no longer →" };
        app.printer.status(&format!("{} {what} {} ({})", args.exchange, args.queue, args.key));
        Ok(Exit::Done)
    })
}

async fn bound(args: &BindArgs, binds: bool, table: &TableBuf, line: &Line<'_>) -> Result<(), Error> {
    let (source, destination, routing_key) = (&*args.exchange, &*args.queue, &*args.key);
    let arguments = table.as_table();
    let channel = &line.channel;
    match (args.to_exchange, binds) {
        (true, true) => {
            channel
                .exchange_bind(exchange::Bind {
                    destination,
                    source,
                    routing_key,
                    arguments,
                    ..Default::default()
                })
                .await
        }
        (true, false) => {
            let unbind =
                exchange::Unbind { destination, source, routing_key, arguments, ..Default::default() };
            channel.exchange_unbind(unbind).await
        }
        (false, true) => {
            let (queue, exchange) = (destination, source);
            channel
                .queue_bind(queue::Bind { queue, exchange, routing_key, arguments, ..Default::default() })
                .await
        }
        (false, false) => {
            let (queue, exchange) = (destination, source);
            channel
                .queue_unbind(queue::Unbind { queue, exchange, routing_key, arguments, ..Default::default() })
                .await
        }
    }
}

/// Arguments of `mq purge`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq purge jobs            # asks first
  bandy mq purge jobs -y
  bandy mq purge jobs --dry-run  # says how many messages it would drop

Messages that somebody has taken and not acknowledged stay.

Exit: 0 done · 5 no such queue · see 'bandy help exit-codes'")]
pub struct PurgeArgs {
    /// Queue to empty
    #[arg(value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `mq purge`.
///
/// # Errors
/// The endpoint's; no such queue; nobody to ask.
pub fn purge(args: &PurgeArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let broker = Broker::resolve(&args.connect, app, "purge")?;
        let line = Line::open(&broker).await?;
        let count = line.queue(&args.queue).await.map_err(untipped)?.messages;
        let what = format!("drop {} from {} at {}", messages(count), args.queue, broker.url);
        if args.sure.is_sure(&what, app)? {
            let dropped =
                line.channel.queue_purge(&args.queue).await.map_err(|error| broker.failure(&error))?;
            app.printer.note(&format!("dropped {} from {}", messages(dropped), args.queue));
        }
        line.close().await?;
        Ok(Exit::Done)
    })
}

/// To create what is to go is no help.
fn untipped(failure: Failure) -> Failure {
    Failure { tips: Vec::new(), ..failure }
}

fn messages(count: u32) -> String {
    crate::cli::figures::counted(count.into(), "message")
}

/// Arguments of `mq rm`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq rm jobs          # asks first, and says how many messages are in it
  bandy mq rm jobs -y --if-empty
  bandy mq rm -x orders -y  # an exchange, with its bindings

Exit: 0 it is gone · 5 no such queue or exchange · see 'bandy help exit-codes'")]
pub struct RemoveArgs {
    /// Queue to remove
    #[arg(required_unless_present = "exchange", conflicts_with = "exchange", value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: Option<String>,
    /// Remove an exchange instead
    #[arg(short = 'x', long, value_name = "NAME", value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges))]
    pub exchange: Option<String>,
    /// Only if there is no message in it
    #[arg(long, conflicts_with = "exchange")]
    pub if_empty: bool,
    /// Only if it has no consumers, or no bindings
    #[arg(long)]
    pub if_unused: bool,
    #[command(flatten)]
    sure: SureArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `mq rm`.
///
/// # Errors
/// The endpoint's; no such queue or exchange; nobody to ask.
pub fn remove(args: &RemoveArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let broker = Broker::resolve(&args.connect, app, "rm")?;
        let line = Line::open(&broker).await?;
        match (&args.queue, &args.exchange) {
            (_, Some(name)) => {
                line.exchange(name).await.map_err(untipped)?;
                if args.sure.is_sure(&format!("remove the exchange {name} at {}", broker.url), app)? {
                    let delete =
                        exchange::Delete { exchange: name, if_unused: args.if_unused, ..Default::default() };
                    line.channel.exchange_delete(delete).await.map_err(|error| line.failure(&error))?;
                    app.printer.note(&format!("removed the exchange {name}"));
                }
            }
            (Some(name), None) => {
                let count = line.queue(name).await.map_err(untipped)?.messages;
                let what = format!("remove the queue {name} with {} at {}", messages(count), broker.url);
                if args.sure.is_sure(&what, app)? {
                    let (if_unused, if_empty) = (args.if_unused, args.if_empty);
                    let delete = queue::Delete { queue: name, if_unused, if_empty, ..Default::default() };
                    let gone =
                        line.channel.queue_delete(delete).await.map_err(|error| line.failure(&error))?;
                    app.printer.note(&format!("removed the queue {name} with {}", messages(gone)));
                }
            }
            (None, None) => return Err(usage("which queue?").into()),
        }
        line.close().await?;
        Ok(Exit::Done)
    })
}

/// Arguments of `mq wait`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq wait                   # until the broker lets us in
  bandy mq wait jobs              # until there is such a queue
  bandy mq wait jobs --empty --timeout 1m
  bandy mq wait jobs --count 100  # until a hundred messages are ready

Exit: 0 it is so · 4 denied · 124 --timeout passed · see 'bandy help exit-codes'")]
pub struct WaitArgs {
    /// Queue to wait for
    #[arg(value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: Option<String>,
    /// Until no message is ready
    #[arg(long, requires = "queue")]
    pub empty: bool,
    /// Until N messages are ready
    #[arg(long, value_name = "N", requires = "queue", conflicts_with = "empty", value_parser = parse_count)]
    pub count: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `mq wait`.
///
/// # Errors
/// The endpoint's; denied; `--timeout`.
pub fn wait(args: &WaitArgs, app: &App) -> anyhow::Result<Exit> {
    let broker = Broker::resolve_as_it_is(&args.connect, app, "wait")?;
    let mut line = None;
    wait::until(app, args.connect.timeout, async || {
        let looked = look(args, &broker, &mut line).await;
        if looked.is_err() {
            line = None;
        }
        Ok(looked?)
    })
}

/// What is missing; nothing if it is so.
async fn look<'a>(
    args: &WaitArgs,
    broker: &'a Broker,
    line: &mut Option<Line<'a>>,
) -> Result<Option<String>, Failure> {
    let line = match line {
        Some(line) => line,
        none => none.insert(Line::open(broker).await?),
    };
    let Some(name) = &args.queue else { return Ok(None) };
    let ready = line.queue(name).await?.messages;
    Ok(match args.count {
        _ if args.empty && ready > 0 => Some(format!("{} in {name}", messages(ready))),
        Some(count) if u64::from(ready) < count => Some(format!("{} in {name}", messages(ready))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_of_rabbitmqs_words() {
        for (text, expected) in [
            ("'true'", "true"),
            ("none", "none"),
            ("the value '5' of type 'long'", "5"),
            ("the value 'classic' of type 'longstr'", "classic"),
        ] {
            assert_eq!(value(text), expected);
        }
    }
}
