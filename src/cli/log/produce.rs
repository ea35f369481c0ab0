//! `bandy log produce`: records into topics, each of them confirmed.

mod outgoing;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;

use self::outgoing::Outgoing;
use super::codec::{Encoder, Part, SchemaArgs};
use super::complete;
use super::connect::Log;
use crate::bench::Rate;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::limits::Limits;
use crate::cli::records::{InputArgs, PlainLines};
use crate::cli::source::{self, Source};
use crate::log::client::{Acks, Error, ProduceOptions, Producer, TransactionOptions, admin};
use crate::log::wire::{Compression, ErrorCode};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration, parse_size};

/// How long ending a transaction may take once somebody wants to go.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Arguments of `log produce`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log produce orders '{\"id\": 7}' -k ada           # one record with a key
  journalctl -f | bandy log produce logs                # one per line
  bandy log produce orders -K '\\t' -z zstd < dump       # keys and values, packed
  bandy log consume a --json | bandy log produce b --json
  bandy log produce orders hello -o json                # where it went: topic, partition, offset
  bandy log produce orders --registry http://localhost:8081 '{\"id\": 7}'
  bandy log produce orders --transaction import < dump  # all of it, or nothing

Every record is confirmed by all replicas in sync before the command ends, once and in order.

Exit: 0 all taken · 5 no such topic · 7 some were not · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to append to; with --json, that of the record if left out
    #[arg(value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topic: Option<String>,
    /// What to append; without it, or with -, each line of stdin
    pub value: Option<String>,
    /// Key of every record
    #[arg(short, long, value_name = "KEY", help_heading = "Record")]
    pub key: Option<String>,
    /// Header: NAME=VALUE or 'NAME: VALUE' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header, help_heading = "Record")]
    pub headers: Vec<(String, Bytes)>,
    /// Partition of every record, instead of that of its key
    #[arg(short, long, value_name = "N", help_heading = "Record")]
    pub partition: Option<i32>,
    /// With --json, the partition of the record
    #[arg(hide_short_help = true, long, conflicts_with = "partition", help_heading = "Record")]
    pub keep_partition: bool,
    /// So many copies of VALUE, or at most so many records of the input
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Record")]
    pub count: Option<u64>,
    /// Fill in {{ n }}, {{now}}, {{uuid}} and {{rand 10 100}}
    #[arg(short = 'T', long, help_heading = "Record")]
    pub template: bool,
    /// An empty value is no value: a tombstone
    #[arg(hide_short_help = true, long, help_heading = "Record")]
    pub tombstones: bool,
    /// How batches are packed
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", help_heading = "Sending")]
    pub compress: Codec,
    /// Who has to have a record
    #[arg(long, value_name = "WHO", default_value = "all", help_heading = "Sending")]
    pub acks: Who,
    /// Not faster than this: 100/s, 60/m
    #[arg(long, value_name = "RATE", help_heading = "Sending")]
    pub rate: Option<Rate>,
    /// Close a batch at this size
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = "512k", value_parser = parse_size, help_heading = "Sending")]
    pub batch: u64,
    /// Try again for this long what a broker does not take
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, help_heading = "Sending")]
    pub retry_for: Duration,
    /// All records or none: a transaction of this transactional id
    #[arg(hide_short_help = true, long, value_name = "ID", help_heading = "Sending")]
    pub transaction: Option<String>,
    /// The broker aborts a transaction that is open for so long
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration, requires = "transaction", help_heading = "Sending")]
    pub transaction_timeout: Duration,
    /// Create the topic if it is missing
    #[arg(long, help_heading = "Sending")]
    pub create: bool,
    /// Print what was taken; with -o in that format
    #[arg(hide_short_help = true, long, help_heading = "Sending")]
    pub tee: bool,
    /// Subject of the registry whose schema values have [default: TOPIC-value]
    #[arg(hide_short_help = true, long, value_name = "NAME", help_heading = "Schemas")]
    pub subject: Option<String>,
    /// Keys have a schema, too
    #[arg(hide_short_help = true, long, help_heading = "Schemas")]
    pub encode_keys: bool,
    /// Subject of the registry whose schema keys have [default: TOPIC-key]
    #[arg(hide_short_help = true, long, value_name = "NAME", help_heading = "Schemas")]
    pub key_subject: Option<String>,
    #[command(flatten)]
    schemas: SchemaArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// A codec of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// Not packed
    None,
    /// Small, slow
    Gzip,
    /// Quick
    Snappy,
    /// Quicker
    Lz4,
    /// Small and quick
    Zstd,
}

/// Who has to have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// All replicas in sync
    All,
    /// The leader
    Leader,
    /// Nobody: what gets lost is not noticed
    None,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

impl From<Who> for Acks {
    fn from(who: Who) -> Self {
        match who {
            Who::All => Self::All,
            Who::Leader => Self::Leader,
            Who::None => Self::None,
        }
    }
}

fn header(text: &str) -> Result<(String, Bytes), String> {
    let split = text.split_once('=').or_else(|| text.split_once(": "));
    let (name, value) = split.ok_or("a header is NAME=VALUE or 'NAME: VALUE'")?;
    Ok((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())))
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such topic, records that are none.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    match args.transaction {
        None => app.client_with_driver(args.connect.timeout, produce(args, app)),
        Some(_) => app.client_to_its_end(transact(args, app)),
    }
}

async fn produce(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let log = resolve(args, app)?;
    let (mut outgoing, source) = prepare(args, app, &log, &Shutdown::new()).await?;
    let sent = outgoing.all(source).await;
    outgoing.conclude(sent).await
}

/// In a transaction: whoever interrupts it does not leave it open, for then readers would wait for its end.
async fn transact(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if args.acks != Who::All {
        return Err(Failure::new(Exit::Usage, "a transaction needs --acks all").into());
    }
    let log = resolve(args, app)?;
    let mut limits = Limits::within(log.timeout);
    let shutdown = Shutdown::new();
    let (mut outgoing, source) = match limits.hurry(prepare(args, app, &log, &shutdown)).await {
        Ok(prepared) => prepared?,
        Err(end) => return Ok(limits.exit(end, false)?),
    };
    // Ctrl-C ends what feeds us, too: where it stopped is not the end of the records.
    let sent = match limits.hurry(outgoing.all(source)).await {
        Ok(sent) => limits.passed_before().await.map_or(Ok(sent), Err),
        Err(end) => Err(end),
    };
    let sent = match sent {
        Ok(sent) => sent,
        Err(end) => {
            outgoing.abort(LAST_WORDS_MAX).await;
            return Ok(limits.exit(end, false)?);
        }
    };
    match limits.hurry(outgoing.conclude(sent)).await {
        Ok(concluded) => concluded,
        Err(end) => {
            app.printer
                .warn("whether the transaction has ended is not known: the broker has not answered yet");
            Ok(limits.exit(end, false)?)
        }
    }
}

fn resolve(args: &Args, app: &App) -> anyhow::Result<Log> {
    if args.topic.is_none() && !app.global.json && args.input.input_format.is_none() {
        return Err(Failure::new(Exit::Usage, "which topic?")
            .tip("bandy log produce TOPIC [VALUE]; with --json it may stand in the record")
            .into());
    }
    let mut log = Log::resolve(&args.connect, app, "produce")?;
    log.config.retry_for = args.retry_for;
    Ok(log)
}

/// Everything that is needed to send: schemas, the cluster, the topic.
async fn prepare<'a>(
    args: &'a Args,
    app: &'a App,
    log: &'a Log,
    shutdown: &Shutdown,
) -> anyhow::Result<(Outgoing<'a>, Ready)> {
    let topic = args.topic.as_deref().unwrap_or_default();
    let subject = args.subject.clone().unwrap_or_else(|| format!("{topic}-value"));
    let encoder = Encoder::open(&args.schemas, Part::Value, &subject, app).await?;
    let key_encoder =
        match args.encode_keys || args.key_subject.is_some() || args.schemas.key_schema.is_some() {
            true => {
                let subject = args.key_subject.clone().unwrap_or_else(|| format!("{topic}-key"));
                let encoder = Encoder::open(&args.schemas, Part::Key, &subject, app).await?;
                let why = "which schema do keys have?";
                let tip = "--registry URL, where it is, or --key-schema FILE";
                Some(encoder.ok_or_else(|| Failure::new(Exit::Usage, why).tip(tip))?)
            }
            false => None,
        };
    let source = Ready::open(args, encoder.is_some() || key_encoder.is_some(), app)?;
    let cluster = log.open(shutdown).await?;
    let producer = Producer::new(cluster.clone(), options(args));
    let mut outgoing = Outgoing::new(args, app, log, producer);
    outgoing.encoder = encoder;
    outgoing.key_encoder = key_encoder;
    if let Some(topic) = &args.topic {
        if args.create && matches!(cluster.topic(topic, false).await, Err(Error::NoTopic(_))) {
            let new =
                admin::NewTopic { name: topic.clone(), partitions: -1, replicas: -1, ..Default::default() };
            match admin::create_topic(&cluster, &new).await {
                Ok(()) => app.printer.status(&format!("created the topic {topic}")),
                Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
                Err(error) => return Err(log.failure(&error).into()),
            }
        }
        if let Err(error) = outgoing.producer.topic(topic).await {
            let failure = log.about(&error, topic, &cluster).await;
            return Err(match failure.exit {
                Exit::NotFound => failure.tip("add --create to make it now"),
                _ => failure,
            }
            .into());
        }
    }
    Ok((outgoing, source))
}

/// What is to be sent.
enum Ready {
    /// Lines that become records as they are.
    Lines(PlainLines),
    /// Anything else.
    Records(Source),
}

impl Ready {
    fn open(args: &Args, encodes: bool, app: &App) -> Result<Self, Failure> {
        let is_given = args.value.as_deref().is_some_and(|value| value != "-");
        let is_plain = !is_given
            && args.topic.is_some()
            && args.count.is_none()
            && args.rate.is_none()
            && !args.template
            && !args.tee
            && !encodes
            && app.global.output.is_none();
        if let Some(lines) = args.input.plain_lines(app.global.json).filter(|_| is_plain) {
            if lines.files == [Path::new("-")] {
                source::greet(app);
            }
            return Ok(Self::Lines(lines));
        }
        let source = Source::open(args.value.as_deref(), &args.input, (args.count, args.template), app)?;
        Ok(Self::Records(source))
    }
}

fn options(args: &Args) -> ProduceOptions {
    ProduceOptions {
        acks: args.acks.into(),
        compression: args.compress.into(),
        batch_bytes: usize::try_from(args.batch).unwrap_or(usize::MAX),
        create: args.create,
        transaction: args.transaction.clone().map(|id| {
            let timeout = args.transaction_timeout;
            TransactionOptions { id, timeout }
        }),
        ..ProduceOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn headers_are_written_in_two_ways() {
        assert_eq!(header("a=b: c").unwrap(), ("a".to_owned(), "b: c".into()));
        assert_eq!(header("a: b").unwrap(), ("a".to_owned(), "b".into()));
        assert_eq!(header("a=").unwrap(), ("a".to_owned(), "".into()));
        assert!(header("a").is_err());
    }
}
