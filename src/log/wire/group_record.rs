//! Values of records of next-generation groups in `__consumer_offsets`, as Kafka lays them out: a version, then the flexible
//! encoding. Keys and the records of classic groups are older and simpler: see the coordinator.

use bytes::Bytes;

use super::{Field, Reader, Result, Uuid, Writer};

message! {
    /// The group itself (key 3).
    pub struct GroupEpoch {
        /// Counts changes of members and of what they want.
        epoch: i32 [0..],
        /// Stands for the topics that are wanted as they were then; how it is made is the coordinator's own business.
        metadata_hash: i64 [0..; tag 0],
    }

    /// What a member wants (key 5).
    pub struct MemberMetadata {
        /// Lasting name of a static member.
        instance_id: Option<String> [0..],
        /// Rack or zone that the client stands in.
        rack_id: Option<String> [0..],
        /// What the client calls itself.
        client_id: String [0..],
        /// Where the client is.
        client_host: String [0..],
        /// Topics that it wants.
        subscribed_topic_names: Vec<String> [0..],
        /// Topics that it wants, as a regular expression.
        subscribed_topic_regex: Option<String> [0..],
        /// How long it may take to give partitions up, in ms.
        rebalance_timeout_ms: i32 [0..] = -1,
        /// Who is to divide.
        server_assignor: Option<String> [0..],
        /// What a member of the classic protocol says in it.
        classic: Option<ClassicMetadata> [0..; tag 0],
    }

    /// See [`MemberMetadata::classic`].
    pub struct ClassicMetadata {
        /// It is out when it was silent for so long, in ms.
        session_timeout_ms: i32 [0..],
        /// Its protocols, best first.
        protocols: Vec<ClassicProtocol> [0..],
    }

    /// One of [`ClassicMetadata::protocols`].
    pub struct ClassicProtocol {
        /// Its name.
        name: String [0..],
        /// What the member says in it.
        metadata: Bytes [0..],
    }

    /// The division that members move to (key 6).
    pub struct TargetEpoch {
        /// The group's epoch that it was made for.
        epoch: i32 [0..],
    }

    /// What a member is to have (key 7).
    pub struct TargetAssignment {
        /// Partitions by topic.
        topic_partitions: Vec<OfTopic> [0..],
    }

    /// What a member has (key 8).
    pub struct CurrentAssignment {
        /// The epoch that it has reached.
        member_epoch: i32 [0..],
        /// The one before: an answer may have been lost.
        previous_member_epoch: i32 [0..],
        /// 0 stable, 1 has to give up partitions, 2 waits for some.
        state: i8 [0..],
        /// What it has.
        assigned: Vec<OfTopic> [0..],
        /// What it has to give up.
        revoking: Vec<OfTopic> [0..],
    }

    /// Partitions of a topic.
    pub struct OfTopic {
        /// The topic's id.
        topic_id: Uuid [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }
}

/// A value as it is written: its version, and the fields.
///
/// # Errors
/// A text that is too long for any record.
pub fn encode_value<T: Field>(value: &T) -> Result<Bytes> {
    let mut writer = Writer::new(0, true);
    0i16.write(&mut writer, "version")?;
    value.write(&mut writer, "value")?;
    Ok(writer.finish().to_bytes())
}

/// The other way round. None for a version that is not known here.
///
/// # Errors
/// Bytes that are no such value.
pub fn decode_value<T: Field>(bytes: &[u8]) -> Result<Option<T>> {
    let mut reader = Reader::new(Bytes::copy_from_slice(bytes), 0, true);
    if i16::read(&mut reader, "version")? != 0 {
        return Ok(None);
    }
    T::read(&mut reader, "value").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka 4's schema says: compact lengths are one more, an absent text is 0, tags come last.
    #[test]
    fn values_are_laid_out_as_in_kafka() {
        let epoch = encode_value(&GroupEpoch { epoch: 7, metadata_hash: 0 }).unwrap();
        assert_eq!(epoch[..], [0, 0, 0, 0, 0, 7, 0]);
        let epoch = encode_value(&GroupEpoch { epoch: 7, metadata_hash: 1 }).unwrap();
        assert_eq!(epoch[..], [0, 0, 0, 0, 0, 7, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        let current = CurrentAssignment {
            member_epoch: 2,
            previous_member_epoch: 1,
            state: 1,
            assigned: vec![OfTopic { topic_id: Uuid([9; 16]), partitions: vec![3] }],
            revoking: Vec::new(),
        };
        let bytes = encode_value(&current).unwrap();
        let mut expected = vec![0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1, 2];
        expected.extend([9; 16]);
        expected.extend([2, 0, 0, 0, 3, 0, 1, 0]);
        assert_eq!(bytes[..], expected);
        assert_eq!(decode_value::<CurrentAssignment>(&bytes), Ok(Some(current)));
        assert_eq!(decode_value::<GroupEpoch>(&[0, 1, 0, 0, 0, 7, 0]), Ok(None));
        assert!(decode_value::<GroupEpoch>(&[0, 0, 0]).is_err());
    }

    #[test]
    fn a_classic_member_is_told_apart_by_a_tag() {
        let classic = ClassicMetadata {
            session_timeout_ms: 10_000,
            protocols: vec![ClassicProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"x") }],
        };
        let member = MemberMetadata {
            client_id: "c".to_owned(),
            subscribed_topic_names: vec!["t".to_owned()],
            classic: Some(classic),
            ..MemberMetadata::default()
        };
        let bytes = encode_value(&member).unwrap();
        assert_eq!(decode_value::<MemberMetadata>(&bytes), Ok(Some(member.clone())));
        let plain = MemberMetadata { classic: None, ..member };
        assert_eq!(encode_value(&plain).unwrap().last(), Some(&0));
    }
}
