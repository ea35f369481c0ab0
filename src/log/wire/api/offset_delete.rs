//! OffsetDelete (47): deletes offsets of a group.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for OffsetDeleteRequest {
    const KEY: ApiKey = ApiKey::OffsetDelete;
    const VERSIONS: Versions = Versions { min: 0, max: 0, flexible: Versions::NEVER };
    type Response = OffsetDeleteResponse;
}

message! {
    /// Deletes offsets that a group stored.
    pub struct OffsetDeleteRequest {
        /// Name of the group.
        group_id: String [0..],
        /// The topics.
        topics: Vec<OffsetDeleteRequestTopic> [0..],
    }

    /// One of [`OffsetDeleteRequest::topics`].
    pub struct OffsetDeleteRequestTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<OffsetDeleteRequestPartition> [0..],
    }

    /// One of [`OffsetDeleteRequestTopic::partitions`].
    pub struct OffsetDeleteRequestPartition {
        /// Number of the partition.
        partition_index: i32 [0..],
    }

    /// Which were deleted.
    pub struct OffsetDeleteResponse {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The topics.
        topics: Vec<OffsetDeleteResponseTopic> [0..],
    }

    /// One of [`OffsetDeleteResponse::topics`].
    pub struct OffsetDeleteResponseTopic {
        /// Name of the topic.
        name: String [0..],
        /// The partitions.
        partitions: Vec<OffsetDeleteResponsePartition> [0..],
    }

    /// One of [`OffsetDeleteResponseTopic::partitions`].
    pub struct OffsetDeleteResponsePartition {
        /// Number of the partition.
        partition_index: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
    }
}
