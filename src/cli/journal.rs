//! Data directories for an operator, without a broker: what is in them, which places are torn or damaged, the records, and
//! what can be saved. Each pillar adds what its logs are called and what its records say.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::app::App;
use super::confirm::{can_be_tried, confirm};
use super::endpoint::{LOCAL_DEFAULT, Pillar};
use super::exit::{Exit, Failure};
use crate::output::Column;
use crate::storage::{
    Bad, Error, Examined, Inspection, LogConfig, LogId, Options, Record, Salvage, Salvaged, Store,
    StoredBatch,
};

/// A log as its pillar knows it.
#[derive(Debug, Clone)]
pub struct Known {
    /// The log.
    pub id: LogId,
    /// What it is: `queue`, `topic`, …
    pub kind: &'static str,
    /// What it is called there; empty for what nobody knows.
    pub name: String,
    /// How it is kept.
    pub config: LogConfig,
}

/// A place as JSON has it.
#[derive(Serialize)]
struct Place<'a> {
    state: &'static str,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
    file: String,
    position: u64,
    why: &'a str,
}

impl<'a> Place<'a> {
    fn of(bad: &'a Bad) -> Self {
        let file = bad.path.display().to_string();
        let Bad { offset, next, position, ref why, .. } = *bad;
        Self { state: word(bad.is_damage), offset, next, file, position, why }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    log: String,
    kind: &'static str,
    name: &'a str,
    state: &'static str,
    records: u64,
    bytes: u64,
    start: i64,
    end: i64,
    flushed: Option<i64>,
    segments: usize,
    batches: u64,
    epochs: &'a [(i32, i64)],
    holes: bool,
    places: Vec<Place<'a>>,
}

const COLUMNS: &[Column] = &[
    Column::left("log"),
    Column::left("kind"),
    Column::left("name"),
    Column::left("state"),
    Column::right("records"),
    Column::right("bytes"),
    Column::right("start"),
    Column::right("end"),
];

fn word(is_damage: bool) -> &'static str {
    if is_damage { "damaged" } else { "torn" }
}

fn state(examined: &Examined) -> &'static str {
    if examined.bad.is_empty() { "whole" } else { word(examined.is_damaged()) }
}

/// Looks at a directory.
///
/// # Errors
/// It holds no data of ours.
pub fn open(dir: &Path, app: &App) -> Result<Inspection, Failure> {
    let inspection = Inspection::open(dir).map_err(|error| {
        Failure::new(Exit::Failed, error.to_string())
            .tip("--dir DIR   the directory that the broker was given")
    })?;
    if !inspection.has_checkpoint() {
        app.printer.warn(
            "the file 'flushed' is missing or damaged: damage at the end of a log passes for a torn tail",
        );
    }
    Ok(inspection)
}

/// The logs that are named on the command line, by UUID or by name; all without names.
///
/// # Errors
/// One that is not there, or a name that several have.
pub fn chosen(known: &[Known], names: &[String]) -> Result<Vec<Known>, Failure> {
    if names.is_empty() {
        return Ok(known.to_vec());
    }
    names.iter().map(|name| find(known, name)).collect()
}

fn find(known: &[Known], name: &str) -> Result<Known, Failure> {
    let is_it = |one: &&Known| {
        let short = one.name.rsplit_once('/').map(|(_, short)| short);
        one.name == name || short == Some(name) || one.id.to_string() == name
    };
    let found: Vec<&Known> = known.iter().filter(is_it).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(Exit::NotFound, format!("no log of {name:?} is in this directory"))),
        _ => {
            let mut failure = Failure::new(Exit::Usage, format!("{} logs are called {name:?}", found.len()));
            failure.tips = found.iter().map(|one| format!("{}   {}", one.id, one.name)).collect();
            Err(failure)
        }
    }
}

/// Shows what is in a directory, a row for each log. Places that are torn or damaged are told on stderr too.
///
/// # Errors
/// The system's.
pub fn list(inspection: &Inspection, known: &[Known], app: &App) -> anyhow::Result<Exit> {
    let mut list = app.printer.list(COLUMNS);
    let mut exit = Exit::Done;
    for Known { id, kind, name, .. } in known {
        let examined = inspection.examine(*id, |_| true)?;
        for bad in &examined.bad {
            let Place { state, offset, file, position, why, .. } = Place::of(bad);
            app.printer
                .warn(&format!("{kind} {name}: {state} at offset {offset} ({file} at {position}): {why}"));
        }
        if examined.is_damaged() {
            exit = Exit::Partly;
        }
        list.row(&Row {
            log: id.to_string(),
            kind,
            name,
            state: state(&examined),
            records: examined.records,
            bytes: examined.bytes,
            start: examined.start,
            end: examined.end,
            flushed: examined.flushed_end,
            segments: examined.segments,
            batches: examined.batches,
            epochs: &examined.epochs,
            holes: examined.has_holes,
            places: examined.bad.iter().map(Place::of).collect(),
        })?;
    }
    list.finish()?;
    if !inspection.clean {
        app.printer.note(
            "the last process is running or did not stop in order: a start looks at the ends of all logs",
        );
    }
    Ok(exit)
}

/// Gives every record of every whole batch of a log to `each`, and tells which places are torn or damaged.
///
/// # Errors
/// The system's, and those of `each`.
pub fn records(
    inspection: &Inspection,
    known: &Known,
    app: &App,
    mut each: impl FnMut(&StoredBatch, Record<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let mut failed = None;
    let examined = inspection.examine(known.id, |batch| {
        let done = batch.records().map_err(anyhow::Error::from).and_then(|records| {
            for record in records {
                each(batch, record?)?;
            }
            Ok(())
        });
        failed = done.err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(if warn_of(&examined, app) { Exit::Partly } else { Exit::Done })
}

/// Tells which places of a log are torn or damaged; true if one is damaged.
pub fn warn_of(examined: &Examined, app: &App) -> bool {
    for bad in &examined.bad {
        let Place { state, offset, next, why, .. } = Place::of(bad);
        let rest = next.map_or("the end".to_owned(), |next| format!("offset {next}"));
        app.printer.warn(&format!("{state} from offset {offset} to {rest}: {why}"));
    }
    examined.is_damaged()
}

/// Which data directory.
#[derive(Debug, clap::Args)]
pub struct DirectoryArgs {
    /// The broker's data directory [default: that of the broker without a name]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl DirectoryArgs {
    /// The one that was named, or that of a pillar's broker without a name.
    pub fn path(&self, pillar: Pillar, app: &App) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| app.home.state.join(pillar.name()).join(LOCAL_DEFAULT))
    }
}

/// What to do about damage.
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    /// End logs before the damage, instead of also keeping what follows it
    #[arg(long)]
    pub cut: bool,
    /// Show what would be lost, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Serialize)]
struct Saved<'a> {
    log: String,
    kind: &'static str,
    name: &'a str,
    done: &'static str,
    batches: u64,
    end: i64,
    lost: Vec<(i64, i64)>,
    kept_in: Option<String>,
}

const SAVED: &[Column] = &[
    Column::left("log"),
    Column::left("kind"),
    Column::left("name"),
    Column::left("done"),
    Column::right("batches"),
    Column::right("end"),
    Column::left("lost"),
    Column::left("kept_in"),
];

/// Makes damaged logs readable again: those among `known` that are damaged.
///
/// # Errors
/// A process uses the directory, nobody to be asked, the system's.
pub fn salvage(
    dir: &Path,
    inspection: Inspection,
    known: &[Known],
    args: &RepairArgs,
    app: &App,
) -> anyhow::Result<Exit> {
    let how = if args.cut { Salvage::Cut } else { Salvage::Skip };
    let mut damaged = Vec::new();
    for one in known {
        let examined = inspection.examine(one.id, |_| true)?;
        if examined.is_damaged() {
            damaged.push((one, examined));
        }
    }
    if damaged.is_empty() {
        app.printer.note("nothing is damaged; a start cuts a torn tail by itself");
        return Ok(Exit::Done);
    }
    let mut list = app.printer.list(SAVED);
    if args.dry_run {
        for (one, examined) in &damaged {
            list.row(&planned(one, examined, how))?;
        }
        list.finish()?;
        return Ok(Exit::Done);
    }
    let count = damaged.len();
    if !args.yes {
        let what = format!("salvage {count} damaged log{}", if count == 1 { "" } else { "s" });
        confirm(&what).map_err(can_be_tried)?;
    }
    let store = Store::open(dir, Options { reserve_bytes: 0, ..Options::default() }).map_err(|error| {
        let failure = Failure::new(Exit::Failed, error.to_string());
        match error {
            Error::Locked { .. } => failure.tip("stop the broker first"),
            _ => failure,
        }
    })?;
    for (one, _) in &damaged {
        let salvaged = store.salvage(one.id, one.config, how)?;
        list.row(&saved(one, salvaged, how))?;
    }
    list.finish()?;
    // Only an orderly stop before is an orderly stop now: other logs have not been looked at.
    if store.start().is_some_and(|start| start.clean) {
        store.close()?;
    }
    Ok(Exit::Done)
}

fn done(how: Salvage) -> &'static str {
    match how {
        Salvage::Cut => "cut",
        Salvage::Skip => "skipped",
    }
}

fn saved(known: &Known, salvaged: Salvaged, how: Salvage) -> Saved<'_> {
    Saved {
        log: known.id.to_string(),
        kind: known.kind,
        name: &known.name,
        done: done(how),
        batches: salvaged.batches,
        end: salvaged.end,
        lost: salvaged.lost,
        kept_in: salvaged.kept_in.map(|path| path.display().to_string()),
    }
}

/// What a salvage would come to.
fn planned<'a>(known: &'a Known, examined: &Examined, how: Salvage) -> Saved<'a> {
    let flushed = examined.flushed_end.unwrap_or(examined.end).max(examined.end);
    let lost: Vec<(i64, i64)> = match (how, examined.bad.first()) {
        (Salvage::Cut, Some(first)) => vec![(first.offset, flushed)],
        _ => examined.bad.iter().map(|bad| (bad.offset, bad.next.unwrap_or(flushed))).collect(),
    };
    let end = match (how, examined.bad.first()) {
        (Salvage::Cut, Some(first)) => first.offset,
        _ => examined.end,
    };
    Saved {
        log: known.id.to_string(),
        kind: known.kind,
        name: &known.name,
        done: "nothing yet",
        batches: examined.batches,
        end,
        lost,
        kept_in: None,
    }
}
