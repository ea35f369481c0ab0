//! `bandy mq tap`: messages as they pass, without taking them from anybody.

pub mod firehose;
pub mod sources;
pub mod watch;

use std::time::Duration;

use super::api::{Api, VhostArgs};
use super::complete;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::output::Separators;
use crate::record::Embed;
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration};
use sources::Wanted;
use watch::{Ends, Tap};

/// What to watch, and how long.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// Exchanges to watch: EXCHANGE for everything, EXCHANGE:KEY for what a binding of that key gets [default: all]
    #[arg(value_name = "EXCHANGE[:KEY]", value_parser = sources::parse, add = completions::remote(complete::exchanges))]
    pub exchanges: Vec<Wanted>,
    /// Watch RabbitMQ's firehose: all publishes and deliveries, with queue and user; switched on for so long
    #[arg(long, conflicts_with = "exchanges")]
    pub firehose: bool,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop after this long without a message
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub idle: Option<Duration>,
}

impl SourceArgs {
    /// When to stop.
    pub fn ends(&self, timeout: Option<Duration>) -> Ends {
        Ends { count: self.count, duration: self.duration, idle: self.idle, timeout }
    }
}

/// What to watch of which broker: of `tap`, and of `record`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    vhosts: VhostArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl WatchArgs {
    /// The broker, for the command `verb`.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub async fn api(&self, app: &App, verb: &str, shutdown: &Shutdown) -> anyhow::Result<Api> {
        Api::find(&self.connect, &self.vhosts, app, verb, shutdown).await
    }

    /// Begins to watch, and says until when.
    ///
    /// # Errors
    /// The endpoint's, no such exchange.
    pub async fn start(&self, api: Api, app: &App, shutdown: &Shutdown) -> anyhow::Result<(Tap, Ends)> {
        let ends = self.source.ends(api.timeout);
        Ok((Tap::start(api, &self.source, app, shutdown).await?, ends))
    }
}

/// Arguments of `mq tap`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    watch: WatchArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq tap                            # what is published to any exchange with a name
  bandy mq tap amq.topic:orders.# events  # orders of one, everything of another
  bandy mq tap --firehose                 # publishes and deliveries, the default exchange's too
  bandy mq tap --json -n 100 | jq -c '[.exchange, .routing_key]'

A queue of its own is bound to each exchange so that it gets everything, and goes with the command; nobody else gets \
less. Exchanges and bindings that are made meanwhile are watched, too. What is sent to a queue by its name goes \
through the default exchange, which cannot be bound to: the firehose shows it. It is switched on for the virtual host \
while it is watched, through the management API, and costs the broker two more messages for each.

Exit: 0 stopped by -n, --for or --idle · 3 unreachable · 5 no such exchange · 6 fewer than -n · see 'bandy help exit-codes'";

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such exchange, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(tap(args, app))
}

async fn tap(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = args.watch.api(app, "tap", &shutdown).await?;
    let (tap, ends) = args.watch.start(api, app, &shutdown).await?;
    let mut records = app.printer.records(Separators::default(), Embed::Never);
    tap.run(ends, app, |record, _| Ok(records.write(record)?)).await
}

/// Fewer than were asked for.
pub fn too_few(wanted: Option<u64>, count: u64, exit: Exit) -> Result<Exit, Failure> {
    match wanted {
        Some(wanted) if exit == Exit::Done && count < wanted => {
            Err(Failure::new(Exit::Nothing, format!("{count} of {} came", counted(wanted, "message"))))
        }
        _ => Ok(exit),
    }
}
