//! Which APIs there are, in which versions, and who does them.

use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Head, Outgoing, Pending};
use super::session::Session;
use super::{
    acls, admin, configs, consumer_groups, fetch, groups, login, metadata, offset_commits, offsets, produce,
    producers, space, transaction_api, users,
};
use crate::log::wire::api::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::log::wire::{ApiKey, ErrorCode, Reader, RequestHeader, Result, decode_request};

/// What is offered: what is done, in the ranges of one release of Kafka (4.0), so that clients which guess the release from
/// the ranges guess one. Produce is offered from version 0 on, since old clients take its oldest version for a sign of
/// what a broker can do (KAFKA-18659); versions before 3 are answered with UNSUPPORTED_VERSION.
const OFFERED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 12),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::ConsumerGroupDescribe, 0, 1),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 5),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::TxnOffsetCommit, 0, 5),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 1),
    (ApiKey::DescribeAcls, 1, 3),
    (ApiKey::CreateAcls, 1, 3),
    (ApiKey::DeleteAcls, 1, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::DescribeUserScramCredentials, 0, 0),
    (ApiKey::AlterUserScramCredentials, 0, 0),
    (ApiKey::DescribeTopicPartitions, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::ListConfigResources, 0, 1),
];

fn offered(key: ApiKey) -> Option<(i16, i16)> {
    OFFERED.iter().find(|(offered, _, _)| *offered == key).map(|(_, min, max)| (*min, *max))
}

/// Does a request, or puts it in line.
pub(super) fn handle(session: &Arc<Session>, frame: Bytes) -> Pending {
    if session.login.is_bare() {
        return login::bare(session, &frame);
    }
    let mut reader = Reader::new(frame, 0, false);
    let header = match RequestHeader::read(&mut reader) {
        Ok(header) => header,
        Err(error) => return broken(session, "a request's header", &error),
    };
    let head = Head { version: header.version, correlation_id: header.correlation_id };
    let Some(key) = ApiKey::from_code(header.api_key) else { return unknown(session, &header) };
    let Some((min, max)) = offered(key) else { return unknown(session, &header) };
    if !session.login.is_done() && !login::is_open_to_all(key) {
        let (peer, api) = (&session.peer, key.name());
        tracing::info!(peer, api, "asked by someone who has not said who it is; the connection is closed");
        return Pending::Close;
    }
    let versions = key.versions();
    if !(min..=max).contains(&head.version) || !versions.contains(head.version) {
        return match key {
            // KIP-511: in the oldest form, which everyone reads.
            ApiKey::ApiVersions => {
                let head = Head { version: 0, ..head };
                Pending::ready::<ApiVersionsRequest>(head, &api_versions(ErrorCode::UNSUPPORTED_VERSION))
            }
            _ => unsupported(session, &header),
        };
    }
    dispatch(session, key, head, &header, reader).unwrap_or_else(|error| broken(session, key.name(), &error))
}

fn dispatch(
    session: &Arc<Session>,
    key: ApiKey,
    head: Head,
    header: &RequestHeader,
    reader: Reader,
) -> Result<Pending> {
    let client_id = header.client_id.as_deref().unwrap_or_default();
    Ok(match key {
        ApiKey::Produce => produce::produce(session, head, decode_request(reader)?),
        ApiKey::Fetch => fetch::fetch(session, head, decode_request(reader)?),
        ApiKey::ListOffsets => offsets::list(session, head, decode_request(reader)?),
        ApiKey::OffsetForLeaderEpoch => offsets::for_epoch(session, head, decode_request(reader)?),
        ApiKey::Metadata => metadata::metadata(session, head, decode_request(reader)?),
        ApiKey::DescribeCluster => metadata::cluster(session, head, &decode_request(reader)?),
        ApiKey::FindCoordinator => metadata::coordinators(session, head, decode_request(reader)?),
        ApiKey::JoinGroup => groups::join(session, head, client_id, decode_request(reader)?),
        ApiKey::SyncGroup => groups::sync(session, head, decode_request(reader)?),
        ApiKey::Heartbeat => groups::heartbeat(session, head, decode_request(reader)?),
        ApiKey::LeaveGroup => groups::leave(session, head, decode_request(reader)?),
        ApiKey::DescribeGroups => groups::describe(session, head, decode_request(reader)?),
        ApiKey::ListGroups => groups::list(session, head, &decode_request(reader)?),
        ApiKey::DeleteGroups => groups::delete(session, head, decode_request(reader)?),
        ApiKey::ConsumerGroupHeartbeat => {
            consumer_groups::heartbeat(session, head, client_id, decode_request(reader)?)
        }
        ApiKey::ConsumerGroupDescribe => consumer_groups::describe(session, head, decode_request(reader)?),
        ApiKey::OffsetDelete => offset_commits::delete(session, head, decode_request(reader)?),
        ApiKey::OffsetCommit => offset_commits::commit(session, head, decode_request(reader)?),
        ApiKey::OffsetFetch => offset_commits::fetch(session, head, decode_request(reader)?),
        ApiKey::InitProducerId => producers::init(session, head, &decode_request(reader)?),
        ApiKey::AddPartitionsToTxn => transaction_api::add_partitions(session, head, decode_request(reader)?),
        ApiKey::AddOffsetsToTxn => transaction_api::add_offsets(session, head, decode_request(reader)?),
        ApiKey::EndTxn => transaction_api::end(session, head, decode_request(reader)?),
        ApiKey::TxnOffsetCommit => transaction_api::commit_offsets(session, head, decode_request(reader)?),
        ApiKey::DescribeTransactions => transaction_api::describe(session, head, decode_request(reader)?),
        ApiKey::ListTransactions => transaction_api::list(session, head, &decode_request(reader)?),
        ApiKey::DescribeProducers => producers::describe(session, head, decode_request(reader)?),
        ApiKey::SaslHandshake => login::handshake(session, head, &decode_request(reader)?),
        ApiKey::SaslAuthenticate => login::authenticate(session, head, &decode_request(reader)?),
        ApiKey::ApiVersions => versions(head, &decode_request(reader)?),
        ApiKey::CreateTopics => admin::create_topics(session, head, decode_request(reader)?),
        ApiKey::CreatePartitions => space::create_partitions(session, head, decode_request(reader)?),
        ApiKey::DeleteRecords => space::delete_records(session, head, decode_request(reader)?),
        ApiKey::DescribeLogDirs => space::log_dirs(session, head, decode_request(reader)?),
        ApiKey::DescribeConfigs => configs::describe(session, head, decode_request(reader)?),
        ApiKey::AlterConfigs => configs::alter_all(session, head, decode_request(reader)?),
        ApiKey::IncrementalAlterConfigs => configs::alter_some(session, head, decode_request(reader)?),
        ApiKey::ListConfigResources => configs::list(session, head, &decode_request(reader)?),
        ApiKey::DescribeAcls => acls::describe(session, head, decode_request(reader)?),
        ApiKey::CreateAcls => acls::create(session, head, decode_request(reader)?),
        ApiKey::DeleteAcls => acls::delete(session, head, decode_request(reader)?),
        ApiKey::ElectLeaders => space::elect_leaders(session, head, decode_request(reader)?),
        ApiKey::DescribeClientQuotas => users::quotas(session, head, &decode_request(reader)?),
        ApiKey::DescribeUserScramCredentials => users::describe(session, head, decode_request(reader)?),
        ApiKey::AlterUserScramCredentials => users::alter(session, head, decode_request(reader)?),
        ApiKey::DescribeTopicPartitions => metadata::topic_partitions(session, head, decode_request(reader)?),
        ApiKey::DeleteTopics => admin::delete_topics(session, head, decode_request(reader)?),
    })
}

fn versions(head: Head, request: &ApiVersionsRequest) -> Pending {
    // KIP-511: names and versions of clients are words for people's eyes and for metrics.
    let fits = |text: &str| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    let is_named = fits(&request.client_software_name) && fits(&request.client_software_version);
    let error = if head.version < 3 || is_named { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
    Pending::ready::<ApiVersionsRequest>(head, &with_features(head.version, api_versions(error)))
}

/// What both sides know of transactions: version 2, by which each has an epoch of its own (KIP-890). Who does not know the
/// feature does as in version 0.
fn with_features(version: i16, response: ApiVersionsResponse) -> ApiVersionsResponse {
    const NAME: &str = "transaction.version";
    const LEVEL: i16 = 2;
    /// Before, no feature could begin at 0: those that do are left out.
    const ZERO_FROM: i16 = 4;
    let supported = SupportedFeatureKey { name: NAME.to_owned(), min_version: 0, max_version: LEVEL };
    let finalized =
        FinalizedFeatureKey { name: NAME.to_owned(), max_version_level: LEVEL, min_version_level: LEVEL };
    ApiVersionsResponse {
        supported_features: if version >= ZERO_FROM { vec![supported] } else { Vec::new() },
        finalized_features_epoch: 1,
        finalized_features: vec![finalized],
        ..response
    }
}

fn api_versions(error_code: ErrorCode) -> ApiVersionsResponse {
    let one = |(key, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: *key as i16,
        min_version: *min_version,
        max_version: *max_version,
    };
    let mut api_keys: Vec<ApiVersion> = OFFERED.iter().map(one).collect();
    api_keys.sort_by_key(|api| api.api_key);
    ApiVersionsResponse { error_code, api_keys, ..ApiVersionsResponse::default() }
}

/// A version that is not offered, of an API that is: an answer that every version begins with, so that the client hears
/// of it rather than connect again and again.
fn unsupported(session: &Session, header: &RequestHeader) -> Pending {
    tracing::info!(
        peer = session.peer,
        api = header.api_key,
        version = header.version,
        "a request of a version that is not offered"
    );
    Pending::Last(Outgoing::bare(header.correlation_id, ErrorCode::UNSUPPORTED_VERSION))
}

/// An API that is not there.
fn unknown(session: &Session, header: &RequestHeader) -> Pending {
    tracing::info!(
        peer = session.peer,
        api = header.api_key,
        version = header.version,
        "a request of an API that is not offered"
    );
    Pending::Last(Outgoing::bare(header.correlation_id, ErrorCode::UNSUPPORTED_VERSION))
}

/// Bytes that are no request: where the next one begins is not known either.
fn broken(session: &Session, what: &str, error: &crate::log::wire::Error) -> Pending {
    tracing::info!(peer = session.peer, what, %error, "a malformed request; the connection is closed");
    Pending::Close
}
