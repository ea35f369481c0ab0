//! A small world around an engine: connections, methods in, what comes out.

use bytes::Bytes;

use crate::mq::engine::{
    Access, At, Change, Config, ConnectionId, Content, Engine, Journal, Loaded, Message, Outputs, Peer,
    Place, QueueId, Recovered, Send, Taken,
};
use crate::mq::wire::{Fields, Method, Table};

pub use crate::mq::wire::method::{basic, channel, confirm, exchange, queue, tx};
pub use crate::mq::wire::{TableBuf, Value};

/// The first moment, in milliseconds since 1970.
pub const START: u64 = 1_700_000_000_000;

/// A read that the engine asks for: of which queue, its number, and the runs of messages.
pub type Asked = (QueueId, u64, Vec<(Place, u32)>);

pub struct World {
    pub engine: Engine,
    pub out: Outputs,
    pub now: u64,
    /// Everything that came out since the start.
    pub journal: Vec<Journal>,
    pub changes: Vec<Change>,
}

/// A table that lives as long as the test.
pub fn table(entries: &[(&str, Value<'_>)]) -> Table<'static> {
    let mut table = TableBuf::new();
    entries.iter().for_each(|(name, value)| table.push(name, *value));
    let leaked: &'static TableBuf = Box::leak(Box::new(table));
    leaked.as_table()
}

pub fn declare(name: &str) -> queue::Declare<'_> {
    queue::Declare {
        ticket: 0,
        queue: name,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Table::default(),
    }
}

pub fn declare_x<'a>(name: &'a str, kind: &'a str) -> exchange::Declare<'a> {
    exchange::Declare {
        ticket: 0,
        exchange: name,
        kind,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: Table::default(),
    }
}

pub fn bind<'a>(queue: &'a str, exchange: &'a str, key: &'a str) -> queue::Bind<'a> {
    queue::Bind { ticket: 0, queue, exchange, routing_key: key, nowait: false, arguments: Table::default() }
}

pub fn consume<'a>(queue: &'a str, tag: &'a str) -> basic::Consume<'a> {
    basic::Consume {
        ticket: 0,
        queue,
        consumer_tag: tag,
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments: Table::default(),
    }
}

pub fn get(queue: &str) -> basic::Get<'_> {
    basic::Get { ticket: 0, queue, no_ack: false }
}

pub fn delete(queue: &str) -> queue::Delete<'_> {
    queue::Delete { ticket: 0, queue, if_unused: false, if_empty: false, nowait: false }
}

pub fn publish<'a>(exchange: &'a str, key: &'a str) -> basic::Publish<'a> {
    basic::Publish { ticket: 0, exchange, routing_key: key.as_bytes(), mandatory: false, immediate: false }
}

pub fn ack(tag: u64, multiple: bool) -> basic::Ack {
    basic::Ack { delivery_tag: tag, multiple }
}

pub fn nack(tag: u64, multiple: bool, requeue: bool) -> basic::Nack {
    basic::Nack { delivery_tag: tag, multiple, requeue }
}

pub fn qos(count: u16, global: bool) -> basic::Qos {
    basic::Qos { prefetch_size: 0, prefetch_count: count, global }
}

pub fn persistent() -> Fields<'static> {
    Fields { delivery_mode: Some(2), ..Fields::default() }
}

pub fn content(fields: Fields<'_>, body: &str) -> Content {
    Content { properties: fields.to_vec().into(), body: Bytes::copy_from_slice(body.as_bytes()) }
}

impl World {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let mut state = 1_u64;
        let random = Box::new(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        });
        Self {
            engine: Engine::new("/", config, random),
            out: Outputs::default(),
            now: START,
            journal: Vec::new(),
            changes: Vec::new(),
        }
    }

    pub fn connect(&mut self) -> ConnectionId {
        self.connect_as("guest", Access::full(), true)
    }

    pub fn connect_as(&mut self, user: &str, access: Access, cancel_notify: bool) -> ConnectionId {
        self.engine.connect(Peer {
            name: "test".into(),
            user: user.into(),
            access: access.into(),
            channel_max: 2047,
            allowance: std::sync::Arc::default(),
            cancel_notify,
        })
    }

    /// A connection with channel 1 open.
    pub fn open(&mut self) -> ConnectionId {
        let connection = self.connect();
        self.open_channel(connection, 1);
        connection
    }

    pub fn open_channel(&mut self, connection: ConnectionId, channel: u16) {
        self.tell(connection, channel, channel::Open { out_of_band: "" });
    }

    /// Gives a method and forgets what comes out, but for the journal.
    pub fn tell<'a>(&mut self, connection: ConnectionId, channel: u16, method: impl Into<Method<'a>>) {
        self.call(connection, channel, method);
    }

    /// Gives a method and tells what goes to the connection.
    pub fn call<'a>(
        &mut self,
        connection: ConnectionId,
        channel: u16,
        method: impl Into<Method<'a>>,
    ) -> Vec<Send> {
        self.give(connection, channel, method.into(), None);
        self.out.to(connection).to_vec()
    }

    pub fn give(
        &mut self,
        connection: ConnectionId,
        channel: u16,
        method: Method<'_>,
        content: Option<Content>,
    ) {
        self.out.clear();
        let at = At { now: self.now, connection, channel };
        let taken = self.engine.handle(at, &method, content, &mut self.out);
        assert_eq!(taken, Taken::Now, "{method:?}");
        self.engine.finish(&mut self.out);
        self.keep();
    }

    pub fn publish(
        &mut self,
        connection: ConnectionId,
        exchange: &str,
        key: &str,
        fields: Fields<'_>,
        body: &str,
    ) -> Vec<Send> {
        self.publish_as(connection, publish(exchange, key), fields, body)
    }

    pub fn publish_as(
        &mut self,
        connection: ConnectionId,
        method: basic::Publish<'_>,
        fields: Fields<'_>,
        body: &str,
    ) -> Vec<Send> {
        self.give(connection, 1, Method::BasicPublish(method), Some(content(fields, body)));
        self.out.to(connection).to_vec()
    }

    /// Publishes transient messages to a queue.
    pub fn fill(&mut self, connection: ConnectionId, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish(connection, "", queue, Fields::default(), body);
        }
    }

    fn keep(&mut self) {
        self.journal.extend(self.out.journal.iter().cloned());
        self.changes.extend(self.out.changes.iter().cloned());
    }

    /// Lets time pass, tick by tick.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        self.out.clear();
        while let Some(due) = self.engine.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engine.tick(self.now, &mut self.out);
        }
        self.now = end;
        self.engine.finish(&mut self.out);
        self.keep();
    }

    pub fn stored(&mut self, queue: QueueId, up_to: u64) {
        self.out.clear();
        self.engine.stored(self.now, queue, up_to, &mut self.out);
        self.engine.finish(&mut self.out);
        self.keep();
    }

    /// How many records the log of a queue has, stored or not.
    pub fn records(&self, queue: QueueId) -> u64 {
        self.journal.iter().filter(|op| is_record_of(op, queue)).count() as u64
    }

    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.out.clear();
        self.engine.disconnect(self.now, connection, &mut self.out);
        self.engine.finish(&mut self.out);
        self.keep();
    }

    /// Takes everything from a queue with basic.get, bodies as text.
    pub fn take(&mut self, connection: ConnectionId, queue: &str) -> Vec<String> {
        self.take_messages(connection, queue).iter().map(body_of).collect()
    }

    pub fn take_messages(&mut self, connection: ConnectionId, queue: &str) -> Vec<std::sync::Arc<Message>> {
        let mut messages = Vec::new();
        loop {
            let got = self.call(connection, 1, basic::Get { ticket: 0, queue, no_ack: true });
            match &got[..] {
                [Send::GetOk { message, .. }] => messages.push(message.clone()),
                _ => return messages,
            }
        }
    }

    /// Ready and unacknowledged.
    pub fn counts(&self, queue: &str) -> (u64, u64) {
        self.engine.queue(queue).map(|queue| (queue.ready, queue.unacked)).unwrap()
    }

    /// Answers every request to read with what was appended or spilled. Tells the bodies that a connection gets of
    /// that, and what they cost.
    pub fn read_back(&mut self, connection: ConnectionId) -> (Vec<String>, u64) {
        let (mut got, mut cost) = (Vec::new(), 0);
        loop {
            let loads = self.loads();
            if loads.is_empty() {
                return (got, cost);
            }
            self.out.clear();
            for (queue, number, runs) in loads {
                let mut messages = self.stored_messages(queue, &runs);
                self.engine.loaded(self.now, queue, number, &mut messages, &mut self.out);
            }
            self.keep();
            got.extend(bodies(self.out.to(connection)));
            cost += self.out.connections().map(|lane| lane.cost).sum::<u64>();
        }
    }

    /// What was asked for from disk since the outputs were last cleared.
    pub fn loads(&self) -> Vec<Asked> {
        let asked = self.out.journal.iter().filter_map(|op| match op {
            Journal::Load { queue, number, runs } => Some((*queue, *number, runs.clone())),
            _ => None,
        });
        asked.collect()
    }

    /// What the storage has at these places and behind them.
    pub fn stored_messages(&self, id: QueueId, runs: &[(Place, u32)]) -> Vec<Loaded> {
        let mut stored = std::collections::HashMap::new();
        for op in &self.journal {
            match op {
                Journal::Append { queue, offset, message, expires } if *queue == id => {
                    stored.insert(Place::log(*offset), (message.clone(), *expires));
                }
                Journal::Spill { queue, number, message, expires } if *queue == id => {
                    stored.insert(Place::spill(*number), (message.clone(), *expires));
                }
                Journal::Move { queue, offset, from, .. } if *queue == id => {
                    let moved = stored[&Place::log(*from)].clone();
                    stored.insert(Place::log(*offset), moved);
                }
                _ => {}
            }
        }
        let places = runs.iter().flat_map(|(place, count)| {
            (0..u64::from(*count)).map(|number| match (place.as_log(), place.as_spill()) {
                (Some(offset), _) => Place::log(offset + number),
                (None, Some(first)) => Place::spill(first + number),
                (None, None) => Place::NOWHERE,
            })
        });
        places
            .map_while(|place| stored.get(&place).cloned())
            .map(|(message, expires)| Loaded { message, expires, returns: 0, redelivered: false })
            .collect()
    }

    /// What the journal says is live in a queue: appended and not acknowledged, with moves followed.
    pub fn live(&self, id: QueueId) -> Vec<(u64, std::sync::Arc<Message>)> {
        let mut live = std::collections::BTreeMap::new();
        let mut next = 0;
        for op in &self.journal {
            let (queue, at) = match op {
                Journal::Append { queue, offset, .. }
                | Journal::Ack { queue, offset, .. }
                | Journal::Requeue { queue, offset, .. }
                | Journal::Delivered { queue, offset, .. }
                | Journal::Move { queue, offset, .. } => (*queue, *offset),
                Journal::Spill { .. } | Journal::Unspill { .. } | Journal::Load { .. } => continue,
            };
            if queue != id {
                continue;
            }
            assert_eq!(at, next, "offsets are consecutive");
            next += 1;
            match op {
                Journal::Append { message, .. } => drop(live.insert(at, message.clone())),
                Journal::Move { from, .. } => {
                    let message = live.remove(from).expect("what is moved is live");
                    live.insert(at, message);
                }
                Journal::Ack { ranges, .. } => {
                    for offset in ranges.iter().flat_map(|(first, count)| *first..first + count) {
                        assert!(live.remove(&offset).is_some(), "offset {offset} goes once");
                    }
                }
                _ => {}
            }
        }
        live.into_iter().collect()
    }

    /// A world after a restart: durable definitions, and what the journal has.
    pub fn restart(&mut self, queues: &[&str]) -> Self {
        self.out.clear();
        self.engine.write_acks(&mut self.out);
        self.keep();
        let mut next = Self::new();
        next.now = self.now;
        let mut definitions = self.engine.definitions();
        definitions.queues.retain(|queue| queue.durable);
        definitions.bindings.clear();
        next.engine.define(next.now, &definitions, &mut next.out).unwrap();
        for name in queues {
            let id = self.engine.queue_id(name).unwrap();
            let live = self.live(id);
            let end = self.records(id);
            let recovered: Vec<Recovered> = live
                .iter()
                .map(|(offset, message)| Recovered {
                    count: 1,
                    offset: *offset,
                    priority: message.priority(),
                    size: message.body_len(),
                    expires: 0,
                })
                .collect();
            let new = next.engine.queue_id(name).unwrap();
            for (offset, message) in live {
                next.journal.push(Journal::Append { queue: new, offset, message, expires: 0 });
            }
            next.engine.recover_queue(next.now, new, recovered, end, &mut next.out);
        }
        next
    }
}

fn is_record_of(op: &Journal, id: QueueId) -> bool {
    match op {
        Journal::Append { queue, .. }
        | Journal::Ack { queue, .. }
        | Journal::Requeue { queue, .. }
        | Journal::Delivered { queue, .. }
        | Journal::Move { queue, .. } => *queue == id,
        Journal::Spill { .. } | Journal::Unspill { .. } | Journal::Load { .. } => false,
    }
}

pub fn body_of(message: &std::sync::Arc<Message>) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// Bodies, redelivered flags and tags of what was delivered.
pub fn delivered(sends: &[Send]) -> Vec<(String, bool, u64)> {
    sends
        .iter()
        .filter_map(|send| match send {
            Send::Deliver(delivery) => Some((body_of(&delivery.message), delivery.redelivered, delivery.tag)),
            Send::GetOk { message, redelivered, tag, .. } => Some((body_of(message), *redelivered, *tag)),
            _ => None,
        })
        .collect()
}

/// Bodies of what was delivered.
pub fn bodies(sends: &[Send]) -> Vec<String> {
    delivered(sends).into_iter().map(|(body, _, _)| body).collect()
}

/// The text of the close that was sent.
#[track_caller]
pub fn refusal(sends: &[Send]) -> (u16, String, bool) {
    let close = sends.iter().find_map(|send| match send {
        Send::CloseChannel { code, text, .. } => Some((*code, text.clone(), false)),
        Send::CloseConnection { code, text, .. } => Some((*code, text.clone(), true)),
        _ => None,
    });
    close.unwrap_or_else(|| panic!("nothing was refused: {sends:?}"))
}
