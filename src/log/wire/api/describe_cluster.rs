//! DescribeCluster (60): the cluster and its brokers.

use crate::log::wire::{ApiKey, ErrorCode, Request, Versions};

impl Request for DescribeClusterRequest {
    const KEY: ApiKey = ApiKey::DescribeCluster;
    const VERSIONS: Versions = Versions { min: 0, max: 2, flexible: 0 };
    type Response = DescribeClusterResponse;
}

message! {
    /// Asks for the brokers or controllers.
    pub struct DescribeClusterRequest {
        /// Say what the user may do to the cluster.
        include_cluster_authorized_operations: bool [0..],
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..; strict] = 1,
        /// List brokers that are fenced, too.
        include_fenced_brokers: bool [2..; strict],
    }

    /// The cluster.
    pub struct DescribeClusterResponse {
        /// How long the client was, or is to be, slowed down by a quota, in ms.
        throttle_time_ms: i32 [0..],
        /// What went wrong, or 0.
        error_code: ErrorCode [0..],
        /// What went wrong in words, or null.
        error_message: Option<String> [0..],
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] = 1,
        /// Id of the cluster, if known.
        cluster_id: String [0..],
        /// Node that administers the cluster, or -1.
        controller_id: i32 [0..] = -1,
        /// The brokers of the cluster.
        brokers: Vec<DescribeClusterBroker> [0..],
        /// What the user may do to the cluster, as bits; `i32::MIN` when that was not asked for.
        cluster_authorized_operations: i32 [0..] = i32::MIN,
    }

    /// One of [`DescribeClusterResponse::brokers`].
    pub struct DescribeClusterBroker {
        /// Id of the broker.
        broker_id: i32 [0..],
        /// Host name or address.
        host: String [0..],
        /// Port.
        port: i32 [0..],
        /// Rack or zone that it stands in, or null.
        rack: Option<String> [0..],
        /// It is registered but may not serve.
        is_fenced: bool [2..],
    }
}
