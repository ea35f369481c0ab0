//! Topics as the coordinator of groups sees them on behalf of a connection.

use std::collections::{BTreeMap, BTreeSet};

use super::session::Session;
use super::topics::{Topic, Topics};
use crate::log::engine::group::{Catalog, Expression};
use crate::log::wire::Uuid;
use crate::log::wire::api::AclOperation;

/// The topics, and what regular expressions find of those that the connection may know of.
pub(super) struct View<'a> {
    topics: &'a Topics,
    version: u64,
    found: BTreeMap<String, Vec<String>>,
}

impl<'a> View<'a> {
    /// Without any expression.
    pub(super) fn new(session: &'a Session) -> Self {
        let (topics, guard) = (&session.broker.topics, &session.broker.guard);
        // Before anything is looked at: what changes meanwhile is seen by the next one. Rules change what may be found.
        let version = topics.changes().wrapping_add(guard.changes());
        Self { topics, version, found: BTreeMap::new() }
    }

    /// For a heartbeat or a join of a group, with an expression that is new. Names are looked at here, where no other group
    /// waits for it.
    pub(super) fn finding(session: &'a Session, group: &str, new: Option<&String>) -> Self {
        let mut view = Self::new(session);
        let known = session.broker.coordinator.look(|groups| groups.expressions(group, view.version));
        let wanted: BTreeSet<String> = known.into_iter().chain(new.cloned()).collect();
        if !wanted.is_empty() {
            view.found = tokio::task::block_in_place(|| find(session, wanted));
        }
        view
    }
}

fn find(session: &Session, wanted: BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    // Who wants all topics does not want the broker's own.
    let is_visible =
        |topic: &Topic| !topic.is_internal() && session.may_topic(AclOperation::Describe, &topic.name);
    let mut topics = session.broker.topics.all();
    topics.retain(|topic| is_visible(topic));
    let find = |text: String| {
        // One that is wrong is refused by the coordinator.
        let expression = Expression::compile(&text).ok()?;
        let fitting = topics.iter().filter(|topic| expression.fits(&topic.name));
        Some((text, fitting.map(|topic| topic.name.clone()).collect()))
    };
    wanted.into_iter().filter_map(find).collect()
}

fn count(topic: &Topic) -> i32 {
    i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)
}

impl Catalog for View<'_> {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.topics.get(name).map(|topic| (topic.id, count(&topic)))
    }

    fn by_id(&self, id: Uuid) -> Option<(String, i32)> {
        self.topics.by_id(id).map(|topic| (topic.name.clone(), count(&topic)))
    }

    fn found(&self, expression: &str) -> Option<Vec<String>> {
        self.found.get(expression).cloned()
    }
}
