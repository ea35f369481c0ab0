//! DeleteTopics (20): deletes topics.

use crate::log::wire::{ApiKey, ErrorCode, Request, Uuid, Versions};

impl Request for DeleteTopicsRequest {
    const KEY: ApiKey = ApiKey::DeleteTopics;
    const VERSIONS: Versions = Versions { min: 1, max: 6, flexible: 4 };
    type Response = DeleteTopicsResponse;
}

message! {
    /// Deletes topics: by name, from version 6 on also by id.
    pub struct DeleteTopicsRequest {
        /// The topics.
        topics: Vec<DeleteTopicState> [6..; strict],
        /// Names of the topics.
        topic_names: Vec<String> [0..=5],
        /// How long the broker may take, in ms.
        timeout_ms: i32 [0..],
    }

    /// One of [`DeleteTopicsRequest::topics`].
    pub struct DeleteTopicState {
        /// Name of the topic.
        name: Option<String> [6..],
        /// Id of the topic; zero for none.
        topic_id: Uuid [6..],
    }

    /// Which were deleted.
    pub struct DeleteTopicsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// The outcome for each topic.
        responses: Vec<DeletableTopicResult> [0..],
    }

    /// One of [`DeleteTopicsResponse::responses`].
    pub struct DeletableTopicResult {
        /// Name of the topic.
        name: Option<String> [0..; null 6..] = Some(String::new()),
        /// Id of the topic; zero for none.
        topic_id: Uuid [6..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [5..],
    }
}
