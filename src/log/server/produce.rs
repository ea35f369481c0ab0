//! Produce: batches are checked and appended as they are; the answer waits until they are safe.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::answer::{Head, Pending, encode};
use super::config::TopicConfig;
use super::partition::{Partition, Placed};
use super::session::Session;
use super::topics::Topic;
use crate::log::engine::group::Place;
use crate::log::engine::transaction::Writer;
use crate::log::wire::api::AclOperation;
use crate::log::wire::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use crate::log::wire::{Compression, ErrorCode, Records, Uuid};
use crate::storage::{self, Batch, Checked, Header};

/// Newest version of a producer that cannot send zstd: KIP-110.
const ZSTD_FROM: i16 = 7;

/// Now, in ms since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Why a batch is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    error: ErrorCode,
    message: Option<String>,
    /// Which of its records, counted from 0 (KIP-467).
    records: Vec<(i32, String)>,
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

fn refused(error: ErrorCode, message: impl Into<String>) -> Refused {
    Refused { error, message: Some(message.into()), records: Vec::new() }
}

/// A batch that was taken.
struct Taken {
    partition: Arc<Partition>,
    placed: Placed,
    append_time_ms: i64,
}

type Outcome = (i32, Result<Taken, Refused>);

/// Appends what came, and answers when it is safe.
pub(super) fn produce(session: &Arc<Session>, head: Head, request: ProduceRequest) -> Pending {
    let acks = request.acks;
    let transactional_id = request.transactional_id.as_deref();
    let may_transact = transactional_id.is_none_or(|id| session.may_transact(AclOperation::Write, id));
    let mut outcomes: Vec<(String, Uuid, Vec<Outcome>)> = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = topic(session, head.version, &data.name, data.topic_id);
        let of_topic = data.partition_data.into_iter().map(|part| {
            let outcome = match &topic {
                _ if !matches!(acks, -1..=1) => Err(refused(
                    ErrorCode::INVALID_REQUIRED_ACKS,
                    format!("acks is {acks}; -1, 0 and 1 are known"),
                )),
                _ if !may_transact => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.into()),
                Err(error) => Err((*error).into()),
                Ok(topic) => append(session, topic, (head.version, transactional_id), &part, acks),
            };
            (part.index, outcome)
        });
        outcomes.push((data.name, data.topic_id, of_topic.collect()));
    }
    if acks == 0 {
        // Nobody reads an answer: that the connection ends is how a client hears that something is wrong.
        let all = outcomes.iter().flat_map(|(_, _, of_topic)| of_topic).all(|(_, outcome)| outcome.is_ok());
        return if all { Pending::Nothing } else { Pending::Close };
    }
    let all_safe = outcomes.iter().flat_map(|(_, _, of_topic)| of_topic).all(|(_, outcome)| match outcome {
        Ok(taken) => taken.partition.is_safe(taken.placed.end) == Ok(true),
        Err(_) => true,
    });
    if all_safe {
        return Pending::ready::<ProduceRequest>(head, &response(head.version, outcomes));
    }
    let session = Arc::clone(session);
    Pending::Later(Box::pin(async move {
        for (_, outcome) in outcomes.iter_mut().flat_map(|(_, _, of_topic)| of_topic) {
            let Ok(taken) = outcome else { continue };
            if let Err(error) = session.safe(&taken.partition, taken.placed.end).await {
                *outcome = Err(error.into());
            }
        }
        encode::<ProduceRequest>(head, &response(head.version, outcomes))
    }))
}

/// The topic that is meant: by name, since version 13 by id.
fn topic(session: &Session, version: i16, name: &str, id: Uuid) -> Result<Arc<Topic>, ErrorCode> {
    let topics = &session.broker.topics;
    let found = match version >= 13 {
        // That no topic has an id is no secret.
        true => Some(topics.by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?),
        false => topics.get(name),
    };
    if !session.may_topic(AclOperation::Write, found.as_ref().map_or(name, |topic| &topic.name)) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    match found {
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        // What groups and transactions write is the broker's business.
        Some(topic) if topic.is_internal() => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
        Some(topic) => Ok(topic),
    }
}

fn append(
    session: &Session,
    topic: &Topic,
    by: (i16, Option<&str>),
    part: &PartitionProduceData,
    acks: i16,
) -> Result<Taken, Refused> {
    let (version, transactional_id) = by;
    let partition = topic.partition(part.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let config = topic.config();
    if acks == -1 && config.in_sync_min > 1 {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    let Records::Here(bytes) = &part.records else {
        return Err(refused(ErrorCode::INVALID_RECORD, "a produce request without records"));
    };
    let now = now_ms();
    let checked = checked(bytes, &config, version, now)?;
    let header = one_header(&checked)?;
    let (bytes, append_time_ms) = changed(checked, &config, now)?;
    let checked = match &bytes {
        Cow::Borrowed(_) => checked,
        Cow::Owned(stamped) => {
            Checked::new(stamped).map_err(|error| refused(ErrorCode::CORRUPT_MESSAGE, error.to_string()))?
        }
    };
    let placed = if header.is_transactional() {
        in_transaction(session, (&partition, transactional_id), version, checked, &header)?
    } else {
        partition.append(checked, &header)?
    };
    let counts = &session.broker.counts;
    counts.records_in.fetch_add(header.count as u64, Ordering::Relaxed);
    counts.bytes_in.fetch_add(header.len as u64, Ordering::Relaxed);
    Ok(Taken { partition, placed, append_time_ms })
}

/// Appends a part of a transaction. The first one in a partition has to belong to it (KIP-890).
fn in_transaction(
    session: &Session,
    to: (&Arc<Partition>, Option<&str>),
    version: i16,
    checked: Checked<'_>,
    header: &Header,
) -> Result<Placed, Refused> {
    /// From this version on a partition comes to belong to a transaction by being written to.
    const ADDS_FROM: i16 = 12;
    let (partition, id) = to;
    let Some(id) = id else {
        return Err(refused(ErrorCode::INVALID_RECORD, "a transactional batch without a transactional id"));
    };
    if partition.continues_transaction(header)? {
        return Ok(partition.append(checked, header)?);
    }
    let writer = Writer { id: id.to_owned(), producer_id: header.producer_id, epoch: header.producer_epoch };
    let place = Place { topic: partition.topic.clone(), partition: partition.index };
    let broker = &session.broker;
    let appended = broker
        .transactions
        .append_to(broker, &writer, &place, version >= ADDS_FROM, || partition.append(checked, header));
    appended.map_err(|error| match error {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH.into(),
        other => other.into(),
    })
}

/// The checks of headers and sums, and what Kafka refuses beyond those.
fn checked<'a>(
    bytes: &'a Bytes,
    config: &TopicConfig,
    version: i16,
    now: i64,
) -> Result<Checked<'a>, Refused> {
    /// Where the format's number stands in all formats.
    const MAGIC_AT: usize = 16;
    if bytes.len() > config.message_bytes_max {
        return Err(refused(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "a batch of {} bytes is over the topic's max.message.bytes of {}",
                bytes.len(),
                config.message_bytes_max
            ),
        ));
    }
    if let Some(magic @ (0 | 1)) = bytes.get(MAGIC_AT) {
        return Err(refused(
            ErrorCode::INVALID_RECORD,
            format!("records of format {magic}; only format 2 is taken"),
        ));
    }
    let checked = Checked::produced(bytes).map_err(|error| {
        let code = match error {
            storage::BatchError::Header { .. } => ErrorCode::INVALID_RECORD,
            _ => ErrorCode::CORRUPT_MESSAGE,
        };
        refused(code, error.to_string())
    })?;
    let header = one_header(&checked)?;
    if header.len as u64 > config.segment_bytes {
        return Err(ErrorCode::RECORD_LIST_TOO_LARGE.into());
    }
    if header.is_control() || header.delete_horizon().is_some() {
        return Err(refused(ErrorCode::INVALID_RECORD, "only the broker writes control batches"));
    }
    if header.has_append_time() {
        return Err(refused(ErrorCode::INVALID_TIMESTAMP, "only the broker says when records were appended"));
    }
    match header.compression() {
        0..=3 => {}
        4 if version >= ZSTD_FROM => {}
        4 => {
            return Err(refused(
                ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
                format!("Produce version {version} cannot send zstd; {ZSTD_FROM} and later can"),
            ));
        }
        other => return Err(refused(ErrorCode::INVALID_RECORD, format!("unknown compression {other}"))),
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(refused(
            ErrorCode::INVALID_RECORD,
            "a batch of an idempotent producer without a sequence number",
        ));
    }
    if !config.has_append_time {
        let oldest = now.saturating_sub(config.before_max_ms);
        let newest = now.saturating_add(config.after_max_ms);
        if header.max_timestamp > newest || header.max_timestamp >= 0 && header.max_timestamp < oldest {
            return Err(refused(
                ErrorCode::INVALID_TIMESTAMP,
                format!("time {} is outside of {oldest} to {newest}", header.max_timestamp),
            ));
        }
    }
    if config.compacts {
        have_keys(&checked)?;
    }
    Ok(checked)
}

/// There is one batch for a partition in a request: since version 3.
fn one_header(checked: &Checked<'_>) -> Result<Header, Refused> {
    let mut batches = checked.batches();
    match (batches.next(), batches.next()) {
        (Some(batch), None) => Ok(batch.header),
        _ => Err(refused(ErrorCode::INVALID_RECORD, "more than one batch for a partition")),
    }
}

/// In a compacted topic a record without a key has no place: which records, the producer hears of each. Other topics keep
/// what is packed as it came, for to unpack it would cost five times as much as all the rest.
fn have_keys(checked: &Checked<'_>) -> Result<(), Refused> {
    let mut without = Vec::new();
    for batch in checked.batches() {
        let unpacked = unpacked(&batch)?;
        let mut records = storage::Records::new(&batch.header, &unpacked);
        for (record, number) in records.by_ref().zip(0..) {
            let record = record.map_err(|error| refused(ErrorCode::INVALID_RECORD, error.to_string()))?;
            if record.key.is_none() {
                without.push((number, "Compacted topic cannot accept message without key".to_owned()));
            }
        }
        if !records.rest().is_empty() {
            let message = format!("there is more in the batch than its {} records", batch.header.count);
            return Err(refused(ErrorCode::INVALID_RECORD, message));
        }
    }
    if without.is_empty() {
        return Ok(());
    }
    Err(Refused {
        error: ErrorCode::INVALID_RECORD,
        message: Some("One or more records have been rejected".to_owned()),
        records: without,
    })
}

/// The records of a batch, at most so many bytes of them: what a small batch grows to is bounded.
fn unpacked<'a>(batch: &Batch<'a>) -> Result<Cow<'a, [u8]>, Refused> {
    /// A hundred times the largest batch by default.
    const UNPACKED_BYTES_MAX: usize = 100 << 20;
    let compression = batch.header.compression();
    if compression == 0 {
        return Ok(Cow::Borrowed(batch.body()));
    }
    let known = Compression::from_code(compression);
    let known = known.ok_or_else(|| refused(ErrorCode::INVALID_RECORD, "unknown compression"))?;
    let unpacked = known.unpack(batch.body(), UNPACKED_BYTES_MAX);
    unpacked.map(Cow::Owned).map_err(|error| refused(ErrorCode::CORRUPT_MESSAGE, error.to_string()))
}

/// The batch as the topic wants it: packed in its way, with the time of its append; and that time.
fn changed<'a>(
    checked: Checked<'a>,
    config: &TopicConfig,
    now: i64,
) -> Result<(Cow<'a, [u8]>, i64), Refused> {
    let corrupt = |error: storage::BatchError| refused(ErrorCode::CORRUPT_MESSAGE, error.to_string());
    let mut bytes = Cow::Borrowed(checked.bytes());
    if let Some(wanted) = config.compression
        && let Some(batch) = checked.batches().next()
        && batch.header.compression() != wanted as u8
    {
        let records = unpacked(&batch)?;
        let mut packed = Vec::with_capacity(records.len() / 2);
        wanted
            .pack(&records, None, &mut packed)
            .map_err(|error| refused(ErrorCode::UNKNOWN_SERVER_ERROR, error.to_string()))?;
        bytes = Cow::Owned(storage::repacked(&bytes, wanted as u8, &packed).map_err(corrupt)?);
    }
    if !config.has_append_time {
        return Ok((bytes, -1));
    }
    storage::set_append_time(bytes.to_mut(), now).map_err(corrupt)?;
    Ok((bytes, now))
}

fn response(version: i16, outcomes: Vec<(String, Uuid, Vec<Outcome>)>) -> ProduceResponse {
    let responses = outcomes.into_iter().map(|(name, topic_id, of_topic)| TopicProduceResponse {
        name,
        topic_id,
        partition_responses: of_topic
            .into_iter()
            .map(|(index, outcome)| of_partition(version, index, outcome))
            .collect(),
    });
    ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
}

fn of_partition(version: i16, index: i32, outcome: Result<Taken, Refused>) -> PartitionProduceResponse {
    match outcome {
        Ok(Taken { partition, placed, append_time_ms }) => PartitionProduceResponse {
            index,
            base_offset: placed.base,
            log_append_time_ms: append_time_ms,
            log_start_offset: partition.opened_log().map_or(-1, |log| log.start()),
            ..PartitionProduceResponse::default()
        },
        Err(Refused { error, message, records }) => PartitionProduceResponse {
            index,
            // Older clients do not know the code, and would try again and again.
            error_code: if error == ErrorCode::INVALID_RECORD && version < 8 {
                ErrorCode::INVALID_REQUEST
            } else {
                error
            },
            base_offset: -1,
            record_errors: records
                .into_iter()
                .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(message),
                })
                .collect(),
            error_message: message,
            ..PartitionProduceResponse::default()
        },
    }
}
