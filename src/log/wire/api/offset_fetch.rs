//! OffsetFetch (9): offsets that groups stored.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for OffsetFetchRequest {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSIONS: Versions = Versions { min: 1, max: 10, flexible: 6 };
    type Response = OffsetFetchResponse;
}

message! {
    /// Asks how far groups have read. Versions up to 7 ask for one group.
    pub struct OffsetFetchRequest {
        /// Name of the group.
        group_id: String [0..=7; strict],
        /// The topics.
        topics: Option<Vec<OffsetFetchRequestTopic>> [0..=7; null 2..; strict] = Some(Vec::new()),
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup> [8..; strict],
        /// Refuse, for now, where an open transaction may still change the offset.
        require_stable: bool [7..; strict],
    }

    /// One of [`OffsetFetchRequest::topics`].
    pub struct OffsetFetchRequestTopic {
        /// Name of the topic.
        name: String [0..=7],
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> [0..=7],
    }

    /// One of [`OffsetFetchRequest::groups`].
    pub struct OffsetFetchRequestGroup {
        /// Name of the group.
        group_id: String [8..],
        /// Id of the member; empty before it has one.
        member_id: Option<String> [9..],
        /// Epoch of a member of a next-generation group, or -1.
        member_epoch: i32 [9..] = -1,
        /// The topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..] = Some(Vec::new()),
    }

    /// One of [`OffsetFetchRequestGroup::topics`].
    pub struct OffsetFetchRequestTopics {
        /// Name of the topic.
        name: String [8..=9],
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> [8..],
    }

    /// The offsets stored. Versions up to 7 answer for one group.
    pub struct OffsetFetchResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [3..],
        /// The topics.
        topics: Vec<OffsetFetchResponseTopic> [0..=7; strict],
        /// What went wrong, or 0.
        error_code: ErrorCode [2..=7],
        /// The groups.
        groups: Vec<OffsetFetchResponseGroup> [8..; strict],
    }

    /// One of [`OffsetFetchResponse::topics`].
    pub struct OffsetFetchResponseTopic {
        /// Name of the topic.
        name: String [0..=7],
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartition> [0..=7],
    }

    /// One of [`OffsetFetchResponseTopic::partitions`].
    pub struct OffsetFetchResponsePartition {
        /// Number of the partition.
        partition_index: i32 [0..=7],
        /// The offset to go on from; -1 if there is none.
        committed_offset: i64 [0..=7],
        /// Epoch of the leader that the record before the offset was read from, or -1.
        committed_leader_epoch: i32 [5..=7] = -1,
        /// Text that the client kept with it.
        metadata: Option<String> [0..=7] = Some(String::new()),
        /// What went wrong, or 0.
        error_code: ErrorCode [0..=7],
    }

    /// One of [`OffsetFetchResponse::groups`].
    pub struct OffsetFetchResponseGroup {
        /// Name of the group.
        group_id: String [8..],
        /// The topics.
        topics: Vec<OffsetFetchResponseTopics> [8..],
        /// What went wrong, or 0.
        error_code: ErrorCode [8..],
    }

    /// One of [`OffsetFetchResponseGroup::topics`].
    pub struct OffsetFetchResponseTopics {
        /// Name of the topic.
        name: String [8..=9],
        /// Id of the topic; zero for none.
        topic_id: Uuid [10..],
        /// The partitions.
        partitions: Vec<OffsetFetchResponsePartitions> [8..],
    }

    /// One of [`OffsetFetchResponseTopics::partitions`].
    pub struct OffsetFetchResponsePartitions {
        /// Number of the partition.
        partition_index: i32 [8..],
        /// The offset to go on from; -1 if there is none.
        committed_offset: i64 [8..],
        /// Epoch of the leader that the record before the offset was read from, or -1.
        committed_leader_epoch: i32 [8..] = -1,
        /// Text that the client kept with it.
        metadata: Option<String> [8..] = Some(String::new()),
        /// What went wrong, or 0.
        error_code: ErrorCode [8..],
    }
}
