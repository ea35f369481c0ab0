//! Partitions that are not well, beside others that are: what is said of them, and how a command ends then.

use std::collections::BTreeMap;

use super::connect::words;
use crate::cli::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::log::client::Error;

/// Partitions, and what is wrong with each.
pub type Unwell = BTreeMap<(String, i32), Error>;

/// So many are named; the others are counted.
const NAMED_MAX: usize = 3;

/// What is wrong with a partition, without its name, which stands beside it.
pub fn why(error: &Error) -> String {
    match error {
        Error::Refused { api, code, said, .. } => {
            words(&Error::Refused { api: *api, code: *code, said: said.clone(), about: None })
        }
        other => other.to_string(),
    }
}

/// What is wrong, in one line.
fn text(unwell: &Unwell, url: &str) -> String {
    let named = unwell.iter().take(NAMED_MAX);
    let named = named
        .map(|((topic, partition), error)| format!("topic '{topic}' partition {partition}: {}", why(error)));
    let mut text = format!("{url}: {}", named.collect::<Vec<_>>().join("; "));
    if unwell.len() > NAMED_MAX {
        let more = counted((unwell.len() - NAMED_MAX) as u64, "partition");
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// How a command ends that has shown what it could of so many partitions.
///
/// # Errors
/// There are any.
pub fn end(unwell: &Unwell, of: usize, url: &str) -> Result<Exit, Failure> {
    if unwell.is_empty() {
        return Ok(Exit::Done);
    }
    let exit = if unwell.len() < of { Exit::Partly } else { Exit::Failed };
    Err(Failure::new(exit, text(unwell, url)))
}

/// Says before others are read that these are not.
pub fn warn(unwell: &Unwell, url: &str, app: &App) {
    if !unwell.is_empty() {
        app.printer.warn(&format!("{}; the others are read", text(unwell, url)));
    }
}
