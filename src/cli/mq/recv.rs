//! `bandy mq recv`: messages out of a queue, one taker for each.

use super::complete;
use super::connect::Broker;
use super::envelope::Mode;
use super::get;
use super::incoming::{Bounds, Fate, ReadArgs, Writing};
use super::queue;
use super::work::{Work, WorkArgs};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::mq::client::{ConsumeOptions, Consumer, PublishOptions, Publisher, Topology};
use crate::shutdown::Shutdown;

/// Arguments of `mq recv`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy mq recv jobs                                     # take one, print it
  bandy mq recv jobs -f -j4 -- ./resize.sh               # four workers until Ctrl-C
  bandy mq recv jobs -n 100 --json | jq .                # a hundred envelopes
  while job=$(bandy mq recv jobs --no-wait); do echo \"doing $job\"; done
  bandy mq recv upper --reply --create -f -- tr a-z A-Z  # answer requests

A message is acknowledged when it was printed and passed on, or when its command has ended with 0. \
Everything else goes back to the queue.

Exit: 0 taken · 5 no such queue · 6 nothing there (--no-wait), or fewer than -n \
· 7 some commands failed · 124 --timeout · see 'bandy help exit-codes'")]
pub struct Args {
    /// Queue to take from
    #[arg(value_parser = queue::parse_name, add = completions::remote(complete::queues))]
    pub queue: String,
    /// Run once per message: body on stdin, exit 0 acknowledges
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
    /// Keep taking
    #[arg(short, long, help_heading = "Taking")]
    pub follow: bool,
    /// Only what is there now; exit 6 if nothing
    #[arg(long, conflicts_with_all = ["idle", "duration"], help_heading = "Taking")]
    pub no_wait: bool,
    /// Messages to have at hand before the first of them is acknowledged
    #[arg(long, value_name = "N", help_heading = "Taking")]
    pub prefetch: Option<u16>,
    /// Put what was printed back into the queue at the end
    #[arg(long, conflicts_with_all = ["command", "follow"], help_heading = "Taking")]
    pub requeue: bool,
    /// Create the queue if it is missing
    #[arg(long, help_heading = "Taking")]
    pub create: bool,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What is fetched ahead where nothing says otherwise: enough to keep the connection busy.
const PREFETCH: u16 = 1000;

impl Args {
    /// Messages to be taken; all that come with `-f` alone.
    fn count(&self) -> Option<u64> {
        self.read.count.or((!self.follow).then_some(1))
    }

    /// A reader that was not told how many messages come may leave after any of them.
    fn one_by_one(&self) -> bool {
        self.read.count.is_none() && self.prefetch.is_none()
    }

    fn prefetch(&self, count: Option<u64>) -> u16 {
        let most = count.map_or(u16::MAX, |count| u16::try_from(count).unwrap_or(u16::MAX));
        match self.prefetch {
            // All of them are kept until the end.
            _ if self.requeue => most,
            Some(prefetch) => prefetch,
            None if self.command.is_empty() => PREFETCH.min(most),
            None => u16::try_from(self.work.jobs).unwrap_or(u16::MAX).min(most),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The endpoint's, no such queue, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(recv(args, app))
}

async fn recv(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let work = Work::new(&args.work, args.command.clone(), &args.read, app)?;
    let broker = Broker::resolve(&args.connect, app, "recv")?;
    let count = args.count();
    let mut bounds = Bounds::new(&args.read, count, broker.timeout);
    if args.no_wait && args.create {
        match bounds.hurry(made(args, app, &broker)).await {
            Ok(made) => made?,
            Err(end) => return bounds.exit(end, None),
        }
    }
    if args.no_wait && work.is_none() {
        return get::now(args, count, (app, &broker), bounds).await;
    }
    if args.no_wait {
        match bounds.hurry(get::ready(&args.queue, &broker)).await {
            Ok(Ok(0)) => return Ok(get::empty(&args.queue, app)),
            Ok(ready) => bounds.at_most(ready?),
            Err(end) => return bounds.exit(end, None),
        }
    }
    let started = bounds.hurry(start(args, app, &broker, &shutdown)).await;
    let consumer = match started {
        Ok(consumer) => consumer?,
        Err(end) => return bounds.exit(end, None),
    };
    match work {
        Some(work) => work.run(&broker, consumer, bounds, args.read.count).await,
        None => {
            let fate = if args.requeue { Fate::Kept } else { Fate::Acked };
            let (mode, one_by_one) = (Mode::Queue, args.one_by_one());
            let writing = Writing { app, broker: &broker, args: &args.read, mode, fate, one_by_one };
            writing.run(consumer, bounds, args.read.count).await
        }
    }
}

/// Connects to a queue that is there, or is to be made.
async fn start(args: &Args, app: &App, broker: &Broker, shutdown: &Shutdown) -> Result<Consumer, Failure> {
    let started = |step| {
        let prefetch = args.prefetch(args.count());
        let options = ConsumeOptions { queue: args.queue.clone(), prefetch, ..ConsumeOptions::default() };
        Consumer::start(broker.config.clone(), Topology(vec![step]), options, shutdown)
    };
    match started(queue::there(&args.queue)).await {
        Ok(consumer) => Ok(consumer),
        Err(error) if queue::is_missing(&error) && args.create => {
            let consumer = started(queue::durable(&args.queue)).await;
            app.printer.status(&format!("created the queue {}", args.queue));
            consumer.map_err(|error| broker.failure(&error))
        }
        Err(error) if queue::is_missing(&error) => {
            Err(broker.no_queue(&args.queue).tip("add --create to make it now"))
        }
        Err(error) => Err(broker.failure(&error)),
    }
}

/// Makes the queue if it is not there.
async fn made(args: &Args, app: &App, broker: &Broker) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    let steps = |step| {
        Publisher::start(broker.config.clone(), Topology(vec![step]), PublishOptions::default(), &shutdown)
    };
    match steps(queue::there(&args.queue)).await {
        Ok(_) => Ok(()),
        Err(error) if queue::is_missing(&error) => {
            steps(queue::durable(&args.queue)).await.map_err(|error| broker.failure(&error))?;
            app.printer.status(&format!("created the queue {}", args.queue));
            Ok(())
        }
        Err(error) => Err(broker.failure(&error)),
    }
}

impl Args {
    /// The queue's name, how its messages are printed, and whether they go back, for `--no-wait`.
    pub(super) fn parts(&self) -> (&str, &ReadArgs, bool) {
        (&self.queue, &self.read, self.requeue)
    }
}
