//! IncrementalAlterConfigs (44): changes single settings of topics, brokers and groups.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for IncrementalAlterConfigsRequest {
    const KEY: ApiKey = ApiKey::IncrementalAlterConfigs;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: 1 };
    type Response = IncrementalAlterConfigsResponse;
}

message! {
    /// Changes single settings.
    pub struct IncrementalAlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource> [0..],
        /// Only check whether it could be done.
        validate_only: bool [0..],
    }

    /// One of [`IncrementalAlterConfigsRequest::resources`].
    pub struct AlterConfigsResource {
        /// Kind of resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// Settings by name.
        configs: Vec<AlterableConfig> [0..],
    }

    /// One of [`AlterConfigsResource::configs`].
    pub struct AlterableConfig {
        /// Name of the setting.
        name: String [0..],
        /// 0 set, 1 back to the default, 2 append to a list, 3 remove from a list.
        config_operation: i8 [0..],
        /// The value; null for the default.
        value: Option<String> [0..] = Some(String::new()),
    }

    /// Which were changed.
    pub struct IncrementalAlterConfigsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each topic.
        responses: Vec<AlterConfigsResourceResponse> [0..],
    }

    /// One of [`IncrementalAlterConfigsResponse::responses`].
    pub struct AlterConfigsResourceResponse {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// Kind of resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
    }
}
