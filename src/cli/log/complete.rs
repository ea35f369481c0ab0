//! What a shell is offered after `bandy log`: topics and groups of the cluster that the words name.

use std::time::Duration;

use super::connect::Log;
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed};
use crate::cli::figures::counted;
use crate::log::client::admin;
use crate::shutdown::Shutdown;

/// A person waits: the shell is answered without us after this.
const BUDGET: Duration = Duration::from_millis(150);

/// Topics, with their partitions.
pub fn topics(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, async {
        let log = Log::resolve(&typed.connect, app, "completion").ok()?;
        let cluster = log.open(&Shutdown::new()).await.ok()?;
        let all = cluster.metadata(None, false).await.ok()?;
        let topics = all.topics.into_iter().filter(|topic| !topic.is_internal);
        Some(
            topics
                .map(|topic| Candidate {
                    about: counted(topic.partitions.len() as u64, "partition"),
                    word: topic.name.unwrap_or_default(),
                })
                .collect(),
        )
    })
}

/// Groups, with their states.
pub fn groups(app: &App, typed: &Typed) -> Vec<Candidate> {
    candidates(app, async {
        let log = Log::resolve(&typed.connect, app, "completion").ok()?;
        let cluster = log.open(&Shutdown::new()).await.ok()?;
        cluster.metadata(Some(&[]), false).await.ok()?;
        let groups = admin::groups(&cluster).await.ok()?;
        Some(groups.into_iter().map(|it| Candidate { word: it.group_id, about: it.group_state }).collect())
    })
}

fn candidates(app: &App, find: impl Future<Output = Option<Vec<Candidate>>>) -> Vec<Candidate> {
    let Ok(runtime) = app.client_runtime() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(BUDGET, find).await });
    let mut candidates = found.ok().flatten().unwrap_or_default();
    candidates.sort_by(|a, b| a.word.cmp(&b.word));
    candidates
}
