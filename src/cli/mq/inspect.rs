//! `bandy mq dump` and `salvage`: a broker's data directory without the broker.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value as Json;

use super::envelope::{self, Mode};
use crate::cli::app::App;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::journal::{self, DirectoryArgs, Known};
use crate::mq::client::Delivery;
use crate::mq::durable::dump::{self, Dumped, Operation, Owned, Waiting};
use crate::record::Embed;
use crate::storage::{Inspection, LogConfig, LogId, Record};

/// Arguments of `mq dump`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DUMP_EXAMPLES)]
pub struct DumpArgs {
    /// Queue, or UUID of a log, whose records to show; without one, what is in the directory
    pub queue: Option<String>,
    /// Only messages that were neither acknowledged nor dropped, as 'bandy mq send --json' takes them
    #[arg(long, requires = "queue")]
    pub waiting: bool,
    #[command(flatten)]
    directory: DirectoryArgs,
}

const DUMP_EXAMPLES: &str = "\
Examples:
  bandy mq dump --dir /var/lib/queues             # its logs, with what is torn or damaged
  bandy mq dump --dir /var/lib/queues --json      # with files, offsets and leader epochs
  bandy mq dump orders --dir /var/lib/queues      # every record of that queue's log, as JSON lines
  bandy mq dump definitions                       # what was declared, bound and deleted
  bandy mq dump orders --waiting > orders.ndjson  # messages that can be saved from a damaged log

Nothing is changed. A broker may run meanwhile: what it is writing may look torn.

Exit: 0 shown · 1 no such directory · 5 no such queue · 7 shown, and something is damaged · see 'bandy help exit-codes'";

/// Arguments of `mq salvage`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SALVAGE_EXAMPLES)]
pub struct SalvageArgs {
    /// Queues, or UUIDs of logs; all that are damaged without
    pub queues: Vec<String>,
    #[command(flatten)]
    how: journal::RepairArgs,
    #[command(flatten)]
    directory: DirectoryArgs,
}

const SALVAGE_EXAMPLES: &str = "\
Examples:
  bandy mq salvage --dir /var/lib/queues --dry-run  # what is damaged, and what would be lost
  bandy mq salvage orders --dir /var/lib/queues     # keep all whole batches of that queue
  bandy mq salvage orders --cut -y                  # keep what stands before the damage

For logs that a broker refuses because data that had been on disk is damaged. Restore them from a copy if there is one.
The broker has to be stopped. What is taken out is kept in trash/ of the directory for a week.

Exit: 0 done, or nothing is damaged · 1 a broker uses the directory, or it is none · 5 no such queue \
· see 'bandy help exit-codes'";

/// Every log, with its name.
fn logs(inspection: &Inspection) -> anyhow::Result<Vec<Known>> {
    let owners = dump::owners(inspection)?;
    let named = |id: LogId| {
        let (kind, name) = match owners.get(&id) {
            Some(Owned::Definitions) => ("definitions", "definitions".to_owned()),
            Some(Owned::Queue(vhost, name)) => ("queue", shown(vhost, name)),
            Some(Owned::Exchange(vhost, name)) => ("exchange", shown(vhost, name)),
            None => ("unknown", String::new()),
        };
        Known { id, kind, name, config: LogConfig::default() }
    };
    Ok(inspection.logs()?.into_iter().map(named).collect())
}

/// A name on its virtual host; `/` is the one that everybody has.
fn shown(vhost: &str, name: &str) -> String {
    if vhost == "/" { name.to_owned() } else { format!("{vhost}/{name}") }
}

/// Runs `dump`.
///
/// # Errors
/// No data directory, no such queue, the system's.
pub fn dump(args: &DumpArgs, app: &App) -> anyhow::Result<Exit> {
    let inspection = journal::open(&args.directory.path(Pillar::Mq, app), app)?;
    let all = logs(&inspection)?;
    let Some(name) = &args.queue else { return journal::list(&inspection, &all, app) };
    let chosen = journal::chosen(&all, std::slice::from_ref(name))?;
    let [known] = &chosen[..] else { anyhow::bail!("one log was asked for") };
    if known.kind == "definitions" {
        if args.waiting {
            return Err(Failure::new(Exit::Usage, "definitions are no messages").into());
        }
        return journal::records(&inspection, known, app, |_, record| {
            Ok(app.printer.json(&definition(&record))?)
        });
    }
    let mut waiting = Waiting::default();
    if args.waiting {
        // Not told twice.
        inspection.examine(known.id, |batch| {
            for record in batch.records().into_iter().flatten().flatten() {
                if let Some(operation) = dump::operation(record.key, record.value) {
                    waiting.take(record.offset.unsigned_abs(), &operation);
                }
            }
            true
        })?;
    }
    let mut line = Vec::new();
    journal::records(&inspection, known, app, |batch, record| {
        let offset = record.offset.unsigned_abs();
        if args.waiting && !waiting.holds(offset) {
            return Ok(());
        }
        let about = About { queue: &known.name, epoch: batch.header.leader_epoch, record: &record };
        line.clear();
        match dump::operation(record.key, record.value) {
            Some(Operation::Enqueue(message)) => about.message("enqueue", &message, None, &mut line)?,
            Some(Operation::Move { first, message }) => {
                about.message("move", &message, Some(first), &mut line)?;
            }
            other => return Ok(app.printer.json(&about.other(other))?),
        }
        Ok(app.printer.bytes(&line)?)
    })
}

/// A record, and where it stands.
struct About<'a> {
    queue: &'a str,
    epoch: i32,
    record: &'a Record<'a>,
}

/// A record that is no message.
#[derive(Serialize)]
struct Other {
    op: &'static str,
    offset: i64,
    at: i64,
    epoch: i32,
    #[serde(flatten)]
    rest: Json,
}

impl About<'_> {
    /// A message as all commands write it, with what its record says beside.
    fn message(
        &self,
        operation: &'static str,
        message: &Dumped,
        first: Option<u64>,
        line: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let Dumped { message, expires } = message;
        let key = bytes::Bytes::copy_from_slice(&message.routing_key);
        let delivery =
            Delivery::new(message.exchange.clone(), key, message.properties.clone(), message.body.clone());
        let mut record = envelope::record(&delivery, self.queue, Mode::Queue)?;
        record.provenance.retain(|(name, _)| !["delivery_tag", "redelivered"].contains(name));
        record.provenance.extend([
            ("op", operation.into()),
            ("offset", self.record.offset.into()),
            ("at", self.record.timestamp.into()),
            ("epoch", self.epoch.into()),
        ]);
        record.provenance.extend(first.map(|first| ("first", first.into())));
        record.provenance.extend((*expires > 0).then(|| ("expires", (*expires).into())));
        record.write_json(Embed::Never, line);
        line.push(b'\n');
        Ok(())
    }

    fn other(&self, operation: Option<Operation>) -> Other {
        let (op, rest) = match operation {
            Some(Operation::Acknowledge { reason, ranges }) => {
                ("ack", serde_json::json!({"reason": reason, "ranges": ranges}))
            }
            Some(Operation::Requeue { message, returns }) => {
                ("requeue", serde_json::json!({"message": message, "returns": returns}))
            }
            Some(Operation::Deliver { up_to }) => ("deliver", serde_json::json!({"up_to": up_to})),
            Some(Operation::Enqueue(_) | Operation::Move { .. }) | None => {
                let text = |bytes: Option<&[u8]>| bytes.map(|bytes| BASE64.encode(bytes));
                let (key, value) = (text(self.record.key), text(self.record.value));
                ("unknown", serde_json::json!({"key_base64": key, "value_base64": value}))
            }
        };
        Other { op, offset: self.record.offset, at: self.record.timestamp, epoch: self.epoch, rest }
    }
}

#[derive(Serialize)]
struct Definition {
    op: &'static str,
    offset: i64,
    kind: Json,
    names: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json>,
}

/// A record of the log of definitions.
fn definition(record: &Record<'_>) -> Definition {
    let names = record.key.and_then(|key| serde_json::from_slice::<Vec<Json>>(key).ok()).unwrap_or_default();
    let value = record.value.and_then(|value| serde_json::from_slice(value).ok());
    let mut names = names.into_iter();
    let kind = names.next().unwrap_or_default();
    let op = if record.value.is_some() { "define" } else { "remove" };
    Definition { op, offset: record.offset, kind, names: names.collect(), value }
}

/// Runs `salvage`.
///
/// # Errors
/// No data directory, no such queue, a broker that uses it, the system's.
pub fn salvage(args: &SalvageArgs, app: &App) -> anyhow::Result<Exit> {
    let dir = args.directory.path(Pillar::Mq, app);
    let inspection = journal::open(&dir, app)?;
    let chosen = journal::chosen(&logs(&inspection)?, &args.queues)?;
    journal::salvage(&dir, inspection, &chosen, &args.how, app)
}
