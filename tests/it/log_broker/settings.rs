//! Settings that are changed through the API while the broker runs.

use std::time::Instant;

use bandy::log::wire::ErrorCode;
use bandy::log::wire::api::consumer_group_describe::ConsumerGroupDescribeRequest;
use bandy::log::wire::api::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use bandy::log::wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use bandy::log::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use rustix::process::Signal;

use super::Client;
use crate::support::{DEADLINE, Home, bandy, until};

/// `ConfigResource.Type.GROUP`, Kafka KIP-848.
const GROUP: i8 = 32;

fn set(client: &mut Client, name: &str, value: &str) -> ErrorCode {
    let config =
        AlterableConfig { name: name.to_owned(), config_operation: 0, value: Some(value.to_owned()) };
    let resource =
        AlterConfigsResource { resource_type: GROUP, resource_name: "g".to_owned(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    client.ask(1, &request).responses[0].error_code
}

fn described(client: &mut Client) -> Vec<(String, String, i8)> {
    let resource = DescribeConfigsResource {
        resource_type: GROUP,
        resource_name: "g".to_owned(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let configs = client.ask(4, &request).results.remove(0).configs;
    configs.into_iter().map(|it| (it.name, it.value.unwrap(), it.config_source)).collect()
}

#[test]
fn a_group_is_as_it_was_set_and_misses_its_members_by_that() {
    let home = Home::new();
    let starts = || bandy("log broker -l :0").home(&home).starts();
    let server = starts();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let (interval, session) = ("consumer.heartbeat.interval.ms", "consumer.session.timeout.ms");
    assert_eq!(set(&mut client, session, "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set(&mut client, "retention.ms", "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(set(&mut client, session, "1000"), ErrorCode::NONE);
    assert_eq!(set(&mut client, interval, "300"), ErrorCode::NONE);
    let expected = [(interval.to_owned(), "300".to_owned(), 8), (session.to_owned(), "1000".to_owned(), 8)];
    assert_eq!(described(&mut client), expected);
    server.signal(Signal::KILL);
    server.ends();
    let server = starts();
    let mut client = Client::new(&server);
    assert_eq!(described(&mut client), expected);
    let joins = ConsumerGroupHeartbeatRequest {
        group_id: "g".to_owned(),
        member_id: "me".to_owned(),
        member_epoch: 0,
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["t".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = client.ask(1, &joins);
    assert_eq!((joined.error_code, joined.heartbeat_interval_ms), (ErrorCode::NONE, 300));
    let describe = ConsumerGroupDescribeRequest { group_ids: vec!["g".to_owned()], ..Default::default() };
    let since = Instant::now();
    until("who is silent is out", || client.ask(1, &describe).groups[0].members.is_empty());
    assert!(since.elapsed() < DEADLINE, "{:?}", since.elapsed());
}
