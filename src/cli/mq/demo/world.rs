//! The broker of a demo: the real engine, given a made-up time.

use std::sync::Arc;

use bytes::Bytes;

use crate::mq::engine::{
    Access, At, Config, ConnectionId, Content, Delivery, Engine, Millis, Outputs, Peer, Send,
};
use crate::mq::wire::method::{basic, channel, queue};
use crate::mq::wire::{Fields, Method, Properties, TableBuf, Value};

/// The one channel of every connection.
const CHANNEL: u16 = 1;

/// See the module.
pub struct World {
    pub engine: Engine,
    out: Outputs,
    /// Milliseconds since the story began.
    pub now: Millis,
    /// Deliveries that nobody has looked at yet, in order.
    deliveries: Vec<(ConnectionId, Delivery)>,
}

impl World {
    /// An empty virtual host. Names of the broker's come from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let config = Config { durable: false, spills: false, ..Config::default() };
        let engine = Engine::new("/", config, Box::new(move || dice.u64(..)));
        Self { engine, out: Outputs::default(), now: 0, deliveries: Vec::new() }
    }

    /// A client with a channel.
    pub fn connect(&mut self, user: &str) -> ConnectionId {
        let access = Access::full().into();
        let (name, user) = (user.into(), user.into());
        let id = self.engine.connect(Peer {
            name,
            user,
            access,
            channel_max: 1,
            allowance: Arc::default(),
            cancel_notify: true,
        });
        self.tell(id, channel::Open::default());
        id
    }

    /// A client is gone, without a word.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.engine.disconnect(self.now, id, &mut self.out);
        self.settle();
    }

    /// A client sends a method.
    pub fn tell<'a>(&mut self, from: ConnectionId, method: impl Into<Method<'a>>) {
        self.give(from, &method.into(), None);
    }

    /// A client publishes.
    pub fn publish(
        &mut self,
        from: ConnectionId,
        exchange: &str,
        key: &str,
        content: (Bytes, impl Into<Bytes>),
    ) {
        let publish = basic::Publish { exchange, routing_key: key.as_bytes(), ..Default::default() };
        let content = Content { properties: content.0, body: content.1.into() };
        self.give(from, &publish.into(), Some(content));
    }

    /// A client consumes a queue, with so many deliveries at a time.
    pub fn consume(&mut self, who: ConnectionId, queue: &str, prefetch: u16) {
        self.tell(who, basic::Qos { prefetch_count: prefetch, ..Default::default() });
        self.tell(who, basic::Consume { queue, ..Default::default() });
    }

    /// A queue is declared.
    pub fn declare(&mut self, who: ConnectionId, queue: &str, arguments: &TableBuf) {
        self.tell(who, queue::Declare { queue, arguments: arguments.as_table(), ..Default::default() });
    }

    fn give(&mut self, from: ConnectionId, method: &Method<'_>, content: Option<Content>) {
        let at = At { now: self.now, connection: from, channel: CHANNEL };
        // Nothing waits for a disk here.
        let _ = self.engine.handle(at, method, content, &mut self.out);
        self.settle();
    }

    /// Does what a driver does with what came out: here everything is written at once.
    fn settle(&mut self) {
        self.engine.finish(&mut self.out);
        loop {
            let mut written = Vec::new();
            for lane in self.out.connections() {
                for send in lane.sends.drain(..) {
                    match send {
                        Send::Deliver(delivery) => self.deliveries.push((lane.connection, delivery)),
                        Send::CloseChannel { text, .. } | Send::CloseConnection { text, .. } => {
                            unreachable!("a demo does nothing that is refused: {text}")
                        }
                        _ => {}
                    }
                }
                if lane.cost > 0 {
                    written.push((lane.connection, lane.cost));
                }
            }
            self.out.clear();
            if written.is_empty() {
                return;
            }
            for (connection, cost) in written {
                self.engine.written(self.now, connection, cost, &mut self.out);
            }
        }
    }

    /// Time passes.
    pub fn pass(&mut self, millis: Millis) {
        self.now += millis;
        while self.engine.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.engine.tick(self.now, &mut self.out);
            self.settle();
        }
    }

    /// Deliveries since this was asked last.
    pub fn deliveries(&mut self) -> Vec<(ConnectionId, Delivery)> {
        std::mem::take(&mut self.deliveries)
    }

    /// Messages ready and unacknowledged in a queue.
    pub fn counts(&self, queue: &str) -> (u64, u64) {
        self.engine.queue(queue).map_or((0, 0), |view| (view.ready, view.unacked))
    }
}

/// The properties of a message without any.
pub fn plain() -> Bytes {
    Fields::default().to_vec().into()
}

/// The text of a message.
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// How often a message was dead-lettered, as its header `x-death` says.
pub fn deaths(delivery: &Delivery) -> u64 {
    let Ok(properties) = Properties::parse(&delivery.message.properties) else { return 0 };
    let Ok(Some(headers)) = properties.headers() else { return 0 };
    let Some(Value::Array(deaths)) = headers.get("x-death") else { return 0 };
    let count = |value: Value<'_>| match value {
        Value::Table(death) => {
            death.get("count").and_then(|count| count.as_integer()).map_or(0, i64::unsigned_abs)
        }
        _ => 0,
    };
    deaths.iter().map(count).sum()
}
