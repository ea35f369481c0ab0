//! ListConfigResources (74): what has settings of its own.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ListConfigResourcesRequest {
    const KEY: ApiKey = ApiKey::ListConfigResources;
    const VERSIONS: Versions = Versions { min: 0, max: 1, flexible: 0 };
    type Response = ListConfigResourcesResponse;
}

message! {
    /// Asks what has settings.
    pub struct ListConfigResourcesRequest {
        /// Kinds of resource; empty for all.
        resource_types: Vec<i8> [1..; strict],
    }

    /// The resources. Version 0 knows client metrics only.
    pub struct ListConfigResourcesResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What has settings.
        config_resources: Vec<ConfigResource> [0..],
    }

    /// One of [`ListConfigResourcesResponse::config_resources`].
    pub struct ConfigResource {
        /// Name of the topic, broker, group or other resource.
        resource_name: String [0..],
        /// Kind of resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [1..] = 16,
    }
}
