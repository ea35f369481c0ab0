//! `bandy mq request`: a message into a queue, and the answers that come back.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;

use super::complete;
use super::connect::Broker;
use super::envelope::Mode;
use super::header;
use super::incoming::{self, Bounds, Next, ReadArgs};
use super::queue;
use super::work::EXIT_HEADER;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::limits::End;
use crate::cli::records::RECORD_BYTES_MAX;
use crate::cli::there::THERE;
use crate::mq::client::{ConsumeOptions, Consumer, Delivery, Topology};
use crate::record::Record;
use crate::shutdown::Shutdown;

/// RabbitMQ's name for "the consumer of this channel": answers come without a queue.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How long an answer is waited for, unless --timeout says otherwise.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Arguments of `mq request`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq recv upper --reply --create -f -- tr a-z A-Z  # one terminal
  bandy mq request upper hello                           # another: HELLO
  bandy mq request price '{\"item\": 7}' --timeout 2s --json

The answer is awaited for 30 seconds unless --timeout says otherwise; what nobody has taken by then is dropped \
from the queue (-p expiration=MS has it otherwise, -p expiration= keeps it).

Exit: 0 answered · 1 the other side's command failed · 5 no such queue · 124 no answer in time \
· see 'bandy help exit-codes'")]
pub struct Args {
    /// Queue of whoever answers
    #[arg(value_parser = queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    /// What to ask; without it, or with -, all of stdin
    pub body: Option<String>,
    /// Wait for N answers
    #[arg(short = 'n', long, value_name = "N", default_value = "1", value_parser = crate::units::parse_count)]
    pub count: u64,
    /// Header: NAME=VALUE, 'NAME: VALUE', NAME:=JSON or NAME:TYPE=VALUE (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header::parse)]
    pub headers: Vec<header::Written>,
    /// Property of AMQP, such as app_id=shop (repeatable)
    #[arg(short, long = "property", value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such queue, no answer.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(request(args, app))
}

async fn request(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let write = super::outgoing::WriteArgs {
        headers: args.headers.clone(),
        properties: args.properties.clone(),
        ..Default::default()
    };
    let mut shape = write.shape()?;
    let id = format!("{:016x}", fastrand::u64(..));
    shape
        .property("reply_to", REPLY_TO)
        .and_then(|()| shape.property("correlation_id", &id))
        .map_err(usage)?;
    let body = body(args)?;
    let broker = Broker::resolve(&args.connect, app, "request")?;
    let limit = broker.timeout.unwrap_or(ANSWER_MAX);
    if !args.properties.iter().any(|property| property.starts_with("expiration=")) {
        // Whoever answers later works for nobody.
        shape.property("expiration", &limit.as_millis().max(1).to_string()).map_err(usage)?;
    }
    let mut bounds = Bounds::new(&ReadArgs::default(), Some(args.count), Some(limit));
    let shutdown = Shutdown::new();
    let options = ConsumeOptions { queue: REPLY_TO.to_owned(), no_ack: true, ..ConsumeOptions::default() };
    // Answers come to the channel that asked: after a loss they would come to nobody.
    let config = crate::mq::client::Config { reconnect_for: Duration::ZERO, ..broker.config.clone() };
    let topology = Topology(vec![queue::there(&args.queue)]);
    let mut consumer = match bounds.hurry(Consumer::start(config, topology, options, &shutdown)).await {
        Ok(Err(error)) if queue::is_missing(&error) => return Err(broker.no_queue(&args.queue).into()),
        Ok(started) => started.map_err(|error| broker.failure(&error))?,
        Err(end) => return bounds.exit(end, None),
    };
    let routing_key = Bytes::copy_from_slice(args.queue.as_bytes());
    let message = shape.message(&Record::of(body), routing_key).map_err(usage)?;
    consumer.send(&message).map_err(|error| broker.failure(&error))?;
    let answered = answers(args, app, (&mut consumer, &mut bounds), (&broker, &id)).await;
    let _ = tokio::time::timeout(incoming::GOODBYE_MAX, consumer.close()).await;
    let (end, failed) = answered?;
    match (end, failed) {
        (End::Timeout, _) => Err(Failure::new(
            Exit::Timeout,
            format!("no answer from {} at {} within {limit:?}", args.queue, broker.url),
        )
        .tip(format!(
            "bandy mq recv {}{THERE} --reply -f -- COMMAND    answers",
            crate::cli::errors::word(&args.queue)
        ))
        .into()),
        (End::Count, Some(code)) => Err(Failure::new(
            Exit::Failed,
            format!("the other side could not answer: its command ended with {code}"),
        )
        .into()),
        (end, _) => bounds.exit(end, Some(args.count)),
    }
}

fn usage(why: String) -> Failure {
    Failure::new(Exit::Usage, why)
}

fn body(args: &Args) -> Result<Bytes, Failure> {
    match args.body.as_deref().filter(|body| *body != "-") {
        Some(body) => Ok(Bytes::copy_from_slice(body.as_bytes())),
        None => {
            let mut bytes = Vec::new();
            let limit = RECORD_BYTES_MAX as u64 + 1;
            let read = std::io::stdin().take(limit).read_to_end(&mut bytes);
            read.map_err(|error| Failure::unread("stdin", &error))?;
            if bytes.len() > RECORD_BYTES_MAX {
                return Err(usage(format!("stdin is longer than the limit of {RECORD_BYTES_MAX} bytes")));
            }
            Ok(bytes.into())
        }
    }
}

/// Prints the answers. The end, and the exit code of an answer that is a failure.
async fn answers(
    args: &Args,
    app: &App,
    (consumer, bounds): (&mut Consumer, &mut Bounds),
    (broker, id): (&Broker, &str),
) -> anyhow::Result<(End, Option<String>)> {
    let mut records = ReadArgs::default().records(app);
    let mut failed = None;
    loop {
        match bounds.next(consumer, None).await.map_err(|error| broker.failure(&error))? {
            Next::End(end) => return Ok((end, failed)),
            Next::Delivery(delivery) if is_answer(&delivery, id) => {
                let record = incoming::record(app, &delivery, &args.queue, Mode::Queue);
                let code = record
                    .headers
                    .iter()
                    .find(|(name, _)| name == EXIT_HEADER)
                    .and_then(|(_, code)| code.clone());
                match code {
                    Some(code) => failed = Some(String::from_utf8_lossy(&code).into_owned()),
                    None => records.write(&record)?,
                }
                app.printer.flush()?;
            }
            // Of nobody that we know.
            Next::Delivery(_) => bounds.again(),
        }
    }
}

fn is_answer(delivery: &Delivery, id: &str) -> bool {
    delivery.properties().is_ok_and(|properties| properties.correlation_id() == Some(id.as_bytes()))
}
