//! What a shell is offered after `bandy mq`: queues and exchanges of the broker that the words name.

use super::api::{Api, VhostArgs};
use super::ls;
use super::objects::{Kind, Row};
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed, found};
use crate::shutdown::Shutdown;

/// Queues, with what waits in them.
pub fn queues(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, typed, Kind::Queues, |row| match row["ready"].as_u64() {
        Some(ready) => format!("{ready} ready"),
        None => String::new(),
    })
}

/// Exchanges, with their types.
pub fn exchanges(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, typed, Kind::Exchanges, |row| row["type"].as_str().unwrap_or_default().to_owned())
}

/// Names of what `mq ls` is to list.
pub fn listed(app: &App, typed: &Typed) -> Vec<Candidate> {
    let kinds = <Kind as clap::ValueEnum>::value_variants();
    let kind = typed.positionals.first().and_then(|word| kinds.iter().find(|kind| kind.name() == word));
    match kind {
        Some(Kind::Queues | Kind::Bindings | Kind::Consumers) => queues(app, typed),
        Some(Kind::Exchanges) => exchanges(app, typed),
        Some(kind) => candidates(app, typed, *kind, |_| String::new()),
        None => Vec::new(),
    }
}

fn candidates(app: &App, typed: &Typed, kind: Kind, about: fn(&Row) -> String) -> Vec<Candidate> {
    found(app, async {
        let shutdown = Shutdown::new();
        let api =
            Api::find(&typed.connect, &VhostArgs::default(), app, "completion", &shutdown).await.ok()?;
        let rows = ls::rows(&api, kind).await.ok()?;
        let name = |row: &Row| row["name"].as_str().unwrap_or_default().to_owned();
        let candidates = rows.iter().map(|row| Candidate { word: name(row), about: about(row) });
        Some(candidates.filter(|candidate| !candidate.word.is_empty()).collect())
    })
}
