//! `bandy mq bench`: producers and consumers on queues of their own, measured from end to end.

mod crew;
mod place;
mod show;

use std::time::{Duration, Instant};

use super::connect::Broker;
use crate::bench::{Rate, Report};
use crate::cli::app::App;
use crate::cli::bench::{Progress, ResultArgs, Series};
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::signals;
use crate::mq::load::{Acks, BODY_SIZE_MIN, Message, Shared};
use crate::mq::wire::BODY_SIZE_MAX;
use crate::units::{parse_count, parse_duration, parse_size};
use crate::wait::until;
use crew::{Crew, Plan, Word};
use place::Place;

/// Deliveries that do not come for so long are lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What a run that measured nothing ends with.
const NOTHING_CAME: &str = "no message arrived";

/// Arguments of `mq bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
struct LoadArgs {
    /// Producers, each with a connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    producers: u32,
    /// Consumers, each with a connection; 0 only sends
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    consumers: u32,
    /// Queues; messages go to each in turn, consumers are spread over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queues: u32,
    /// Each message to all of the queues, through an exchange
    #[arg(hide_short_help = true, long)]
    fan_out: bool,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Stop after this long [default: 10s, unless -n is given]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Send at a rate instead of as fast as it goes: 50k/s, 1k..50k@30s, 10k,20k,40k@10s
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Send for this long before measuring
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "count")]
    warm_up: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Messages")]
struct MessageArgs {
    /// Bytes of a body; the time of sending stands in the first eight
    #[arg(short, long, value_name = "SIZE", default_value = "100", value_parser = parse_size)]
    size: u64,
    /// Durable queues and persistent messages
    #[arg(long)]
    persistent: bool,
    /// Ask for confirms, with so many outstanding at most
    #[arg(long, value_name = "WINDOW", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    confirms: Option<u64>,
    /// Acknowledge every N deliveries together
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=65_535))]
    ack: u64,
    /// Deliveries that may be unacknowledged at each consumer; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 2000)]
    prefetch: u16,
    /// No acknowledgements: what is sent counts as taken
    #[arg(hide_short_help = true, long, conflicts_with_all = ["ack", "prefetch"])]
    auto_ack: bool,
}

const EXAMPLES: &str = "\
Examples:
  bandy mq bench                                         # ten seconds, one producer, one consumer
  bandy mq bench --producers 10 --consumers 10 -n 1m     # a million messages
  bandy mq bench --queues 10 --consumers 10 --fan-out    # every message to ten queues
  bandy mq bench --persistent --confirms 1000            # as safe as the broker makes it
  bandy mq bench --confirms 1 --consumers 0              # how long one confirm takes
  bandy mq bench --rate 50k/s --for 30s --fail-if 'p99>1ms'
  bandy mq bench -e amqp://guest:guest@localhost --json  # any AMQP 0-9-1 broker: RabbitMQ, LavinMQ

The rate is that of deliveries, and latencies are from sending to delivery; without consumers both are of confirms.
With --rate a latency counts from when the message was meant to be sent, so that a stall is not left out.
The queues are made for the run and removed after it, also after Ctrl-C.

Exit: 0 measured · 3 unreachable · 4 denied · 7 --fail-if holds or messages were lost · 130 Ctrl-C";

/// Runs the command.
///
/// # Errors
/// No broker, a connection that is lost, a threshold that holds.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let size = usize::try_from(args.message.size).unwrap_or(usize::MAX);
    if !(BODY_SIZE_MIN..=BODY_SIZE_MAX as usize).contains(&size) {
        let message = format!("-s takes {BODY_SIZE_MIN} bytes to {} MiB", BODY_SIZE_MAX >> 20);
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let broker = Broker::resolve(&args.connect, app, "bench")?;
    let runtime = app.client_runtime()?;
    let place = runtime.block_on(async {
        tokio::select! {
            place = Place::make(&broker, args.load.queues, args.load.fan_out, args.message.persistent) => place.map(Ok),
            signal = signals::interrupted() => Ok(Err(signal)),
        }
    })?;
    let place = match place {
        Ok(place) => place,
        Err(signal) => return Ok(Exit::Signal(signal)),
    };
    let plan = args.plan(&broker, &place, size);
    let ended = std::thread::scope(|scope| {
        let crew = Crew::start(scope, &plan);
        runtime.block_on(measure(args, app, &plan, &broker, crew))
    });
    if let Err(failure) = runtime.block_on(place.remove(&broker)) {
        app.printer.warn(&format!("the queues of this run could not be removed: {}", failure.message));
    }
    let (measured, end) = ended?;
    let report = measured.report();
    show::report(app, args, &measured, &report)?;
    args.result.write_hgrm(&report)?;
    match end {
        End::Signal(signal) => Ok(Exit::Signal(signal)),
        End::Failed(failure) => Err(failure.into()),
        End::Complete => args.verdict(&report, measured.0.sent_ever()),
    }
}

impl Args {
    fn plan(&self, broker: &Broker, place: &Place, size: usize) -> Plan {
        let acks = match self.message.auto_ack {
            true => Acks::Auto,
            false => {
                let prefetch = self.message.prefetch;
                // More than half of what may be outstanding would stop the deliveries now and then.
                let most = if prefetch == 0 { u64::MAX } else { u64::from(prefetch / 2).max(1) };
                Acks::Every { deliveries: self.message.ack.min(most), prefetch }
            }
        };
        Plan {
            config: broker.config.clone(),
            message: Message { routes: place.routes(), size, persistent: self.message.persistent },
            queues: place.queues().to_vec(),
            producers: self.load.producers,
            consumers: self.load.consumers,
            window: self.message.confirms,
            acks,
            rate: self.load.rate.clone(),
            count: self.load.count,
            after: self.sending(),
        }
    }

    /// How long it is measured; none until the count is reached.
    fn measuring(&self) -> Option<Duration> {
        let default = self.load.count.is_none().then_some(Duration::from_secs(10));
        self.load.duration.or(default)
    }

    fn warm_up(&self) -> Duration {
        self.load.warm_up.unwrap_or_default()
    }

    /// How long messages are sent.
    fn sending(&self) -> Option<Duration> {
        self.measuring().map(|measuring| measuring + self.warm_up())
    }

    /// How many deliveries a message becomes.
    fn copies(&self) -> u64 {
        if self.load.fan_out { self.load.queues.into() } else { 1 }
    }

    fn verdict(&self, report: &Report, sent: u64) -> anyhow::Result<Exit> {
        if self.load.consumers == 0 && self.message.confirms.is_none() && self.result.fail_if.is_empty() {
            // What is only sent has no latency.
            return Ok(Exit::Done);
        }
        let exit = self.result.verdict(report, NOTHING_CAME)?;
        if sent > 0 && report.messages == 0 {
            return Err(Failure::new(Exit::Partly, NOTHING_CAME).into());
        }
        if let (0, Some(lost)) = (self.result.fail_if.len(), report.errors.get("lost")) {
            return Err(Failure::new(Exit::Partly, format!("{lost} deliveries did not come")).into());
        }
        Ok(exit)
    }
}

/// How a run ended.
enum End {
    Complete,
    Signal(u8),
    Failed(Failure),
}

/// What a run measured.
struct Measured(std::sync::Arc<Shared>);

impl Measured {
    /// Deliveries, or confirms where nothing else is measured.
    fn report(&self) -> Report {
        let deliveries = self.0.meter.report();
        if deliveries.calls == 0 { self.0.confirms.report() } else { deliveries }
    }
}

/// Measures, and shows how it goes.
async fn measure(
    args: &Args,
    app: &App,
    plan: &Plan,
    broker: &Broker,
    mut crew: Crew,
) -> anyhow::Result<(Measured, End)> {
    let mut series = Series::create(&args.result)?;
    let mut progress = Progress::new(app, "messages");
    let mut signal = std::pin::pin!(signals::interrupted());
    tokio::select! {
        connected = crew.connected() => connected.map_err(|error| broker.failure(&error))?,
        signal = signal.as_mut() => {
            let now = Instant::now();
            return Ok((Measured(crew.shared(now, now)), End::Signal(signal)));
        }
    }
    let start = Instant::now();
    let begin = start + args.warm_up();
    let shared = crew.begin(start, begin);
    // Without a rate what is under way at the end may be much: it is not waited for.
    let stop_at =
        args.measuring().filter(|_| plan.rate.is_none()).map(|measuring| (begin + measuring).into());
    let mut expected = None;
    let mut last = (0, Instant::now());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let end = loop {
        tokio::select! {
            word = crew.word() => match word {
                Word::Sent if plan.consumers == 0 => break End::Complete,
                Word::Sent => {
                    last.1 = Instant::now();
                    expected = Some(shared.sent_ever() * args.copies());
                }
                Word::Failed(error) => break End::Failed(broker.failure(&error)),
            },
            () = shared.receive_all(expected.unwrap_or(u64::MAX)), if expected.is_some() => break End::Complete,
            () = until(stop_at) => break End::Complete,
            signal = signal.as_mut() => break End::Signal(signal),
            _ = second.tick() => {
                let sample = shared.meter.sample();
                progress.show(&sample);
                series.write(&sample)?;
                if last.0 != shared.received_ever() {
                    last = (shared.received_ever(), Instant::now());
                } else if expected.is_some() && last.1.elapsed() > LOST_AFTER {
                    let lost = expected.unwrap_or_default().saturating_sub(last.0);
                    shared.meter.lane(0).add_failures("lost", lost);
                    break End::Complete;
                }
            }
        }
    };
    shared.stop();
    crew.stop();
    progress.clear();
    let rest = shared.meter.sample();
    if rest.calls > 0 {
        series.write(&rest)?;
    }
    Ok((Measured(shared), end))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::bench::Meter;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_run_in_which_nothing_arrived_has_failed() {
        let report = Meter::new(1, Instant::now().into()).report();
        let verdict = |line: &[&str], sent| Line::parse_from(line).args.verdict(&report, sent);
        let error = verdict(&["bench"], 1000).unwrap_err();
        assert_eq!(error.to_string(), NOTHING_CAME);
        assert!(
            verdict(&["bench", "--consumers", "0", "--confirms", "1"], 1).is_err(),
            "nothing was confirmed"
        );
        assert!(verdict(&["bench"], 0).is_ok(), "nothing was sent");
        assert!(verdict(&["bench", "--consumers", "0"], 1000).is_ok(), "nobody was to take anything");
    }
}
