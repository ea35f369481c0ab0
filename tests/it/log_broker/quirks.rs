//! What clients were found to depend on, each with a test of its name: the list is in docs/log.md.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use bandy::log::wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use bandy::log::wire::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use bandy::log::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use bandy::log::wire::api::find_coordinator::FindCoordinatorRequest;
use bandy::log::wire::api::heartbeat::HeartbeatRequest;
use bandy::log::wire::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use bandy::log::wire::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use bandy::log::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use bandy::log::wire::api::metadata::MetadataRequest;
use bandy::log::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use bandy::log::wire::api::sasl_authenticate::SaslAuthenticateRequest;
use bandy::log::wire::api::sasl_handshake::SaslHandshakeRequest;
use bandy::log::wire::{ApiKey, Compression, ErrorCode, Records, Uuid, decode_response, encode_request};
use bandy::storage::{Batch, BatchBuilder};
use bytes::Bytes;

use super::{Client, MOMENT, batch, fetching, now_ms, producing, values};
use crate::support::{Home, Running, bandy};

fn broker() -> Running {
    bandy("log broker -l :0 --memory").starts()
}

fn versions(client: &mut Client) -> ApiVersionsResponse {
    let named = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
    };
    client.ask(3, &named)
}

#[test]
fn quirk_1_produce_is_offered_from_version_0_on_and_groups_too() {
    let server = broker();
    let offered = versions(&mut Client::new(&server));
    let range = |key: ApiKey| {
        let found = offered.api_keys.iter().find(|api| api.api_key == key as i16).unwrap();
        (found.min_version, found.max_version)
    };
    // librdkafka before 2.11 looks for exactly these.
    assert_eq!(range(ApiKey::Produce).0, 0);
    for key in
        [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::LeaveGroup, ApiKey::FindCoordinator]
    {
        assert_eq!(range(key).0, 0, "{key:?}");
    }
    assert!(range(ApiKey::Fetch).0 <= 10 && range(ApiKey::Produce).1 >= 7, "zstd");
    assert!(range(ApiKey::OffsetCommit).0 <= 2 && range(ApiKey::OffsetFetch).0 <= 1);
    assert!(range(ApiKey::ListOffsets).0 <= 1 && range(ApiKey::InitProducerId).0 == 0);
}

#[test]
fn quirk_2_an_unknown_version_of_api_versions_is_answered_in_the_oldest_form() {
    let server = broker();
    let mut client = Client::new(&server);
    let mut frame =
        encode_request(&ApiVersionsRequest::default(), 0, 77, Some("future")).unwrap().to_bytes().to_vec();
    frame[7] = 99;
    frame.extend_from_slice(b"whatever it is");
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    client.socket.write_all(&frame).unwrap();
    let (id, response) = decode_response::<ApiVersionsRequest>(client.frame().unwrap(), 0).unwrap();
    assert_eq!((id, response.error_code), (77, ErrorCode::UNSUPPORTED_VERSION));
    assert!(response.api_keys.iter().any(|api| api.api_key == ApiKey::ApiVersions as i16));
    // The connection is good for another try.
    assert_eq!(versions(&mut client).error_code, ErrorCode::NONE);
    let nameless = client.ask(3, &ApiVersionsRequest::default());
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn quirk_3_the_version_of_transactions_is_offered() {
    let server = broker();
    let mut client = Client::new(&server);
    let response = versions(&mut client);
    assert!(response.supported_features.is_empty(), "before version 4 no feature may begin at 0");
    let feature = &response.finalized_features[0];
    assert_eq!((feature.name.as_str(), feature.max_version_level), ("transaction.version", 2));
    let named = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
    };
    assert_eq!(client.ask(4, &named).supported_features[0].min_version, 0);
}

#[test]
fn quirk_4_mechanisms_are_told_on_success_too() {
    let home = Home::new();
    let users = home.file("users.json", r#"{"users": [{"name": "alice", "password": "secret"}]}"#);
    let words = format!("log broker -l :0 --memory --user-file {}", users.display());
    let server = bandy(&words).home(&home).starts();
    let mut client = Client::new(&server);
    let offered = versions(&mut client);
    let handshake = offered.api_keys.iter().find(|api| api.api_key == ApiKey::SaslHandshake as i16).unwrap();
    assert_eq!((handshake.min_version, handshake.max_version), (0, 1));
    let asked = client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".to_owned() });
    assert_eq!(asked.error_code, ErrorCode::NONE);
    assert_eq!(asked.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    let wrong = SaslAuthenticateRequest { auth_bytes: Bytes::from_static(b"\0alice\0wrong") };
    assert_eq!(client.ask(2, &wrong).error_code, ErrorCode::SASL_AUTHENTICATION_FAILED);
    assert_eq!(client.frame(), None, "no second guess on a connection");
    let mut client = Client::new(&server);
    client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".to_owned() });
    let right = SaslAuthenticateRequest { auth_bytes: Bytes::from_static(b"\0alice\0secret") };
    assert_eq!(client.ask(2, &right).error_code, ErrorCode::NONE);
    assert_eq!(client.metadata(1, None).topics.len(), 0);
    // Who has not said who it is hears nothing, and may send little.
    let mut stranger = Client::new(&server);
    stranger.send(1, &MetadataRequest::default());
    assert_eq!(stranger.frame(), None);
    let mut stranger = Client::new(&server);
    stranger.socket.write_all(&(1i32 << 20).to_be_bytes()).unwrap();
    assert_eq!(stranger.frame(), None);
}

#[test]
fn quirk_5_an_unknown_group_has_been_nowhere_which_is_no_error() {
    let server = broker();
    let mut client = Client::new(&server);
    let topic = OffsetFetchRequestTopic { name: "t".to_owned(), partition_indexes: vec![0] };
    let request =
        OffsetFetchRequest { group_id: "nobody".to_owned(), topics: Some(vec![topic]), ..Default::default() };
    let response = client.ask(7, &request);
    let part = &response.topics[0].partitions[0];
    assert_eq!((response.error_code, part.error_code), (ErrorCode::NONE, ErrorCode::NONE));
    assert_eq!((part.committed_offset, part.metadata.as_deref()), (-1, Some("")));
}

#[test]
fn quirk_6_configs_of_a_created_topic_are_never_null() {
    let server = broker();
    let mut client = Client::new(&server);
    for name in ["fine", "not fine"] {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopic::default()
        };
        let response = client.ask(5, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        assert!(response.topics[0].configs.is_some(), "{response:?}");
    }
}

#[test]
fn quirk_7_nothing_answers_acks_0_and_answers_keep_their_order() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    client.send(9, &producing("t", 0, &batch(&["unanswered"])));
    let first = client.send(9, &producing("t", -1, &batch(&["one"])));
    let waits = client.send(11, &bandy_fetch_that_waits("t", 9, 300));
    let beat = client.send(0, &HeartbeatRequest { group_id: "g".to_owned(), ..Default::default() });
    let start = Instant::now();
    let produced = client.answer::<bandy::log::wire::api::produce::ProduceRequest>(9, first);
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 1);
    client.answer::<bandy::log::wire::api::fetch::FetchRequest>(11, waits);
    let heard = client.answer::<HeartbeatRequest>(0, beat);
    assert_eq!(heard.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(start.elapsed() < Duration::from_secs(30), "a parked fetch lets go at max_wait");
}

fn bandy_fetch_that_waits(topic: &str, from: i64, ms: i32) -> bandy::log::wire::api::fetch::FetchRequest {
    let mut request = fetching(topic, from.min(2));
    request.max_wait_ms = ms;
    request.min_bytes = 1 << 20;
    request
}

#[test]
fn quirk_8_a_fetch_waits_for_bytes_and_no_longer_than_it_says() {
    let server = broker();
    let (mut reader, mut writer) = (Client::new(&server), Client::new(&server));
    writer.create("t", &[]);
    // Nothing there: it waits for as long as it says.
    let start = Instant::now();
    let mut request = fetching("t", 0);
    request.max_wait_ms = 300;
    assert!(reader.fetch(&request).records.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(300));
    // An append wakes it.
    request.max_wait_ms = 60_000;
    let id = reader.send(11, &request);
    reader.socket.set_read_timeout(Some(MOMENT)).unwrap();
    let early = reader.socket.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    reader.socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    writer.produce("t", -1, &batch(&["hello"]));
    let found = reader.answer::<bandy::log::wire::api::fetch::FetchRequest>(11, id);
    assert_eq!(values(&found.responses[0].partitions[0].records.bytes()), ["hello"]);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn quirk_8_a_batch_that_is_larger_than_asked_for_is_sent_whole() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let long = "x".repeat(5000);
    client.produce("t", -1, &batch(&["a", &long, "c"]));
    let mut request = fetching("t", 1);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    request.max_bytes = 1;
    let found = client.fetch(&request);
    assert_eq!(values(&found.records.bytes()), ["a", &long, "c"], "from the beginning of the batch");
}

#[test]
fn quirk_9_no_fetch_session_is_given_out() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let mut request = fetching("t", 0);
    request.session_epoch = 0;
    let response = client.ask(11, &request);
    assert_eq!((response.error_code, response.session_id), (ErrorCode::NONE, 0));
    (request.session_id, request.session_epoch) = (7, 3);
    assert_eq!(client.ask(11, &request).error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn quirk_10_what_all_topics_are_depends_on_the_version() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    assert_eq!(client.metadata(0, Some(&[])).topics.len(), 1, "all, in version 0");
    assert_eq!(client.metadata(1, Some(&[])).topics.len(), 0, "none, later");
    assert_eq!(client.metadata(1, None).topics.len(), 1, "all");
    let before = client.metadata(12, Some(&["t"])).topics.remove(0).topic_id;
    assert_eq!(client.metadata(12, Some(&["t"])).topics.remove(0).topic_id, before);
    let state = DeleteTopicState { name: None, topic_id: before };
    client.ask(6, &DeleteTopicsRequest { topics: vec![state], ..Default::default() });
    client.create("t", &[]);
    let after = client.metadata(12, Some(&["t"])).topics.remove(0).topic_id;
    assert!(after != before && after != Uuid::ZERO, "a new topic has a new id");
}

#[test]
fn quirk_10_topics_are_made_only_when_both_sides_want_that() {
    let server = broker();
    let mut client = Client::new(&server);
    let asking = |allow_auto_topic_creation| MetadataRequest {
        topics: Some(vec![bandy::log::wire::api::metadata::MetadataRequestTopic {
            name: Some("new".to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation,
        ..MetadataRequest::default()
    };
    let code = |client: &mut Client, allow| client.ask(4, &asking(allow)).topics[0].error_code;
    assert_eq!(code(&mut client, false), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&mut client, true), ErrorCode::NONE);
    let strict = bandy("log broker -l :0 --memory --no-auto-create").starts();
    assert_eq!(code(&mut Client::new(&strict), true), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn quirk_12_one_or_many_depends_on_the_version() {
    let server = broker();
    let mut client = Client::new(&server);
    let single = client.ask(2, &FindCoordinatorRequest { key: "g".to_owned(), ..Default::default() });
    assert_eq!((single.error_code, single.node_id), (ErrorCode::NONE, 1));
    let keys = vec!["g".to_owned(), "h".to_owned()];
    let many = client.ask(6, &FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() });
    assert_eq!(many.coordinators.len(), 2);
    let group = |name: &str| OffsetFetchRequestGroup {
        group_id: name.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopics {
            name: "t".to_owned(),
            partition_indexes: vec![0],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let offsets =
        client.ask(8, &OffsetFetchRequest { groups: vec![group("g"), group("h")], ..Default::default() });
    assert_eq!(offsets.groups.len(), 2);
    let leaving =
        LeaveGroupRequest { group_id: "g".to_owned(), member_id: "x".to_owned(), ..Default::default() };
    assert_eq!(client.ask(1, &leaving).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let members = vec![MemberIdentity { member_id: "x".to_owned(), ..Default::default() }];
    let left = client.ask(4, &LeaveGroupRequest { group_id: "g".to_owned(), members, ..Default::default() });
    assert_eq!(
        (left.error_code, left.members[0].error_code),
        (ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID)
    );
}

#[test]
fn quirk_13_a_new_member_is_given_an_id_to_join_with() {
    let server = broker();
    let mut client = Client::new(&server);
    let joining = |member_id: &str| JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata: Bytes::new() }],
        ..JoinGroupRequest::default()
    };
    let refused = client.ask(4, &joining(""));
    assert_eq!(refused.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let joined = client.ask(4, &joining(&refused.member_id));
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
    let fixed = JoinGroupRequest {
        group_id: "static".to_owned(),
        group_instance_id: Some("one".to_owned()),
        ..joining("")
    };
    assert_eq!(client.ask(5, &fixed).error_code, ErrorCode::NONE, "static members need none");
    let old = JoinGroupRequest { group_id: "old".to_owned(), rebalance_timeout_ms: -1, ..joining("") };
    assert_eq!(client.ask(0, &old).error_code, ErrorCode::NONE, "and old ones know nothing of it");
}

#[test]
fn quirk_14_the_time_of_the_append_is_summed_up() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let mut builder = BatchBuilder::new();
    builder.push_copied(1000, None, Some(b"old"), &[]).unwrap();
    let produced = client.produce("t", -1, &builder.to_vec(0, -1));
    assert!(produced.log_append_time_ms >= before);
    let bytes = client.fetch(&fetching("t", 0)).records.bytes();
    let kept = Batch::parse(&bytes).unwrap();
    kept.check().unwrap();
    let record = kept.records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp, produced.log_append_time_ms);
}

#[test]
fn quirk_15_an_unknown_api_is_answered_before_the_connection_ends() {
    let server = broker();
    for (key, version) in [(999i16, 0i16), (ApiKey::Fetch as i16, 99)] {
        let mut client = Client::new(&server);
        let mut frame = Vec::new();
        frame.extend_from_slice(&10i32.to_be_bytes());
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&5i32.to_be_bytes());
        frame.extend_from_slice(&(-1i16).to_be_bytes());
        client.socket.write_all(&frame).unwrap();
        assert_eq!(&client.frame().unwrap()[..], [0, 0, 0, 5, 0, 35]);
        assert_eq!(client.frame(), None);
    }
}

#[test]
fn quirk_17_a_compacted_topic_refuses_records_without_keys_one_by_one() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[("cleanup.policy", "compact")]);
    let mut builder = BatchBuilder::new();
    builder.push_copied(now_ms(), Some(b"k"), Some(b"1"), &[]).unwrap();
    builder.push_copied(now_ms(), None, Some(b"2"), &[]).unwrap();
    let refused = client.produce("t", -1, &builder.to_vec(0, -1));
    assert_eq!(refused.error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(refused.record_errors.len(), 1);
    assert_eq!(refused.record_errors[0].batch_index, 1);
    assert_eq!(client.values("t", 0), [""; 0], "nothing of it was kept");
    assert_eq!(client.produce("t", -1, &batch(&["fine"])).error_code, ErrorCode::NONE);
}

#[test]
fn quirk_18_sizes_have_limits() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[("max.message.bytes", "1000")]);
    let refused = client.produce("t", -1, &batch(&[&"x".repeat(1000)]));
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(client.produce("t", -1, &batch(&["fits"])).error_code, ErrorCode::NONE);
    client.socket.write_all(&i32::MAX.to_be_bytes()).unwrap();
    assert_eq!(client.frame(), None, "a request of 2 GiB is not waited for");
    let mut client = Client::new(&server);
    client.socket.write_all(&(-1i32).to_be_bytes()).unwrap();
    assert_eq!(client.frame(), None);
    // An array that says it has two thousand million elements.
    let mut client = Client::new(&server);
    let mut frame = vec![0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
    frame.extend_from_slice(&i32::MAX.to_be_bytes());
    client.socket.write_all(&frame).unwrap();
    assert_eq!(client.frame(), None);
    assert_eq!(Client::new(&server).metadata(1, None).topics.len(), 1, "the broker is well");
}

#[test]
fn damaged_batches_are_refused_and_nothing_of_them_kept() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let good = batch(&["a", "b"]);
    let code = |client: &mut Client, bytes: &[u8]| client.produce("t", -1, bytes).error_code;
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(code(&mut client, &flipped), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(&mut client, &good[..good.len() - 1]), ErrorCode::CORRUPT_MESSAGE);
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(code(&mut client, &old), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&mut client, &[good.clone(), good.clone()].concat()), ErrorCode::INVALID_RECORD);
    let mut control = BatchBuilder::new();
    control.push_copied(now_ms(), None, None, &[]).unwrap();
    control.set_attributes(32);
    assert_eq!(code(&mut client, &control.to_vec(0, -1)), ErrorCode::INVALID_RECORD);
    let none = client.ask(9, &{
        let mut request = producing("t", -1, &good);
        request.topic_data[0].partition_data[0].records = Records::Null;
        request
    });
    assert_eq!(none.responses[0].partition_responses[0].error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(code(&mut client, &good), ErrorCode::NONE);
    assert_eq!(client.values("t", 0), ["a", "b"]);
}

#[test]
fn quirk_19_bytes_behind_a_request_are_not_looked_at() {
    let server = broker();
    let mut client = Client::new(&server);
    // librdkafka asks for the metadata of all topics with three bytes too many.
    let frame = encode_request(&MetadataRequest { topics: None, ..Default::default() }, 12, 5, Some("c"));
    let mut frame = frame.unwrap().to_bytes().to_vec();
    frame.extend_from_slice(&[0; 3]);
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    client.socket.write_all(&frame).unwrap();
    let (id, response) = decode_response::<MetadataRequest>(client.frame().unwrap(), 12).unwrap();
    assert_eq!((id, response.brokers.len()), (5, 1));
}

#[test]
fn quirk_11_every_version_of_an_answer_can_be_said() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    assert_eq!(client.produce("t", -1, &batch(&["x"])).error_code, ErrorCode::NONE);
    // What a version does not have is left out, not refused: the epoch of a leader before version 4, for one.
    for version in 1..=10 {
        let part = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![part] };
        let listed = client.ask(version, &ListOffsetsRequest { topics: vec![topic], ..Default::default() });
        let part = &listed.topics[0].partitions[0];
        assert_eq!((part.error_code, part.offset), (ErrorCode::NONE, 1), "{version}");
        assert_eq!(part.leader_epoch, if version < 4 { -1 } else { 0 }, "{version}");
    }
    for version in 0..=13 {
        assert_eq!(client.metadata(version, Some(&["t"])).topics[0].error_code, ErrorCode::NONE, "{version}");
    }
    for version in 0..=6 {
        let request = FindCoordinatorRequest {
            key: if version < 4 { "g".to_owned() } else { String::new() },
            coordinator_keys: if version < 4 { Vec::new() } else { vec!["g".to_owned()] },
            ..FindCoordinatorRequest::default()
        };
        let found = client.ask(version, &request);
        let error = found.coordinators.first().map_or(found.error_code, |one| one.error_code);
        assert_eq!(error, ErrorCode::NONE, "{version}");
    }
    for version in 4..=12 {
        let found = client.ask(version, &fetching("t", 0)).responses.remove(0).partitions.remove(0);
        assert_eq!(values(&found.records.bytes()), ["x"], "{version}");
    }
}

#[test]
fn quirk_16_the_ranges_are_those_of_one_release() {
    let server = broker();
    let offered = versions(&mut Client::new(&server));
    let max = |key: ApiKey| {
        offered.api_keys.iter().find(|api| api.api_key == key as i16).map_or(-1, |api| api.max_version)
    };
    // By what kafka-python 3 tells releases apart, newest first: 4.0 is the first one that fits.
    let marks = [
        ((4, 3), ApiKey::DescribeLogDirs, 5),
        ((4, 2), ApiKey::ListOffsets, 11),
        ((4, 1), ApiKey::Produce, 13),
        ((4, 0), ApiKey::ListOffsets, 10),
    ];
    let inferred =
        marks.iter().find(|(_, key, version)| max(*key) >= *version).map(|(release, _, _)| *release);
    assert_eq!(inferred, Some((4, 0)));
    // And what that release has, clients find: as they are in 4.0.
    for (key, version) in [
        (ApiKey::Produce, 12),
        (ApiKey::Fetch, 17),
        (ApiKey::Metadata, 13),
        (ApiKey::OffsetCommit, 9),
        (ApiKey::OffsetFetch, 9),
        (ApiKey::JoinGroup, 9),
        (ApiKey::DescribeAcls, 3),
        (ApiKey::ConsumerGroupHeartbeat, 1),
        (ApiKey::DescribeTopicPartitions, 0),
    ] {
        assert_eq!(max(key), version, "{key:?}");
    }
}

#[test]
fn a_topic_s_own_compression_packs_what_comes_otherwise() {
    let server = broker();
    let mut client = Client::new(&server);
    for codec in ["gzip", "snappy", "lz4", "zstd", "uncompressed"] {
        client.create(codec, &[("compression.type", codec)]);
        assert_eq!(client.produce(codec, -1, &batch(&["x", "y"])).error_code, ErrorCode::NONE, "{codec}");
        let found = client.fetch(&fetching(codec, 0)).records.bytes();
        let stored = Batch::parse(&found).unwrap();
        stored.check().unwrap();
        let wanted = match codec {
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        };
        assert_eq!((stored.header.compression(), stored.header.count), (wanted as u8, 2), "{codec}");
        assert!(!wanted.unpack(stored.body(), 1 << 20).unwrap().is_empty(), "{codec}");
    }
}
