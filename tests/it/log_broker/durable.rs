//! What survives an orderly stop and `kill -9`.

use bandy::log::wire::ErrorCode;
use bandy::log::wire::api::init_producer_id::InitProducerIdRequest;
use bandy::log::wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use bandy::log::wire::api::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use bandy::storage::BatchBuilder;
use rustix::process::Signal;

use super::{Client, batch, now_ms};
use crate::support::{Home, Running, bandy};

fn broker_at(home: &Home) -> Running {
    bandy("log broker -l :0").home(home).starts()
}

fn commit(client: &mut Client, offset: i64) {
    let part = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_metadata: Some("note".to_owned()),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: "t".to_owned(), partitions: vec![part], ..Default::default() };
    let request = OffsetCommitRequest { group_id: "g".to_owned(), topics: vec![topic], ..Default::default() };
    let response = client.ask(7, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

fn committed(client: &mut Client) -> (i64, String) {
    let topic = OffsetFetchRequestTopic { name: "t".to_owned(), partition_indexes: vec![0] };
    let request =
        OffsetFetchRequest { group_id: "g".to_owned(), topics: Some(vec![topic]), ..Default::default() };
    let response = client.ask(7, &request);
    let part = &response.topics[0].partitions[0];
    (part.committed_offset, part.metadata.clone().unwrap())
}

fn idempotent(producer_id: i64, sequence: i32, value: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push_copied(now_ms(), None, Some(value.as_bytes()), &[]).unwrap();
    builder.set_producer(producer_id, 0, sequence);
    builder.to_vec(0, -1)
}

#[test]
fn records_groups_and_producers_survive_every_kind_of_stop() {
    let home = Home::new();
    let mut expected: Vec<String> = Vec::new();
    let mut id = None;
    for round in 0..6i32 {
        let server = broker_at(&home);
        let mut client = Client::new(&server);
        let given = client.ask(
            4,
            &InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: 1000,
                ..Default::default()
            },
        );
        assert_eq!(given.error_code, ErrorCode::NONE);
        match id {
            None => {
                client.create("t", &[]);
                id = Some(given.producer_id);
            }
            Some(id) => {
                assert!(given.producer_id > id, "no id twice");
                assert_eq!(committed(&mut client), (i64::from(round), "note".to_owned()));
                // What was acknowledged before the stop is known to be there.
                let again = client.produce("t", -1, &idempotent(id, round - 1, &format!("p{}", round - 1)));
                assert_eq!(
                    (again.error_code, again.base_offset),
                    (ErrorCode::NONE, i64::from(round - 1) * 2 + 1)
                );
            }
        }
        assert_eq!(client.values("t", 0), expected);
        let value = format!("v{round}");
        assert_eq!(client.produce("t", -1, &batch(&[&value])).base_offset, i64::from(round) * 2);
        let id = id.unwrap();
        let produced = client.produce("t", -1, &idempotent(id, round, &format!("p{round}")));
        assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, i64::from(round) * 2 + 1));
        let gap = client.produce("t", -1, &idempotent(id, round + 5, "gap"));
        assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        expected.extend([value, format!("p{round}")]);
        commit(&mut client, i64::from(round) + 1);
        if round % 2 == 0 {
            server.signal(Signal::KILL);
            server.ends();
        } else {
            server.signal(Signal::TERM);
            server.ends().exits(0);
        }
    }
}

#[test]
fn a_deleted_topic_leaves_nothing_behind() {
    let home = Home::new();
    let server = broker_at(&home);
    let mut client = Client::new(&server);
    client.create("t", &[]);
    client.produce("t", -1, &batch(&["x"]));
    commit(&mut client, 1);
    let logs = home.path("state/log/default/logs");
    let count = || std::fs::read_dir(&logs).map(|entries| entries.count()).unwrap_or(0);
    let before = count();
    assert!(before >= 2, "{before}");
    let request = bandy::log::wire::api::delete_topics::DeleteTopicsRequest {
        topic_names: vec!["t".to_owned()],
        ..Default::default()
    };
    client.ask(4, &request);
    crate::support::until("the files are gone", || count() < before);
    assert_eq!(committed(&mut client).0, -1, "groups have been nowhere in it");
    client.create("t", &[]);
    assert_eq!(client.values("t", 0), [""; 0]);
}
