//! What members of a classic group of consumers say and hear inside of the group protocol: Kafka's `ConsumerProtocol`.
//!
//! ```text
//! subscription  i16 version │ topics │ user data │ since 1: owned │ since 2: i32 generation │ since 3: rack
//! assignment    i16 version │ partitions by topic │ user data
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use super::classic::Classic;

/// Partitions by the names of topics.
pub(super) type Named = Vec<(String, Vec<i32>)>;

/// What a consumer wants and has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: Vec<String>,
    /// Consumers that give everything up before they join again have nothing.
    pub(super) owned: Named,
    pub(super) rack: Option<String>,
}

/// The topics that members read; none if this is no group of consumers, or one says what cannot be read.
pub(super) fn topics(group: &Classic) -> Option<BTreeSet<String>> {
    if group.protocol_type.as_deref() != Some("consumer") {
        return None;
    }
    let protocol = group.protocol.as_deref()?;
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        topics.extend(Subscription::parse(&member.metadata(protocol))?.topics);
    }
    Some(topics)
}

impl Subscription {
    /// Reads one; later fields are not looked at.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let version = cursor.i16()?;
        let count = cursor.count(2)?;
        let topics = (0..count).map(|_| cursor.text()).collect::<Option<_>>()?;
        let mut subscription = Self { version, topics, ..Self::default() };
        if version >= 1 {
            cursor.skip_bytes()?;
            subscription.owned = cursor.named()?;
        }
        if version >= 3 {
            cursor.take(4)?;
            subscription.rack = cursor.nullable()?;
        }
        Some(subscription)
    }
}

/// Reads an assignment; an empty one says nothing at all.
pub(super) fn parse_assignment(bytes: &[u8]) -> Option<Named> {
    if bytes.is_empty() {
        return Some(Named::new());
    }
    let mut cursor = Cursor(bytes);
    let _version = cursor.i16()?;
    cursor.named()
}

/// An assignment, as a member of that version reads it.
pub(super) fn assignment(version: i16, named: &Named) -> Bytes {
    /// The newest one: they all are alike.
    const NEWEST: i16 = 3;
    let mut out = Vec::new();
    out.extend_from_slice(&version.clamp(0, NEWEST).to_be_bytes());
    out.extend_from_slice(&(named.len() as u32).to_be_bytes());
    for (topic, partitions) in named {
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&(partitions.len() as u32).to_be_bytes());
        partitions.iter().for_each(|partition| out.extend_from_slice(&partition.to_be_bytes()));
    }
    // No user data.
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.into()
}

/// Takes fields off the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    /// How many follow, each of so many bytes at least: what is claimed beyond what is left is not there.
    fn count(&mut self, bytes_min: usize) -> Option<usize> {
        let count = usize::try_from(self.i32()?).ok()?;
        (count <= self.0.len() / bytes_min).then_some(count)
    }

    fn text(&mut self) -> Option<String> {
        self.nullable()?
    }

    /// The outer one is "cut short", the inner one is null.
    fn nullable(&mut self) -> Option<Option<String>> {
        match self.i16()? {
            -1 => Some(None),
            len => {
                let text = self.take(usize::try_from(len).ok()?)?;
                Some(Some(std::str::from_utf8(text).ok()?.to_owned()))
            }
        }
    }

    fn skip_bytes(&mut self) -> Option<()> {
        match self.i32()? {
            -1 => Some(()),
            len => self.take(usize::try_from(len).ok()?).map(drop),
        }
    }

    fn named(&mut self) -> Option<Named> {
        let topics = self.count(6)?;
        let mut named = Named::new();
        for _ in 0..topics {
            let topic = self.text()?;
            let count = self.count(4)?;
            named.push((topic, (0..count).map(|_| self.i32()).collect::<Option<_>>()?));
        }
        Some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        let mut bytes = b"\0\x00\0\0\0\x01\0\x01t\xff\xff\xff\xff".to_vec();
        let parsed = Subscription::parse(&bytes).unwrap();
        assert_eq!((parsed.topics, parsed.owned), (vec!["t".to_owned()], Vec::new()));
        bytes[1] = 3;
        bytes.extend(b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\x07\0\x01r");
        let parsed = Subscription::parse(&bytes).unwrap();
        assert_eq!(parsed.owned, [("t".to_owned(), vec![0, 5])]);
        assert_eq!(parsed.rack.as_deref(), Some("r"));
        for end in 0..bytes.len() {
            assert_eq!(Subscription::parse(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn assignments_come_back_as_they_were() {
        let named = vec![("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![0])];
        assert_eq!(parse_assignment(&assignment(1, &named)), Some(named));
        assert_eq!(parse_assignment(b""), Some(Vec::new()));
        assert_eq!(parse_assignment(b"\0\0\x7f\xff\xff\xff"), None);
    }
}
