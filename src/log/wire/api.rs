//! The APIs: one file each with its messages, and the table of all of them.

use super::{Reader, Request, Result, Versions, decode_request};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod kinds;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;
pub mod txn_offset_commit;

pub use kinds::{AclOperation, AclPermission, ConfigResourceType, ConfigSource, PatternType, ResourceType};

/// Everything that there is for each API.
macro_rules! apis {
    ($($key:literal $name:ident: $module:ident::$request:ident;)*) => {
        /// An API that is known here, by its number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("`", stringify!($name), "`: see [`", stringify!($module), "`].")] $name = $key,)*
        }

        impl ApiKey {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API of that number.
            pub fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The versions known here; a broker may offer fewer.
            pub fn versions(self) -> Versions {
                match self {
                    $(Self::$name => <$module::$request as Request>::VERSIONS,)*
                }
            }

            /// Reads a response, everything after its size, and only says whether it is one.
            ///
            /// # Errors
            /// As [`decode_response`](super::decode_response).
            pub fn check_response(self, version: i16, frame: bytes::Bytes) -> Result<()> {
                match self {
                    $(Self::$name => super::decode_response::<$module::$request>(frame, version).map(drop),)*
                }
            }

            /// Its name in Kafka's documentation.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        /// A request of any API.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the names of the APIs, as in ApiKey")]
        pub enum AnyRequest {
            $($name($module::$request),)*
        }

        impl AnyRequest {
            /// Reads the message of a request whose header was read by [`RequestHeader::read`](super::RequestHeader::read).
            ///
            /// # Errors
            /// Bytes that are no such message, or another version than those known.
            pub fn decode(key: ApiKey, reader: Reader) -> Result<Self> {
                match key {
                    $(ApiKey::$name => decode_request(reader).map(Self::$name),)*
                }
            }

            /// Which API.
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }
        }

        /// Calls a function that is generic over requests for every API.
        #[cfg(test)]
        macro_rules! for_each_api {
            ($function:ident($argument:expr)) => {
                $($function::<crate::log::wire::api::$module::$request>($argument);)*
            };
        }
        #[cfg(test)]
        pub(super) use for_each_api;
    };
}

apis! {
    0 Produce: produce::ProduceRequest;
    1 Fetch: fetch::FetchRequest;
    2 ListOffsets: list_offsets::ListOffsetsRequest;
    3 Metadata: metadata::MetadataRequest;
    8 OffsetCommit: offset_commit::OffsetCommitRequest;
    9 OffsetFetch: offset_fetch::OffsetFetchRequest;
    10 FindCoordinator: find_coordinator::FindCoordinatorRequest;
    11 JoinGroup: join_group::JoinGroupRequest;
    12 Heartbeat: heartbeat::HeartbeatRequest;
    13 LeaveGroup: leave_group::LeaveGroupRequest;
    14 SyncGroup: sync_group::SyncGroupRequest;
    15 DescribeGroups: describe_groups::DescribeGroupsRequest;
    16 ListGroups: list_groups::ListGroupsRequest;
    17 SaslHandshake: sasl_handshake::SaslHandshakeRequest;
    18 ApiVersions: api_versions::ApiVersionsRequest;
    19 CreateTopics: create_topics::CreateTopicsRequest;
    20 DeleteTopics: delete_topics::DeleteTopicsRequest;
    21 DeleteRecords: delete_records::DeleteRecordsRequest;
    22 InitProducerId: init_producer_id::InitProducerIdRequest;
    23 OffsetForLeaderEpoch: offset_for_leader_epoch::OffsetForLeaderEpochRequest;
    24 AddPartitionsToTxn: add_partitions_to_txn::AddPartitionsToTxnRequest;
    25 AddOffsetsToTxn: add_offsets_to_txn::AddOffsetsToTxnRequest;
    26 EndTxn: end_txn::EndTxnRequest;
    28 TxnOffsetCommit: txn_offset_commit::TxnOffsetCommitRequest;
    29 DescribeAcls: describe_acls::DescribeAclsRequest;
    30 CreateAcls: create_acls::CreateAclsRequest;
    31 DeleteAcls: delete_acls::DeleteAclsRequest;
    32 DescribeConfigs: describe_configs::DescribeConfigsRequest;
    33 AlterConfigs: alter_configs::AlterConfigsRequest;
    35 DescribeLogDirs: describe_log_dirs::DescribeLogDirsRequest;
    36 SaslAuthenticate: sasl_authenticate::SaslAuthenticateRequest;
    37 CreatePartitions: create_partitions::CreatePartitionsRequest;
    42 DeleteGroups: delete_groups::DeleteGroupsRequest;
    43 ElectLeaders: elect_leaders::ElectLeadersRequest;
    44 IncrementalAlterConfigs: incremental_alter_configs::IncrementalAlterConfigsRequest;
    47 OffsetDelete: offset_delete::OffsetDeleteRequest;
    48 DescribeClientQuotas: describe_client_quotas::DescribeClientQuotasRequest;
    50 DescribeUserScramCredentials: describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
    51 AlterUserScramCredentials: alter_user_scram_credentials::AlterUserScramCredentialsRequest;
    60 DescribeCluster: describe_cluster::DescribeClusterRequest;
    61 DescribeProducers: describe_producers::DescribeProducersRequest;
    65 DescribeTransactions: describe_transactions::DescribeTransactionsRequest;
    66 ListTransactions: list_transactions::ListTransactionsRequest;
    68 ConsumerGroupHeartbeat: consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
    69 ConsumerGroupDescribe: consumer_group_describe::ConsumerGroupDescribeRequest;
    74 ListConfigResources: list_config_resources::ListConfigResourcesRequest;
    75 DescribeTopicPartitions: describe_topic_partitions::DescribeTopicPartitionsRequest;
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
