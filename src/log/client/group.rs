//! A member of a classic group of consumers: which partitions are its own, and how far they are read.
//!
//! ```text
//! Member     what a reader holds: events, commits, leaving
//! task       joins, keeps in touch, divides when it leads: goes on while the reader is busy
//! assign     who reads what: pure
//! ```

pub mod assign;
mod task;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::task::{Standing, Task};
use super::{Cluster, Connection, Coordinates, Error, admin};
use crate::log::wire::ErrorCode;
use crate::shutdown::Shutdown;

pub use assign::Assignor;

/// Which group, and how one takes part in it.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// Name of the group.
    pub group: String,
    /// What this member wants to read.
    pub topics: Vec<String>,
    /// A lasting name (KIP-345): who comes back under it within the session timeout has its partitions again.
    pub instance: Option<String>,
    /// Ways of dividing partitions that are offered, the preferred first. A group uses one that all members offer.
    pub assignors: Vec<Assignor>,
    /// A member of whom nothing is heard for so long is out.
    pub session_timeout: Duration,
    /// How long the others wait until this member has given up what it has to.
    pub rebalance_timeout: Duration,
}

impl MemberOptions {
    /// Reads `topics` in `group`.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            group: group.into(),
            topics,
            instance: None,
            assignors: Assignor::ALL.to_vec(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(300),
        }
    }
}

/// A partition.
pub type Place = (String, i32);

/// What happens to a member's partitions.
#[derive(Debug)]
pub enum Event {
    /// These are its own from here on, besides those it has.
    Assigned(Vec<Place>),
    /// These go to others: what is done with them is to be committed before the answer.
    Revoked(Vec<Place>, Release),
    /// These are others' already: nothing that is done with them can be committed.
    Lost(Vec<Place>),
}

/// The answer that partitions are not read any more. To drop it is that answer, too.
#[derive(Debug)]
pub struct Release(
    #[expect(dead_code, reason = "it is dropped, and that is what is waited for")] oneshot::Sender<()>,
);

/// A member of a group. Dropping it leaves the group without waiting for that.
#[derive(Debug)]
pub struct Member {
    cluster: Cluster,
    group: String,
    instance: Option<String>,
    standing: watch::Receiver<Standing>,
    events: mpsc::Receiver<Result<Event, Error>>,
    leave: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    /// Commits have a connection of their own: they are not to wait behind a join.
    connection: Option<Connection>,
}

impl Member {
    /// Begins to join.
    pub fn join(cluster: &Cluster, options: MemberOptions, shutdown: &Shutdown) -> Self {
        let (standing_tx, standing) = watch::channel(Standing::default());
        let (events_tx, events) = mpsc::channel(1);
        let (leave, left) = oneshot::channel();
        let (group, instance) = (options.group.clone(), options.instance.clone());
        let task = Task::new(cluster.clone(), options, standing_tx, events_tx);
        let task = Some(shutdown.spawn(task.run(left)));
        let cluster = cluster.clone();
        Self { cluster, group, instance, standing, events, leave: Some(leave), task, connection: None }
    }

    /// What happens next. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// The group cannot be joined, or this member was shut out for good.
    pub async fn event(&mut self) -> Result<Event, Error> {
        self.events.recv().await.unwrap_or(Err(Error::Closed))
    }

    /// Name of the group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Offsets that the group has stored, of these partitions; those without one are left out.
    ///
    /// # Errors
    /// Refused; no coordinator.
    pub async fn stored(&self) -> Result<std::collections::HashMap<Place, i64>, Error> {
        admin::group_offsets(&self.cluster, &self.group).await
    }

    /// Stores the offsets to go on from, with a text.
    ///
    /// # Errors
    /// Refused. [`is_about_generation`] tells that the group is being divided: what is still this member's then can be
    /// committed after the next event.
    pub async fn commit(&mut self, offsets: &[(String, i32, i64)], metadata: &str) -> Result<(), Error> {
        let mut pause = self.cluster.retries(&format!("group '{}'", self.group));
        loop {
            let result = self.try_commit(offsets, metadata).await;
            if result.is_err() {
                self.connection = None;
            }
            match result {
                Err(error) if error.is_transient() && pause.again(&error).await => {}
                result => return pause.worked(result),
            }
        }
    }

    async fn try_commit(&mut self, offsets: &[(String, i32, i64)], metadata: &str) -> Result<(), Error> {
        let connection = match &self.connection {
            Some(connection) if connection.ended().is_none() => connection.clone(),
            _ => {
                let found = self.cluster.coordinator_alone(Coordinates::Group, &self.group).await?;
                self.connection.insert(found).clone()
            }
        };
        let Standing { member, generation } = self.standing.borrow().clone();
        let (instance, metadata) = (self.instance.clone(), metadata.to_owned());
        let committer = admin::Committer { member, instance, generation, metadata };
        admin::send_commit(&connection, &committer.request(&self.group, offsets)).await
    }

    /// Leaves the group, so that the others need not find out. A member with a lasting name stays in it, to come back.
    pub async fn leave(mut self) {
        drop(self.leave.take());
        // The task may wait for somebody to take an event.
        self.events.close();
        while self.events.recv().await.is_some() {}
        if let Some(task) = self.task.take() {
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, task).await;
        }
    }
}

/// How long leaving may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Was something refused because the group is being divided anew, or has been?
pub fn is_about_generation(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::REBALANCE_IN_PROGRESS)
    )
}
