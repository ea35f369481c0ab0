//! Access rules and users that are made through the API, as clients meet them.

use bandy::log::wire::api::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use bandy::log::wire::api::consumer_group_describe::ConsumerGroupDescribeRequest;
use bandy::log::wire::api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use bandy::log::wire::api::create_acls::{AclCreation, CreateAclsRequest};
use bandy::log::wire::api::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use bandy::log::wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use bandy::log::wire::api::describe_acls::DescribeAclsRequest;
use bandy::log::wire::api::describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
use bandy::log::wire::api::find_coordinator::FindCoordinatorRequest;
use bandy::log::wire::api::init_producer_id::InitProducerIdRequest;
use bandy::log::wire::api::join_group::JoinGroupRequest;
use bandy::log::wire::api::list_groups::ListGroupsRequest;
use bandy::log::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use bandy::log::wire::api::sasl_authenticate::SaslAuthenticateRequest;
use bandy::log::wire::api::sasl_handshake::SaslHandshakeRequest;
use bandy::log::wire::api::{AclOperation, AclPermission, PatternType, ResourceType};
use bandy::log::wire::{ErrorCode, Uuid};
use bytes::Bytes;
use rustix::process::Signal;

use super::{Client, batch, fetching};
use crate::support::{Home, Running, bandy};

const USERS: &str = r#"{"users": [{"name": "root", "password": "r"}, {"name": "alice", "password": "a"}]}"#;

fn broker(home: &Home, more: &str) -> Running {
    let users = home.file("users.json", USERS);
    let dir = home.path("data");
    let words = format!(
        "log broker -l :0 --dir {} --user-file {} --super-user root {more}",
        dir.display(),
        users.display()
    );
    bandy(&words).home(home).starts()
}

fn login(server: &Running, user: &str, password: &str) -> Result<Client, ErrorCode> {
    let mut client = Client::new(server);
    client.ask(1, &SaslHandshakeRequest { mechanism: "PLAIN".to_owned() });
    let auth_bytes = Bytes::from(format!("\0{user}\0{password}"));
    match client.ask(2, &SaslAuthenticateRequest { auth_bytes }).error_code {
        ErrorCode::NONE => Ok(client),
        error => Err(error),
    }
}

fn allow(operation: AclOperation, kind: ResourceType, name: &str) -> AclCreation {
    AclCreation {
        resource_type: kind as i8,
        resource_name: name.to_owned(),
        resource_pattern_type: PatternType::Literal as i8,
        principal: "User:alice".to_owned(),
        host: "*".to_owned(),
        operation: operation as i8,
        permission_type: AclPermission::Allow as i8,
    }
}

#[track_caller]
fn add(client: &mut Client, creations: Vec<AclCreation>) {
    let response = client.ask(3, &CreateAclsRequest { creations });
    assert!(response.results.iter().all(|result| result.error_code == ErrorCode::NONE), "{response:?}");
}

fn all_rules() -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: ResourceType::Any as i8,
        resource_name_filter: None,
        pattern_type_filter: PatternType::Any as i8,
        principal_filter: None,
        host_filter: None,
        operation: AclOperation::Any as i8,
        permission_type: AclPermission::Any as i8,
    }
}

#[test]
fn by_default_denied_a_user_may_do_what_a_rule_allows_and_the_rest_says_what_is_missing() {
    let home = Home::new();
    let server = broker(&home, "--deny-by-default");
    let mut root = login(&server, "root", "r").unwrap();
    root.create("mine", &[]);
    root.create("theirs", &[]);
    let mut alice = login(&server, "alice", "a").unwrap();
    // Nothing yet.
    assert!(alice.metadata(9, None).topics.is_empty());
    let named = alice.metadata(9, Some(&["mine", "new"]));
    assert!(named.topics.iter().all(|topic| topic.error_code == ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(alice.produce("mine", 1, &batch(&["x"])).error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(alice.produce("none", 1, &batch(&["x"])).error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(alice.fetch(&fetching("mine", 0)).error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let id = alice.ask(
        4,
        &InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    );
    assert_eq!(id.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let transactional = InitProducerIdRequest {
        transactional_id: Some("tx".to_owned()),
        transaction_timeout_ms: 1000,
        ..InitProducerIdRequest::default()
    };
    assert_eq!(alice.ask(4, &transactional).error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".to_owned()], ..Default::default() };
    assert_eq!(alice.ask(4, &find).coordinators[0].error_code, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let join =
        JoinGroupRequest { group_id: "g".to_owned(), session_timeout_ms: 10_000, ..Default::default() };
    assert_eq!(alice.ask(5, &join).error_code, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    let gone = DeleteTopicState { name: Some("mine".to_owned()), ..DeleteTopicState::default() };
    let gone = alice.ask(6, &DeleteTopicsRequest { topics: vec![gone], ..Default::default() });
    assert_eq!(gone.responses[0].error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(alice.ask(3, &all_rules()).error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let rule = allow(AclOperation::All, ResourceType::Cluster, "kafka-cluster");
    let own = alice.ask(3, &CreateAclsRequest { creations: vec![rule] });
    assert_eq!(own.results[0].error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);

    add(
        &mut root,
        vec![
            allow(AclOperation::Write, ResourceType::Topic, "mine"),
            allow(AclOperation::Read, ResourceType::Topic, "mine"),
            allow(AclOperation::Read, ResourceType::Group, "g"),
        ],
    );
    // At once, on the connection that is there.
    assert_eq!(alice.produce("mine", 1, &batch(&["x"])).error_code, ErrorCode::NONE);
    assert_eq!(alice.values("mine", 0), ["x"]);
    let id = alice.ask(
        4,
        &InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    );
    assert_eq!(id.error_code, ErrorCode::NONE);
    let names = |client: &mut Client| -> Vec<String> {
        client.metadata(9, None).topics.into_iter().filter_map(|topic| topic.name).collect()
    };
    assert_eq!(names(&mut alice), ["mine"]);
    let commit = |topic: &str| OffsetCommitRequestTopic {
        name: topic.to_owned(),
        partitions: vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }],
        ..OffsetCommitRequestTopic::default()
    };
    let commits = OffsetCommitRequest {
        group_id: "g".to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![commit("mine"), commit("theirs")],
        ..OffsetCommitRequest::default()
    };
    let done = alice.ask(8, &commits);
    let errors: Vec<ErrorCode> = done.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(errors, [ErrorCode::NONE, ErrorCode::TOPIC_AUTHORIZATION_FAILED]);
    root.ask(8, &OffsetCommitRequest { group_id: "h".to_owned(), ..commits });
    let groups = alice.ask(4, &ListGroupsRequest::default()).groups;
    assert_eq!(groups.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), ["g"]);
}

#[test]
fn topics_that_a_user_may_not_know_of_are_not_seen_through_a_group() {
    let home = Home::new();
    let server = broker(&home, "--deny-by-default");
    let mut root = login(&server, "root", "r").unwrap();
    root.create("mine", &[]);
    root.create("theirs", &[]);
    add(
        &mut root,
        vec![
            allow(AclOperation::Read, ResourceType::Topic, "mine"),
            allow(AclOperation::Read, ResourceType::Group, "g"),
            allow(AclOperation::Read, ResourceType::Group, "h"),
        ],
    );
    let joining = |group: &str| ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_regex: Some(".*".to_owned()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let staying = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        member_epoch: 1,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let mut alice = login(&server, "alice", "a").unwrap();
    let joined = alice.ask(1, &joining("g"));
    assert_eq!((joined.error_code, joined.assignment.unwrap().topic_partitions.len()), (ErrorCode::NONE, 1));
    // What another member has of topics that it may not know of hides the whole group from it.
    assert_eq!(root.ask(1, &joining("h")).assignment.unwrap().topic_partitions.len(), 2);
    let asked = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".to_owned(), "h".to_owned()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let described = alice.ask(0, &asked).groups;
    let errors: Vec<ErrorCode> = described.iter().map(|group| group.error_code).collect();
    assert_eq!(errors, [ErrorCode::NONE, ErrorCode::TOPIC_AUTHORIZATION_FAILED]);
    assert_eq!((described[0].members.len(), described[1].members.len()), (1, 0));
    // A rule that is new shows more, without any change of topics.
    assert_eq!(alice.ask(1, &staying).assignment, None);
    add(&mut root, vec![allow(AclOperation::Describe, ResourceType::Topic, "theirs")]);
    assert_eq!(alice.ask(1, &staying).assignment.unwrap().topic_partitions.len(), 2);
}

#[test]
fn an_id_that_no_topic_has_is_unknown_whatever_a_user_may_do() {
    let home = Home::new();
    let server = broker(&home, "--deny-by-default");
    let mut root = login(&server, "root", "r").unwrap();
    root.create("theirs", &[]);
    let theirs = root.metadata(12, Some(&["theirs"])).topics[0].topic_id;
    let mut alice = login(&server, "alice", "a").unwrap();
    let wanted =
        [(Uuid([7; 16]), ErrorCode::UNKNOWN_TOPIC_ID), (theirs, ErrorCode::TOPIC_AUTHORIZATION_FAILED)];
    for (id, error) in wanted {
        let mut fetch = fetching("", 0);
        fetch.topics[0].topic_id = id;
        assert_eq!(alice.ask(13, &fetch).responses[0].partitions[0].error_code, error);
    }
}

#[test]
fn addresses_in_rules_are_the_same_however_they_are_written() {
    let home = Home::new();
    let server = broker(&home, "");
    let mut root = login(&server, "root", "r").unwrap();
    let from = |host: &str| AclCreation {
        host: host.to_owned(),
        ..allow(AclOperation::Read, ResourceType::Topic, "t")
    };
    add(&mut root, vec![from("2001:DB8:0:0::1"), from("2001:db8::1"), from("::ffff:10.0.0.1")]);
    let hosts = |client: &mut Client, host: Option<&str>| -> Vec<String> {
        let filter = DescribeAclsRequest { host_filter: host.map(str::to_owned), ..all_rules() };
        let found = client.ask(3, &filter).resources.into_iter().flat_map(|resource| resource.acls);
        found.map(|acl| acl.host).collect()
    };
    assert_eq!(hosts(&mut root, None), ["10.0.0.1", "2001:db8::1"]);
    assert_eq!(hosts(&mut root, Some("2001:0db8::0001")), ["2001:db8::1"]);
    assert_eq!(hosts(&mut root, Some("10.0.0.1")), ["10.0.0.1"]);
}

#[test]
fn rules_survive_a_restart_and_are_found_and_removed_by_filters() {
    let home = Home::new();
    let server = broker(&home, "");
    let mut root = login(&server, "root", "r").unwrap();
    root.create("t", &[]);
    let mut alice = login(&server, "alice", "a").unwrap();
    assert_eq!(alice.produce("t", 1, &batch(&["x"])).error_code, ErrorCode::NONE, "open without a rule");
    let of_bob = AclCreation {
        principal: "User:bob".to_owned(),
        ..allow(AclOperation::All, ResourceType::Topic, "t")
    };
    let wrong = [
        AclCreation { operation: AclOperation::IdempotentWrite as i8, ..of_bob.clone() },
        AclCreation { principal: "bob".to_owned(), ..of_bob.clone() },
        AclCreation { host: "localhost".to_owned(), ..of_bob.clone() },
        AclCreation { resource_type: ResourceType::Any as i8, ..of_bob.clone() },
        allow(AclOperation::Alter, ResourceType::Cluster, "mine"),
    ];
    let refused = root.ask(3, &CreateAclsRequest { creations: wrong.to_vec() });
    assert!(
        refused.results.iter().all(|result| result.error_code == ErrorCode::INVALID_REQUEST),
        "{refused:?}"
    );
    add(&mut root, vec![of_bob]);
    server.signal(Signal::TERM);
    server.ends().exits(0);

    let server = broker(&home, "");
    let mut root = login(&server, "root", "r").unwrap();
    let mut alice = login(&server, "alice", "a").unwrap();
    let found = root.ask(3, &all_rules());
    assert_eq!((found.error_code, found.resources.len()), (ErrorCode::NONE, 1));
    assert_eq!(found.resources[0].acls[0].principal, "User:bob");
    // What a rule is about is only for those whom it names; root is above it.
    assert_eq!(alice.produce("t", 1, &batch(&["x"])).error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(root.produce("t", 1, &batch(&["x"])).error_code, ErrorCode::NONE);
    let filter = DeleteAclsFilter {
        resource_type_filter: ResourceType::Topic as i8,
        resource_name_filter: Some("t".to_owned()),
        pattern_type_filter: PatternType::Match as i8,
        principal_filter: None,
        host_filter: None,
        operation: AclOperation::Any as i8,
        permission_type: AclPermission::Any as i8,
    };
    let gone = root.ask(3, &DeleteAclsRequest { filters: vec![filter] });
    assert_eq!(gone.filter_results[0].matching_acls.len(), 1);
    assert_eq!(alice.produce("t", 1, &batch(&["x"])).error_code, ErrorCode::NONE);
}

#[test]
fn users_are_made_and_removed_through_the_api_and_their_passwords_are_not_kept() {
    let home = Home::new();
    let server = broker(&home, "");
    let mut root = login(&server, "root", "r").unwrap();
    let carol = ScramCredentialUpsertion {
        name: "carol".to_owned(),
        mechanism: 1,
        iterations: 4096,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from_static(&[7; 32]),
    };
    let alter = |upsertions: Vec<ScramCredentialUpsertion>| AlterUserScramCredentialsRequest {
        upsertions,
        ..AlterUserScramCredentialsRequest::default()
    };
    let wrong = [
        (ScramCredentialUpsertion { iterations: 4095, ..carol.clone() }, ErrorCode::UNACCEPTABLE_CREDENTIAL),
        (
            ScramCredentialUpsertion { iterations: 16_385, ..carol.clone() },
            ErrorCode::UNACCEPTABLE_CREDENTIAL,
        ),
        (ScramCredentialUpsertion { mechanism: 3, ..carol.clone() }, ErrorCode::UNSUPPORTED_SASL_MECHANISM),
        (
            ScramCredentialUpsertion { name: String::new(), ..carol.clone() },
            ErrorCode::UNACCEPTABLE_CREDENTIAL,
        ),
        (
            ScramCredentialUpsertion { name: "alice".to_owned(), ..carol.clone() },
            ErrorCode::UNACCEPTABLE_CREDENTIAL,
        ),
    ];
    let wrong = wrong.into_iter().chain([(
        ScramCredentialUpsertion { salt: vec![0; 257].into(), ..carol.clone() },
        ErrorCode::UNACCEPTABLE_CREDENTIAL,
    )]);
    for (upsertion, error) in wrong {
        let refused = root.ask(0, &alter(vec![upsertion]));
        assert_eq!(refused.results[0].error_code, error, "{refused:?}");
    }
    let twice = root.ask(0, &alter(vec![carol.clone(), carol.clone()]));
    assert_eq!((twice.results.len(), twice.results[0].error_code), (1, ErrorCode::DUPLICATE_RESOURCE));
    assert_eq!(root.ask(0, &alter(vec![carol])).results[0].error_code, ErrorCode::NONE);
    server.signal(Signal::TERM);
    server.ends().exits(0);

    let server = broker(&home, "");
    let mut root = login(&server, "root", "r").unwrap();
    let known = root.ask(0, &DescribeUserScramCredentialsRequest::default());
    let names: Vec<&str> = known.results.iter().map(|result| result.user.as_str()).collect();
    assert_eq!(names, ["alice", "carol", "root"]);
    assert_eq!(known.results[1].credential_infos.len(), 1);
    let deletion = ScramCredentialDeletion { name: "carol".to_owned(), mechanism: 1 };
    let gone = AlterUserScramCredentialsRequest { deletions: vec![deletion], upsertions: Vec::new() };
    assert_eq!(root.ask(0, &gone).results[0].error_code, ErrorCode::NONE);
    assert_eq!(root.ask(0, &gone).results[0].error_code, ErrorCode::RESOURCE_NOT_FOUND);
}
