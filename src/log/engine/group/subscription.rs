//! What members of a classic group of consumers say that they read: the head of their protocol's metadata.

use std::collections::BTreeSet;

use super::classic::Classic;

/// The topics that members read; none if this is no group of consumers, or one says what cannot be read.
pub(super) fn topics(group: &Classic) -> Option<BTreeSet<String>> {
    if group.protocol_type.as_deref() != Some("consumer") {
        return None;
    }
    let protocol = group.protocol.as_deref()?;
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        topics.extend(parse(&member.metadata(protocol))?);
    }
    Some(topics)
}

/// `ConsumerProtocolSubscription`: a version, then the names of topics; later fields are not looked at.
fn parse(mut bytes: &[u8]) -> Option<Vec<String>> {
    let _version = take(&mut bytes, 2)?;
    let count = u32::from_be_bytes(take(&mut bytes, 4)?.try_into().ok()?);
    // A name takes two bytes at least: what is claimed beyond that is not there.
    let count = usize::try_from(count).ok().filter(|count| *count <= bytes.len() / 2)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let len = u16::from_be_bytes(take(&mut bytes, 2)?.try_into().ok()?);
        let name = take(&mut bytes, usize::from(len))?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
    }
    Some(topics)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}
