//! The protocol's error codes: number, name, what it means, and whether the same request may succeed later.

use std::fmt;

use super::fault::Result;
use super::primitive::{Field, Reader};
use super::write::Writer;

/// An error code in a response; 0 is none. Codes that are not in the table are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ErrorCode(pub i16);

struct Row {
    code: i16,
    name: &'static str,
    retriable: bool,
    message: &'static str,
}

macro_rules! codes {
    (@retriable again) => { true };
    (@retriable never) => { false };
    ($($name:ident = $code:literal, $retriable:ident, $message:literal;)*) => {
        impl ErrorCode {
            $(#[doc = concat!("`", stringify!($name), "`: ", $message, ".")] pub const $name: Self = Self($code);)*
        }

        /// By rising code, so that it can be searched.
        const TABLE: &[Row] = &[$(Row {
            code: $code,
            name: stringify!($name),
            retriable: codes!(@retriable $retriable),
            message: $message,
        }),*];
    };
}

// Names, numbers and retriability are those of Kafka 4.2 (org.apache.kafka.common.protocol.Errors).
codes! {
    UNKNOWN_SERVER_ERROR = -1, never, "the broker failed in a way it does not know";
    NONE = 0, never, "no error";
    OFFSET_OUT_OF_RANGE = 1, never, "the offset is outside of what the partition holds";
    CORRUPT_MESSAGE = 2, again, "the batch was damaged on its way, or has a form the broker does not take";
    UNKNOWN_TOPIC_OR_PARTITION = 3, again, "the broker has no such topic or partition";
    INVALID_FETCH_SIZE = 4, never, "the fetch size makes no sense";
    LEADER_NOT_AVAILABLE = 5, again, "the partition has no leader at the moment";
    NOT_LEADER_OR_FOLLOWER = 6, again, "the broker is not the partition's leader (any more)";
    REQUEST_TIMED_OUT = 7, again, "the request was not done in the time it had";
    BROKER_NOT_AVAILABLE = 8, never, "the broker cannot be reached";
    REPLICA_NOT_AVAILABLE = 9, again, "the replica cannot be reached";
    MESSAGE_TOO_LARGE = 10, never, "the batch is larger than the topic's max.message.bytes";
    STALE_CONTROLLER_EPOCH = 11, never, "the controller has moved on";
    OFFSET_METADATA_TOO_LARGE = 12, never, "the commit's metadata text is too long";
    NETWORK_EXCEPTION = 13, again, "the connection was lost before the answer came";
    COORDINATOR_LOAD_IN_PROGRESS = 14, again, "the coordinator is still loading its state";
    COORDINATOR_NOT_AVAILABLE = 15, again, "there is no coordinator at the moment";
    NOT_COORDINATOR = 16, again, "another broker is the coordinator (now)";
    INVALID_TOPIC_EXCEPTION = 17, never, "the topic's name is not allowed, or the topic is internal";
    RECORD_LIST_TOO_LARGE = 18, never, "the batch is larger than a segment";
    NOT_ENOUGH_REPLICAS = 19, again, "fewer replicas are in sync than min.insync.replicas asks for";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, again, "written, but by fewer replicas than min.insync.replicas asks for";
    INVALID_REQUIRED_ACKS = 21, never, "acks is not -1, 0 or 1";
    ILLEGAL_GENERATION = 22, never, "the group has gone on to another generation";
    INCONSISTENT_GROUP_PROTOCOL = 23, never, "the member speaks no protocol that the group has in common";
    INVALID_GROUP_ID = 24, never, "the group's name is not allowed";
    UNKNOWN_MEMBER_ID = 25, never, "the group has no such member";
    INVALID_SESSION_TIMEOUT = 26, never, "the session timeout is outside of what the broker allows";
    REBALANCE_IN_PROGRESS = 27, never, "the group is being divided anew; join again";
    INVALID_COMMIT_OFFSET_SIZE = 28, never, "the commit is too large";
    TOPIC_AUTHORIZATION_FAILED = 29, never, "not allowed on this topic";
    GROUP_AUTHORIZATION_FAILED = 30, never, "not allowed on this group";
    CLUSTER_AUTHORIZATION_FAILED = 31, never, "not allowed on the cluster";
    INVALID_TIMESTAMP = 32, never, "the record's time is outside of what the topic allows";
    UNSUPPORTED_SASL_MECHANISM = 33, never, "the broker does not offer this SASL mechanism";
    ILLEGAL_SASL_STATE = 34, never, "SASL messages came out of turn";
    UNSUPPORTED_VERSION = 35, never, "the broker does not speak this version of the API";
    TOPIC_ALREADY_EXISTS = 36, never, "there is a topic of this name already";
    INVALID_PARTITIONS = 37, never, "a topic cannot have this number of partitions";
    INVALID_REPLICATION_FACTOR = 38, never, "there are not that many brokers to copy to";
    INVALID_REPLICA_ASSIGNMENT = 39, never, "the partitions cannot be placed like this";
    INVALID_CONFIG = 40, never, "a configuration value is not allowed";
    NOT_CONTROLLER = 41, again, "another broker is the controller";
    INVALID_REQUEST = 42, never, "the request makes no sense to the broker";
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, never, "the broker's record format cannot do this";
    POLICY_VIOLATION = 44, never, "the broker's policy forbids it";
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, never, "a batch of the producer is missing before this one";
    DUPLICATE_SEQUENCE_NUMBER = 46, never, "the batch was written before";
    INVALID_PRODUCER_EPOCH = 47, never, "a newer producer has taken over, or the epoch is old";
    INVALID_TXN_STATE = 48, never, "the transaction is not in a state for this";
    INVALID_PRODUCER_ID_MAPPING = 49, never, "the producer id does not belong to this transactional id";
    INVALID_TRANSACTION_TIMEOUT = 50, never, "the transaction's timeout is over the broker's limit";
    CONCURRENT_TRANSACTIONS = 51, again, "another operation of the same transaction is under way";
    TRANSACTION_COORDINATOR_FENCED = 52, never, "a newer coordinator has taken over the transaction";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, never, "not allowed with this transactional id";
    SECURITY_DISABLED = 54, never, "the broker runs without security";
    OPERATION_NOT_ATTEMPTED = 55, never, "not tried, because another part of the request failed";
    KAFKA_STORAGE_ERROR = 56, again, "the broker's disk failed";
    LOG_DIR_NOT_FOUND = 57, never, "the broker has no such log directory";
    SASL_AUTHENTICATION_FAILED = 58, never, "the user or the password is wrong";
    UNKNOWN_PRODUCER_ID = 59, never, "the broker has forgotten this producer";
    REASSIGNMENT_IN_PROGRESS = 60, never, "the partition is being moved";
    DELEGATION_TOKEN_AUTH_DISABLED = 61, never, "delegation tokens are not enabled";
    DELEGATION_TOKEN_NOT_FOUND = 62, never, "there is no such delegation token";
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, never, "the delegation token belongs to somebody else";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, never, "delegation tokens are not given out on this connection";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, never, "not allowed with this delegation token";
    DELEGATION_TOKEN_EXPIRED = 66, never, "the delegation token has expired";
    INVALID_PRINCIPAL_TYPE = 67, never, "the kind of principal is not known";
    NON_EMPTY_GROUP = 68, never, "the group still has members";
    GROUP_ID_NOT_FOUND = 69, never, "there is no such group";
    FETCH_SESSION_ID_NOT_FOUND = 70, again, "the broker has forgotten the fetch session";
    INVALID_FETCH_SESSION_EPOCH = 71, again, "the fetch session is at another epoch";
    LISTENER_NOT_FOUND = 72, again, "the leader does not listen on the listener that was asked";
    TOPIC_DELETION_DISABLED = 73, never, "the broker does not allow topics to be deleted";
    FENCED_LEADER_EPOCH = 74, again, "a newer leader has taken over";
    UNKNOWN_LEADER_EPOCH = 75, again, "the broker does not know of such a new leader yet";
    UNSUPPORTED_COMPRESSION_TYPE = 76, never, "the client cannot read this compression";
    STALE_BROKER_EPOCH = 77, never, "the broker has registered anew since";
    OFFSET_NOT_AVAILABLE = 78, again, "the new leader does not know yet how far the log is committed";
    MEMBER_ID_REQUIRED = 79, never, "the member has been given an id to join with";
    PREFERRED_LEADER_NOT_AVAILABLE = 80, again, "the preferred leader cannot be reached";
    GROUP_MAX_SIZE_REACHED = 81, never, "the group is full";
    FENCED_INSTANCE_ID = 82, never, "another member with the same group.instance.id has joined";
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, again, "none of the replicas that may lead can be reached";
    ELECTION_NOT_NEEDED = 84, again, "the right replica leads already";
    NO_REASSIGNMENT_IN_PROGRESS = 85, never, "the partition is not being moved";
    GROUP_SUBSCRIBED_TO_TOPIC = 86, never, "the group reads this topic at the moment";
    INVALID_RECORD = 87, never, "the broker refuses the record";
    UNSTABLE_OFFSET_COMMIT = 88, again, "offsets of an open transaction are in the way";
    THROTTLING_QUOTA_EXCEEDED = 89, again, "over the quota; wait as long as the answer says";
    PRODUCER_FENCED = 90, never, "a newer producer with the same transactional id has taken over";
    RESOURCE_NOT_FOUND = 91, never, "there is no such thing";
    DUPLICATE_RESOURCE = 92, never, "the same thing is named twice";
    UNACCEPTABLE_CREDENTIAL = 93, never, "the credential is not good enough for the broker";
    INCONSISTENT_VOTER_SET = 94, never, "the voters do not agree on who they are";
    INVALID_UPDATE_VERSION = 95, never, "the feature cannot be set to this version";
    FEATURE_UPDATE_FAILED = 96, never, "the feature could not be set";
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, never, "the forwarded principal cannot be read";
    SNAPSHOT_NOT_FOUND = 98, never, "there is no such snapshot";
    POSITION_OUT_OF_RANGE = 99, never, "the position is outside of the snapshot";
    UNKNOWN_TOPIC_ID = 100, again, "the broker has no topic of this id";
    DUPLICATE_BROKER_REGISTRATION = 101, never, "another broker has this id";
    BROKER_ID_NOT_REGISTERED = 102, never, "no broker has registered with this id";
    INCONSISTENT_TOPIC_ID = 103, again, "the topic was deleted and made anew: it has another id";
    INCONSISTENT_CLUSTER_ID = 104, never, "the broker belongs to another cluster";
    TRANSACTIONAL_ID_NOT_FOUND = 105, never, "there is no such transactional id";
    FETCH_SESSION_TOPIC_ID_ERROR = 106, again, "the fetch session mixes topic ids and names";
    INELIGIBLE_REPLICA = 107, never, "the replica may not be in sync now";
    NEW_LEADER_ELECTED = 108, never, "done, and a new leader was chosen";
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, never, "the offset is only in tiered storage";
    FENCED_MEMBER_EPOCH = 110, never, "the coordinator has gone past this member; join anew";
    UNRELEASED_INSTANCE_ID = 111, never, "another member still holds this group.instance.id";
    UNSUPPORTED_ASSIGNOR = 112, never, "the group cannot divide partitions in this way";
    STALE_MEMBER_EPOCH = 113, never, "the member is behind the coordinator; heartbeat first";
    MISMATCHED_ENDPOINT_TYPE = 114, never, "the endpoint is of another kind: broker or controller";
    UNSUPPORTED_ENDPOINT_TYPE = 115, never, "this kind of endpoint is not supported";
    UNKNOWN_CONTROLLER_ID = 116, never, "there is no such controller";
    UNKNOWN_SUBSCRIPTION_ID = 117, never, "the telemetry subscription is not valid (any more)";
    TELEMETRY_TOO_LARGE = 118, never, "the telemetry is too large";
    INVALID_REGISTRATION = 119, never, "the broker may not register like this";
    TRANSACTION_ABORTABLE = 120, never, "the transaction has to be aborted; then the producer can go on";
    INVALID_RECORD_STATE = 121, never, "the record cannot be acknowledged in this state";
    SHARE_SESSION_NOT_FOUND = 122, again, "the broker has forgotten the share session";
    INVALID_SHARE_SESSION_EPOCH = 123, again, "the share session is at another epoch";
    FENCED_STATE_EPOCH = 124, never, "the share group's state has moved on";
    INVALID_VOTER_KEY = 125, never, "the voter has another key";
    DUPLICATE_VOTER = 126, never, "the voter is one already";
    VOTER_NOT_FOUND = 127, never, "there is no such voter";
    INVALID_REGULAR_EXPRESSION = 128, never, "the regular expression cannot be read";
    REBOOTSTRAP_REQUIRED = 129, never, "what the client knows of the cluster is too old; start from the bootstrap servers";
    STREAMS_INVALID_TOPOLOGY = 130, never, "the topology makes no sense";
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, never, "the topology's epoch makes no sense";
    STREAMS_TOPOLOGY_FENCED = 132, never, "a newer topology has taken over";
    SHARE_SESSION_LIMIT_REACHED = 133, again, "the broker has as many share sessions as it takes";
}

impl ErrorCode {
    fn row(self) -> Option<&'static Row> {
        TABLE.binary_search_by_key(&self.0, |row| row.code).ok().and_then(|at| TABLE.get(at))
    }

    /// No error?
    pub fn is_ok(self) -> bool {
        self == Self::NONE
    }

    /// An error?
    pub fn is_err(self) -> bool {
        !self.is_ok()
    }

    /// `Ok`, or the error to be handled with `?`.
    ///
    /// # Errors
    /// It is one.
    pub fn into_result(self) -> std::result::Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// The name that Kafka's documentation uses, as `NOT_LEADER_OR_FOLLOWER`; `UNKNOWN` when it is not in the table.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN", |row| row.name)
    }

    /// What it means, in one line without a full stop.
    pub fn message(self) -> &'static str {
        self.row().map_or("an error that is not known here", |row| row.message)
    }

    /// May the same request succeed when it is sent again, perhaps to another broker?
    pub fn is_retriable(self) -> bool {
        self.row().is_some_and(|row| row.retriable)
    }

    /// The code of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name)).map(|row| Self(row.code))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message(), self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl std::error::Error for ErrorCode {}

impl Field for ErrorCode {
    fn size_min(_: i16, _: bool) -> usize {
        2
    }

    fn read(reader: &mut Reader, name: &'static str) -> Result<Self> {
        i16::read(reader, name).map(Self)
    }

    fn write(&self, writer: &mut Writer, name: &'static str) -> Result<()> {
        self.0.write(writer, name)
    }

    #[cfg(test)]
    fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
        Self(i16::sample(rng, version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_by_number_and_name() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code + 1 == pair[1].code));
        for row in TABLE {
            assert_eq!(ErrorCode(row.code).name(), row.name);
            assert_eq!(ErrorCode::from_name(&row.name.to_lowercase()), Some(ErrorCode(row.code)));
        }
        assert_eq!(ErrorCode(-2).name(), "UNKNOWN");
        assert_eq!(
            ErrorCode::NOT_LEADER_OR_FOLLOWER.to_string(),
            "the broker is not the partition's leader (any more) (NOT_LEADER_OR_FOLLOWER 6)"
        );
    }

    #[test]
    fn what_may_be_sent_again_is_known() {
        assert!(ErrorCode::NOT_COORDINATOR.is_retriable());
        assert!(!ErrorCode::UNKNOWN_MEMBER_ID.is_retriable());
        assert!(!ErrorCode(999).is_retriable());
    }
}
