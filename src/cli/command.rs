//! The command after `--` that is run once per record, as its flags have it.

use std::ffi::OsString;

use super::app::App;
use super::exit::{Exit, Failure};
use crate::exec::{Program, Reads, RecordCommand, Retries, Verdict, tells_of_a_record};
use crate::output::Format;
use crate::record::Embed;

/// The value of `--jobs`.
///
/// # Errors
/// No number from 1 to 10000.
pub fn parse_jobs(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|jobs| (1..=10_000).contains(jobs))
        .ok_or_else(|| "a number from 1 to 10000".to_owned())
}

/// The command of these words; `None` if there are none. With `--json` it reads the envelope. `what` says in errors what
/// it would have been run for: `("message", "taken")`.
///
/// # Errors
/// There is no such command (127), or it cannot be executed (126): before anything is read.
pub fn per_record(
    words: Vec<OsString>,
    embed: Embed,
    retries: Retries,
    what: (&str, &str),
    app: &App,
) -> Result<Option<RecordCommand>, Failure> {
    let path = std::env::var_os("PATH");
    let Some(program) = Program::from_words(words, path.as_deref()) else { return Ok(None) };
    if let Some(verdict) = program.is_missing(path.as_deref()) {
        return Err(not_run(&program, verdict, what));
    }
    let reads = match app.printer.look().format {
        Format::Json => Reads::Envelope(embed),
        _ => Reads::Value,
    };
    let stale = std::env::vars_os().map(|(name, _)| name).filter(|name| tells_of_a_record(name)).collect();
    Ok(Some(RecordCommand { program, reads, deadline: None, retries, stale }))
}

/// A command that cannot be run, whatever for.
pub fn not_run(program: &Program, verdict: Verdict, (what, done): (&str, &str)) -> Failure {
    let name = program.argv().first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Failure::new(
        Exit::Command(verdict.exit_code()),
        format!("cannot run {name}: {verdict}; no {what} was {done}"),
    )
}
