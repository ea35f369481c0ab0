//! `bandy mq apply` and `export`: what a broker should have, as RabbitMQ's definitions.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::api::{Api, VhostArgs};
use super::connect::Broker;
use super::definitions::{self, Need, Object};
use super::ls::passive;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::mq::client::management::{Error, path};
use crate::mq::client::{Connection, Error as AmqpError, ErrorKind};
use crate::mq::wire::method::{exchange, queue};
use crate::mq::wire::{ArrayBuf, TableBuf, Value as Field};
use crate::output::{Column, Format};
use crate::shutdown::Shutdown;

/// Arguments of `mq apply`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = APPLY_EXAMPLES)]
pub struct ApplyArgs {
    /// Definitions as RabbitMQ exports them, JSON; - for stdin
    pub file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  bandy mq apply shop.json --dry-run  # what would be created and changed
  bandy mq apply shop.json            # do it; a second time, there is nothing to do
  bandy mq export -e amqp://a | bandy mq apply - -e amqp://b
  echo '{\"queues\":[{\"name\":\"jobs\"}]}' | bandy mq apply -

Nothing is deleted. A queue or exchange that exists with other settings stays as it is and is reported: only deleting \
it would change it. Objects without a vhost belong to the URL's. Where there is no management API, exchanges, queues \
and bindings of the URL's virtual host are declared through AMQP.

Exit: 0 everything is as the file says, or would be · 2 no definitions · 3 unreachable · 4 denied \
· 7 some could not be made · see 'bandy help exit-codes'";

/// A file of definitions is not larger.
const FILE_SIZE_MAX: u64 = 256 << 20;

#[derive(Serialize)]
struct Row<'a> {
    action: &'static str,
    kind: &'static str,
    name: &'a str,
    vhost: &'a str,
    detail: &'a str,
}

const COLUMNS: &[Column] = &[
    Column::left("action"),
    Column::left("kind"),
    Column::left("name"),
    Column::left("vhost"),
    Column::left("detail"),
];

/// Runs `apply`.
///
/// # Errors
/// The file's, the endpoint's, objects that cannot be made.
pub fn apply(args: &ApplyArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, applying(args, app))
}

async fn applying(args: &ApplyArgs, app: &App) -> anyhow::Result<Exit> {
    let text = read(&args.file)?;
    let shutdown = Shutdown::new();
    let api = Api::find(&args.connect, &args.vhosts, app, "apply", &shutdown).await?;
    let objects = definitions::parse(&text, api.one_vhost()).map_err(|why| {
        let is_stdin = args.file.as_os_str() == "-";
        let name = if is_stdin { "stdin".into() } else { args.file.to_string_lossy() };
        let message = format!("{name} holds no definitions: {why}");
        Failure::new(Exit::Usage, message)
    })?;
    let mut report = Report { app, dry_run: args.dry_run, rows: Vec::new(), failed: 0, same: 0 };
    match there(&api, &objects).await {
        Ok(there) => through_api(&api, &objects, &there, &mut report).await?,
        Err(error) if error.is_absent() && api.broker.is_some() => {
            app.printer.note(&format!("no management API at {}: declaring through AMQP", api.admin));
            through_amqp(&api, &objects, &mut report, &shutdown).await?;
        }
        Err(error) => return Err(api.failure(&error, "compare the definitions").into()),
    }
    report.show()
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let result = if file == Path::new("-") {
        std::io::stdin().take(FILE_SIZE_MAX + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(FILE_SIZE_MAX + 1).read_to_end(&mut text))
    };
    match result {
        Ok(_) if text.len() as u64 > FILE_SIZE_MAX => Err(Failure::new(
            Exit::Usage,
            format!("{} is over the limit of {FILE_SIZE_MAX} bytes", file.display()),
        )),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::unread(file.display(), &error)),
    }
}

/// What was done or is to be done, and what of it failed.
struct Report<'a> {
    app: &'a App,
    dry_run: bool,
    rows: Vec<(&'static str, Object, String)>,
    failed: usize,
    same: usize,
}

impl Report<'_> {
    fn add(&mut self, action: &'static str, object: &Object, detail: impl Into<String>) {
        self.rows.push((action, object.clone(), detail.into()));
    }

    fn fail(&mut self, object: &Object, why: impl Into<String>) {
        self.failed += 1;
        self.add("failed", object, why);
    }

    fn show(self) -> anyhow::Result<Exit> {
        let mut list = self.app.printer.list(COLUMNS);
        for (action, object, detail) in &self.rows {
            let name = object.title();
            list.row(&Row {
                action,
                kind: object.kind.name,
                name: &name,
                vhost: object.text("vhost"),
                detail,
            })?;
        }
        list.finish()?;
        let done = self.rows.len() - self.failed;
        let verb = if self.dry_run { "would change" } else { "changed" };
        self.app.printer.note(&format!("{done} {verb}, {} as they should be", self.same));
        if self.failed == 0 {
            return Ok(Exit::Done);
        }
        let total = self.rows.len() + self.same;
        Err(Failure::new(
            Exit::Partly,
            format!("{} of {total} objects cannot be as the file says", self.failed),
        )
        .into())
    }
}

/// What the broker has, as definitions.
async fn there(api: &Api, objects: &[Object]) -> Result<Vec<Object>, Error> {
    match api.management.get("/definitions").await {
        Ok(all) => Ok(definitions::parse(all.to_string().as_bytes(), api.one_vhost()).unwrap_or_default()),
        // Who administers one virtual host may see that one.
        Err(Error::Denied { .. }) => {
            let mut there = Vec::new();
            let mut seen: Vec<&str> = Vec::new();
            for object in objects {
                let vhost = object.text("vhost");
                if vhost.is_empty() || seen.contains(&vhost) {
                    continue;
                }
                seen.push(vhost);
                let own = api.management.get(&path(&["definitions", vhost])).await?;
                there.extend(definitions::parse(own.to_string().as_bytes(), vhost).unwrap_or_default());
            }
            Ok(there)
        }
        Err(error) => Err(error),
    }
}

async fn through_api(
    api: &Api,
    objects: &[Object],
    there: &[Object],
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    for object in objects {
        if object.is_given() {
            report.same += 1;
            continue;
        }
        let (need, detail) = object.need(there);
        let action = match need {
            Need::Nothing => {
                report.same += 1;
                continue;
            }
            Need::Conflict => {
                report.fail(object, format!("exists with other settings: {detail}"));
                continue;
            }
            Need::Create => "create",
            Need::Change => "change",
        };
        if report.dry_run {
            report.add(action, object, detail);
            continue;
        }
        let (place, post, body) = object.request();
        let result = match post {
            true => api.management.post(&place, &body).await,
            false => api.management.put(&place, &body).await,
        };
        match result {
            Ok(()) => report.add(action, object, detail),
            Err(Error::Refused(why) | Error::NotFound(why)) => report.fail(object, why),
            Err(Error::Denied { why, .. }) => report.fail(object, format!("denied: {why}")),
            Err(error) => return Err(api.failure(&error, &format!("{action} {}", object.title()))),
        }
    }
    Ok(())
}

async fn through_amqp(
    api: &Api,
    objects: &[Object],
    report: &mut Report<'_>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let broker = api.broker.as_ref().expect("looked at first");
    let connection = broker.open(shutdown).await?;
    let vhost = &broker.config.vhost;
    for object in objects {
        if object.is_given() || (object.kind.list == "vhosts" && object.text("name") == vhost) {
            report.same += 1;
            continue;
        }
        if !object.kind.by_amqp {
            report.fail(object, "AMQP has no way to make it: a management API has");
            continue;
        }
        if object.text("vhost") != vhost {
            report.fail(object, "of another virtual host than the connection's");
            continue;
        }
        let declared = match is_there(&connection, object).await {
            // Of what is there, a declaration only compares the settings.
            Ok(there) if !report.dry_run || there == There::Yes => {
                declare(&connection, object).await.map(|()| there)
            }
            other => other,
        };
        match declared {
            Ok(There::Yes) => report.same += 1,
            Ok(There::No) => report.add("create", object, ""),
            Ok(There::Unknown) => report.add("bind", object, "AMQP does not tell whether it is there"),
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable) => {
                return Err(broker.failure(&error).into());
            }
            Err(error) => report.fail(object, words(broker, &error)),
        }
    }
    Ok(())
}

fn words(broker: &Broker, error: &AmqpError) -> String {
    match error {
        AmqpError::Channel { text, .. } | AmqpError::Connection { text, .. } => {
            text.split_once(" - ").map_or(text.as_str(), |(_, words)| words).to_owned()
        }
        error => broker.failure(error).message,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Yes,
    No,
    Unknown,
}

/// Whether it is there, whatever it is like. A channel is gone with a question that fails.
async fn is_there(connection: &Connection, object: &Object) -> Result<There, AmqpError> {
    let channel = connection.channel().await?;
    let name = object.text("name");
    let asked = match object.kind.list {
        "queues" => channel.queue_declare(passive(name)).await.map(drop),
        "exchanges" => {
            let declare = exchange::Declare { exchange: name, passive: true, ..Default::default() };
            channel.exchange_declare(declare).await
        }
        _ => return Ok(There::Unknown),
    };
    match asked {
        Ok(()) => Ok(There::Yes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(There::No),
        Err(error) => Err(error),
    }
}

async fn declare(connection: &Connection, object: &Object) -> Result<(), AmqpError> {
    let channel = connection.channel().await?;
    let arguments = table(&object.arguments());
    let arguments = arguments.as_table();
    let (durable, auto_delete) = (object.flag("durable"), object.flag("auto_delete"));
    match object.kind.list {
        "queues" => {
            let queue = object.text("name");
            let declare = queue::Declare { queue, durable, auto_delete, arguments, ..Default::default() };
            channel.queue_declare(declare).await.map(drop)
        }
        "exchanges" => {
            let declare = exchange::Declare {
                exchange: object.text("name"),
                kind: object.text("type"),
                durable,
                auto_delete,
                internal: object.flag("internal"),
                arguments,
                ..Default::default()
            };
            channel.exchange_declare(declare).await
        }
        _ => {
            let (source, destination) = (object.text("source"), object.text("destination"));
            let routing_key = object.text("routing_key");
            if object.text("destination_type") == "exchange" {
                let bind =
                    exchange::Bind { destination, source, routing_key, arguments, ..Default::default() };
                return channel.exchange_bind(bind).await;
            }
            let bind = queue::Bind {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
                ..Default::default()
            };
            channel.queue_bind(bind).await
        }
    }
}

/// Arguments as RabbitMQ's own API makes them of JSON: whole numbers are longs.
fn table(map: &Map<String, Value>) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in map {
        field(value, &mut |value| table.push(name, value));
    }
    table
}

fn field(value: &Value, take: &mut dyn FnMut(Field<'_>)) {
    match value {
        Value::Null => take(Field::Void),
        Value::Bool(flag) => take(Field::Bool(*flag)),
        Value::Number(number) => take(match number.as_i64() {
            Some(number) => Field::I64(number),
            None => Field::F64(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => take(Field::text(text)),
        Value::Array(items) => {
            let mut array = ArrayBuf::new();
            items.iter().for_each(|item| field(item, &mut |value| array.push(value)));
            take(Field::Array(array.as_array()));
        }
        Value::Object(map) => take(Field::Table(table(map).as_table())),
    }
}

/// Arguments of `mq export`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// File to write [default: stdout]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  bandy mq export                        # its virtual host: queues, exchanges, bindings, policies
  bandy mq export all.json --all-vhosts  # everything, with users and their hashed passwords
  bandy mq export | jq -r '.queues[].name'

It is what 'bandy mq apply', rabbitmqadmin import and rabbitmqctl import_definitions read. Lists are in order, so that \
two exports can be compared.

Exit: 0 written · 3 unreachable, or no management API · 4 denied · see 'bandy help exit-codes'";

/// Runs `export`.
///
/// # Errors
/// The endpoint's, no management API, a file that cannot be written.
pub fn export(args: &ExportArgs, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, exporting(args, app))
}

async fn exporting(args: &ExportArgs, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = Api::find(&args.connect, &args.vhosts, app, "export", &shutdown).await?;
    let place = match &api.vhost {
        Some(vhost) => path(&["definitions", vhost]),
        None => path(&["definitions"]),
    };
    let mut all =
        api.management.get(&place).await.map_err(|error| api.failure(&error, "export the definitions"))?;
    if let Value::Object(map) = &mut all {
        for list in map.values_mut() {
            if let Value::Array(items) = list {
                items.sort_by_cached_key(Value::to_string);
            }
        }
    }
    // A document for people and version control, unless every object is to stand on a line.
    let text = match app.printer.look().format {
        Format::Json => all.to_string(),
        _ => serde_json::to_string_pretty(&all)?,
    };
    let Some(file) = args.file.as_ref().filter(|file| *file != Path::new("-")) else {
        text.lines().try_for_each(|line| app.printer.line(line))?;
        return Ok(Exit::Done);
    };
    // For this user alone, as passwords may be in it.
    files::write(file, format!("{text}\n").as_bytes(), 0o600)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_have_the_types_that_rabbitmq_gives_them() {
        let map =
            json!({"x-max-length": 5, "x-overflow": "drop-head", "list": [1.5, null], "t": {"a": true}});
        let table = table(map.as_object().unwrap());
        let table = table.as_table();
        assert_eq!(table.get("x-max-length"), Some(Field::I64(5)));
        assert_eq!(table.get("x-overflow"), Some(Field::text("drop-head")));
        let Some(Field::Array(list)) = table.get("list") else { panic!("{table:?}") };
        assert_eq!(list.iter().collect::<Vec<_>>(), [Field::F64(1.5), Field::Void]);
        let Some(Field::Table(inner)) = table.get("t") else { panic!("{table:?}") };
        assert_eq!(inner.get("a"), Some(Field::Bool(true)));
    }
}
