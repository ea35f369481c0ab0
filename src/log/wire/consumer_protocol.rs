//! What members of a classic group of consumers tell each other through the broker: `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment` of Kafka. The broker reads it where such members are in a group of the next generation.
//!
//! ```text
//! subscription  i16 version │ topics │ user data │ since 1: owned │ since 2: i32 generation │ since 3: rack
//! assignment    i16 version │ partitions by topic │ user data
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Field as _, Reader, Result};

/// The kind of group that consumers make.
pub const PROTOCOL_TYPE: &str = "consumer";

/// The newest assignment; all are alike.
const ASSIGNMENT_VERSION: i16 = 3;

/// Partitions by topic.
pub type Partitions = BTreeMap<String, Vec<i32>>;

/// What a member wants to read, and what it reads until it hears otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Of the layout, from 0; those to come begin as those before them.
    pub version: i16,
    /// The topics.
    pub topics: Vec<String>,
    /// Partitions that it still reads (version 1 and later).
    pub owned: Partitions,
    /// Generation in which it was given them; -1 where that is not told (before version 2).
    pub generation: i32,
    /// Rack or zone that the member stands in (version 3).
    pub rack: Option<String>,
}

impl Default for Subscription {
    /// Nothing at all, in the version that members of ours speak: it tells the generation, and no rack.
    fn default() -> Self {
        Self { version: 2, topics: Vec::new(), owned: Partitions::new(), generation: -1, rack: None }
    }
}

impl Subscription {
    /// The bytes for the broker to pass on.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(self.version);
        out.put_i32(len(self.topics.len()));
        self.topics.iter().for_each(|topic| put_text(&mut out, topic));
        // No data of the assignor's own.
        out.put_i32(-1);
        if self.version >= 1 {
            put_partitions(&mut out, &self.owned);
        }
        if self.version >= 2 {
            out.put_i32(self.generation);
        }
        if self.version >= 3 {
            match &self.rack {
                Some(rack) => put_text(&mut out, rack),
                None => out.put_i16(-1),
            }
        }
        out.freeze()
    }

    /// Reads what another member has said. Versions to come begin as those before them.
    ///
    /// # Errors
    /// It ends early, or lengths in it are wrong.
    pub fn parse(bytes: &Bytes) -> Result<Self> {
        let mut reader = Reader::new(bytes.clone(), 0, false);
        let version = i16::read(&mut reader, "version")?;
        let topics = Vec::<String>::read(&mut reader, "topics")?;
        Option::<Bytes>::read(&mut reader, "user_data")?;
        let owned =
            if version >= 1 { read_partitions(&mut reader, "owned_partitions")? } else { Partitions::new() };
        let generation = if version >= 2 { i32::read(&mut reader, "generation_id")? } else { -1 };
        let rack = if version >= 3 { Option::<String>::read(&mut reader, "rack_id")? } else { None };
        Ok(Self { version, topics, owned, generation, rack })
    }
}

/// The bytes of what a member is to read, in the version of its subscription as far as there is one.
pub fn assignment_to_bytes(version: i16, partitions: &Partitions) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version.clamp(0, ASSIGNMENT_VERSION));
    put_partitions(&mut out, partitions);
    out.put_i32(-1);
    out.freeze()
}

/// Reads what a member is to read. No bytes at all are no partitions: the leader has left this member out.
///
/// # Errors
/// It ends early, or lengths in it are wrong.
pub fn parse_assignment(bytes: &Bytes) -> Result<Partitions> {
    if bytes.is_empty() {
        return Ok(Partitions::new());
    }
    let mut reader = Reader::new(bytes.clone(), 0, false);
    i16::read(&mut reader, "version")?;
    read_partitions(&mut reader, "assigned_partitions")
}

fn len(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

fn put_text(out: &mut BytesMut, text: &str) {
    // Names of topics have 249 bytes at most.
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_partitions(out: &mut BytesMut, partitions: &Partitions) {
    out.put_i32(len(partitions.len()));
    for (topic, numbers) in partitions {
        put_text(out, topic);
        out.put_i32(len(numbers.len()));
        numbers.iter().for_each(|number| out.put_i32(*number));
    }
}

fn read_partitions(reader: &mut Reader, field: &'static str) -> Result<Partitions> {
    let mut partitions = Partitions::new();
    // Each topic takes six bytes at least: what is claimed beyond that fails to be read at once.
    for _ in 0..i32::read(reader, field)? {
        let topic = String::read(reader, field)?;
        partitions.entry(topic).or_default().extend(Vec::<i32>::read(reader, field)?);
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partitions(of: &[(&str, &[i32])]) -> Partitions {
        of.iter().map(|(topic, numbers)| ((*topic).to_owned(), numbers.to_vec())).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let owned = partitions(&[("a", &[0, 2]), ("b", &[1])]);
        let topics = vec!["a".to_owned(), "b".to_owned()];
        let subscription =
            Subscription { topics, owned: owned.clone(), generation: 7, ..Subscription::default() };
        assert_eq!(Subscription::parse(&subscription.to_bytes()).unwrap(), subscription);
        assert_eq!(parse_assignment(&assignment_to_bytes(1, &owned)).unwrap(), owned);
        assert_eq!(parse_assignment(&Bytes::new()).unwrap(), Partitions::new());
    }

    /// As `ConsumerProtocol.serializeSubscription` of kafka-clients 4.2.0 writes it in versions 0, 1 and 3.
    #[test]
    fn subscriptions_of_the_java_client_are_read() {
        let old = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let topics = vec!["t".to_owned()];
        let expected = Subscription { version: 0, topics, ..Subscription::default() };
        assert_eq!(Subscription::parse(&old).unwrap(), expected);
        let owning = Bytes::from_static(
            b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x04\0\0\0\x05\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01",
        );
        let owned = partitions(&[("t", &[0, 1])]);
        let with = Subscription { version: 1, owned, ..expected };
        assert_eq!(Subscription::parse(&owning).unwrap(), with);
        let mut newest = owning.to_vec();
        newest[1] = 3;
        newest.extend(b"\0\0\0\x09\0\x04rack");
        let rack = Some("rack".to_owned());
        let all = Subscription { version: 3, generation: 9, rack, ..with };
        assert_eq!(Subscription::parse(&newest.clone().into()).unwrap(), all);
        // What user data there was is not kept.
        assert_eq!(Subscription::parse(&all.to_bytes()).unwrap(), all);
        for end in 0..newest.len() {
            assert!(Subscription::parse(&newest[..end].to_vec().into()).is_err(), "{end}");
        }
    }

    #[test]
    fn a_length_that_is_not_there_costs_nothing() {
        for bytes in [&b"\0\0\x7f\xff\xff\xff"[..], b"\0\x02\0\0\0\0\xff\xff\xff\xff\x7f\xff\xff\xff\0\x01a"]
        {
            assert!(Subscription::parse(&Bytes::copy_from_slice(bytes)).is_err());
        }
        assert!(parse_assignment(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff\0\0\x7f\xff\xff\xff")).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = Subscription::parse(&bytes);
            let _ = parse_assignment(&bytes);
        }
    }
}
