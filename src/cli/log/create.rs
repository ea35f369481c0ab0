//! `bandy log create`: a topic that is to be there.

use std::time::Duration;

use super::connect::Log;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::log::client::{Cluster, Error, admin};
use crate::log::wire::ErrorCode;
use crate::shutdown::Shutdown;
use crate::units::{parse_duration, parse_size};

/// Arguments of `log create`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log create orders
  bandy log create orders --partitions 6 --replicas 3 --retention 7d
  bandy log create users --compact -c min.cleanable.dirty.ratio=0.1
  bandy log create orders --partitions 12 --grow  # more partitions, if it has fewer

It is no error if it is there already, with as many partitions as asked for. When it grows, keys go to \
other partitions than before.

Exit: 0 it is there · 1 it is there with another number of partitions · see 'bandy help exit-codes'")]
pub struct Args {
    /// Topic to create
    #[arg(value_parser = super::topic::parse_name)]
    pub topic: String,
    /// So many partitions, instead of the broker's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..), help_heading = "Topic")]
    pub partitions: Option<i32>,
    /// Add partitions if it is there with fewer
    #[arg(long, requires = "partitions", help_heading = "Topic")]
    pub grow: bool,
    /// So many replicas of each, instead of the broker's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..), help_heading = "Topic")]
    pub replicas: Option<i16>,
    /// Delete records older than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Topic")]
    pub retention: Option<Duration>,
    /// Delete the oldest records of a partition over this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Topic")]
    pub retention_bytes: Option<u64>,
    /// Keep the newest record of each key
    #[arg(long, help_heading = "Topic")]
    pub compact: bool,
    /// Any other setting: NAME=VALUE (repeatable)
    #[arg(short, long = "config", value_name = "NAME=VALUE", help_heading = "Topic")]
    pub configs: Vec<String>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl Args {
    fn topic(&self) -> Result<admin::NewTopic, Failure> {
        let mut configs = Vec::new();
        let mut set = |name: &str, value: String| configs.push((name.to_owned(), value));
        if let Some(retention) = self.retention {
            set("retention.ms", retention.as_millis().to_string());
        }
        if let Some(bytes) = self.retention_bytes {
            set("retention.bytes", bytes.to_string());
        }
        if self.compact {
            set("cleanup.policy", "compact".to_owned());
        }
        for text in &self.configs {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                Failure::new(Exit::Usage, format!("'{text}' is not a setting")).tip("write NAME=VALUE")
            })?;
            set(name, value.to_owned());
        }
        let (partitions, replicas) = (self.partitions.unwrap_or(-1), self.replicas.unwrap_or(-1));
        Ok(admin::NewTopic { name: self.topic.clone(), partitions, replicas, configs })
    }
}

/// Runs the command.
///
/// # Errors
/// The endpoint's; it is there with other settings, or may not be made.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let topic = args.topic()?;
        let log = Log::resolve(&args.connect, app, "create")?;
        let shutdown = Shutdown::new();
        let cluster = log.open(&shutdown).await?;
        match admin::create_topic(&cluster, &topic).await {
            Ok(()) => app.printer.status(&format!("the topic {} is there", args.topic)),
            Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
                match is_the_same(args, &log, &cluster).await? {
                    Some(before) => {
                        let text = format!("the topic {} has grown from {before}", args.topic);
                        app.printer.status(&text);
                    }
                    None => app.printer.status(&format!("the topic {} was there already", args.topic)),
                }
            }
            Err(error) => return Err(refusal(&error, &log).into()),
        }
        Ok(Exit::Done)
    })
}

fn refusal(error: &Error, log: &Log) -> Failure {
    let failure = log.failure(error);
    match error.code() {
        Some(ErrorCode::INVALID_REPLICATION_FACTOR) => {
            failure.there_for("bandy log ls nodes", "shows the brokers")
        }
        _ => failure,
    }
}

/// The number of partitions is what others rely on: it must be as asked for, or is made so. How many there were then.
async fn is_the_same(args: &Args, log: &Log, cluster: &Cluster) -> Result<Option<String>, Failure> {
    let Some(wanted) = args.partitions else { return Ok(None) };
    let topic = cluster.topic(&args.topic, false).await.map_err(|error| log.failure(&error))?;
    let count = topic.partitions.len();
    if usize::try_from(wanted) == Ok(count) {
        return Ok(None);
    }
    let is_fewer = usize::try_from(wanted).is_ok_and(|wanted| wanted > count);
    let count = counted(count as u64, "partition");
    if is_fewer && args.grow {
        let grown = admin::create_partitions(cluster, &args.topic, wanted).await;
        return grown.map(|()| Some(count)).map_err(|error| log.failure(&error));
    }
    let text = format!("topic '{}' is at {} with {count}, not {wanted}", args.topic, log.url);
    let failure = Failure::new(Exit::Failed, text);
    let failure = match is_fewer {
        true => failure.tip("--grow adds partitions; keys go to others than before then"),
        false => failure,
    };
    Err(failure.there_for(format!("bandy log rm {}", word(&args.topic)), "removes it, with what is in it"))
}
