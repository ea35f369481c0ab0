//! Messages that are in a queue now: `recv --no-wait` and `peek`, which do not wait for others to come.

use super::complete;
use super::connect::Broker;
use super::envelope::Mode;
use super::incoming::{self, Bounds, ReadArgs};
use super::recv;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::{Channel, Connection, Delivery};
use crate::mq::wire::method::queue;
use crate::output::WriteError;
use crate::shutdown::Shutdown;
use crate::units::parse_count;

/// Arguments of `mq peek`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq peek jobs  # the ten that come next
  bandy mq peek jobs -n 1 --json

The messages are fetched and given back: they keep their places, and whoever takes them sees that \
they were delivered before. While it looks, others are handed the messages behind them.

Exit: 0 shown · 5 no such queue · 6 it is empty · see 'bandy help exit-codes'")]
pub struct PeekArgs {
    /// Queue to look into
    #[arg(value_parser = super::queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    /// Show N messages
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = parse_count, help_heading = "Taking")]
    pub count: u64,
    /// With --json, a body that is JSON stands there as JSON
    #[arg(long, help_heading = "Output")]
    pub parse: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `mq peek`.
///
/// # Errors
/// The endpoint's, no such queue, output that cannot be written.
pub fn peek(args: &PeekArgs, app: &App) -> anyhow::Result<Exit> {
    app.client_with_driver(args.connect.timeout, async {
        let broker = Broker::resolve(&args.connect, app, "peek")?;
        let taking = Taking::open(&args.queue, &broker).await?;
        let read = ReadArgs { parse: args.parse, ..ReadArgs::default() };
        let mut records = read.records(app);
        for _ in 0..args.count {
            let Some(delivery) = taking.get().await? else { break };
            records.write(&incoming::record(app, &delivery, &args.queue, Mode::Queue))?;
        }
        app.printer.flush()?;
        let shown = records.count();
        // Closing gives everything back, in its old place.
        taking.close().await?;
        Ok(if shown == 0 { empty(&args.queue, app) } else { Exit::Done })
    })
}

/// Says that there is nothing.
pub fn empty(queue: &str, app: &App) -> Exit {
    app.printer.status(&format!("{queue} is empty"));
    Exit::Nothing
}

/// A queue that is asked for one message after the other.
struct Taking<'a> {
    queue: &'a str,
    broker: &'a Broker,
    connection: Connection,
    channel: Channel,
}

impl<'a> Taking<'a> {
    async fn open(queue: &'a str, broker: &'a Broker) -> Result<Self, Failure> {
        let connection = broker.open(&Shutdown::new()).await?;
        let channel = connection.channel().await.map_err(|error| broker.failure(&error))?;
        Ok(Self { queue, broker, connection, channel })
    }

    async fn get(&self) -> Result<Option<Delivery>, Failure> {
        match self.channel.get(self.queue, false).await {
            Ok(got) => Ok(got.map(|(delivery, _)| delivery)),
            Err(error) if error.reply_code() == Some(404) => Err(self.broker.no_queue(self.queue)),
            Err(error) => Err(self.broker.failure(&error)),
        }
    }

    fn ack(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.channel.ack(delivery.tag, false).map_err(|error| self.broker.failure(&error))
    }

    /// What was acknowledged is dealt with when this returns.
    async fn close(self) -> Result<(), Failure> {
        let closed = self.channel.close().await;
        let _ = self.connection.close().await;
        closed.map_err(|error| self.broker.failure(&error))
    }
}

/// Takes what is in the queue now.
///
/// # Errors
/// The broker's, no such queue, output that cannot be written.
pub async fn now(
    args: &recv::Args,
    count: Option<u64>,
    (app, broker): (&App, &Broker),
    mut bounds: Bounds,
) -> anyhow::Result<Exit> {
    let (queue, read, _) = args.parts();
    let taking = match bounds.hurry(Taking::open(queue, broker)).await {
        Ok(taking) => taking?,
        Err(end) => return bounds.exit(end, None),
    };
    let done = bounds.hurry(take(args, count, app, &taking)).await;
    // Also after an error: what was printed is acknowledged.
    taking.close().await?;
    match done {
        Err(end) => bounds.exit(end, None),
        Ok(taken) => Ok(match taken? {
            0 => empty(queue, app),
            taken if read.count.is_some_and(|asked| taken < asked) => Exit::Nothing,
            _ => Exit::Done,
        }),
    }
}

async fn take(args: &recv::Args, count: Option<u64>, app: &App, taking: &Taking<'_>) -> anyhow::Result<u64> {
    let (queue, read, requeue) = args.parts();
    let mut records = read.records(app);
    while count.is_none_or(|count| records.count() < count) {
        let Some(delivery) = taking.get().await? else { break };
        match records
            .write(&incoming::record(app, &delivery, queue, Mode::Queue))
            .and_then(|()| app.printer.flush())
        {
            Ok(()) if requeue => {}
            Ok(()) => taking.ack(&delivery)?,
            Err(WriteError::ReaderGone) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(records.count())
}

/// How many messages are ready in a queue.
///
/// # Errors
/// The broker's, no such queue.
pub async fn ready(queue: &str, broker: &Broker) -> Result<u64, Failure> {
    let taking = Taking::open(queue, broker).await?;
    let declare = queue::Declare { queue, passive: true, ..Default::default() };
    let declared = taking.channel.queue_declare(declare).await.map_err(|error| broker.failure(&error))?;
    taking.close().await?;
    Ok(declared.messages.into())
}
