//! What is looked at before it is taken or told: what packed batches hold, which record is the newest, who is in a transaction.

use bandy::log::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use bandy::log::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use bandy::log::wire::api::end_txn::EndTxnRequest;
use bandy::log::wire::api::init_producer_id::InitProducerIdRequest;
use bandy::log::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use bandy::log::wire::{Compression, ErrorCode};
use bandy::storage::{Batch, BatchBuilder, repacked};

use super::Client;
use crate::support::{Running, bandy};

fn broker() -> Running {
    bandy("log broker -l :0 --memory").starts()
}

#[test]
fn packed_bytes_that_are_no_records_are_refused_where_records_are_looked_at() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[("cleanup.policy", "compact")]);
    client.create("verbatim", &[]);
    let mut keyed = BatchBuilder::new();
    for value in [b"a", b"b"] {
        keyed.push_copied(1, Some(b"k"), Some(value), &[]).unwrap();
    }
    let plain = keyed.to_vec(0, 0);
    let records = Batch::parse(&plain).unwrap().body().to_vec();
    let codecs = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (number, codec) in codecs.into_iter().enumerate() {
        let mut send = |records: &[u8]| {
            let mut packed = Vec::new();
            codec.pack(records, None, &mut packed).unwrap();
            client.produce("t", -1, &repacked(&plain, codec as u8, &packed).unwrap())
        };
        let good = send(&records);
        assert_eq!((good.error_code, good.base_offset), (ErrorCode::NONE, number as i64 * 2), "{codec:?}");
        let mut cut = records.clone();
        cut.truncate(records.len() - 1);
        let mut more = records.clone();
        more.push(0);
        for bad in [&b"these are no records"[..], b"", &cut, &more] {
            assert_eq!(send(bad).error_code, ErrorCode::INVALID_RECORD, "{codec:?} {bad:?}");
        }
        let garbage = repacked(&plain, codec as u8, b"nor is this packed").unwrap();
        assert_eq!(client.produce("t", -1, &garbage).error_code, ErrorCode::CORRUPT_MESSAGE, "{codec:?}");
        // Elsewhere nothing is unpacked: what came is kept as it came.
        assert_eq!(client.produce("verbatim", -1, &garbage).error_code, ErrorCode::NONE, "{codec:?}");
    }
    assert_eq!(server.stderr().matches("panic").count(), 0);
}

#[test]
fn the_newest_record_is_one_that_is_not_deleted() {
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    let newest = |client: &mut Client, timestamp: i64| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let found = client.ask(7, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(found.error_code, ErrorCode::NONE);
        (found.offset, found.timestamp)
    };
    let trim = |client: &mut Client, offset: i64| {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: "t".to_owned(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
        let done = client.ask(2, &request).topics.remove(0).partitions.remove(0);
        assert_eq!((done.error_code, done.low_watermark), (ErrorCode::NONE, offset));
    };
    for times in [[50, 1000, 100], [200, 900, 300], [10, 20, 30]] {
        let mut builder = BatchBuilder::new();
        for time in times {
            builder.push_copied(time, None, Some(b"v"), &[]).unwrap();
        }
        assert_eq!(client.produce("t", -1, &builder.to_vec(0, -1)).error_code, ErrorCode::NONE);
    }
    const NEWEST: i64 = -3;
    // What is deleted: the offset before which, the newest record then, and the first at or after a time.
    for (before, expected, time, first) in [
        (0, (1, 1000), 900, (1, 1000)),
        // The batch has a newer one still, which is deleted.
        (2, (4, 900), 900, (4, 900)),
        (5, (5, 300), 900, (-1, -1)),
        (5, (5, 300), 250, (5, 300)),
        (6, (8, 30), 15, (7, 20)),
        (8, (8, 30), 31, (-1, -1)),
        (9, (-1, -1), 0, (-1, -1)),
    ] {
        trim(&mut client, before);
        assert_eq!(newest(&mut client, NEWEST), expected, "before {before}");
        assert_eq!(newest(&mut client, time), first, "at {time}, before {before}");
    }
}

/// One transaction of a batched request, and the codes of its partitions.
fn ask(
    client: &mut Client,
    version: i16,
    (id, producer, verify_only): (&str, (i64, i16), bool),
    partitions: &[i32],
) -> Vec<ErrorCode> {
    let topic = AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: partitions.to_vec() };
    let one = |id: &str| AddPartitionsToTxnTransaction {
        transactional_id: id.to_owned(),
        producer_id: producer.0,
        producer_epoch: producer.1,
        verify_only,
        topics: vec![topic.clone()],
    };
    // Another one beside it fails for itself.
    let request =
        AddPartitionsToTxnRequest { transactions: vec![one("nobody"), one(id)], ..Default::default() };
    let response = client.ask(version, &request);
    assert_eq!(response.error_code, ErrorCode::NONE);
    let ids: Vec<&str> =
        response.results_by_transaction.iter().map(|it| it.transactional_id.as_str()).collect();
    assert_eq!(ids, ["nobody", id]);
    let codes = |at: usize| -> Vec<ErrorCode> {
        let results = &response.results_by_transaction[at].topic_results[0].results_by_partition;
        assert!(results.iter().map(|it| it.partition_index).eq(partitions.iter().copied()));
        results.iter().map(|it| it.partition_error_code).collect()
    };
    assert!(codes(0).iter().all(|code| code.is_err()), "{response:?}");
    codes(1)
}

#[test]
fn partitions_of_several_transactions_are_added_and_looked_for_in_one_request() {
    use ErrorCode as E;
    let server = broker();
    let mut client = Client::new(&server);
    client.create("t", &[]);
    for version in [4, 5] {
        let id = format!("x{version}");
        let init = InitProducerIdRequest {
            transactional_id: Some(id.clone()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let given = client.ask(4, &init);
        let producer = (given.producer_id, given.producer_epoch);
        let not_in_it = if version == 4 { E::INVALID_TXN_STATE } else { E::TRANSACTION_ABORTABLE };
        assert_eq!(ask(&mut client, version, (&id, producer, true), &[0]), [not_in_it]);
        let missing = ask(&mut client, version, (&id, producer, false), &[0, 7]);
        assert_eq!(missing, [E::OPERATION_NOT_ATTEMPTED, E::UNKNOWN_TOPIC_OR_PARTITION]);
        assert_eq!(ask(&mut client, version, (&id, producer, true), &[0]), [not_in_it]);
        assert_eq!(ask(&mut client, version, (&id, producer, false), &[0]), [E::NONE]);
        assert_eq!(ask(&mut client, version, (&id, producer, true), &[0]), [E::NONE]);
        let stranger = ask(&mut client, version, (&id, (producer.0, producer.1 + 1), true), &[0]);
        assert!(stranger[0].is_err(), "{stranger:?}");
        let end = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: producer.0,
            producer_epoch: producer.1,
            committed: false,
        };
        assert_eq!(client.ask(3, &end).error_code, E::NONE);
    }
}
