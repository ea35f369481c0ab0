//! ConsumerGroupDescribe (69): next-generation groups in detail.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for ConsumerGroupDescribeRequest {
    const KEY: ApiKey = ApiKey::ConsumerGroupDescribe;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: 0 };
    type Response = ConsumerGroupDescribeResponse;
}

message! {
    /// Asks for next-generation groups in detail.
    pub struct ConsumerGroupDescribeRequest {
        /// The groups.
        group_ids: Vec<String> [0..],
        /// Say what the user may do to each group.
        include_authorized_operations: bool [0..],
    }

    /// The groups, their members and what these read.
    pub struct ConsumerGroupDescribeResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The groups.
        groups: Vec<DescribedGroup> [0..],
    }

    /// One of [`ConsumerGroupDescribeResponse::groups`].
    pub struct DescribedGroup {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..],
        /// Name of the group.
        group_id: String [0..],
        /// State of the group, as `Stable` or `Empty`.
        group_state: String [0..],
        /// Epoch of the group: counts changes of its members and subscriptions.
        group_epoch: i32 [0..],
        /// Epoch of the division that the members are moving to.
        assignment_epoch: i32 [0..],
        /// Who divides the partitions.
        assignor_name: String [0..],
        /// The members.
        members: Vec<Member> [0..],
        /// What the user may do to the group, as bits; `i32::MIN` when that was not asked for.
        authorized_operations: i32 [0..] = i32::MIN,
    }

    /// One of [`DescribedGroup::members`].
    pub struct Member {
        /// Id of the member; empty before it has one.
        member_id: String [0..],
        /// Lasting name of a static member, or null.
        instance_id: Option<String> [0..],
        /// Rack or zone that the client stands in.
        rack_id: Option<String> [0..],
        /// Epoch of a member of a next-generation group.
        member_epoch: i32 [0..],
        /// What the member's client calls itself.
        client_id: String [0..],
        /// Where the member's client is.
        client_host: String [0..],
        /// Topics that the member wants.
        subscribed_topic_names: Vec<String> [0..],
        /// Topics that the member wants, as a regular expression; null if there is none, or it has not
        /// changed.
        subscribed_topic_regex: Option<String> [0..],
        /// What it reads now.
        assignment: Assignment [0..],
        /// What it is to read.
        target_assignment: Assignment [0..],
        /// 0 classic, 1 next-generation, -1 unknown.
        member_type: i8 [1..] = -1,
    }

    /// See [`Member::assignment`].
    pub struct Assignment {
        /// Partitions by topic.
        topic_partitions: Vec<TopicPartitions> [0..],
    }

    /// One of [`Assignment::topic_partitions`].
    pub struct TopicPartitions {
        /// Id of the topic; zero for none.
        topic_id: Uuid [0..],
        /// Name of the topic.
        topic_name: String [0..],
        /// The partitions.
        partitions: Vec<i32> [0..],
    }
}
