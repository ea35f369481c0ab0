//! What happens, as streams tell it.

use std::sync::Arc;

use bytes::Bytes;

use crate::gossip::agent::core::Answer;
use crate::gossip::engine::{Change, Engine, Event, Member, Status, Time, distance};
use crate::gossip::wire::data::Value;
use crate::gossip::wire::ipc::{MemberRow, QueryRecord, StreamRecord};
use crate::gossip::wire::{NodeState, decode_tags};

/// Kinds of events that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

/// Kinds that Serf does not have: only who asks for them by name is told.
const OURS: &str = "bandy";
/// No kind: what happened lately is told again first.
const REPLAY: &str = "replay";
/// That events came too fast to be told.
pub const MISSED: &str = "missed";

impl Kinds {
    /// Understands `*`, `bandy` for what only nodes of bandy tell, and kinds with commas between them; `user:NAME` and
    /// `query:NAME` are those of a name.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(|kind| kind.trim().to_owned()).collect())
    }

    /// Whether what happened lately is told again first.
    pub fn replay(&self) -> bool {
        self.0.iter().any(|kind| kind == REPLAY)
    }

    fn want(&self, kind: &str, name: &str, ours: bool) -> bool {
        self.0.iter().any(|wanted| match wanted.as_str() {
            OURS => true,
            "*" => !ours,
            wanted => {
                wanted == kind
                    || wanted.split_once(':').is_some_and(|(of, named)| of == kind && named == name)
            }
        })
    }
}

/// Serf's word for what became of a member.
pub fn word(change: Change) -> &'static str {
    match change {
        Change::Join => "member-join",
        Change::Leave => "member-leave",
        Change::Failed => "member-failed",
        Change::Update => "member-update",
        Change::Reap => "member-reap",
        Change::Suspect => "member-suspect",
        Change::Refuted => "member-alive",
    }
}

/// A member without what only a node knows.
pub fn row(member: &Member) -> MemberRow {
    MemberRow {
        name: member.name.to_string(),
        address: Some(member.address),
        tags: decode_tags(&member.meta),
        status: member.status.as_str().to_owned(),
        versions: member.versions,
        incarnation: Some(member.incarnation),
        suspect: member.state == NodeState::Suspect,
        age_ms: None,
        rtt_us: None,
    }
}

/// A member as this node knows it.
pub fn known_row(engine: &Engine, now: Time, member: &Member) -> MemberRow {
    let age = u64::try_from((now - member.since).as_millis()).unwrap_or(u64::MAX);
    let of = engine.coordinate_of(&member.name).filter(|_| member.name != engine.me().name);
    let rtt = of.map(|coordinate| (distance(engine.coordinate(), coordinate) * 1e6).max(0.0) as u64);
    let alive = matches!(member.status, Status::Alive | Status::Leaving);
    MemberRow { age_ms: Some(age), rtt_us: rtt.filter(|_| alive), ..row(member) }
}

/// What is told of an event, if it is wanted.
pub fn record(event: &Arc<Event>, kinds: &Kinds) -> Option<StreamRecord> {
    match &**event {
        Event::Member { change, member } => {
            let ours = matches!(change, Change::Suspect | Change::Refuted);
            let event = word(*change);
            kinds.want(event, "", ours).then(|| StreamRecord {
                event: event.to_owned(),
                members: vec![row(member)],
                ..StreamRecord::default()
            })
        }
        Event::User { ltime, name, payload, coalesce } => {
            kinds.want("user", name, false).then(|| StreamRecord {
                event: "user".to_owned(),
                ltime: *ltime,
                name: name.to_string(),
                payload: Some(payload.clone()),
                coalesce: *coalesce,
                ..StreamRecord::default()
            })
        }
        Event::Query { query, source, name, payload, .. } => {
            kinds.want("query", name, false).then(|| StreamRecord {
                event: "query".to_owned(),
                ltime: query.ltime,
                name: name.to_string(),
                payload: Some(payload.clone()),
                source: source.to_string(),
                ..StreamRecord::default()
            })
        }
        Event::Data(entry) => kinds.want("data", &entry.key, true).then(|| StreamRecord {
            event: "data".to_owned(),
            ltime: entry.version.counter,
            name: entry.key.to_string(),
            payload: match &entry.value {
                Value::Bytes(bytes) => Some(bytes.clone()),
                Value::Tombstone | Value::Announced { .. } => None,
            },
            source: entry.version.writer.to_string(),
            ..StreamRecord::default()
        }),
        _ => None,
    }
}

/// That so many events came too fast to be told, of whatever kind, if it is wanted.
pub fn missed(count: u64, kinds: &Kinds) -> Option<StreamRecord> {
    let record = || StreamRecord { event: MISSED.to_owned(), id: count, ..StreamRecord::default() };
    kinds.want(MISSED, "", true).then(record)
}

/// What is told of an answer; true if it was the last.
pub fn answer(answer: Answer) -> (QueryRecord, bool) {
    let record = |kind: &str, from: String, payload| QueryRecord { kind: kind.to_owned(), from, payload };
    match answer {
        Answer::Ack(from) => (record("ack", from.to_string(), Bytes::new()), false),
        Answer::Response(from, payload) => (record("response", from.to_string(), payload), false),
        Answer::Over(_) => (record("done", String::new(), Bytes::new()), true),
    }
}
