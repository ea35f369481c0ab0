//! `bandy mq record` and `replay`: messages with their times in a file, and again from it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::complete;
use super::connect::Broker;
use super::envelope::Shape;
use super::tap::WatchArgs;
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::signals;
use crate::mq::client::{Message, PublishOptions, Publisher, Reason, Topology};
use crate::record::{Embed, Record};
use crate::shutdown::Shutdown;
use crate::units::parse_count;
use crate::wait::until;

/// Arguments of `mq record`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = RECORD_EXAMPLES)]
pub struct RecordArgs {
    /// File to write, one envelope a line; - for stdout
    pub file: PathBuf,
    /// Add to the file if it is there
    #[arg(long)]
    pub append: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

const RECORD_EXAMPLES: &str = "\
Examples:
  bandy mq record day.ndjson --for 1h           # everything that is published to any exchange
  bandy mq record orders.ndjson amq.topic:orders.#
  bandy mq record - --firehose | gzip > all.gz  # the default exchange, too
  bandy mq replay day.ndjson --speed 10x

What is watched is as in 'bandy mq tap'. A line is the envelope of a message, with all properties and the types of its \
headers, and recorded_at: milliseconds since 1970 with their fractions.

Exit: 0 stopped by -n, --for or --idle · 3 unreachable · 5 no such exchange · 6 fewer than -n · see 'bandy help exit-codes'";

/// Runs `record`.
///
/// # Errors
/// The endpoint's, no such exchange, a file that cannot be written.
pub fn record(args: &RecordArgs, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(recording(args, app))
}

async fn recording(args: &RecordArgs, app: &App) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::new();
    let api = args.watch.api(app, "record", &shutdown).await?;
    let is_stdout = args.file == Path::new("-");
    let mut file = if is_stdout { None } else { Some(create(args)?) };
    let (tap, ends) = args.watch.start(api, app, &shutdown).await?;
    let (mut line, mut count, mut flushed) = (Vec::new(), 0_u64, Instant::now());
    let result = tap
        .run(ends, app, |record, at_us| {
            line.clear();
            record.write_json(Embed::Never, &mut line);
            line.pop();
            line.extend_from_slice(format!(",\"recorded_at\":{}}}\n", millis(at_us)).as_bytes());
            count += 1;
            match &mut file {
                None => app.printer.bytes(&line)?,
                Some(file) => {
                    file.write_all(&line).map_err(|error| cannot("write", &args.file, &error))?;
                    // Whoever ends us without warning shall not lose much.
                    if flushed.elapsed() >= FLUSH {
                        file.flush().map_err(|error| cannot("write", &args.file, &error))?;
                        flushed = Instant::now();
                    }
                }
            }
            Ok(())
        })
        .await;
    if let Some(file) = &mut file {
        file.flush().map_err(|error| cannot("write", &args.file, &error))?;
        app.printer.note(&format!("{} in {}", counted(count, "message"), args.file.display()));
    }
    result
}

/// The file is written at least so often while messages come.
const FLUSH: Duration = Duration::from_millis(100);

/// Microseconds as milliseconds, exactly.
fn millis(us: i64) -> String {
    format!("{}.{:03}", us.div_euclid(1000), us.rem_euclid(1000))
}

fn create(args: &RecordArgs) -> Result<BufWriter<File>, Failure> {
    let mut options = File::options();
    options.write(true).create(true).append(args.append).truncate(!args.append);
    if !args.append && args.file.metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
        let message = format!("{} exists, and is not empty", args.file.display());
        return Err(Failure::new(Exit::Failed, message).tip("--append adds to it"));
    }
    let file = options.open(&args.file).map_err(|error| cannot("write", &args.file, &error))?;
    Ok(BufWriter::new(file))
}

type Input = Box<dyn BufRead + Send>;

/// The lines of an input, read by a thread that is left alone with whatever it waits for when nobody wants them.
fn lines(input: Input) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (lines, receiver) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in input.split(b'\n') {
            let failed = line.is_err();
            if lines.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Lines that are read ahead.
const LINES_MAX: usize = 256;

fn cannot(what: &str, file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what} {}: {error}", file.display()))
}

/// Arguments of `mq replay`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = REPLAY_EXAMPLES)]
pub struct ReplayArgs {
    /// File of envelopes, one a line, as 'mq record' writes it; - for stdin
    pub file: PathBuf,
    /// Faster or slower, such as 2x or 0.5x; max for no pauses
    #[arg(long, value_name = "FACTOR", default_value = "1x", value_parser = parse_speed)]
    pub speed: Speed,
    /// Only what was published to this exchange
    #[arg(long, value_name = "EXCHANGE", value_parser = super::queue::parse_exchange)]
    pub from: Option<String>,
    /// Publish to this exchange instead; '' is the default exchange
    #[arg(long, value_name = "EXCHANGE", value_parser = super::queue::parse_exchange, add = completions::remote(complete::exchanges))]
    pub to: Option<String>,
    /// Stop after N messages
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,
    #[command(flatten)]
    connect: ConnectArgs,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  bandy mq replay day.ndjson                       # as it was: same exchanges, keys, pauses
  bandy mq replay day.ndjson --speed max -e :5673  # into another broker, as fast as it takes them
  bandy mq replay day.ndjson --from orders --to orders-test --speed 10x
  bandy mq replay - --to '' < jobs.ndjson          # by routing key into queues

Deliveries in a recording of the firehose are left out: the publishes lead to them again. A property user_id of \
another user is left out, too: brokers refuse it.

Exit: 0 replayed · 2 a line that is no envelope · 3 unreachable · 5 no such exchange · 6 fewer than -n \
· 7 some were refused · see 'bandy help exit-codes'";

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was.
    Times(f64),
    /// No pauses.
    Max,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|speed| (0.001..=100_000.0).contains(speed))
        .map(Speed::Times)
        .ok_or_else(|| format!("{text:?} is not a speed: expected 2x, 0.5x or max"))
}

/// What a replay needs besides the record.
#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    exchange: Option<String>,
    #[serde(default)]
    routing_key: Option<String>,
    #[serde(default)]
    recorded_at: Option<f64>,
    #[serde(default)]
    event: Option<String>,
}

/// Runs `replay`.
///
/// # Errors
/// The endpoint's, lines that are no envelopes, an exchange that does not exist.
pub fn replay(args: &ReplayArgs, app: &App) -> anyhow::Result<Exit> {
    app.client_to_its_end(replaying(args, app))
}

async fn replaying(args: &ReplayArgs, app: &App) -> anyhow::Result<Exit> {
    let input: Input = if args.file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = File::open(&args.file).map_err(|error| Failure::unread(args.file.display(), &error))?;
        Box::new(BufReader::new(file))
    };
    let shutdown = Shutdown::new();
    let broker = Broker::resolve(&args.connect, app, "replay")?;
    let publisher =
        Publisher::start(broker.config.clone(), Topology::default(), PublishOptions::default(), &shutdown)
            .await
            .map_err(|error| broker.failure(&error))?;
    let mut player =
        Player { publisher, sent: 0, unwanted: 0, refused: 0, origin: None, late: Duration::ZERO };
    let limit = broker.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let exit = tokio::select! {
        biased;
        signal = signals::interrupted() => Exit::Signal(signal),
        () = until(limit) => return Err(Failure::new(Exit::Timeout, "not finished in time").into()),
        result = player.play(args, input, &broker) => {
            result?;
            Exit::Done
        }
    };
    player.publisher.close().await.map_err(|error| broker.failure(&error))?;
    player.collect();
    let Player { sent, unwanted, refused, late, .. } = player;
    app.printer.note(&format!("{} replayed", counted(sent, "message")));
    if late > Duration::from_millis(100) {
        app.printer.note(&format!("up to {} behind their times", crate::cli::figures::readable(late)));
    }
    if unwanted > 0 {
        app.printer.note(&format!("{unwanted} of them went to no queue"));
    }
    if refused > 0 {
        return Err(
            Failure::new(Exit::Partly, format!("{refused} of {} refused", counted(sent, "message"))).into()
        );
    }
    match args.count {
        Some(count) if exit == Exit::Done && sent < count => {
            Err(Failure::new(Exit::Nothing, format!("there were {sent} of {}", counted(count, "message")))
                .into())
        }
        _ => Ok(exit),
    }
}

struct Player {
    publisher: Publisher,
    sent: u64,
    unwanted: u64,
    refused: u64,
    /// When the first one was recorded, in milliseconds, and is played.
    origin: Option<(f64, Instant)>,
    /// The longest time that one was behind.
    late: Duration,
}

impl Player {
    async fn play(&mut self, args: &ReplayArgs, input: Input, broker: &Broker) -> anyhow::Result<()> {
        let mut shape = Shape { mandatory: true, is_topic: true, ..Shape::default() };
        let user = broker.password().map(|(user, _)| user.to_owned());
        let mut lines = lines(input);
        let mut number = 0;
        while args.count != Some(self.sent) {
            let Some(line) = lines.recv().await else { break };
            number += 1;
            let line = line.map_err(|error| cannot("read", &args.file, &error))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Some((message, at)) = message(args, &line, &mut shape, user.as_deref())
                .map_err(|why| self.stopped(args, number, &why))?
            else {
                continue;
            };
            self.wait(args.speed, at).await;
            self.publisher.publish(message).await.map_err(|error| broker.failure(&error))?;
            self.sent += 1;
            self.collect();
        }
        self.publisher.flush().await.map_err(|error| broker.failure(&error))?;
        Ok(())
    }

    fn stopped(&self, args: &ReplayArgs, line: usize, why: &str) -> Failure {
        let file = match args.file.to_str() {
            Some("-") => "stdin".to_owned(),
            _ => args.file.display().to_string(),
        };
        let message = format!("line {line} of {file} is not an envelope: {why}; {} were replayed", self.sent);
        Failure::new(Exit::Usage, message)
    }

    /// Until the moment of a message has come, counted from the first.
    async fn wait(&mut self, speed: Speed, at: Option<f64>) {
        let (Speed::Times(factor), Some(at)) = (speed, at) else { return };
        let (first, started) = *self.origin.get_or_insert_with(|| (at, Instant::now()));
        let after =
            Duration::try_from_secs_f64(((at - first) / 1000.0 / factor).max(0.0)).unwrap_or_default();
        let Some(due) = started.checked_add(after) else { return };
        let now = Instant::now();
        if due > now {
            sleep_until(due).await;
        } else {
            self.late = self.late.max(now - due);
        }
    }

    fn collect(&mut self) {
        for failure in self.publisher.take_failures() {
            match failure.reason {
                Reason::Unroutable { .. } => self.unwanted += 1,
                Reason::Rejected => self.refused += 1,
            }
        }
    }
}

/// The message of a line and its time; `None` for one that is not to be replayed.
fn message(
    args: &ReplayArgs,
    line: &[u8],
    shape: &mut Shape,
    user: Option<&str>,
) -> Result<Option<(Message, Option<f64>)>, String> {
    let place: Place = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or(&text).to_owned()
    })?;
    let mut record = Record::from_json(line).map_err(|error| error.to_string())?;
    let exchange = place.exchange.unwrap_or_default();
    if place.event.as_deref() == Some("deliver") || args.from.as_ref().is_some_and(|from| *from != exchange) {
        return Ok(None);
    }
    let routing_key = match place.routing_key {
        Some(key) => Bytes::from(key),
        None => record.key.clone().ok_or("it has neither routing_key nor key")?,
    };
    let theirs = record.origin("properties").and_then(|properties| properties.get("user_id")?.as_str());
    let is_foreign = theirs.is_some_and(|theirs| user != Some(theirs));
    if is_foreign {
        for (name, value) in &mut record.provenance {
            if let ("properties", serde_json::Value::Object(map)) = (*name, value) {
                map.remove("user_id");
            }
        }
    }
    let target: Arc<str> = args.to.clone().unwrap_or(exchange).into();
    if shape.exchange.as_ref() != Some(&target) {
        shape.exchange = Some(target);
    }
    Ok(Some((shape.message(&record, routing_key)?, place.recorded_at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_to_a_microsecond() {
        assert_eq!(millis(1_763_884_814_123_456), "1763884814123.456");

        let read: f64 = millis(1_763_884_814_123_456).parse().unwrap();
        assert_eq!(read, 1_763_884_814_123.456);
    }

    #[test]
    fn speeds_have_bounds() {
        assert_eq!(parse_speed("2x"), Ok(Speed::Times(2.0)));
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert!(parse_speed("0").is_err() && parse_speed("fast").is_err());
    }
}
