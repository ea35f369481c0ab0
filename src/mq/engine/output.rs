//! What the engine wants done, as data: frames to send, operations to store, definitions to keep.

use std::sync::Arc;

use super::definitions::{BindingDefinition, ExchangeDefinition, QueueDefinition};
use super::id::{ConnectionId, Id, QueueId};
use super::message::{Message, OVERHEAD};
use super::ready::Place;

/// A message on its way to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The channel of the consumer.
    pub channel: u16,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The delivery tag, counted from 1 on each channel.
    pub tag: u64,
    /// The consumer tag.
    pub consumer: Arc<str>,
    /// The message.
    pub message: Arc<Message>,
}

/// The answer to a synchronous method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `channel.open-ok`
    ChannelOpenOk,
    /// `channel.close-ok`
    ChannelCloseOk,
    /// `channel.flow-ok`
    ChannelFlowOk {
        /// As asked for.
        active: bool,
    },
    /// `access.request-ok`, ticket 1
    AccessRequestOk,
    /// `exchange.declare-ok`
    ExchangeDeclareOk,
    /// `exchange.delete-ok`
    ExchangeDeleteOk,
    /// `exchange.bind-ok`
    ExchangeBindOk,
    /// `exchange.unbind-ok`
    ExchangeUnbindOk,
    /// `queue.declare-ok`
    QueueDeclareOk {
        /// Its name, made by the broker if none was given.
        queue: Arc<str>,
        /// Messages ready.
        messages: u32,
        /// Consumers.
        consumers: u32,
    },
    /// `queue.bind-ok`
    QueueBindOk,
    /// `queue.unbind-ok`
    QueueUnbindOk,
    /// `queue.purge-ok`
    QueuePurgeOk {
        /// Messages that were ready and are gone.
        messages: u32,
    },
    /// `queue.delete-ok`
    QueueDeleteOk {
        /// Messages that were ready and are gone.
        messages: u32,
    },
    /// `basic.qos-ok`
    BasicQosOk,
    /// `basic.consume-ok`
    BasicConsumeOk {
        /// The consumer tag, made by the broker if none was given.
        consumer: Arc<str>,
    },
    /// `basic.cancel-ok`
    BasicCancelOk {
        /// As asked for.
        consumer: Arc<str>,
    },
    /// `basic.get-empty`
    BasicGetEmpty,
    /// `basic.recover-ok`
    BasicRecoverOk,
    /// `confirm.select-ok`
    ConfirmSelectOk,
    /// `tx.select-ok`
    TxSelectOk,
    /// `tx.commit-ok`
    TxCommitOk,
    /// `tx.rollback-ok`
    TxRollbackOk,
}

/// Something to send on a connection, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// `basic.deliver` with its content.
    Deliver(Delivery),
    /// `basic.get-ok` with its content.
    GetOk {
        /// The channel that asked.
        channel: u16,
        /// The delivery tag.
        tag: u64,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// Messages still ready in the queue.
        remaining: u32,
        /// The message.
        message: Arc<Message>,
    },
    /// `basic.return` with its content: nobody took a mandatory message.
    Return {
        /// The channel it was published on.
        channel: u16,
        /// The reply code, 312.
        code: u16,
        /// The reply text.
        text: &'static str,
        /// The message as it was published.
        message: Arc<Message>,
    },
    /// `basic.ack` to a publisher.
    Ack {
        /// The channel it published on.
        channel: u16,
        /// The number of the publish, counted from 1 since `confirm.select`.
        tag: u64,
        /// Whether all before it are meant as well.
        multiple: bool,
    },
    /// `basic.nack` to a publisher.
    Nack {
        /// The channel it published on.
        channel: u16,
        /// The number of the publish.
        tag: u64,
    },
    /// `basic.cancel` with no-wait: the queue of the consumer is gone. Only to clients that announced
    /// `consumer_cancel_notify`.
    Cancel {
        /// The channel of the consumer.
        channel: u16,
        /// The consumer tag.
        consumer: Arc<str>,
    },
    /// The answer to a synchronous method.
    Reply {
        /// The channel that asked.
        channel: u16,
        /// The answer.
        reply: Reply,
    },
    /// `channel.close`. The engine ignores the channel from here until close-ok.
    CloseChannel {
        /// The channel.
        channel: u16,
        /// The reply code.
        code: u16,
        /// The reply text, at most 255 bytes.
        text: String,
        /// Class and method that failed, 0 and 0 if none did.
        method: (u16, u16),
    },
    /// `connection.close`. The engine has let go of everything the connection held and ignores it from here on.
    CloseConnection {
        /// The reply code.
        code: u16,
        /// The reply text, at most 255 bytes.
        text: String,
        /// Class and method that failed, 0 and 0 if none did.
        method: (u16, u16),
    },
    /// Stop reading from this connection; `connection.blocked` if the client announced it can be told.
    Block {
        /// What is short.
        reason: Arc<str>,
    },
    /// Read on; `connection.unblocked` if it was told.
    Unblock,
    /// A command that was not taken ([`super::Taken::Later`]) may be given again.
    Resume,
}

/// Why a message left a durable queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gone {
    /// A consumer acknowledged it, or took it without.
    Acked,
    /// Its time was over.
    Expired,
    /// The queue was too long.
    MaxLength,
    /// It was rejected.
    Rejected,
    /// It came back too often.
    DeliveryLimit,
    /// The queue was purged.
    Purged,
}

/// An operation on the storage of a queue. Offsets of one queue are consecutive, in the order of the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journal {
    /// ENQ: a message was published to a durable queue.
    Append {
        /// The queue.
        queue: QueueId,
        /// The offset that this record must get.
        offset: u64,
        /// The message.
        message: Arc<Message>,
        /// When it expires, in milliseconds since 1970; 0 for never.
        expires: u64,
    },
    /// ACK: messages need not be kept. May be written late.
    Ack {
        /// The queue.
        queue: QueueId,
        /// The offset that this record must get.
        offset: u64,
        /// Why.
        reason: Gone,
        /// Offsets of their records as `(first, count)`, neither sorted nor overlapping.
        ranges: Vec<(u64, u64)>,
    },
    /// REQ: a message came back to a queue with a delivery limit.
    Requeue {
        /// The queue.
        queue: QueueId,
        /// The offset that this record must get.
        offset: u64,
        /// The offset of the message.
        message: u64,
        /// How often it came back.
        returns: u32,
    },
    /// DLV: everything up to `up_to` may have been delivered once.
    Delivered {
        /// The queue.
        queue: QueueId,
        /// The offset that this record must get.
        offset: u64,
        /// The highest offset of a message that was delivered.
        up_to: u64,
    },
    /// MOVE: the live message at `from` is written once more, as asked for by
    /// [`super::Engine::compact`]. Its order is that of its first record.
    Move {
        /// The queue.
        queue: QueueId,
        /// The offset that this record must get.
        offset: u64,
        /// Where it is now.
        from: u64,
        /// How often it came back.
        returns: u32,
    },
    /// A message that is in no log leaves memory: keep it in the spill file of the queue, which a restart deletes.
    Spill {
        /// The queue.
        queue: QueueId,
        /// Its number in the spill file.
        number: u64,
        /// The message.
        message: Arc<Message>,
        /// When it expires, in milliseconds since 1970; 0 for never.
        expires: u64,
    },
    /// What was spilled of the queue under numbers below this one is needed no more.
    Unspill {
        /// The queue.
        queue: QueueId,
        /// The lowest number that may be needed.
        below: u64,
    },
    /// Read messages and give them to [`super::Engine::loaded`].
    Load {
        /// The queue.
        queue: QueueId,
        /// What the answer is given under. Those of a queue come in the order of the questions.
        number: u64,
        /// Where, and how many at consecutive places from there on: all in the log or all in the spill file.
        runs: Vec<(Place, u32)>,
    },
}

/// A change of what survives a restart. It must be on disk before anything that was output with it is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A durable queue was made. Its log starts empty.
    QueueDeclared(QueueId, QueueDefinition),
    /// A durable queue is gone, its log too.
    QueueDeleted(QueueId, Arc<str>),
    /// A durable exchange was made.
    ExchangeDeclared(ExchangeDefinition),
    /// A durable exchange is gone.
    ExchangeDeleted(Arc<str>),
    /// A binding between durable things was made.
    Bound(BindingDefinition),
    /// A binding between durable things is gone. Not said for those that go with a queue or an exchange.
    Unbound(BindingDefinition),
}

/// Everything that came out of a batch of inputs. Reusable: its lists keep their memory.
#[derive(Debug, Default)]
pub struct Outputs {
    lanes: Vec<OutLane>,
    used: usize,
    /// By the index of the connection: the number of its lane in this batch and the batch it was given in.
    slots: Vec<(u32, u32)>,
    batch: u32,
    /// Storage operations in order.
    pub journal: Vec<Journal>,
    /// Changes of definitions in order.
    pub changes: Vec<Change>,
}

/// What goes to one connection.
#[derive(Debug)]
pub struct OutLane {
    /// The connection.
    pub connection: ConnectionId,
    /// What to send, in order.
    pub sends: Vec<Send>,
    /// What its deliveries cost: give it back to [`super::Engine::written`] when they are written.
    pub cost: u64,
}

/// What a delivery takes from the credit of its connection.
pub(crate) fn delivery_cost(message: &Message) -> u64 {
    (message.body.len() + message.properties.len() + OVERHEAD) as u64
}

impl Outputs {
    /// Empties everything.
    pub fn clear(&mut self) {
        for lane in &mut self.lanes[..self.used] {
            lane.sends.clear();
            lane.cost = 0;
        }
        self.used = 0;
        self.batch = self.batch.wrapping_add(1);
        self.journal.clear();
        self.changes.clear();
    }

    /// Whether nothing came out.
    pub fn is_empty(&self) -> bool {
        self.used == 0 && self.journal.is_empty() && self.changes.is_empty()
    }

    #[inline]
    fn lane(&mut self, connection: ConnectionId) -> &mut OutLane {
        let index = connection.index();
        if index >= self.slots.len() {
            self.slots.resize(index + 1, (0, u32::MAX));
        }
        let (number, batch) = self.slots[index];
        let number = number as usize;
        if batch == self.batch && self.lanes[number].connection == connection {
            return &mut self.lanes[number];
        }
        self.slots[index] = (self.used as u32, self.batch);
        if self.used == self.lanes.len() {
            self.lanes.push(OutLane { connection, sends: Vec::new(), cost: 0 });
        }
        let lane = &mut self.lanes[self.used];
        lane.connection = connection;
        self.used += 1;
        lane
    }

    #[inline]
    pub(crate) fn send(&mut self, connection: ConnectionId, send: Send) {
        self.lane(connection).sends.push(send);
    }

    #[inline]
    pub(crate) fn deliver(&mut self, connection: ConnectionId, delivery: Delivery, cost: u64) {
        let lane = self.lane(connection);
        lane.cost += cost;
        lane.sends.push(Send::Deliver(delivery));
    }

    pub(crate) fn reply(&mut self, connection: ConnectionId, channel: u16, reply: Reply) {
        self.send(connection, Send::Reply { channel, reply });
    }

    /// What goes to each connection that something goes to.
    pub fn connections(&mut self) -> impl Iterator<Item = &mut OutLane> {
        self.lanes[..self.used].iter_mut()
    }

    /// What goes to one connection.
    pub fn to(&self, connection: ConnectionId) -> &[Send] {
        let lane = self.lanes[..self.used].iter().find(|lane| lane.connection == connection);
        lane.map_or(&[], |lane| &lane.sends)
    }
}
