//! `bandy mq ls`: queues, exchanges, bindings, and who uses them.

use serde_json::{Value, json};

use super::api::{Api, VhostArgs};
use super::complete;
use super::objects::{Kind, Row, column};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::near_miss;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::management;
use crate::mq::client::{Error as AmqpError, ErrorKind};
use crate::mq::wire::method::queue;
use crate::output::{Column, Format};
use crate::shutdown::Shutdown;

/// Arguments of `mq ls`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// What to list
    #[arg(default_value = "queues", hide_default_value = false)]
    pub what: Kind,
    /// Only these: names, or patterns with * and ?
    #[arg(value_name = "NAME", add = completions::remote(complete::listed))]
    pub names: Vec<String>,
    /// Columns to show, with commas between them; 'all' for every one
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub columns: Vec<String>,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq ls                   # queues: ready, unacked, consumers, messages in and out per second
  bandy mq ls queues 'order*' --columns name,ready,policy
  bandy mq ls bindings          # without those that every queue has to the default exchange
  bandy mq ls connections --all-vhosts
  bandy mq ls --json | jq -r 'select(.ready > 1000) | .name'
  bandy mq ls queues jobs done  # of queues that are named, AMQP alone tells ready and consumers

Lists come from the broker's management API: that of an amqp:// endpoint is where RabbitMQ has it, at the same host \
and port + 10000 (15672), or where the URL says: amqp://HOST?admin=http://HOST:PORT. An http:// endpoint is one.
RabbitMQ gathers its figures every few seconds: new queues have none for so long.

Exit: 0 listed · 3 unreachable, or no management API · 4 denied · 5 none of that name · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The endpoint's, no management API, no permission.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, list(args, app))
}

async fn list(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = Api::find(&args.connect, &args.vhosts, app, "ls", &shutdown).await?;
    let rows = match rows(&api, args.what).await {
        Ok(rows) => rows,
        Err(error) => {
            let named = args.what == Kind::Queues && !args.names.is_empty();
            let plain = named && !args.names.iter().any(|name| name.contains(['*', '?']));
            if plain && error.is_absent() && api.broker.is_some() {
                return by_amqp(args, &api, app, &shutdown).await;
            }
            let failure = api.failure(&error, &format!("list {}", args.what.name()));
            return Err(match args.what {
                Kind::Queues if error.is_absent() && api.broker.is_some() => failure.tip(
                    "bandy mq ls queues NAME…                       AMQP tells of queues that are named",
                ),
                _ => failure,
            }
            .into());
        }
    };
    let total = rows.len();
    let mut rows: Vec<Row> = rows.into_iter().filter(|row| is_wanted(row, args)).collect();
    if rows.is_empty() && !args.names.is_empty() {
        return Err(none(args, &api, total).into());
    }
    sort(&mut rows);
    show(args, app, &rows)
}

/// All rows of a kind in the virtual hosts that were asked for.
///
/// # Errors
/// The API's.
pub async fn rows(api: &Api, kind: Kind) -> Result<Vec<Row>, management::Error> {
    let objects = if kind.is_listed_by_vhost() {
        api.objects(kind.name()).await?
    } else {
        api.management.list(&management::path(&[kind.name()])).await?
    };
    let mut rows: Vec<Row> = objects.iter().map(|object| kind.row(object)).collect();
    match (kind, &api.vhost) {
        // Every queue has one, under its own name.
        (Kind::Bindings, _) => rows.retain(|row| row["source"] != ""),
        (Kind::Connections | Kind::Channels, Some(vhost)) => rows.retain(|row| row["vhost"] == **vhost),
        (Kind::Users, _) => {
            let permissions = api.management.list("/permissions").await?;
            for row in &mut rows {
                let own = permissions.iter().filter(|permission| permission["user"] == row["name"]);
                row["vhosts"] = own.map(|permission| permission["vhost"].clone()).collect();
            }
        }
        _ => {}
    }
    Ok(rows)
}

/// By name, and of equal names by virtual host.
fn sort(rows: &mut [Row]) {
    let keys = ["name", "queue", "source", "destination", "key", "tag", "vhost"];
    let key = |row: &Row| keys.map(|key| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned());
    rows.sort_by_cached_key(key);
}

fn is_wanted(row: &Row, args: &Args) -> bool {
    let names = ["name", "queue", "source", "destination"];
    let names = || names.iter().filter_map(|key| row.get(*key).and_then(Value::as_str));
    args.names.is_empty() || args.names.iter().any(|wanted| names().any(|name| matches(wanted, name)))
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when the latest star has to take one more.
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|wanted| *wanted == '?' || *wanted == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            (p, n) = (at + 1, taken + 1);
            star = Some((at, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

fn none(args: &Args, api: &Api, total: usize) -> Failure {
    let names = args.names.join("', '");
    let what = args.what.name();
    let message = format!("no {what} '{names}' among {total} of {}", api.url);
    let failure = Failure::new(Exit::NotFound, message);
    match columns_meant(args) {
        Some(columns) => {
            failure.there_for(format!("bandy mq ls {what} --columns {columns}"), "columns of all")
        }
        None => failure.there(format!("see all of them: bandy mq ls {what}")),
    }
}

/// Columns that stand where names do, as rabbitmqadmin has them: `list queues name messages`.
fn columns_meant(args: &Args) -> Option<String> {
    let known = args.what.row(&json!({}));
    let ours = |name: &String| match name.as_str() {
        "messages" => Some("ready,unacked"),
        "messages_ready" => Some("ready"),
        "messages_unacknowledged" => Some("unacked"),
        name => known.keys().find(|key| *key == name).map(String::as_str),
    };
    let columns: Option<Vec<&str>> = args.names.iter().map(ours).collect();
    columns.map(|columns| columns.join(","))
}

fn show(args: &Args, app: &App, rows: &[Row]) -> anyhow::Result<Exit> {
    let mut columns: Vec<Column> = args.what.columns().to_vec();
    let several = rows.windows(2).any(|pair| pair[0].get("vhost") != pair[1].get("vhost"));
    if several && args.what.has_vhost() && !columns.iter().any(|column| column.key == "vhost") {
        columns.push(column("vhost"));
    }
    if !args.columns.is_empty() {
        columns = chosen(args)?;
    }
    let only = !args.columns.is_empty() && app.printer.look().format == Format::Json;
    let mut list = app.printer.list(&columns);
    for row in rows {
        if only {
            let kept = columns.iter().map(|column| (column.key.to_owned(), row[column.key].clone()));
            list.row(&kept.collect::<Row>())?;
        } else {
            list.row(row)?;
        }
    }
    list.finish()?;
    Ok(Exit::Done)
}

fn chosen(args: &Args) -> Result<Vec<Column>, Failure> {
    let known: Vec<String> = args.what.row(&json!({})).into_iter().map(|(key, _)| key).collect();
    if args.columns.iter().any(|name| name == "all") {
        return Ok(known.into_iter().map(|key| column(key.leak())).collect());
    }
    let find = |wanted: &String| {
        let lower = wanted.trim().to_lowercase();
        match known.iter().find(|key| **key == lower) {
            // A few words for the life of the command.
            Some(key) => Ok(column(key.clone().leak())),
            None => {
                let failure =
                    Failure::new(Exit::Usage, format!("{} have no column '{wanted}'", args.what.name()));
                Err(match near_miss(&lower, known.iter().map(String::as_str)) {
                    Some(near) => failure.tip(format!("did you mean '{near}'?")),
                    None => failure.tip(format!("one of {}", known.join(","))),
                })
            }
        }
    };
    args.columns.iter().map(find).collect()
}

/// What AMQP tells of queues whose names are known.
async fn by_amqp(args: &Args, api: &Api, app: &App, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    let broker = api.broker.as_ref().expect("the caller has looked");
    let connection = broker.open(shutdown).await?;
    app.printer.note(&format!(
        "no management API at {}: unacked, rates and everything else are not known",
        api.admin
    ));
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for name in &args.names {
        // A channel is gone with a question that fails.
        let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
        match channel.queue_declare(passive(name)).await {
            Ok(declared) => {
                let object = json!({"name": name, "messages_ready": declared.messages,
                    "consumers": declared.consumers, "vhost": broker.config.vhost});
                let mut row = Kind::Queues.row(&object);
                row.retain(|key, _| matches!(key.as_str(), "name" | "ready" | "consumers" | "vhost"));
                for key in ["unacked", "in", "out"] {
                    row.insert(key.to_owned(), Value::Null);
                }
                rows.push(row);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(name.as_str()),
            Err(error) => return Err(broker.failure(&error).into()),
        }
    }
    let exit = show(args, app, &rows)?;
    match missing.as_slice() {
        [] => Ok(exit),
        names => {
            Err(Failure::new(Exit::NotFound, format!("no queue '{}' at {}", names.join("', '"), api.url))
                .there(format!("create it: bandy mq create {}", word(names[0])))
                .into())
        }
    }
}

/// Asks whether a queue exists, and how long it is.
pub fn passive(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue, passive: true, ..Default::default() }
}

/// True if that is how a broker says that somebody else has the queue: it is there.
pub fn is_locked(error: &AmqpError) -> bool {
    error.reply_code() == Some(crate::mq::wire::ReplyCode::ResourceLocked.number())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Args, columns_meant, matches};

    #[test]
    fn columns_of_rabbitmqadmin_in_the_place_of_names_are_told_as_columns() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let meant = |words: &str| columns_meant(&Line::parse_from(words.split(' ')).args);
        assert_eq!(meant("ls queues name messages").as_deref(), Some("name,ready,unacked"));
        assert_eq!(meant("ls queues name jobs"), None);
    }

    #[test]
    fn patterns_are_those_of_files() {
        for (pattern, name, expected) in [
            ("order*", "orders", true),
            ("order*", "border", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.dead", "jobs.dead", true),
            ("*a*b", "xaxxab", true),
            ("jobs", "jobs2", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
