//! The topics that members of a classic group read.

use std::collections::BTreeSet;

use super::classic::Classic;
use crate::log::wire::consumer_protocol::{PROTOCOL_TYPE, Subscription};

/// The topics that members read; none if this is no group of consumers, or one says what cannot be read.
pub(super) fn topics(group: &Classic) -> Option<BTreeSet<String>> {
    if group.protocol_type.as_deref() != Some(PROTOCOL_TYPE) {
        return None;
    }
    let protocol = group.protocol.as_deref()?;
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        topics.extend(Subscription::parse(&member.metadata(protocol)).ok()?.topics);
    }
    Some(topics)
}
