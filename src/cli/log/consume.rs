//! `bandy log consume` and `bandy log tail`: records of topics from their leaders.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use super::complete;
use super::connect::Log;
use super::deliver::Delivery;
use super::intake::Intake;
use super::offline;
use super::position::{self, Begin, Ends, Position};
use super::reading::{ReadArgs, Writing};
use super::unwell;
use super::ward::Ward;
use super::work::{Work, WorkArgs};
use crate::cli::app::App;
use crate::cli::completions;
use crate::cli::connect::ConnectArgs;
use crate::cli::endpoint::Pillar;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::limits::{End, Limits};
use crate::log::client::group::{Assignor, Member, MemberOptions};
use crate::log::client::{Assignment, Cluster, ConsumeOptions, Consumer, Error};
use crate::shutdown::Shutdown;
use crate::units::{parse_count, parse_duration};

/// Arguments of `log consume`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log consume orders                      # from the start to the end as it is now
  bandy log consume orders -f --from end        # what comes from now on
  bandy log consume orders --from @-15m --json | jq .value
  bandy log consume orders -p 0 --from 42 -n 1  # one record
  bandy log consume orders -o '%d{rfc3339} %k %v'
  bandy log consume orders --registry http://localhost:8081 --where '.total > 100'
  bandy log consume orders -k 'user-*' -H region=eu --where '.total > 100'
  bandy log consume orders -g billing           # from where the group is; shared with its members
  bandy log consume orders -g billing -f -j4 -- ./bill.sh

Positions: start end 42 -10 (before the end) +10 (after the start) @-15m @2026-11-23T07:00

A group goes on from the offsets that it has stored, and stores those of what was written out, or whose command has ended \
with 0. Records of a partition are given to one command after the other; one that fails ends it all at that record.

Exit: 0 read · 5 no such topic · 6 fewer than -n · 7 some partitions cannot be read, some commands failed · see 'bandy help exit-codes'")]
pub struct ConsumeArgs {
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    /// Run once per record: value on stdin, exit 0 is done
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Where to begin [default: start]
    ///
    /// With -g it is meant for partitions of which the group has stored nothing.
    #[arg(long, value_name = "POS", value_parser = position::parse_from, add = completions::words(completions::POSITIONS), allow_hyphen_values = true, alias = "offset", help_heading = "Reading")]
    pub from: Option<Begin>,
    /// Hidden, for fingers that know Kafka's own console consumer
    #[arg(long, hide = true, conflicts_with = "from")]
    pub from_beginning: bool,
    /// Where to end [default: the end as it is now]
    #[arg(long, value_name = "POS", value_parser = position::parse, add = completions::words(completions::POSITIONS), allow_hyphen_values = true, conflicts_with = "follow", help_heading = "Reading")]
    pub to: Option<Position>,
    /// Wait for more at the end
    #[arg(short, long, help_heading = "Reading")]
    pub follow: bool,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',', help_heading = "Reading")]
    pub partition: Vec<i32>,
    /// Stop after N records
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "Reading")]
    pub count: Option<u64>,
    #[command(flatten)]
    sharing: GroupArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How a reader takes part in a group.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Group")]
pub struct GroupArgs {
    /// Read as a member of this group, and store in it how far
    #[arg(short, long, value_name = "NAME", conflicts_with = "partition", add = completions::remote(complete::groups))]
    pub group: Option<String>,
    /// Store nothing
    #[arg(hide_short_help = true, long, requires = "group")]
    pub no_commit: bool,
    /// A lasting name: who comes back under it in time has its partitions again
    #[arg(hide_short_help = true, long, value_name = "NAME", requires = "group")]
    pub instance: Option<String>,
    /// How partitions are divided: cooperative-sticky, range, roundrobin [default: all, the group decides]
    #[arg(hide_short_help = true, long, value_name = "NAME", requires = "group", value_delimiter = ',', value_parser = assignor)]
    pub assignor: Vec<Assignor>,
    /// Others take over when nothing is heard of this reader for so long
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "10s", requires = "group", value_parser = parse_duration)]
    pub session_timeout: Duration,
    /// Text to store with each offset
    #[arg(
        hide_short_help = true,
        long,
        value_name = "TEXT",
        requires = "group",
        conflicts_with = "no_commit"
    )]
    pub metadata: Option<String>,
}

fn assignor(name: &str) -> Result<Assignor, String> {
    let names = Assignor::ALL.map(Assignor::name);
    Assignor::from_name(name).ok_or_else(|| format!("one of {}", names.join(", ")))
}

impl GroupArgs {
    fn member(&self, group: &str, topics: &[String]) -> MemberOptions {
        let mut options = MemberOptions::new(group, topics.to_vec());
        options.instance.clone_from(&self.instance);
        options.session_timeout = self.session_timeout;
        if !self.assignor.is_empty() {
            options.assignors.clone_from(&self.assignor);
        }
        options
    }
}

/// Arguments of `log tail`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy log tail orders  # the last 10 records of each partition, then what comes
  bandy log tail orders -n 20
  bandy log tail orders payments --json

Exit: 0 ended by --for or --idle · 5 no such topic · 130 Ctrl-C · see 'bandy help exit-codes'")]
pub struct TailArgs {
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC", value_parser = super::topic::parse_name, add = completions::remote(complete::topics))]
    pub topics: Vec<String>,
    /// Begin N records before the end of each partition
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = parse_lines, help_heading = "Reading")]
    pub lines: u64,
    /// It follows anyway; fingers type it
    #[arg(short, long, hide = true)]
    pub follow: bool,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N", value_delimiter = ',', help_heading = "Reading")]
    pub partition: Vec<i32>,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// None at all is only what comes.
fn parse_lines(text: &str) -> Result<u64, crate::units::ParseError> {
    if text == "0" { Ok(0) } else { parse_count(text) }
}

/// What is read, from where to where.
struct Wanted<'a> {
    topics: &'a [String],
    partitions: &'a [i32],
    from: Position,
    /// None: for ever.
    to: Option<Position>,
    count: Option<u64>,
    read: &'a ReadArgs,
    connect: &'a ConnectArgs,
    verb: &'static str,
}

/// Runs `log consume`.
///
/// # Errors
/// The endpoint's; no such topic or partition; output that cannot be written.
pub fn consume(args: &ConsumeArgs, app: &App) -> anyhow::Result<Exit> {
    let to = if args.follow { None } else { Some(args.to.unwrap_or(Position::End)) };
    let wanted = Wanted {
        topics: &args.topics,
        partitions: &args.partition,
        from: match args.from {
            Some(Begin::At(position)) => position,
            Some(Begin::Stored) if args.sharing.group.is_none() => {
                let failure =
                    Failure::new(Exit::Usage, "--from stored is where a group goes on, and there is none");
                return Err(failure.tip("-g GROUP").into());
            }
            Some(Begin::Stored) | None => Position::Start,
        },
        to,
        count: args.count,
        read: &args.read,
        connect: &args.connect,
        verb: "consume",
    };
    if let Some(dir) = args.connect.directory(app, Pillar::Log)? {
        return offline(&dir, args, &wanted, app);
    }
    if args.sharing.group.is_none() && args.command.is_empty() {
        return app.client_with_driver(args.connect.timeout, run(wanted, app));
    }
    app.client_to_its_end(in_order(wanted, args, app))
}

/// Of a data directory: nobody is there to be waited for, or to share with.
fn offline(
    dir: &std::path::Path,
    args: &ConsumeArgs,
    wanted: &Wanted<'_>,
    app: &App,
) -> anyhow::Result<Exit> {
    let Some(to) = wanted.to.filter(|_| args.sharing.group.is_none() && args.command.is_empty()) else {
        let text = format!("dir:{}: -f, -g and commands need a broker", dir.display());
        return Err(Failure::new(Exit::Usage, text).into());
    };
    let Wanted { topics, partitions, from, count, read, .. } = *wanted;
    if read.schemas.registry.is_some() {
        let text = format!("dir:{}: no registry is asked for the records of a directory", dir.display());
        return Err(Failure::new(Exit::Usage, text).tip("--schema FILE    a schema that is at hand").into());
    }
    offline::consume(dir, &offline::Wanted { topics, partitions, from, to, count, read }, app)
}

/// As a group, or with commands: there is something to put in order at the end.
async fn in_order(wanted: Wanted<'_>, args: &ConsumeArgs, app: &App) -> anyhow::Result<Exit> {
    let work = Work::new(&args.work, args.command.clone(), wanted.read, app)?;
    let log = Log::resolve(wanted.connect, app, wanted.verb)?;
    let mut limits = Limits::new(wanted.read.duration, wanted.read.idle, log.timeout);
    let shutdown = Shutdown::new();
    let starting = start(&wanted, &args.sharing, (app, &log), &shutdown);
    let mut intake = match limits.hurry(starting).await {
        Ok(intake) => intake?,
        Err(end) => return Ok(limits.exit(end, false)?),
    };
    match work {
        Some(work) => {
            let exit = work.run(&mut intake, &log, limits, wanted.count).await?;
            Ok(intake.exit(exit))
        }
        None => {
            let mut writing = Writing::new(wanted.read, wanted.count, app)?;
            let mut delivery = Delivery::new(&mut intake, &mut writing, &mut limits, &log);
            let end = delivery.run().await?;
            let exit = limits.exit(end, writing.left().is_some_and(|left| left > 0))?;
            Ok(intake.exit(exit))
        }
    }
}

async fn start<'a>(
    wanted: &Wanted<'_>,
    sharing: &GroupArgs,
    (app, log): (&'a App, &'a Log),
    shutdown: &Shutdown,
) -> Result<Intake<'a>, Failure> {
    let cluster = log.open(shutdown).await?;
    let places = log.places(&cluster, wanted.topics, wanted.partitions).await?;
    let committed = !wanted.read.uncommitted;
    let plan = assignments(wanted, (&cluster, log, app), &places, committed).await?;
    let options = ConsumeOptions { committed, ..ConsumeOptions::default() };
    let Some(group) = &sharing.group else {
        return Ok(Intake::whole((app, log), cluster, options, plan));
    };
    let member = Member::join(&cluster, sharing.member(group, wanted.topics), shutdown);
    let commits = (!sharing.no_commit).then(|| sharing.metadata.clone().unwrap_or_default());
    Ok(Intake::shared((app, log), cluster, options, plan, (member, commits)))
}

/// Runs `log tail`.
///
/// # Errors
/// As [`consume`].
pub fn tail(args: &TailArgs, app: &App) -> anyhow::Result<Exit> {
    let wanted = Wanted {
        topics: &args.topics,
        partitions: &args.partition,
        from: match args.lines {
            0 => Position::End,
            lines => Position::BeforeEnd(i64::try_from(lines).unwrap_or(i64::MAX)),
        },
        to: None,
        count: None,
        read: &args.read,
        connect: &args.connect,
        verb: "tail",
    };
    app.client_with_driver(args.connect.timeout, run(wanted, app))
}

async fn run(wanted: Wanted<'_>, app: &App) -> anyhow::Result<Exit> {
    // --timeout ends this from outside.
    let mut limits = Limits::new(wanted.read.duration, wanted.read.idle, None);
    let log = Log::resolve(wanted.connect, app, wanted.verb)?;
    let shutdown = Shutdown::new();
    let cluster = log.open(&shutdown).await?;
    let places = log.places(&cluster, wanted.topics, wanted.partitions).await?;
    let committed = !wanted.read.uncommitted;
    let (assignments, ward) = assignments(&wanted, (&cluster, &log, app), &places, committed).await?;
    let options = ConsumeOptions { committed, ..ConsumeOptions::default() };
    let mut consumer = Consumer::new(cluster, options, assignments);
    let mut ward = ward.owns_all();
    let mut writing = Writing::new(wanted.read, wanted.count, app)?;
    let end = writing.run((&mut consumer, &mut ward), &mut limits, &log).await?;
    if matches!(end, End::Everything) && ward.is_empty() {
        let of = counted(places.len() as u64, "partition");
        app.printer.status(&format!("end of {} ({of}); -f to follow", wanted.topics.join(", ")));
    }
    let exit = limits.exit(end, writing.left().is_some_and(|left| left > 0))?;
    Ok(ward.exit(exit))
}

/// What is read of each partition, and which are not well: of those nothing is.
async fn assignments<'a>(
    wanted: &Wanted<'_>,
    (cluster, log, app): (&Cluster, &'a Log, &'a App),
    places: &[(String, i32)],
    committed: bool,
) -> Result<(Vec<Assignment>, Ward<'a>), Failure> {
    let failed = |error: Error| log.failure(&error);
    let ends = Ends::of(cluster, places, committed).await.map_err(failed)?;
    if ends.failed.len() == places.len() {
        unwell::end(&ends.failed, places.len(), &log.url)?;
    }
    let follows = wanted.to.is_none().then_some(wanted.from);
    let ward = Ward::new((app, log), (cluster.clone(), committed), follows, &ends.failed);
    let from = ends.resolve(cluster, places, wanted.from).await.map_err(failed)?;
    let to = match wanted.to {
        None => None,
        Some(Position::End) => Some(ends.end.clone()),
        Some(position) => {
            let to = ends.resolve(cluster, places, position).await.map_err(failed)?;
            // What is not there yet is not waited for.
            Some(to.into_iter().map(|(place, to)| (place.clone(), to.min(ends.end[&place]))).collect())
        }
    };
    warn_of_range(wanted, &ends, app);
    let of = |offsets: &HashMap<(String, i32), i64>, place: &(String, i32)| offsets.get(place).copied();
    let assignment = |place: &(String, i32)| Assignment {
        topic: place.0.as_str().into(),
        partition: place.1,
        from: of(&from, place).unwrap_or(0),
        to: to.as_ref().map(|to| of(to, place).unwrap_or(0)),
    };
    Ok((ends.well(places).map(assignment).collect(), ward))
}

/// Says that an offset is not there, if none of the partitions has it: nothing, or other records are read.
fn warn_of_range(wanted: &Wanted<'_>, ends: &Ends, app: &App) {
    let Position::Offset(offset) = wanted.from else { return };
    let (start, end) = (ends.start.values().min(), ends.end.values().max());
    match (start, end) {
        // Who follows hears of it from each partition.
        (_, Some(end)) if offset > *end && wanted.to.is_some() => {
            let text = match ends.end.len() {
                1 => format!("--from {offset} is behind the end, which is at {end}"),
                _ => format!(
                    "--from {offset} is behind the ends of all partitions, the last of which is at {end}"
                ),
            };
            app.printer.warn(&text);
        }
        (Some(start), _) if offset < *start => {
            app.printer.warn(&format!("--from {offset} is gone: reading begins at {start}"));
        }
        _ => {}
    }
}
