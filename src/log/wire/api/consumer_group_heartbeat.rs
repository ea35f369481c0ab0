//! ConsumerGroupHeartbeat (68): joins, stays in and leaves a next-generation group (KIP-848).

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for ConsumerGroupHeartbeatRequest {
    const KEY: ApiKey = ApiKey::ConsumerGroupHeartbeat;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: 0 };
    type Response = ConsumerGroupHeartbeatResponse;
}

message! {
    /// Says what a member wants and reads, and that it is alive.
    pub struct ConsumerGroupHeartbeatRequest {
        /// Name of the group.
        group_id: String [0..],
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Epoch that the member has reached; 0 to join, -1 to leave, -2 to leave for a while as a static
        /// member.
        member_epoch: i32 [0..],
        /// Lasting name of a static member, or null.
        instance_id: Option<String> [0..],
        /// Rack or zone that the client stands in.
        rack_id: Option<String> [0..],
        /// How long the member may take to give partitions up, in ms; -1 if that has not changed.
        rebalance_timeout_ms: i32 [0..] = -1,
        /// Topics that the member wants; null if that has not changed.
        subscribed_topic_names: Option<Vec<String>> [0..],
        /// Topics that the member wants, as a regular expression; null if there is none, or it has not
        /// changed.
        subscribed_topic_regex: Option<String> [1..; strict],
        /// Who of the broker is to divide the partitions; null if that has not changed.
        server_assignor: Option<String> [0..],
        /// What the member reads now; null if that has not changed.
        topic_partitions: Option<Vec<TopicPartitions>> [0..],
    }

    /// One of [`ConsumerGroupHeartbeatRequest::topic_partitions`].
    pub struct TopicPartitions {
        /// Id of the topic; zero for none.
        topic_id: Uuid [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }

    /// What the member is to read.
    pub struct ConsumerGroupHeartbeatResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..],
        /// Id of the member; empty before it has one.
        member_id: Option<String> [0..],
        /// Epoch of a member of a next-generation group.
        member_epoch: i32 [0..],
        /// The member is to send the next heartbeat after so many ms.
        heartbeat_interval_ms: i32 [0..],
        /// What the member is to read; null if that has not changed.
        assignment: Option<Assignment> [0..],
    }

    /// See [`ConsumerGroupHeartbeatResponse::assignment`].
    pub struct Assignment {
        /// Partitions by topic.
        topic_partitions: Vec<TopicPartitions> [0..],
    }
}
