//! `bandy mq send`: messages into a queue, where one taker gets each.

use std::time::Duration;

use bytes::Bytes;

use super::complete;
use super::connect::Broker;
use super::header::Written;
use super::objects::Kind;
use super::outgoing::{self, Outgoing, WriteArgs};
use super::queue;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::{Error, Message, PublishOptions, Publisher, Step, Topology};
use crate::mq::wire::{TableBuf, Value};
use crate::shutdown::Shutdown;
use crate::units::parse_duration;

/// The exchange that holds messages back, made when the first one is: of the type of RabbitMQ's plugin.
const DELAY_EXCHANGE: &str = "bandy.delay";

/// The longest delay that the plugin takes, in milliseconds: 2^32 - 1.
const DELAY_MAX: Duration = Duration::from_millis(u32::MAX as u64);

/// Arguments of `mq send`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq send jobs 'resize cat.png'  # one message
  seq 1000 | bandy mq send jobs        # one per line
  bandy mq send jobs -H 'retry:=3' --priority 5 hello
  bandy mq send jobs --delay 10m 'call back'
  bandy mq recv a --json | bandy mq send b --json

Every message is confirmed by the broker before the command ends.

Exit: 0 all taken · 5 no such queue · 7 some were not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Queue to send to
    #[arg(value_parser = queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    /// What to send; without it, or with -, each line of stdin
    pub body: Option<String>,
    /// Create the queue if it is missing; a broker of your own does so anyway
    #[arg(long, help_heading = "Message")]
    pub create: bool,
    /// Hand it out only after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Message")]
    pub delay: Option<Duration>,
    /// Do not keep it over a restart of the broker
    #[arg(hide_short_help = true, long, help_heading = "Message")]
    pub transient: bool,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such queue, records that are none.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_with_driver(args.connect.timeout, send(args, app))
}

async fn send(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let mut shape = args.write.shape()?;
    shape.delivery_mode = Some(2);
    if args.transient {
        shape.property("delivery_mode", "1").map_err(|why| Failure::new(Exit::Usage, why))?;
    }
    shape.mandatory = args.delay.is_none();
    if let Some(delay) = args.delay {
        shape.exchange = Some(DELAY_EXCHANGE.into());
        shape.headers.push(delay_header(delay)?);
    }
    let broker = Broker::resolve(&args.connect, app, "send")?;
    let source = args.write.source(args.body.as_deref(), app)?;
    let shutdown = Shutdown::new();
    let publisher = start(args, app, &broker, &shutdown).await?;
    let unroutable = |_: &Message| Some(gone(&args.queue, &broker));
    let outgoing = Outgoing::new(app, &broker, publisher, (&args.write, shape), &unroutable);
    let name = Bytes::copy_from_slice(args.queue.as_bytes());
    let tally = outgoing.run(source, &|_| Ok(name.clone())).await?;
    outgoing::summary(app, tally.taken, &args.queue);
    tally.exit()
}

/// The queue was there and is not any more.
fn gone(queue: &str, broker: &Broker) -> Failure {
    broker.no_queue(queue)
}

fn delay_header(delay: Duration) -> Result<Written, Failure> {
    if delay > DELAY_MAX {
        return Err(Failure::new(Exit::Usage, "--delay is at most 49 days, which is what brokers take"));
    }
    Ok(("x-delay".to_owned(), Some(delay.as_millis().to_string().into()), Some("int64".into())))
}

/// Connects to a queue that is there, or is made.
async fn start(args: &Args, app: &App, broker: &Broker, shutdown: &Shutdown) -> anyhow::Result<Publisher> {
    let started = |step| {
        let mut steps = vec![step];
        if args.delay.is_some() {
            steps.extend(delay_steps(&args.queue));
        }
        Publisher::start(broker.config.clone(), Topology(steps), PublishOptions::default(), shutdown)
    };
    match started(queue::there(&args.queue)).await {
        Ok(publisher) => Ok(publisher),
        Err(error) if queue::is_missing(&error) => {
            if !args.create && !queue::may_create(broker, shutdown).await? {
                let failure = broker.no_queue(&args.queue);
                return Err(failure.tip("add --create to make it now").into());
            }
            let near = super::api::meant(broker.clone(), Kind::Queues, args.queue.clone());
            let near = tokio::time::timeout(crate::cli::app::TIP_WAIT_MAX, near).await.ok().flatten();
            let publisher =
                started(queue::durable(&args.queue)).await.map_err(|error| refusal(&error, broker))?;
            let said = format!("created the queue {}", args.queue);
            // Whoever has asked for it knows; a misspelt name has to show in a script, too.
            if args.create {
                app.printer.status(&said)
            } else {
                app.printer.note(&said)
            }
            if let Some(near) = near.filter(|_| !args.create) {
                app.printer.note(&near);
            }
            Ok(publisher)
        }
        Err(error) => Err(refusal(&error, broker).into()),
    }
}

fn delay_steps(queue: &str) -> [Step; 2] {
    let exchange = Step::Exchange {
        name: DELAY_EXCHANGE.to_owned(),
        kind: "x-delayed-message".to_owned(),
        passive: false,
        durable: true,
        auto_delete: false,
        arguments: TableBuf::new().with("x-delayed-type", Value::text("direct")),
    };
    let bind = Step::Bind {
        queue: queue.to_owned(),
        exchange: DELAY_EXCHANGE.to_owned(),
        routing_key: queue.to_owned(),
        arguments: TableBuf::new(),
    };
    [exchange, bind]
}

/// What is wrong, and what to do about a broker that cannot delay.
fn refusal(error: &Error, broker: &Broker) -> Failure {
    let text = error.to_string();
    if text.contains("exchange type") && text.contains("x-delayed-message") {
        return Failure::new(
            Exit::Failed,
            format!("{} cannot delay messages: it lacks the plugin", broker.url),
        )
        .tip(
            "rabbitmq-plugins enable rabbitmq_delayed_message_exchange    at the broker, after installing it",
        )
        .tip("bandy mq broker                                              has it built in");
    }
    broker.failure(error)
}
