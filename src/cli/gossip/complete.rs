//! What a shell is offered after `bandy gossip`: members and keys, as the node has them that the words name.

use std::time::Duration;

use super::connect::Node;
use super::ls;
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed};
use crate::gossip::wire::ipc::{Request, read_data};

/// A person waits: the shell is answered without us after this.
const BUDGET: Duration = Duration::from_millis(150);

/// Members, with their states.
pub fn nodes(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, async {
        let mut node = Node::open(&typed.connect, app, "completion").await.ok()?;
        let members = ls::members(&mut node, &[]).await.ok()?;
        let candidate = |member| Candidate { about: ls::status(&member).to_owned(), word: member.name };
        Some(members.into_iter().map(candidate).collect())
    })
}

/// Keys, with who wrote them.
pub fn keys(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, async {
        let mut node = Node::open(&typed.connect, app, "completion").await.ok()?;
        let request = Request::Get { key: typed.current.clone(), prefix: true };
        let rows = node.ask(&request, read_data).await.ok()?;
        let candidate = |row: crate::gossip::wire::ipc::DataRow| Candidate {
            about: format!("of {}", row.writer),
            word: row.key,
        };
        Some(rows.into_iter().map(candidate).collect())
    })
}

fn candidates(app: &App, find: impl Future<Output = Option<Vec<Candidate>>>) -> Vec<Candidate> {
    let Ok(runtime) = app.client_runtime() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(BUDGET, find).await });
    let mut candidates = found.ok().flatten().unwrap_or_default();
    candidates.sort_by(|a, b| a.word.cmp(&b.word));
    candidates
}
