//! The client against a broker in memory that keeps to the rules of idempotence and does what the test tells it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::log::wire::api::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use crate::log::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::log::wire::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::log::wire::api::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::log::wire::{AnyRequest, ApiKey, ErrorCode, Reader, RequestHeader, encode_response};
use crate::shutdown::Shutdown;
use crate::storage::Header;
use crate::transport::{Listener, Stream, mem};

/// What is done with the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// As the protocol has it.
    Take,
    /// This code, and nothing is written.
    Refuse(ErrorCode),
    /// It is written, and the connection is cut before the answer.
    TakeAndCut,
}

#[derive(Debug, Default)]
struct Broker {
    fates: VecDeque<Fate>,
    /// Values in the order of their offsets.
    log: Vec<Bytes>,
    /// The next sequence number of each producer id, and the last one it had.
    sequences: HashMap<i64, (i32, i32)>,
    producers: i64,
    /// Of each topic; none for one.
    partitions: i32,
    /// ApiVersions up to this one are known.
    api_versions_max: i16,
    requests: Vec<(ApiKey, i16)>,
}

impl Broker {
    fn append(&mut self, records: &Bytes) -> (ErrorCode, i64) {
        let header = Header::parse(records).unwrap();
        let (expected, last) = self.sequences.get(&header.producer_id).copied().unwrap_or((0, -1));
        if header.base_sequence == last && last != expected {
            return (ErrorCode::DUPLICATE_SEQUENCE_NUMBER, -1);
        }
        if header.base_sequence != expected {
            return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
        }
        self.sequences.insert(header.producer_id, (expected + header.count, expected));
        let offset = self.log.len() as i64;
        for batch in crate::log::batch::Batches::new(records.clone()).map(Result::unwrap) {
            let values = batch.records().map(|record| Bytes::copy_from_slice(record.unwrap().value.unwrap()));
            self.log.extend(values);
        }
        (ErrorCode::NONE, offset)
    }

    /// The answer; `None` cuts the connection.
    fn answer(&mut self, header: &RequestHeader, request: AnyRequest) -> Option<Bytes> {
        let (version, id) = (header.version, header.correlation_id);
        self.requests.push((request.key(), version));
        let encoded = match request {
            AnyRequest::ApiVersions(_) => {
                let range = |key: &ApiKey| ApiVersion {
                    api_key: *key as i16,
                    min_version: key.versions().min,
                    max_version: key.versions().max,
                };
                let api_keys = ApiKey::ALL.iter().map(range).collect();
                let mut response = ApiVersionsResponse { api_keys, ..Default::default() };
                if version > self.api_versions_max {
                    response.error_code = ErrorCode::UNSUPPORTED_VERSION;
                    encode_response::<ApiVersionsRequest>(&response, 0, id)
                } else {
                    encode_response::<ApiVersionsRequest>(&response, version, id)
                }
            }
            AnyRequest::Metadata(request) => {
                let partition = |partition_index| MetadataResponsePartition {
                    leader_id: 1,
                    partition_index,
                    ..Default::default()
                };
                let count = self.partitions.max(1);
                let topic = |name| MetadataResponseTopic {
                    name,
                    partitions: (0..count).map(partition).collect(),
                    ..Default::default()
                };
                let topics = request.topics.unwrap_or_default();
                let brokers = vec![MetadataResponseBroker { node_id: 1, ..Default::default() }];
                let topics = topics.into_iter().map(|it| topic(it.name)).collect();
                let response = MetadataResponse { brokers, topics, ..Default::default() };
                encode_response::<MetadataRequest>(&response, version, id)
            }
            AnyRequest::InitProducerId(_) => {
                self.producers += 1;
                let producer_id = self.producers;
                let response = InitProducerIdResponse { producer_id, ..Default::default() };
                encode_response::<InitProducerIdRequest>(&response, version, id)
            }
            AnyRequest::Produce(request) => {
                let topic = &request.topic_data[0];
                let records = topic.partition_data[0].records.bytes();
                let fate = self.fates.pop_front().unwrap_or(Fate::Take);
                let (error_code, base_offset) = match fate {
                    Fate::Refuse(code) => (code, -1),
                    Fate::Take | Fate::TakeAndCut => self.append(&records),
                };
                if fate == Fate::TakeAndCut {
                    return None;
                }
                let index = topic.partition_data[0].index;
                let partition =
                    PartitionProduceResponse { index, error_code, base_offset, ..Default::default() };
                let topic = TopicProduceResponse {
                    name: topic.name.clone(),
                    partition_responses: vec![partition],
                    ..Default::default()
                };
                let response = ProduceResponse { responses: vec![topic], ..Default::default() };
                encode_response::<ProduceRequest>(&response, version, id)
            }
            other => panic!("nobody asks for {}", other.key()),
        };
        Some(encoded.unwrap().to_bytes())
    }
}

/// Serves one connection after the other.
async fn serve(listener: Listener, broker: Arc<Mutex<Broker>>) {
    while let Ok(stream) = listener.accept().await {
        let _ = talk(stream, &broker).await;
    }
}

async fn talk(mut stream: Stream, broker: &Mutex<Broker>) -> std::io::Result<()> {
    loop {
        let len = stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(len).unwrap()];
        stream.read_exact(&mut frame).await?;
        let mut reader = Reader::new(frame.into(), 0, false);
        let header = RequestHeader::read(&mut reader).unwrap();
        let request = AnyRequest::decode(ApiKey::from_code(header.api_key).unwrap(), reader).unwrap();
        let answer = broker.lock().unwrap().answer(&header, request);
        match answer {
            Some(answer) => stream.write_all(&answer).await?,
            None => return Ok(()),
        }
    }
}

async fn cluster(fates: &[Fate]) -> (Cluster, Arc<Mutex<Broker>>) {
    let broker = Broker { fates: fates.iter().copied().collect(), api_versions_max: 4, ..Broker::default() };
    opened(broker).await
}

async fn opened(broker: Broker) -> (Cluster, Arc<Mutex<Broker>>) {
    let address = Address::Mem(mem::Network::new(1).name("broker"));
    let listener = Listener::bind(&address).await.unwrap();
    let broker = Arc::new(Mutex::new(broker));
    let shutdown = Shutdown::new();
    shutdown.spawn(serve(listener, broker.clone()));
    (Cluster::open(Config::new(vec![address]), &shutdown).await.unwrap(), broker)
}

/// Produces numbers, each in a batch of its own, and returns what became of each.
async fn produce(cluster: &Cluster, count: u64) -> Vec<Result<Receipt, Error>> {
    let options = ProduceOptions { batch_bytes: 1, ..ProduceOptions::default() };
    let mut producer = Producer::new(cluster.clone(), options);
    let topic = producer.topic("t").await.unwrap();
    for number in 0..count {
        let text = number.to_string();
        let message = Message { value: Some(text.as_bytes()), ..Message::default() };
        assert_eq!(producer.produce(topic, None, &message).await.unwrap(), number);
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.waiting(), 0);
    let mut outcomes: Vec<(u64, _)> = producer.outcomes().map(|it| (it.ids[0], it.result)).collect();
    outcomes.sort_by_key(|(id, _)| *id);
    assert_eq!(outcomes.len() as u64, count);
    outcomes.into_iter().map(|(_, result)| result).collect()
}

fn log(broker: &Mutex<Broker>) -> Vec<String> {
    let broker = broker.lock().unwrap();
    broker.log.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_refused_goes_again_before_those_after_it() {
    use Fate::{Refuse, Take};
    let fates =
        [Take, Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER), Take, Take, Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)];
    let (cluster, broker) = cluster(&fates).await;
    let outcomes = produce(&cluster, 20).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().offset, number as i64);
    }
    assert_eq!(log(&broker), numbers(0..20));
    assert_eq!(broker.lock().unwrap().producers, 1, "nothing was given up: the producer stays the same");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_its_answer_was_lost_is_there_once() {
    let (cluster, broker) = cluster(&[Fate::Take, Fate::TakeAndCut, Fate::Take, Fate::TakeAndCut]).await;
    let outcomes = produce(&cluster, 10).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(log(&broker), numbers(0..10));
}

#[tokio::test(start_paused = true)]
async fn after_a_batch_that_is_never_taken_the_others_arrive_in_order() {
    let (cluster, broker) = cluster(&[Fate::Take, Fate::Refuse(ErrorCode::INVALID_RECORD)]).await;
    let outcomes = produce(&cluster, 10).await;
    let failed: Vec<usize> = (0..10).filter(|at| outcomes[*at].is_err()).collect();
    assert_eq!(failed, [1]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().code(), Some(ErrorCode::INVALID_RECORD));
    let mut expected = numbers(0..10);
    expected.remove(1);
    assert_eq!(log(&broker), expected);
    assert_eq!(broker.lock().unwrap().producers, 2, "its number would be missed: a new producer goes on");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_takes_anything_is_given_up_after_a_while() {
    let fates = vec![Fate::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS); 10_000];
    let (cluster, broker) = cluster(&fates).await;
    let since = tokio::time::Instant::now();
    let outcomes = produce(&cluster, 1).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS));
    let (spent, limit) = (since.elapsed(), cluster.config().retry_for);
    assert!(spent >= limit && spent < limit + Duration::from_secs(1), "{spent:?}");
    assert!(log(&broker).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_nothing_is_taken_is_not_tried_for_as_long_again() {
    let fates = vec![Fate::Refuse(ErrorCode::KAFKA_STORAGE_ERROR); 10_000].into();
    let broker = Broker { fates, partitions: 4, api_versions_max: 4, ..Broker::default() };
    let (cluster, _broker) = opened(broker).await;
    let options = ProduceOptions { batch_bytes: 1, buffer_bytes: 1000, ..ProduceOptions::default() };
    let mut producer = Producer::new(cluster.clone(), options);
    let topic = producer.topic("t").await.unwrap();
    let since = tokio::time::Instant::now();
    let value = vec![b'v'; 500];
    for _ in 0..40 {
        let message = Message { value: Some(&value), ..Message::default() };
        producer.produce(topic, None, &message).await.unwrap();
    }
    producer.flush().await.unwrap();
    assert!(producer.outcomes().all(|outcome| outcome.result.is_err()));
    let (spent, limit) = (since.elapsed(), cluster.config().retry_for);
    assert!(spent >= limit && spent < limit + Duration::from_secs(2), "{spent:?}");
    // What follows at once is tried once; what comes later has its own time.
    for (later, least) in [(Duration::ZERO, Duration::ZERO), (Duration::from_secs(10), limit)] {
        tokio::time::advance(later).await;
        let since = tokio::time::Instant::now();
        producer.produce(topic, None, &Message { value: Some(&value), ..Message::default() }).await.unwrap();
        producer.flush().await.unwrap();
        assert!(producer.outcomes().all(|outcome| outcome.result.is_err()));
        let spent = since.elapsed();
        assert!(spent >= least && spent < least + Duration::from_secs(2), "{spent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_restarts_is_waited_for() {
    let address = Address::Mem(mem::Network::new(1).name("broker"));
    let broker = Arc::new(Mutex::new(Broker { api_versions_max: 4, ..Broker::default() }));
    let shutdown = Shutdown::new();
    let listener = Listener::bind(&address).await.unwrap();
    let first = shutdown.spawn(serve(listener, broker.clone()));
    let cluster = Cluster::open(Config::new(vec![address.clone()]), &shutdown).await.unwrap();
    assert!(produce(&cluster, 1).await[0].is_ok());
    let leads = cluster.leader("t", 0).await.unwrap().1;
    first.abort();
    drop(first.await);
    let again = broker.clone();
    shutdown.spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        serve(Listener::bind(&address).await.unwrap(), again).await;
    });
    // Who has noticed nothing yet, and who begins now.
    let (connection, found) = cluster.leader("t", 0).await.unwrap();
    assert_eq!(found, leads);
    let outcomes = produce(&cluster, 3).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(log(&broker), ["0", "0", "1", "2"]);
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_knows_old_api_versions_only_is_asked_again() {
    let (_cluster, broker) = opened(Broker { api_versions_max: 2, ..Broker::default() }).await;
    let asked = broker.lock().unwrap().requests.clone();
    assert_eq!(asked, [(ApiKey::ApiVersions, 3), (ApiKey::ApiVersions, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_silent_is_left_after_the_timeout() {
    let address = Address::Mem(mem::Network::new(1).name("silent"));
    let listener = Listener::bind(&address).await.unwrap();
    let shutdown = Shutdown::new();
    let silent = shutdown.spawn(async move { listener.accept().await });
    let opened = Cluster::open(Config::new(vec![address]), &shutdown).await;
    assert!(matches!(opened, Err(Error::Timeout { what: "ApiVersions", .. })), "{opened:?}");
    drop(silent.await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_announces_gigabytes_ends_the_connection() {
    let address = Address::Mem(mem::Network::new(1).name("liar"));
    let listener = Listener::bind(&address).await.unwrap();
    let shutdown = Shutdown::new();
    shutdown.spawn(async move {
        let mut stream = listener.accept().await.unwrap();
        stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await.unwrap();
        std::future::pending::<()>().await;
    });
    let opened = Cluster::open(Config::new(vec![address]), &shutdown).await;
    assert!(matches!(opened, Err(Error::TooLong { length: 0x7fff_ffff, .. })), "{opened:?}");
}
