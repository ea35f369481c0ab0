//! `bandy mq info`: everything about a queue or an exchange.

use serde_json::{Map, Value, json};

use super::api::{Api, VhostArgs};
use super::complete;
use super::connect::no_queue;
use super::ls::{is_locked, passive};
use super::objects::{Kind, Row};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::ErrorKind;
use crate::mq::client::management::{Error, path};
use crate::mq::wire::method::exchange;
use crate::output::{Column, Format};
use crate::shutdown::Shutdown;

/// Arguments of `mq info`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Queue to look at
    #[arg(required_unless_present = "exchange", value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: Option<String>,
    /// Exchange to look at instead
    #[arg(short = 'x', long, value_name = "NAME", conflicts_with = "queue", value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges))]
    pub exchange: Option<String>,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq info jobs          # counts, settings, bindings, consumers
  bandy mq info -x amq.topic  # an exchange, with what it is bound to
  bandy mq info jobs --json | jq .bindings

Without a management API, AMQP tells of a queue how many messages are ready and how many consumers it has.

Exit: 0 shown · 3 unreachable · 4 denied · 5 no such queue or exchange · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The endpoint's; no such queue or exchange.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, info(args, app))
}

async fn info(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = Api::find(&args.connect, &args.vhosts, app, "info", &shutdown).await?;
    let (kind, name) = match (&args.queue, &args.exchange) {
        (Some(queue), _) => (Kind::Queues, queue),
        (None, Some(exchange)) => (Kind::Exchanges, exchange),
        (None, None) => unreachable!("clap requires one of them"),
    };
    let found = match kind {
        Kind::Queues => queue(&api, name).await,
        _ => exchange(&api, name).await,
    };
    match found {
        Ok(view) => show(app, &view),
        Err(Error::NotFound(_)) => Err(missing(&api, kind, name).await.into()),
        Err(error) if error.is_absent() || matches!(error, Error::Denied { .. }) => {
            by_amqp(args, &api, app, &shutdown, &error).await
        }
        Err(error) => Err(api.failure(&error, &format!("tell about '{name}'")).into()),
    }
}

/// The API has no path for the exchange without a name but this.
fn exchange_path<'a>(vhost: &'a str, name: &'a str, rest: &[&'a str]) -> String {
    let name = if name.is_empty() { "amq.default" } else { name };
    path(&[&["exchanges", vhost, name], rest].concat())
}

async fn queue(api: &Api, name: &str) -> Result<Row, Error> {
    let vhost = api.one_vhost();
    let object = api.management.get(&path(&["queues", vhost, name])).await?;
    let bindings = api.management.list(&path(&["queues", vhost, name, "bindings"])).await?;
    let mut view = Kind::Queues.row(&object);
    view.remove("features");
    let consumers = object["consumer_details"].as_array().cloned().unwrap_or_default();
    for (key, from) in [
        ("effective_policy", "effective_policy_definition"),
        ("owner", "owner_pid_details"),
        ("idle_since", "idle_since"),
        ("consumer_utilisation", "consumer_utilisation"),
    ] {
        if let Some(value) = object.get(from).filter(|value| !value.is_null() && **value != "") {
            view.insert(key.to_owned(), value.clone());
        }
    }
    let count = |counter: &str| object["message_stats"][counter].clone();
    for (key, counter) in [
        ("published", "publish"),
        ("delivered", "deliver_get"),
        ("acked", "ack"),
        ("redelivered", "redeliver"),
    ] {
        view.insert(key.to_owned(), count(counter));
    }
    view.insert("bindings".to_owned(), rows(Kind::Bindings, &bindings, |row| row["source"] != ""));
    view.insert("consumer_details".to_owned(), rows(Kind::Consumers, &consumers, |_| true));
    Ok(view)
}

async fn exchange(api: &Api, name: &str) -> Result<Row, Error> {
    let vhost = api.one_vhost();
    let object = api.management.get(&exchange_path(vhost, name, &[])).await?;
    let from = api.management.list(&exchange_path(vhost, name, &["bindings", "source"])).await?;
    let into = api.management.list(&exchange_path(vhost, name, &["bindings", "destination"])).await?;
    let mut view = Kind::Exchanges.row(&object);
    view.remove("features");
    view.insert("bindings".to_owned(), rows(Kind::Bindings, &from, |_| true));
    view.insert("bound_to".to_owned(), rows(Kind::Bindings, &into, |_| true));
    Ok(view)
}

fn rows(kind: Kind, objects: &[Value], keep: fn(&Row) -> bool) -> Value {
    objects.iter().map(|object| kind.row(object)).filter(keep).map(Value::Object).collect()
}

#[derive(serde::Serialize)]
struct Line<'a> {
    key: &'a str,
    value: String,
}

const COLUMNS: &[Column] = &[Column::left("key"), Column::left("value")];

/// One object in JSON; for everybody else a line for each key, binding and consumer.
fn show(app: &App, view: &Row) -> anyhow::Result<Exit> {
    if app.printer.look().format == Format::Json {
        app.printer.json(view)?;
        return Ok(Exit::Done);
    }
    let mut list = app.printer.list(COLUMNS);
    for (key, value) in view.iter().filter(|(_, value)| !value.is_null()) {
        match (key.as_str(), value) {
            ("bindings" | "bound_to" | "consumer_details", Value::Array(items)) => {
                let singular = match key.as_str() {
                    "bindings" => "binding",
                    "bound_to" => "bound_to",
                    _ => "consumer",
                };
                for item in items {
                    list.row(&Line { key: singular, value: sentence(key, item) })?;
                }
            }
            // Settings that are none would only be in the way.
            (_, Value::Object(map)) if map.is_empty() => {}
            (_, Value::Object(map)) => {
                for (name, value) in map {
                    list.row(&Line { key, value: format!("{name}={}", plain(value)) })?;
                }
            }
            (key, value) => list.row(&Line { key, value: plain(value) })?,
        }
    }
    list.finish()?;
    Ok(Exit::Done)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

fn sentence(key: &str, item: &Value) -> String {
    let text = |key: &str| plain(&item[key]);
    let named = |name: String| if name.is_empty() { "(default)".to_owned() } else { name };
    let arguments = match &item["arguments"] {
        Value::Object(map) if !map.is_empty() => {
            let pairs = map.iter().map(|(name, value)| format!("{name}={}", plain(value)));
            format!("  {}", pairs.collect::<Vec<_>>().join(" "))
        }
        _ => String::new(),
    };
    match key {
        "consumer_details" => {
            let ack = if item["ack"] == true {
                format!("prefetch {}", text("prefetch"))
            } else {
                "no ack".to_owned()
            };
            format!("{}  {ack}  {}  {}{arguments}", text("tag"), text("user"), text("connection"))
        }
        "bound_to" => format!("{}  key {}{arguments}", named(text("source")), text("key")),
        _ => format!(
            "{} -> {} {}  key {}{arguments}",
            named(text("source")),
            text("to"),
            text("destination"),
            text("key")
        ),
    }
}

/// There is none of that name; perhaps one of a similar name, or one of the other kind.
async fn missing(api: &Api, kind: Kind, name: &str) -> Failure {
    let singular = if kind == Kind::Queues { "queue" } else { "exchange" };
    let failure = Failure::new(Exit::NotFound, format!("no {singular} '{name}' at {}", api.url));
    let names = async |kind: Kind| -> Vec<String> {
        let objects = api.objects(kind.name()).await.unwrap_or_default();
        objects.iter().filter_map(|object| Some(object["name"].as_str()?.to_owned())).collect()
    };
    let own = names(kind).await;
    if let Some(near) = near_miss(name, own.iter().map(String::as_str)) {
        return failure.tip(format!("did you mean '{near}'?"));
    }
    if kind == Kind::Queues && names(Kind::Exchanges).await.iter().any(|other| other == name) {
        return failure.there(format!("there is an exchange of that name: bandy mq info -x {}", word(name)));
    }
    if kind == Kind::Queues {
        return no_queue(name, &api.url);
    }
    failure.there("see all of them: bandy mq ls exchanges")
}

/// What AMQP tells.
async fn by_amqp(
    args: &Args,
    api: &Api,
    app: &App,
    shutdown: &Shutdown,
    why: &Error,
) -> anyhow::Result<Exit> {
    let Some(broker) = &api.broker else { return Err(api.failure(why, "tell about anything").into()) };
    let connection = broker.open(shutdown).await?;
    let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
    let mut view = Map::new();
    if let Some(name) = &args.queue {
        view.insert("name".to_owned(), json!(name));
        match channel.queue_declare(passive(name)).await {
            Ok(declared) => {
                view.insert("ready".to_owned(), json!(declared.messages));
                view.insert("consumers".to_owned(), json!(declared.consumers));
            }
            Err(error) if is_locked(&error) => {
                view.insert("exclusive".to_owned(), json!(true));
            }
            Err(error) => return Err(broker.failure(&error).into()),
        }
    } else if let Some(name) = &args.exchange {
        let declare = exchange::Declare { exchange: name, passive: true, ..Default::default() };
        if let Err(error) = channel.exchange_declare(declare).await {
            if error.kind() == ErrorKind::NotFound {
                return Err(Failure::new(Exit::NotFound, format!("no exchange '{name}' at {}", api.url))
                    .there(format!("create it: bandy mq create -x {} --type topic", word(name)))
                    .into());
            }
            return Err(broker.failure(&error).into());
        }
        view.insert("name".to_owned(), json!(name));
    }
    view.insert("vhost".to_owned(), json!(broker.config.vhost));
    let reason = api.failure(why, "tell more");
    app.printer.note(&reason.message);
    for tip in &reason.tips {
        app.printer.note(&format!("  tip: {}", app.filled(tip)));
    }
    show(app, &view)
}
