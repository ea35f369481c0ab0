//! `bandy mq pub`: messages to a topic, of which everybody who subscribes gets a copy.

use std::cell::Cell;

use bytes::Bytes;
use serde_json::Value as Json;

use super::complete;
use super::connect::Broker;
use super::outgoing::{self, Outgoing, WriteArgs};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::{Message, PublishOptions, Publisher, Step, Topology};
use crate::mq::wire::TableBuf;
use crate::record::Record;
use crate::shutdown::Shutdown;

/// The topic exchange that every broker has.
pub const TOPIC_EXCHANGE: &str = "amq.topic";

/// Arguments of `mq pub`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq pub news hello                      # to everybody who subscribes to news
  bandy mq pub orders.eu '{\"id\": 7}' --content-type application/json
  journalctl -f | bandy mq pub logs.$HOSTNAME  # one message per line
  bandy mq sub --json | bandy mq pub --json -e amqp://other

Every message is confirmed by the broker before the command ends; maybe nobody is subscribed.

Exit: 0 all published · 6 nobody subscribed (--require-route) · 7 some were refused \
· see 'bandy help exit-codes'")]
pub struct Args {
    /// What it is about: words with dots; with --json, that of the record if left out
    pub topic: Option<String>,
    /// What to publish; without it, or with -, each line of stdin
    pub body: Option<String>,
    /// Exchange instead of amq.topic
    #[arg(short = 'x', long, value_name = "NAME", value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges), help_heading = "Message")]
    pub exchange: Option<String>,
    /// Fail if nobody is subscribed
    #[arg(long, help_heading = "Message")]
    pub require_route: bool,
    /// Keep it over a restart of the broker, where the queue is kept too
    #[arg(long, help_heading = "Message")]
    pub persistent: bool,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such exchange, records that are none.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_with_driver(args.connect.timeout, publish(args, app))
}

async fn publish(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let topic = args.topic.as_deref().map(|topic| Bytes::copy_from_slice(topic.as_bytes()));
    if topic.is_none() && !app.global.json {
        return Err(Failure::new(Exit::Usage, "which topic?")
            .tip("bandy mq pub TOPIC [BODY]; with --json it may stand in the record")
            .into());
    }
    let exchange = args.exchange.as_deref().unwrap_or(TOPIC_EXCHANGE);
    let mut shape = args.write.shape()?;
    if args.persistent {
        shape.property("delivery_mode", "2").map_err(|why| Failure::new(Exit::Usage, why))?;
    }
    shape.exchange = Some(exchange.into());
    shape.is_topic = true;
    shape.mandatory = true;
    let broker = Broker::resolve(&args.connect, app, "pub")?;
    let source = args.write.source(args.body.as_deref(), app)?;
    let shutdown = Shutdown::new();
    let topology = Topology(exchange_there(exchange).into_iter().collect());
    let publisher =
        Publisher::start(broker.config.clone(), topology, PublishOptions::default(), &shutdown).await;
    let publisher = publisher.map_err(|error| broker.failure(&error))?;
    let told = Cell::new(false);
    let unroutable = |message: &Message| {
        let topic = String::from_utf8_lossy(&message.routing_key).into_owned();
        if args.require_route {
            let text = format!("nobody is subscribed to '{topic}' at {}", broker.url);
            return Some(Failure::new(Exit::Nothing, text));
        }
        if !told.replace(true) {
            app.printer.note(&format!("nobody is subscribed to '{topic}'"));
        }
        None
    };
    let outgoing = Outgoing::new(app, &broker, publisher, (&args.write, shape), &unroutable);
    let tally = outgoing.run(source, &|record| topic.clone().map_or_else(|| topic_of(record), Ok)).await?;
    outgoing::summary(app, tally.taken, args.topic.as_deref().unwrap_or(exchange));
    tally.exit()
}

/// An exchange that has to be there; the default one always is, and cannot be asked for.
pub fn exchange_there(name: &str) -> Option<Step> {
    (!name.is_empty()).then(|| Step::Exchange {
        name: name.to_owned(),
        kind: "topic".to_owned(),
        passive: true,
        durable: true,
        auto_delete: false,
        arguments: TableBuf::new(),
    })
}

/// The topic of a record that was read: its field, or its key.
fn topic_of(record: &Record) -> Result<Bytes, Failure> {
    match record.origin("topic") {
        Some(Json::String(topic)) => Ok(Bytes::copy_from_slice(topic.as_bytes())),
        _ => record.key.clone().ok_or_else(|| {
            Failure::new(Exit::Usage, "a record has neither topic nor key").tip("bandy mq pub TOPIC --json")
        }),
    }
}
