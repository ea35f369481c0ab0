//! The log broker through the binary: what its clients see, what survives a stop, and what is refused.

mod access;
mod checks;
mod crash;
mod durable;
mod hostile;
mod quirks;
mod settings;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bandy::log::wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use bandy::log::wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use bandy::log::wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use bandy::log::wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use bandy::log::wire::{ErrorCode, Request, decode_response, encode_request};
use bandy::storage::{Batch, BatchBuilder};
use bytes::Bytes;

use crate::support::{DEADLINE, Running};

/// A connection that speaks whatever it is told to.
pub struct Client {
    pub socket: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn new(server: &Running) -> Self {
        let address = server.url.strip_prefix("kafka://").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, correlation_id: 0 }
    }

    /// Sends a request; its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("test")).unwrap();
        self.socket.write_all(&frame.to_bytes()).unwrap();
        self.correlation_id
    }

    /// The next answer as bytes; none when the broker has closed the connection.
    pub fn frame(&mut self) -> Option<Bytes> {
        let mut size = [0; 4];
        self.socket.read_exact(&mut size).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.socket.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    #[track_caller]
    pub fn answer<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let frame = self.frame().expect("an answer");
        let (id, response) = decode_response::<R>(frame, version).unwrap();
        assert_eq!(id, correlation_id, "answers come in the order of their requests");
        response
    }

    #[track_caller]
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        self.answer::<R>(version, id)
    }

    #[track_caller]
    pub fn create(&mut self, name: &str, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let response =
            self.ask(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() });
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{response:?}");
    }

    pub fn metadata(&mut self, version: i16, topics: Option<&[&str]>) -> MetadataResponse {
        let named =
            |name: &&str| MetadataRequestTopic { name: Some((*name).to_owned()), ..Default::default() };
        let topics = topics.map(|topics| topics.iter().map(named).collect());
        self.ask(version, &MetadataRequest { topics, ..MetadataRequest::default() })
    }

    pub fn produce(&mut self, topic: &str, acks: i16, batch: &[u8]) -> PartitionProduceResponse {
        self.ask(9, &producing(topic, acks, batch)).responses.remove(0).partition_responses.remove(0)
    }

    pub fn fetch(&mut self, request: &FetchRequest) -> PartitionData {
        self.ask(11, request).responses.remove(0).partitions.remove(0)
    }

    /// Values of all records from an offset on.
    pub fn values(&mut self, topic: &str, from: i64) -> Vec<String> {
        let found = self.fetch(&fetching(topic, from));
        assert_eq!(found.error_code, ErrorCode::NONE);
        values(&found.records.bytes())
    }
}

pub fn values(mut bytes: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    while let Ok(batch) = Batch::parse(bytes) {
        batch.check().unwrap();
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        values.extend(batch.records().unwrap().map(|record| text(record.unwrap().value)));
        bytes = &bytes[batch.header.len..];
    }
    assert!(bytes.is_empty(), "whole batches only");
    values
}

pub fn producing(topic: &str, acks: i16, batch: &[u8]) -> ProduceRequest {
    let part = PartitionProduceData { index: 0, records: Bytes::copy_from_slice(batch).into() };
    let topic = TopicProduceData { name: topic.to_owned(), partition_data: vec![part], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

pub fn fetching(topic: &str, from: i64) -> FetchRequest {
    let part =
        FetchPartition { fetch_offset: from, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topic = FetchTopic { topic: topic.to_owned(), partitions: vec![part], ..FetchTopic::default() };
    FetchRequest { max_wait_ms: 0, min_bytes: 1, topics: vec![topic], ..FetchRequest::default() }
}

/// A batch of these values, with keys.
pub fn batch(values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push_copied(now_ms(), Some(b"key"), Some(value.as_bytes()), &[]).unwrap();
    }
    builder.to_vec(0, -1)
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

/// Long enough to see that nothing comes.
pub const MOMENT: Duration = Duration::from_millis(200);
