//! What a shell is offered after `bandy gossip`: members and keys, as the node has them that the words name.

use super::connect::Node;
use super::ls;
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed, found};
use crate::gossip::wire::ipc::{Request, read_data};

/// Members, with their states.
pub fn nodes(app: &App, typed: &Typed) -> Vec<Candidate> {
    found(app, async {
        let mut node = Node::open(&typed.connect, app, "completion").await.ok()?;
        let members = ls::members(&mut node, &[]).await.ok()?;
        let candidate = |member| Candidate { about: ls::status(&member).to_owned(), word: member.name };
        Some(members.into_iter().map(candidate).collect())
    })
}

/// Keys, with who wrote them.
pub fn keys(app: &App, typed: &Typed) -> Vec<Candidate> {
    found(app, async {
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
