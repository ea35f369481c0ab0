//! DescribeConfigs (32): settings of topics, brokers and groups.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeConfigsRequest {
    const KEY: ApiKey = ApiKey::DescribeConfigs;
    const VERSIONS: Versions = Versions { min: 1, max: 4, flexible: 4 };
    type Response = DescribeConfigsResponse;
}

message! {
    /// Asks for settings.
    pub struct DescribeConfigsRequest {
        /// The resources.
        resources: Vec<DescribeConfigsResource> [0..],
        /// Say where each value could come from.
        include_synonyms: bool [1..],
        /// Say what each setting does.
        include_documentation: bool [3..; strict],
    }

    /// One of [`DescribeConfigsRequest::resources`].
    pub struct DescribeConfigsResource {
        /// Kind of resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// Settings that are asked for; null for all.
        configuration_keys: Option<Vec<String>> [0..] = Some(Vec::new()),
    }

    /// The settings and where they come from.
    pub struct DescribeConfigsResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// The outcome for each of them.
        results: Vec<DescribeConfigsResult> [0..],
    }

    /// One of [`DescribeConfigsResponse::results`].
    pub struct DescribeConfigsResult {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..] = Some(String::new()),
        /// Kind of resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [0..],
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// Settings by name.
        configs: Vec<DescribeConfigsResourceResult> [0..],
    }

    /// One of [`DescribeConfigsResult::configs`].
    pub struct DescribeConfigsResourceResult {
        /// Name of the setting.
        name: String [0..],
        /// The value; null for the default.
        value: Option<String> [0..] = Some(String::new()),
        /// It cannot be changed.
        read_only: bool [0..],
        /// Where the value comes from: see [`ConfigSource`](crate::log::wire::api::ConfigSource).
        config_source: i8 [1..] = -1,
        /// The value is secret, and not told.
        is_sensitive: bool [0..],
        /// Where the value could come from, the one that counts first.
        synonyms: Vec<DescribeConfigsSynonym> [1..],
        /// Kind of value: 1 boolean, 2 text, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0
        /// unknown.
        config_type: i8 [3..],
        /// What the setting does.
        documentation: Option<String> [3..] = Some(String::new()),
    }

    /// One of [`DescribeConfigsResourceResult::synonyms`].
    pub struct DescribeConfigsSynonym {
        /// Name of the setting.
        name: String [1..],
        /// The value; null for the default.
        value: Option<String> [1..] = Some(String::new()),
        /// Where the value would come from: see [`ConfigSource`](crate::log::wire::api::ConfigSource).
        source: i8 [1..],
    }
}
