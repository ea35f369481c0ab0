//! ApiVersions (18): which APIs a broker speaks, in which versions.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: Versions = Versions { min: 0, max: 4, flexible: 3 };
    type Response = ApiVersionsResponse;
}

message! {
    /// Asks what the broker speaks; the first request of a connection.
    pub struct ApiVersionsRequest {
        /// Name of the client's library.
        client_software_name: String [3..],
        /// Its version.
        client_software_version: String [3..],
    }

    /// What the broker speaks. Its header is version 0 always, and an unknown version is answered in version
    /// 0 (KIP-511).
    pub struct ApiVersionsResponse {
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What the broker speaks.
        api_keys: Vec<ApiVersion> [0..],
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [1..],
        /// Features that the broker can do.
        supported_features: Vec<SupportedFeatureKey> [3..; tag 0],
        /// Which edition of these levels it is; -1 if unknown.
        finalized_features_epoch: i64 [3..; tag 1] = -1,
        /// Feature levels that the whole cluster has agreed on.
        finalized_features: Vec<FinalizedFeatureKey> [3..; tag 2],
        /// A controller is ready to take over from ZooKeeper.
        zk_migration_ready: bool [3..; tag 3],
    }

    /// One of [`ApiVersionsResponse::api_keys`].
    pub struct ApiVersion {
        /// The API.
        api_key: i16 [0..],
        /// Oldest version.
        min_version: i16 [0..],
        /// Newest version.
        max_version: i16 [0..],
    }

    /// One of [`ApiVersionsResponse::supported_features`].
    pub struct SupportedFeatureKey {
        /// Name of the feature.
        name: String [3..],
        /// Oldest version.
        min_version: i16 [3..],
        /// Newest version.
        max_version: i16 [3..],
    }

    /// One of [`ApiVersionsResponse::finalized_features`].
    pub struct FinalizedFeatureKey {
        /// Name of the feature.
        name: String [3..],
        /// Highest level that is agreed on.
        max_version_level: i16 [3..],
        /// Lowest level that is agreed on.
        min_version_level: i16 [3..],
    }
}
