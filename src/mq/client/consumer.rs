//! Deliveries from one queue, acknowledged in bulk, asked for again after a loss.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::acks::Acks;
use super::channel::publish;
use super::retry::Retry;
use super::{Channel, Config, Connection, Error, Message, Topology};
use crate::mq::wire::method::basic;
use crate::mq::wire::{self, Properties, TableBuf, short};
use crate::shutdown::Shutdown;

/// A message that came. Clones share its bytes; a small one keeps what was read with it in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The broker's number for it, on its channel.
    pub tag: u64,
    /// On which connection of its consumer it came.
    pub(super) epoch: u64,
    /// It was delivered before, to somebody.
    pub redelivered: bool,
    /// Where it was published; empty for the default exchange.
    pub exchange: Arc<str>,
    /// With what routing key: mostly text.
    pub routing_key: Bytes,
    /// Its properties, as they came.
    pub properties: Bytes,
    /// Its body.
    pub body: Bytes,
}

impl Delivery {
    /// A message that came in another way than by a consumer: there is nothing to acknowledge.
    pub fn new(exchange: Arc<str>, routing_key: Bytes, properties: Bytes, body: Bytes) -> Self {
        Self { tag: 0, epoch: 0, redelivered: false, exchange, routing_key, properties, body }
    }

    /// One that no broker sent, for tests.
    #[cfg(test)]
    pub(crate) fn example(routing_key: &'static str, properties: Bytes, body: &'static [u8]) -> Self {
        let (exchange, routing_key) = (Arc::from("amq.topic"), Bytes::from(routing_key));
        let body = Bytes::from_static(body);
        Self { tag: 1, epoch: 0, redelivered: false, exchange, routing_key, properties, body }
    }

    /// Its properties, to be read.
    ///
    /// # Errors
    /// They are malformed.
    pub fn properties(&self) -> Result<Properties<'_>, Error> {
        Ok(Properties::parse(&self.properties)?)
    }
}

/// How to consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// Empty for the queue that the topology declares last.
    pub queue: String,
    /// Deliveries without an acknowledgement at the same time; 0 for no limit.
    pub prefetch: u16,
    /// Deliveries are done when they are sent: nothing to acknowledge.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// `x-priority` and others.
    pub arguments: TableBuf,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        let queue = String::new();
        Self { queue, prefetch: 100, no_ack: false, exclusive: false, arguments: TableBuf::new() }
    }
}

/// Consumes from one queue, on a connection of its own.
#[derive(Debug)]
pub struct Consumer {
    config: Config,
    topology: Topology,
    options: ConsumeOptions,
    shutdown: Shutdown,
    live: Option<Live>,
    acks: Acks,
    epoch: u64,
    retry: Retry,
    queue: String,
    /// What ended it for good.
    failed: Option<Error>,
}

#[derive(Debug)]
struct Live {
    // Before the connection: a channel closes first.
    channel: Channel,
    connection: Connection,
    event: Arc<Notify>,
    cancelled: bool,
}

/// What is to be expected when there is no delivery.
enum Outlook {
    /// There is one by now.
    Here,
    /// Wait for this, and look again.
    Later(Arc<Notify>),
    /// It was cancelled from here, and everything was taken.
    Done,
    /// The connection, the channel or the consumer has ended.
    Never(Error),
}

/// The name of the one consumer of a channel.
const TAG: &str = "bandy";

impl Consumer {
    /// Connects, declares the topology and begins to consume; once, without trying again.
    ///
    /// # Errors
    /// No connection, a step of the topology failed, no such queue, or somebody has it for himself.
    pub async fn start(
        config: Config,
        topology: Topology,
        options: ConsumeOptions,
        shutdown: &Shutdown,
    ) -> Result<Self, Error> {
        short(&options.queue)?;
        let queue = options.queue.clone();
        let mut consumer = Self {
            config,
            topology,
            options,
            shutdown: shutdown.clone(),
            live: None,
            acks: Acks::new(),
            epoch: 0,
            retry: Retry::default(),
            queue,
            failed: None,
        };
        consumer.connect().await?;
        Ok(consumer)
    }

    /// The connection, while there is one.
    pub fn connection(&self) -> Option<&Connection> {
        self.live.as_ref().map(|live| &live.connection)
    }

    /// The queue, with the name that the broker gave it; another one after coming back, if the broker names it.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// How often it has come back.
    pub fn reconnects(&self) -> u64 {
        self.epoch.saturating_sub(1)
    }

    /// The next delivery. Tells the broker what was acknowledged before it waits. May be dropped: nothing is lost.
    /// None after [`cancel`](Self::cancel), when everything that had been sent was taken.
    ///
    /// # Errors
    /// The broker ended the deliveries, closed the channel, or cannot be reached any more. Every further call gives
    /// the same error.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        loop {
            if let Some(delivery) = self.try_next() {
                return Ok(Some(delivery));
            }
            let ended = match self.outlook() {
                Outlook::Here => continue,
                Outlook::Done => return Ok(None),
                Outlook::Later(event) => {
                    self.flush()?;
                    event.notified().await;
                    continue;
                }
                Outlook::Never(error) => error,
            };
            self.recover(ended).await?;
        }
    }

    /// What is to be expected when there is no delivery.
    fn outlook(&self) -> Outlook {
        let Some(live) = &self.live else {
            return Outlook::Never(self.failed.clone().unwrap_or(Error::Ended));
        };
        let mut state = live.channel.link.state();
        match state.open(live.channel.number) {
            // Everything may have come while nobody held the lock.
            Ok(channel) if !channel.inbox.is_empty() => Outlook::Here,
            Ok(_) if live.cancelled => Outlook::Done,
            Ok(channel) if channel.cancelled => {
                Outlook::Never(Error::Cancelled { queue: self.queue.clone() })
            }
            Ok(_) => Outlook::Later(live.event.clone()),
            Err(error) => Outlook::Never(error),
        }
    }

    /// The next delivery if it is here.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let live = self.live.as_ref()?;
        let link = &live.channel.link;
        let mut state = link.state();
        // What cannot be acknowledged any more comes again.
        if !self.options.no_ack && state.open(live.channel.number).is_err() {
            return None;
        }
        let mut delivery = state.next_delivery(live.channel.number)?;
        drop(state);
        link.taken.notify_one();
        delivery.epoch = self.epoch;
        if self.options.no_ack {
            // Nothing to be told, ever.
            delivery.epoch = 0;
        }
        Some(delivery)
    }

    /// The delivery is done. The broker is told by [`flush`](Self::flush), by [`next`](Self::next) before it waits,
    /// and when a quarter of the prefetch is done. A delivery of a connection that is gone will come again; false
    /// for such a one.
    pub fn ack(&mut self, delivery: &Delivery) -> bool {
        if delivery.epoch != self.epoch || self.live.is_none() {
            return self.options.no_ack;
        }
        self.acks.add(delivery.tag, false);
        let enough = match self.options.prefetch {
            0 => 1000,
            prefetch => usize::from(prefetch / 4).clamp(1, 1000),
        };
        if self.acks.pending() >= enough {
            // A loss shows up in `next`.
            let _ = self.flush();
        }
        true
    }

    /// The delivery is refused: back to the queue, or to its dead letters. Told at once. False if its connection is
    /// gone: it will come again.
    pub fn nack(&mut self, delivery: &Delivery, requeue: bool) -> bool {
        match &self.live {
            Some(live) if delivery.epoch == self.epoch => {
                let told = live.channel.nack(delivery.tag, false, requeue).is_ok();
                self.acks.add(delivery.tag, true);
                told
            }
            Some(_) | None => self.options.no_ack,
        }
    }

    /// Tells the broker what is done. Not waited for: [`close`](Self::close) is.
    ///
    /// # Errors
    /// The channel is closed, which [`next`](Self::next) deals with.
    pub fn flush(&mut self) -> Result<(), Error> {
        let Some(live) = &self.live else { return Ok(()) };
        if self.acks.pending() == 0 {
            return Ok(());
        }
        let link = &live.channel.link;
        let mut state = link.state();
        if state.open(live.channel.number).is_err() {
            return Ok(());
        }
        self.acks.take(|ack| wire::method(&mut state.out, live.channel.number, &ack.into()));
        drop(state);
        link.wake.notify_one();
        Ok(())
    }

    /// Publishes on the channel of the deliveries, without a confirm: what is asked with direct reply-to is answered
    /// there. Not waited for.
    ///
    /// # Errors
    /// The channel is closed, or the message does not fit the protocol.
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        short(&message.exchange)?;
        let Some(live) = &self.live else { return Err(self.failed.clone().unwrap_or(Error::Ended)) };
        let link = &live.channel.link;
        let mut state = link.state();
        state.open(live.channel.number)?;
        publish(&mut state.out, live.channel.number, message, link.agreed.frame_max);
        drop(state);
        link.wake.notify_one();
        Ok(())
    }

    /// Asks the broker to deliver no more. What it has sent is still to be taken.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn cancel(&mut self) -> Result<(), Error> {
        let Some(live) = &mut self.live else { return Ok(()) };
        live.cancelled = true;
        let question = basic::Cancel { consumer_tag: TAG, nowait: false };
        live.channel.done(&question.into(), basic::CancelOk::ID).await
    }

    /// Tells the broker what is done and closes the connection. What was delivered and not acknowledged goes back to
    /// the queue.
    ///
    /// # Errors
    /// The connection was lost: what was acknowledged last may come again.
    pub async fn close(mut self) -> Result<(), Error> {
        self.flush()?;
        match self.live.take() {
            Some(Live { channel, connection, .. }) => {
                drop(channel);
                connection.close().await
            }
            None => self.failed.take().map_or(Ok(()), Err),
        }
    }

    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.live = None;
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut error = error;
        loop {
            if let Err(error) = self.retry.pause(error, &self.config).await {
                self.failed = Some(error.clone());
                return Err(error);
            }
            match self.connect().await {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let connection = Connection::open(&self.config, &self.shutdown).await?;
        let channel = connection.channel().await?;
        let declared = self.topology.declare(&channel).await?;
        if self.options.queue.is_empty() {
            self.queue = declared.unwrap_or_default();
        }
        if !self.options.no_ack {
            channel.prefetch(self.options.prefetch).await?;
        }
        let event = channel.link.state().open(channel.number)?.event.clone();
        let question = basic::Consume {
            queue: &self.queue,
            consumer_tag: TAG,
            no_ack: self.options.no_ack,
            exclusive: self.options.exclusive,
            arguments: self.options.arguments.as_table(),
            ..Default::default()
        };
        channel.done(&question.into(), basic::ConsumeOk::ID).await?;
        self.epoch += 1;
        self.acks = Acks::new();
        self.live = Some(Live { channel, connection, event, cancelled: false });
        self.retry.over();
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // What is done stays done.
        let _ = self.flush();
    }
}
