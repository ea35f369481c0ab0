//! `bandy log bench`: producers and consumers on a topic of their own, measured from end to end.

mod crew;

use std::time::{Duration, Instant};

use serde::Serialize;

use super::connect::Log;
use super::produce::Codec;
use crate::bench::{Rate, Report};
use crate::cli::app::App;
use crate::cli::bench::{self, Figures, Progress, ResultArgs, Series, millis, tenths};
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::{counted, readable};
use crate::cli::signals;
use crate::log::client::{Acks, ProduceOptions, admin};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration, parse_size};
use crate::wait::until;
use crew::{Crew, Plan, STAMP_BYTES, Word};

/// Records that do not come for so long are lost.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Largest value: brokers take batches of a megabyte unless told otherwise.
const SIZE_MAX: u64 = 900_000;

/// Arguments of `log bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Producers, each with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Load")]
    producers: u32,
    /// Consumers, each for its part of the partitions; 0 only produces
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Load")]
    consumers: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000), help_heading = "Load")]
    partitions: i32,
    /// Replicas of each, instead of the broker's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..), help_heading = "Load")]
    replicas: Option<i16>,
    /// Stop after N records
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Load")]
    count: Option<u64>,
    /// Stop after this long [default: 10s, unless -n is given]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, help_heading = "Load")]
    duration: Option<Duration>,
    /// Send at a rate instead of as fast as it goes: 50k/s, 1k..50k@30s, 10k,20k,40k@10s
    #[arg(long, value_name = "RATE", help_heading = "Load")]
    rate: Option<Rate>,
    /// Bytes of a value; the time of sending stands in the first eight
    #[arg(short, long, value_name = "SIZE", default_value = "100", value_parser = parse_size, help_heading = "Records")]
    size: u64,
    /// How batches are packed
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", help_heading = "Records")]
    compress: Codec,
    /// Who has to have a record
    #[arg(long, value_name = "WHO", default_value = "all", help_heading = "Records")]
    acks: super::produce::Who,
    /// Close a batch at this size
    #[arg(long, value_name = "SIZE", default_value = "512k", value_parser = parse_size, help_heading = "Records")]
    batch: u64,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
Examples:
  bandy log bench                                   # ten seconds, one producer, one consumer
  bandy log bench --producers 4 --consumers 4 --partitions 4 -n 10m
  bandy log bench --consumers 0 -s 1k               # only produce: latencies of acknowledgements
  bandy log bench --rate 10k/s --for 30s --fail-if 'p99>20ms'
  bandy log bench -e kafka://localhost:9092 --json  # any Kafka cluster

The rate is that of records that were read, and latencies are from sending to reading; without consumers both are of \
acknowledgements. As fast as it goes records wait for each other, and latencies say how much is under way; with --rate a \
latency counts from when the record was meant to be sent, so that a stall is not left out. The topic is made for the \
run and removed after it, also after Ctrl-C.

Exit: 0 measured · 3 unreachable · 4 denied · 7 --fail-if holds or records were lost · 130 Ctrl-C";

/// Runs the command.
///
/// # Errors
/// No cluster, a connection that is lost, a threshold that holds.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    if !(STAMP_BYTES as u64..=SIZE_MAX).contains(&args.size) {
        let text = format!("-s takes {STAMP_BYTES} to {SIZE_MAX} bytes");
        return Err(Failure::new(Exit::Usage, text).into());
    }
    let log = Log::resolve(&args.connect, app, "bench")?;
    let topic = format!("bandy-bench-{:08x}", fastrand::u32(..));
    let runtime = app.client_runtime()?;
    let made = runtime.block_on(async {
        tokio::select! {
            made = make(&topic, args, &log) => made.map(|()| None),
            signal = signals::interrupted() => Ok(Some(signal)),
        }
    })?;
    if let Some(signal) = made {
        return Ok(Exit::Signal(signal));
    }
    let plan = args.plan(&log, &topic);
    let ended = std::thread::scope(|scope| {
        let crew = Crew::start(scope, &plan);
        runtime.block_on(measure(args, app, &plan, &log, crew))
    });
    if let Err(failure) = runtime.block_on(remove(&topic, &log)) {
        let text = format!("the topic {topic} of this run could not be removed: {}", failure.message);
        app.printer.warn(&text);
    }
    let (measured, end) = ended?;
    let report = if args.consumers > 0 { &measured.read } else { &measured.acknowledged };
    show(app, args, &measured, report)?;
    args.result.write_hgrm(report)?;
    match end {
        End::Signal(signal) => Ok(Exit::Signal(signal)),
        End::Failed(failure) => Err(failure.into()),
        End::Complete => {
            let exit = args.result.verdict(report, "no record arrived")?;
            match measured.read.errors.get("lost") {
                Some(lost) => {
                    Err(Failure::new(Exit::Partly, format!("{} did not come", counted(*lost, "record")))
                        .into())
                }
                None => Ok(exit),
            }
        }
    }
}

async fn make(topic: &str, args: &Args, log: &Log) -> Result<(), Failure> {
    let cluster = log.open(&Shutdown::new()).await?;
    let (partitions, replicas) = (args.partitions, args.replicas.unwrap_or(-1));
    let new = admin::NewTopic { name: topic.to_owned(), partitions, replicas, configs: Vec::new() };
    admin::create_topic(&cluster, &new).await.map_err(|error| log.failure(&error))?;
    // It is there when it has leaders.
    cluster.topic(topic, true).await.map(drop).map_err(|error| log.failure(&error))
}

async fn remove(topic: &str, log: &Log) -> Result<(), Failure> {
    let cluster = log.open(&Shutdown::new()).await?;
    admin::delete_topic(&cluster, topic).await.map_err(|error| log.failure(&error))
}

impl Args {
    fn plan(&self, log: &Log, topic: &str) -> Plan {
        let acks: Acks = self.acks.into();
        Plan {
            config: log.config.clone(),
            topic: topic.to_owned(),
            partitions: self.partitions,
            producers: self.producers,
            consumers: self.consumers,
            count: self.count,
            rate: self.rate.clone(),
            size: usize::try_from(self.size).unwrap_or(usize::MAX),
            options: ProduceOptions {
                acks,
                compression: self.compress.into(),
                batch_bytes: usize::try_from(self.batch).unwrap_or(usize::MAX),
                ..ProduceOptions::default()
            },
        }
    }

    /// How long records are sent; none until the count is reached.
    fn sending(&self) -> Option<Duration> {
        self.duration.or(self.count.is_none().then_some(Duration::from_secs(10)))
    }
}

/// How a run ended.
enum End {
    Complete,
    Signal(u8),
    Failed(Failure),
}

/// What a run measured.
struct Measured {
    read: Report,
    acknowledged: Report,
    sent: u64,
}

/// Measures, and shows how it goes.
async fn measure(
    args: &Args,
    app: &App,
    plan: &Plan,
    log: &Log,
    mut crew: Crew,
) -> anyhow::Result<(Measured, End)> {
    let mut series = Series::create(&args.result)?;
    let mut progress = Progress::new(app, "records");
    let mut signal = std::pin::pin!(signals::interrupted());
    let ready = tokio::select! {
        ready = crew.ready() => ready.map_err(|error| log.failure(&error)),
        signal = signal.as_mut() => return Ok((measured(&crew), End::Signal(signal))),
    };
    if let Err(failure) = ready {
        return Err(failure.into());
    }
    crew.go();
    let shared = std::sync::Arc::clone(&crew.shared);
    let stop = args.sending().map(|sending| tokio::time::Instant::now() + sending);
    let mut last = (0, Instant::now());
    let mut is_sent = false;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let end = loop {
        tokio::select! {
            word = crew.word() => match word {
                Word::Sent => {
                    is_sent = true;
                    last.1 = Instant::now();
                }
                Word::Failed(error) => break End::Failed(log.failure(&error)),
            },
            () = shared.all_read(), if is_sent => break End::Complete,
            () = until(stop), if stop.is_some() && !shared.is_over() => shared.stop(),
            signal = signal.as_mut() => break End::Signal(signal),
            _ = second.tick() => {
                let meter = if plan.consumers > 0 { &shared.read } else { &shared.acknowledged };
                let sample = meter.sample();
                progress.show(&sample);
                series.write(&sample)?;
                let read = shared.read_ever();
                if last.0 != read {
                    last = (read, Instant::now());
                } else if is_sent && last.1.elapsed() > LOST_AFTER {
                    let lost = shared.sent_ever().saturating_sub(read);
                    shared.read.lane(0).add_failures("lost", lost);
                    break End::Complete;
                }
            }
        }
        if is_sent && plan.consumers == 0 {
            break End::Complete;
        }
    };
    crew.dismiss();
    progress.clear();
    Ok((measured(&crew), end))
}

fn measured(crew: &Crew) -> Measured {
    Measured {
        read: crew.shared.read.report(),
        acknowledged: crew.shared.acknowledged.report(),
        sent: crew.shared.sent_ever(),
    }
}

/// The result; its keys are a promise.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    figures: Figures,
    messages: u64,
    sent: u64,
    acknowledged: u64,
    ack_rate: f64,
    ack_p50: f64,
    ack_p99: f64,
    producers: u32,
    consumers: u32,
    partitions: i32,
    size: u64,
    error_classes: &'a serde_json::Map<String, serde_json::Value>,
}

fn show(app: &App, args: &Args, measured: &Measured, report: &Report) -> anyhow::Result<()> {
    let acks = &measured.acknowledged;
    let error_classes = bench::error_classes([&measured.read, acks]);
    let view = View {
        figures: report.into(),
        messages: report.messages,
        sent: measured.sent,
        acknowledged: acks.messages,
        ack_rate: tenths(acks.rate()),
        ack_p50: millis(acks.quantile(0.5)),
        ack_p99: millis(acks.quantile(0.99)),
        producers: args.producers,
        consumers: args.consumers,
        partitions: args.partitions,
        size: args.size,
        error_classes: &error_classes,
    };
    bench::show(&app.printer, &view, report)?;
    if args.consumers > 0 && acks.messages > 0 {
        app.printer.status(&format!(
            "acknowledged {}, {:.1}/s: p50 {}, p99 {}",
            acks.messages,
            acks.rate(),
            readable(acks.quantile(0.5)),
            readable(acks.quantile(0.99))
        ));
    }
    bench::show_errors(&app.printer, &error_classes);
    Ok(())
}
