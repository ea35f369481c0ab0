//! Publishes in a row, confirmed in bulk, sent again after a loss.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::channel::publish;
use super::link::OUT_BYTES_MAX;
use super::retry::Retry;
use super::window::Window;
use super::{Channel, Config, Connection, Error, Topology};
use crate::mq::wire::{FRAME_OVERHEAD, Properties, short};
use crate::shutdown::Shutdown;

/// The bytes of a content header before the properties.
const CONTENT_HEADER_SIZE: usize = 12;

/// A message on its way out. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Empty for the default exchange, where the routing key is the name of a queue.
    pub exchange: Arc<str>,
    /// At most 255 bytes.
    pub routing_key: Bytes,
    /// As [`Fields::to_vec`](crate::mq::wire::Fields::to_vec) makes them.
    pub properties: Bytes,
    /// Any bytes.
    pub body: Bytes,
    /// It is a failure if no queue takes it.
    pub mandatory: bool,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            exchange: Arc::from(""),
            routing_key: Bytes::new(),
            properties: Bytes::from_static(&[0, 0]),
            body: Bytes::new(),
            mandatory: false,
        }
    }
}

/// Whether the broker tells what it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirms {
    /// Every message is answered. After a loss, those without an answer are sent again, so that some may arrive twice.
    #[default]
    On,
    /// None is. After a loss, those on their way are lost, and so are messages that no queue takes.
    Off,
}

/// How to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOptions {
    /// Whether the broker tells what it has taken.
    pub confirms: Confirms,
    /// Messages that may be without an answer.
    pub waiting_max: usize,
    /// Bytes of them.
    pub waiting_bytes_max: usize,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { confirms: Confirms::On, waiting_max: 16 * 1024, waiting_bytes_max: 16 * 1024 * 1024 }
    }
}

/// A message that no queue has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What [`Publisher::publish`] gave.
    pub id: u64,
    /// The message.
    pub message: Message,
    /// Why.
    pub reason: Reason,
}

/// Why no queue has a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It was mandatory, and no queue wanted it.
    Unroutable {
        /// 312
        code: u16,
        /// `NO_ROUTE`
        text: String,
    },
    /// The broker could not take it: a queue is full, or failed.
    Rejected,
}

/// Publishes on a connection of its own.
#[derive(Debug)]
pub struct Publisher {
    config: Config,
    topology: Topology,
    options: PublishOptions,
    shutdown: Shutdown,
    live: Option<Live>,
    window: Window,
    failures: Vec<Failure>,
    retry: Retry,
    reconnects: u64,
    /// What ended it for good.
    failed: Option<Error>,
}

#[derive(Debug)]
struct Live {
    // Before the connection: a channel closes first.
    channel: Channel,
    connection: Connection,
    event: Arc<Notify>,
}

/// What became of an attempt to publish.
enum Attempt {
    Sent(u64),
    /// No room, or the broker makes publishers wait.
    Later,
}

impl Publisher {
    /// Connects and declares the topology; once, without trying again.
    ///
    /// # Errors
    /// No connection, or a step of the topology failed.
    pub async fn start(
        config: Config,
        topology: Topology,
        options: PublishOptions,
        shutdown: &Shutdown,
    ) -> Result<Self, Error> {
        let mut publisher = Self {
            config,
            topology,
            options,
            shutdown: shutdown.clone(),
            live: None,
            window: Window::new(),
            failures: Vec::new(),
            retry: Retry::default(),
            reconnects: 0,
            failed: None,
        };
        publisher.connect().await?;
        Ok(publisher)
    }

    /// The connection, while there is one.
    pub fn connection(&self) -> Option<&Connection> {
        self.live.as_ref().map(|live| &live.connection)
    }

    /// How often it has come back.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Messages without an answer.
    pub fn waiting(&self) -> usize {
        self.window.waiting()
    }

    /// All messages with a lower number have an answer. Looks at the answers that have come.
    pub fn settled(&mut self) -> u64 {
        // A loss shows up where it can be dealt with.
        let _ = self.process();
        self.window.settled()
    }

    /// What has failed since it was asked last.
    pub fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Sends a message, and numbers it from 0. Waits while too many are without an answer and while the broker makes
    /// publishers wait. Comes back after a loss. If it is dropped, the message is not sent.
    ///
    /// # Errors
    /// The message does not fit the protocol, and nothing has happened. Or the broker closed the channel for one of
    /// the messages without an answer, or cannot be reached any more: then all of these are in doubt, and every
    /// further call gives the same error.
    pub async fn publish(&mut self, message: Message) -> Result<u64, Error> {
        self.check(&message)?;
        loop {
            match self.attempt(&message) {
                Ok(Attempt::Sent(id)) => return Ok(id),
                Ok(Attempt::Later) => self.wait_for_room().await,
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// Waits until every message has an answer.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn flush(&mut self) -> Result<(), Error> {
        loop {
            let passed = match self.process() {
                Ok(()) if self.window.waiting() > 0 => {
                    self.wait_for_answer().await;
                    continue;
                }
                Ok(()) if self.options.confirms == Confirms::On => return Ok(()),
                // The broker has dealt with everything before it answers this.
                Ok(()) => match &self.live {
                    Some(live) => live.channel.prefetch(0).await,
                    None => Err(self.failed.clone().unwrap_or(Error::Closed)),
                },
                Err(error) => Err(error),
            };
            match passed {
                Ok(()) => return Ok(()),
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// Waits until every message has an answer, and closes the connection.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn close(&mut self) -> Result<(), Error> {
        self.flush().await?;
        match self.live.take() {
            Some(Live { channel, connection, .. }) => {
                drop(channel);
                connection.close().await
            }
            None => Ok(()),
        }
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        short(&message.exchange)?;
        if message.routing_key.len() > 255 {
            return Err(Error::TooLong(crate::mq::wire::TooLong { length: message.routing_key.len() }));
        }
        let frame_max = self.live.as_ref().map_or(self.config.frame_max, |live| live.connection.frame_max());
        let size = message.properties.len();
        if frame_max != 0 && size + CONTENT_HEADER_SIZE + FRAME_OVERHEAD > frame_max as usize {
            return Err(Error::Properties { size, frame_max });
        }
        debug_assert!(Properties::parse(&message.properties).is_ok(), "{:?}", message.properties);
        Ok(())
    }

    /// Takes the answers that have come. An error is that of the connection or the channel.
    fn process(&mut self) -> Result<(), Error> {
        let Some(live) = &self.live else { return Err(self.failed.clone().unwrap_or(Error::Ended)) };
        let mut state = live.channel.link.state();
        let mut news = (Vec::new(), Vec::new());
        if let Some(channel) = state.channels.get_mut(&live.channel.number) {
            news = (std::mem::take(&mut channel.returns), std::mem::take(&mut channel.confirms));
        }
        let open = state.open(live.channel.number).map(|_| ());
        drop(state);
        let (returns, confirms) = news;
        // A message comes back before it is confirmed: RabbitMQ's rule.
        returns.into_iter().for_each(|returned| self.window.returned(returned));
        confirms.into_iter().for_each(|confirm| self.window.confirmed(confirm, &mut self.failures));
        open
    }

    fn attempt(&mut self, message: &Message) -> Result<Attempt, Error> {
        self.process()?;
        let Some(live) = &self.live else { return Err(Error::Ended) };
        if self.is_full() {
            return Ok(Attempt::Later);
        }
        let link = &live.channel.link;
        let mut state = link.state();
        if state.out.len() >= OUT_BYTES_MAX || state.blocked.is_some() {
            return Ok(Attempt::Later);
        }
        if state.open(live.channel.number)?.stopped {
            return Ok(Attempt::Later);
        }
        let first = state.out.is_empty();
        publish(&mut state.out, live.channel.number, message, link.agreed.frame_max);
        drop(state);
        if first {
            link.wake.notify_one();
        }
        Ok(Attempt::Sent(match self.options.confirms {
            Confirms::On => self.window.push(message.clone()),
            Confirms::Off => self.window.pass(),
        }))
    }

    /// Waits for an answer, or for the end.
    async fn wait_for_answer(&self) {
        if let Some(live) = &self.live {
            live.event.notified().await;
        }
    }

    /// Waits until there may be room, or for the end.
    async fn wait_for_room(&self) {
        let Some(live) = &self.live else { return };
        let link = &live.channel.link;
        let room = link.room.notified();
        tokio::pin!(room);
        // From here on nothing is missed; what happened before is seen below.
        room.as_mut().enable();
        let sendable = {
            let mut state = link.state();
            let has_room = state.out.len() < OUT_BYTES_MAX && state.blocked.is_none();
            let stopped = state.open(live.channel.number).map(|channel| channel.stopped);
            stopped.map_or(true, |stopped| has_room && !stopped)
        };
        if sendable && !self.is_full() {
            return;
        }
        tokio::select! {
            () = room => {}
            () = live.event.notified() => {}
        }
    }

    /// True while too many are without an answer.
    fn is_full(&self) -> bool {
        self.window.waiting() >= self.options.waiting_max
            || self.window.bytes() >= self.options.waiting_bytes_max
    }

    /// Comes back after an error, or gives up.
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
                Ok(()) => {
                    self.reconnects += 1;
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let connection = Connection::open(&self.config, &self.shutdown).await?;
        let channel = connection.channel().await?;
        self.topology.declare(&channel).await?;
        if self.options.confirms == Confirms::On {
            channel.confirm().await?;
        }
        let mut state = channel.link.state();
        let event = state.open(channel.number)?.event.clone();
        for message in self.window.restart() {
            publish(&mut state.out, channel.number, message, connection.frame_max());
        }
        drop(state);
        channel.link.wake.notify_one();
        self.live = Some(Live { channel, connection, event });
        self.retry.over();
        Ok(())
    }
}
