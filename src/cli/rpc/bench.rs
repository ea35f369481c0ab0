//! `bandy rpc bench`: the same call again and again, in any protocol, measured.

mod caller;
mod request;
mod show;

use std::time::Duration;

use bytes::Bytes;

use super::complete;
use super::lookup::{self, Found};
use super::remote::{ProtocolArgs, Remote, Wanted};
use super::schema::SchemaArgs;
use crate::bench::{Load, Rate, Report, Schedule, Stop};
use crate::cli::app::App;
use crate::cli::bench::{Progress, ResultArgs, Series};
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::signals;
use crate::rpc::client::resolve::MethodName;
use crate::units::{parse_count, parse_duration, parse_size};
use caller::{Crew, Plan};
use request::{Request, Template};

/// Arguments of `rpc bench`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Method: NAME, SERVICE/NAME or package.SERVICE/NAME
    #[arg(add = completions::remote(complete::methods))]
    pub method: String,
    /// Request: one JSON object or text, or items FIELD=TEXT and FIELD:=JSON
    #[arg(value_name = "DATA", add = completions::remote(complete::fields))]
    pub words: Vec<String>,
    /// Request: JSON or text, @FILE, or @- for standard input
    #[arg(short, long, value_name = "DATA", conflicts_with = "words")]
    pub data: Option<String>,
    /// Fill the request's text or bytes, or its first such field, with this many bytes
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// Fill in {{ n }}, {{now}}, {{uuid}} and {{rand LOW HIGH}} anew for each call
    #[arg(hide_short_help = true, short = 'T', long, conflicts_with = "size")]
    pub template: bool,
    /// Request messages of each call that streams them
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub messages: u32,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    result: ResultArgs,
    #[command(flatten)]
    schema: SchemaArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
struct LoadArgs {
    /// Calls at the same time
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Connections that share them, each driven by one thread; of a registry's instances, to each of them
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Stop after N calls
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Stop after this long [default: 10s, unless -n is given]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Start calls at a rate instead of when others end: 1000/s, 100..1000@30s, 100,200,400@10s
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Make calls for this long before measuring
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    warm_up: Option<Duration>,
    /// Count a call that takes longer than this as failed
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = parse_duration, default_value = "20s")]
    call_timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  bandy rpc bench upper hello                           # 10 s, 50 at a time
  bandy rpc bench -e :50051 Greeter/Hello name=Ada -n 100k
  bandy rpc bench Greeter/Hello 'name=user{{ n }}' -T   # a new request each time
  bandy rpc bench -e consul://:8500 demo.Greeter/Hello  # all instances in turn
  bandy rpc bench Greeter/Hello --rate 1000/s --for 1m --fail-if 'p99>20ms' --fail-if 'errors>0'
  bandy rpc bench Greeter/Hello --rate 100..2000@30s --series rates.ndjson

With --rate a call's latency counts from when it was meant to start, so calls that had to wait behind \
a stall are slow, not missing. Latencies are milliseconds, of calls that succeeded. Those that fail are counted by \
their class; --fail-if 'errors>0' makes any of them exit code 7.

Exit: 0 measured, also if some calls failed · 3 unreachable · 5 no such method · 7 --fail-if holds or no call succeeded · 130 Ctrl-C";

impl LoadArgs {
    fn stop(&self) -> Stop {
        let default = self.count.is_none().then_some(Duration::from_secs(10));
        Stop { count: self.count, after: self.duration.or(default) }
    }

    fn schedule(&self) -> Schedule {
        self.rate.clone().map_or(Schedule::Closed, Schedule::Open)
    }

    /// What is done before measuring: the same, at the rate that the measuring begins with.
    fn warm_up(&self) -> Option<(Schedule, Stop)> {
        let stop = Stop { count: None, after: Some(self.warm_up?) };
        let first = self.rate.as_ref().map(Rate::first).filter(|rate| *rate > 0.0);
        Some((first.map_or(Schedule::Closed, |rate| Schedule::Open(Rate::constant(rate))), stop))
    }
}

/// Runs the command.
///
/// # Errors
/// No server, no such method, a threshold that holds.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    let runtime = app.client_runtime()?;
    let result = runtime.block_on(async {
        tokio::select! {
            prepared = prepare(args, app) => prepared.map(Ok),
            signal = signals::interrupted() => Ok(Err(signal)),
        }
    })?;
    let plan = match result {
        Ok(plan) => plan,
        Err(signal) => return Ok(Exit::Signal(signal)),
    };
    let (report, signal) = std::thread::scope(|scope| {
        let crew = Crew::start(scope, &plan);
        runtime.block_on(measure(args, app, crew))
    })?;
    show::report(app, &plan, &report)?;
    args.result.write_hgrm(&report)?;
    match signal {
        Some(signal) => Ok(Exit::Signal(signal)),
        None => args.result.verdict(&report, "no call succeeded"),
    }
}

/// Finds the server and the method and encodes the request.
async fn prepare(args: &Args, app: &App) -> anyhow::Result<Plan> {
    let name = MethodName::parse(&args.method);
    // One that is opened only to find out what to call; the crew opens its own.
    let mut remote = Remote::open(&args.connect, &args.protocol, Wanted::Method(&name), app).await?;
    let Found { method, .. } = lookup::method(&name, &args.schema, &remote).await?;
    remote.options.timeout = Some(args.load.call_timeout);
    let request = Request { method: &method, format: remote.options.format };
    let template = args.template.then(|| Template::parse(args.data.as_deref(), &args.words)).transpose()?;
    let messages = match args.size {
        _ if template.is_some() && args.data.is_none() && args.words.is_empty() => {
            return Err(Failure::new(Exit::Usage, "-T fills in the request, but there is none")
                .tip("bandy rpc bench Greeter/Hello 'name=user{{n}}' -T")
                .into());
        }
        Some(_) if args.data.is_some() || !args.words.is_empty() => {
            return Err(Failure::new(Exit::Usage, "-s makes the request, so no DATA is taken with it").into());
        }
        Some(size) => vec![request.filled(usize::try_from(size)?)?],
        None => match &template {
            // The first, to see whether it is a request at all.
            Some(template) => template.fill(&request, 1)?,
            None => match request.given(args.data.as_deref(), &args.words)? {
                Some(messages) => messages,
                None => vec![request.empty()?],
            },
        },
    };
    if messages.len() != 1 && !method.kind.client_streams() {
        let message = format!("{} takes one message, {} were given", method.path, messages.len());
        return Err(Failure::new(Exit::Usage, message).into());
    }
    remote.follow()?;
    let repeated: Vec<Bytes> = (0..args.messages).flat_map(|_| messages.iter().cloned()).collect();
    let messages = if method.kind.client_streams() { repeated } else { messages };
    Ok(Plan {
        method,
        messages,
        connector: remote.connector.clone(),
        options: remote.options.clone(),
        template,
        repeat: args.messages,
        fleet: remote.fleet().cloned(),
        url: remote.url.clone(),
        connections: args.load.connections,
        concurrency: args.load.concurrency,
    })
}

/// Warms up, measures, and shows how it goes; with the signal that cut it short.
async fn measure(args: &Args, app: &App, mut crew: Crew) -> anyhow::Result<(Report, Option<u8>)> {
    let mut series = Series::create(&args.result)?;
    let mut signal = std::pin::pin!(signals::interrupted());
    crew.connected().await?;
    let mut progress = Progress::new(app, "calls");
    if let Some((schedule, stop)) = args.load.warm_up() {
        let load = crew.begin(schedule, stop);
        tokio::select! {
            () = crew.finished() => {}
            signal = signal.as_mut() => {
                crew.interrupt().await;
                return Ok((load.report(), Some(signal)));
            }
        }
    }
    let load: std::sync::Arc<Load> = crew.begin(args.load.schedule(), args.load.stop());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    let interrupted = loop {
        tokio::select! {
            () = crew.finished() => break None,
            signal = signal.as_mut() => {
                crew.interrupt().await;
                break Some(signal);
            }
            _ = second.tick() => {
                let sample = load.sample();
                progress.show(&sample);
                series.write(&sample)?;
            }
        }
    };
    progress.clear();
    let rest = load.sample();
    if rest.calls > 0 {
        series.write(&rest)?;
    }
    Ok((load.report(), interrupted))
}
