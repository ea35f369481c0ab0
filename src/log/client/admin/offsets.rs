//! Where partitions begin and end, and what was there at a time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::log::client::{Cluster, Connection, Error};
use crate::log::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::log::wire::{ErrorCode, Request as _};

/// A partition without a leader is waited for so long where others have answered: an election takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first record that is kept.
    Start,
    /// After the last record.
    End,
    /// After the last record whose transaction is decided.
    CommittedEnd,
    /// The first record of this time (ms since 1970) or later; the end if there is none.
    Time(i64),
    /// The newest record, by its time (KIP-734).
    Newest,
}

impl At {
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End | Self::CommittedEnd => -1,
            Self::Time(time) => time,
            Self::Newest => -3,
        }
    }
}

/// What was found at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset; -1 if there is none.
    pub offset: i64,
    /// The record's time in ms since 1970, or -1.
    pub timestamp: i64,
}

/// What was found of each partition, and why nothing of others.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// What was found.
    pub found: HashMap<(String, i32), Found>,
    /// What is in the way.
    pub failed: HashMap<(String, i32), Error>,
}

/// Offsets of one place in many partitions; their leaders are asked at once.
///
/// # Errors
/// A partition that is not there, or refused; a leader that does not answer.
pub async fn offsets(
    cluster: &Cluster,
    partitions: &[(String, i32)],
    at: At,
) -> Result<HashMap<(String, i32), Found>, Error> {
    let patience = cluster.config().retry_for;
    let Offsets { found, failed } = ask(cluster, partitions, at, patience).await?;
    match failed.into_values().next() {
        None => Ok(found),
        Some(error) => Err(error),
    }
}

/// The same, where one partition that is not well does not hide the others.
///
/// # Errors
/// The brokers do not know such questions.
pub async fn offsets_of_each(
    cluster: &Cluster,
    partitions: &[(String, i32)],
    at: At,
) -> Result<Offsets, Error> {
    ask(cluster, partitions, at, PATIENCE).await
}

async fn ask(
    cluster: &Cluster,
    partitions: &[(String, i32)],
    at: At,
    patience: Duration,
) -> Result<Offsets, Error> {
    let mut done = Offsets::default();
    let mut left: Vec<(String, i32)> = partitions.to_vec();
    let what = partitions.first().map_or_else(String::new, |(topic, _)| format!("topic '{topic}'"));
    let mut pause = cluster.retries(&what);
    let began = Instant::now();
    // The disk of whoever leads them failed; another broker may lead them by now.
    let mut unreadable: HashSet<(String, i32)> = HashSet::new();
    loop {
        let failed = ask_once(cluster, std::mem::take(&mut left), at, &mut done.found).await?;
        let mut last = None;
        for (place, error) in failed {
            let is_unreadable = error.code() == Some(ErrorCode::KAFKA_STORAGE_ERROR);
            let is_heard = !error.is_about_connection() || !done.found.is_empty();
            let is_late = is_heard && began.elapsed() >= patience;
            if !error.is_transient() || is_late || is_unreadable && !unreadable.insert(place.clone()) {
                done.failed.insert(place, error);
                continue;
            }
            cluster.forget(&place.0);
            left.push(place);
            last = Some(error);
        }
        let Some(error) = last else {
            pause.worked(Ok(()))?;
            return Ok(done);
        };
        if !pause.again(&error).await {
            done.failed.extend(left.drain(..).map(|place| (place, error.clone())));
            return Ok(done);
        }
    }
}

/// Asks all leaders at once. What is found is added; what is in the way of the others is returned.
async fn ask_once(
    cluster: &Cluster,
    places: Vec<(String, i32)>,
    at: At,
    found: &mut HashMap<(String, i32), Found>,
) -> Result<Vec<((String, i32), Error)>, Error> {
    let mut by_leader: HashMap<i32, (Connection, Vec<(String, i32)>)> = HashMap::new();
    let mut failed: Vec<((String, i32), Error)> = Vec::new();
    let mut round = cluster.round();
    for (topic, partition) in places {
        match round.leader(&topic, partition).await {
            Ok((connection, info)) => {
                by_leader.entry(info.leader).or_insert((connection, Vec::new())).1.push((topic, partition));
            }
            Err(error) => failed.push(((topic, partition), error)),
        }
    }
    let asked = by_leader.into_values().map(|(connection, asked)| ask_leader(connection, asked, at));
    for (asked, answer) in futures_util::future::join_all(asked).await {
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                failed.extend(asked.into_iter().map(|place| (place, error.clone())));
                continue;
            }
            Err(error) => return Err(error),
        };
        for place in asked {
            match answer.remove(&place) {
                Some((ErrorCode::NONE, it)) => drop(found.insert(place, it)),
                other => {
                    let code = other.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |(code, _)| code);
                    let about = format!("topic '{}' partition {}", place.0, place.1);
                    failed.push((place, Error::refused_about(ListOffsetsRequest::KEY, code, about)));
                }
            }
        }
    }
    Ok(failed)
}

type Answers = HashMap<(String, i32), (ErrorCode, Found)>;

async fn ask_leader(
    connection: Connection,
    asked: Vec<(String, i32)>,
    at: At,
) -> (Vec<(String, i32)>, Result<Answers, Error>) {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (topic, partition_index) in &asked {
        let wanted = ListOffsetsPartition {
            partition_index: *partition_index,
            timestamp: at.timestamp(),
            ..Default::default()
        };
        match topics.iter_mut().find(|it| it.name == *topic) {
            Some(it) => it.partitions.push(wanted),
            None => topics.push(ListOffsetsTopic { name: topic.clone(), partitions: vec![wanted] }),
        }
    }
    let isolation_level = i8::from(at == At::CommittedEnd);
    let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
    // Version 11 asks a broker that has it for nothing that is wanted here.
    let answer = match connection.version::<ListOffsetsRequest>(10) {
        Ok(version) => match connection.send(&request, version, Duration::ZERO) {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let by_place = answer.map(|answer| {
        let topics = answer.topics.into_iter();
        let each = topics.flat_map(|topic| {
            let name = topic.name;
            topic.partitions.into_iter().map(move |it| {
                let found = Found { offset: it.offset, timestamp: it.timestamp };
                ((name.clone(), it.partition_index), (it.error_code, found))
            })
        });
        each.collect()
    });
    (asked, by_place)
}

/// The offset of one place in one partition.
///
/// # Errors
/// As [`offsets`].
pub async fn offset(cluster: &Cluster, topic: &str, partition: i32, at: At) -> Result<i64, Error> {
    let place = (topic.to_owned(), partition);
    let found = offsets(cluster, std::slice::from_ref(&place), at).await?;
    Ok(found.get(&place).map_or(-1, |found| found.offset))
}
