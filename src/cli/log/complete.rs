//! What a shell is offered after `bandy log`: topics and groups of the cluster that the words name.

use super::connect::Log;
use crate::cli::app::App;
use crate::cli::completions::{Candidate, Typed, found};
use crate::cli::figures::counted;
use crate::log::client::admin;
use crate::shutdown::Shutdown;

/// Topics, with their partitions.
pub fn topics(app: &App, typed: &Typed) -> Vec<Candidate> {
    found(app, async {
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
    found(app, async {
        let log = Log::resolve(&typed.connect, app, "completion").ok()?;
        let cluster = log.open(&Shutdown::new()).await.ok()?;
        cluster.metadata(Some(&[]), false).await.ok()?;
        let groups = admin::groups(&cluster).await.ok()?;
        Some(groups.into_iter().map(|it| Candidate { word: it.group_id, about: it.group_state }).collect())
    })
}
