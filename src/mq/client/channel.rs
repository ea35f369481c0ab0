//! One channel: questions and their answers, in order. The structs of the questions are those of the wire.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::link::{GOODBYE, Link, Reply};
use super::{Delivery, Error};
use crate::mq::wire::method::{basic, channel, confirm, exchange, name_of, queue};
use crate::mq::wire::{self, Method, short};

/// What a broker says about a queue that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name, which the broker may have chosen.
    pub queue: String,
    /// Messages that wait.
    pub messages: u32,
    /// Consumers.
    pub consumers: u32,
}

/// A channel. It is gone with the first question that fails: the broker closes it. Dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    pub(super) link: Arc<Link>,
    pub(super) number: u16,
    reply_timeout: Duration,
}

impl Channel {
    pub(super) fn new(link: Arc<Link>, number: u16, reply_timeout: Duration) -> Self {
        Self { link, number, reply_timeout }
    }

    /// Sends a question and waits for the method that answers it.
    async fn ask(&self, question: &Method<'_>, wanted: (u16, u16)) -> Result<Reply, Error> {
        let what = question.name();
        let answer = self.link.ask(self.number, question, wanted)?;
        match timeout(self.reply_timeout, answer).await {
            Ok(Ok(reply)) => reply,
            // The channel was forgotten while somebody waited: it was closed from here.
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Timeout { what, after: self.reply_timeout }),
        }
    }

    pub(super) async fn done(&self, question: &Method<'_>, wanted: (u16, u16)) -> Result<(), Error> {
        self.ask(question, wanted).await.map(|_| ())
    }

    async fn count(&self, question: &Method<'_>, wanted: (u16, u16)) -> Result<u32, Error> {
        match self.ask(question, wanted).await? {
            Reply::Count(count) => Ok(count),
            _ => Err(Error::Unexpected(name_of(wanted.0, wanted.1).unwrap_or("an answer"))),
        }
    }

    /// Creates a queue, or checks that it exists as asked for. `nowait` is not taken.
    ///
    /// # Errors
    /// It exists in another form, is somebody's own, does not exist (`passive`), or may not be created.
    pub async fn queue_declare(&self, declare: queue::Declare<'_>) -> Result<Declared, Error> {
        short(declare.queue)?;
        let question = queue::Declare { nowait: false, ..declare };
        match self.ask(&question.into(), queue::DeclareOk::ID).await? {
            Reply::Declared { queue, messages, consumers } => Ok(Declared { queue, messages, consumers }),
            _ => Err(Error::Unexpected("queue.declare-ok")),
        }
    }

    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// Either of them does not exist.
    pub async fn queue_bind(&self, bind: queue::Bind<'_>) -> Result<(), Error> {
        names(&[bind.queue, bind.exchange, bind.routing_key])?;
        let question = queue::Bind { nowait: false, ..bind };
        self.done(&question.into(), queue::BindOk::ID).await
    }

    /// Removes a binding; no error if there is none.
    ///
    /// # Errors
    /// The broker's.
    pub async fn queue_unbind(&self, unbind: queue::Unbind<'_>) -> Result<(), Error> {
        names(&[unbind.queue, unbind.exchange, unbind.routing_key])?;
        self.done(&unbind.into(), queue::UnbindOk::ID).await
    }

    /// Removes the messages that wait, and says how many.
    ///
    /// # Errors
    /// The queue does not exist.
    pub async fn queue_purge(&self, queue: &str) -> Result<u32, Error> {
        short(queue)?;
        let question = queue::Purge { queue, ..Default::default() };
        self.count(&question.into(), queue::PurgeOk::ID).await
    }

    /// Deletes a queue, and says how many messages were in it; no error if there is none.
    ///
    /// # Errors
    /// It is in use or not empty, and that was not to be.
    pub async fn queue_delete(&self, delete: queue::Delete<'_>) -> Result<u32, Error> {
        short(delete.queue)?;
        let question = queue::Delete { nowait: false, ..delete };
        self.count(&question.into(), queue::DeleteOk::ID).await
    }

    /// Creates an exchange, or checks that it exists as asked for.
    ///
    /// # Errors
    /// It exists in another form, has a reserved name, or an unknown type, which ends the connection.
    pub async fn exchange_declare(&self, declare: exchange::Declare<'_>) -> Result<(), Error> {
        names(&[declare.exchange, declare.kind])?;
        let question = exchange::Declare { nowait: false, ..declare };
        self.done(&question.into(), exchange::DeclareOk::ID).await
    }

    /// Deletes an exchange; no error if there is none.
    ///
    /// # Errors
    /// It is in use and that was not to be, or it is one of the broker's own.
    pub async fn exchange_delete(&self, delete: exchange::Delete<'_>) -> Result<(), Error> {
        short(delete.exchange)?;
        let question = exchange::Delete { nowait: false, ..delete };
        self.done(&question.into(), exchange::DeleteOk::ID).await
    }

    /// Binds an exchange to an exchange: RabbitMQ's extension.
    ///
    /// # Errors
    /// Either of them does not exist.
    pub async fn exchange_bind(&self, bind: exchange::Bind<'_>) -> Result<(), Error> {
        names(&[bind.destination, bind.source, bind.routing_key])?;
        let question = exchange::Bind { nowait: false, ..bind };
        self.done(&question.into(), exchange::BindOk::ID).await
    }

    /// Removes a binding between exchanges.
    ///
    /// # Errors
    /// The broker's.
    pub async fn exchange_unbind(&self, unbind: exchange::Unbind<'_>) -> Result<(), Error> {
        names(&[unbind.destination, unbind.source, unbind.routing_key])?;
        let question = exchange::Unbind { nowait: false, ..unbind };
        self.done(&question.into(), exchange::UnbindOk::ID).await
    }

    /// Takes one message, with the number of those that still wait; none if the queue is empty. Without `no_ack` it
    /// has to be acknowledged, or comes back to the queue when the channel closes.
    ///
    /// # Errors
    /// The queue does not exist, or is somebody's own.
    pub async fn get(&self, queue: &str, no_ack: bool) -> Result<Option<(Delivery, u32)>, Error> {
        short(queue)?;
        let question = basic::Get { queue, no_ack, ..Default::default() };
        match self.ask(&question.into(), basic::GetOk::ID).await? {
            Reply::Got(got) => Ok(got.map(|got| *got)),
            _ => Err(Error::Unexpected("basic.get-ok")),
        }
    }

    /// Acknowledges what was delivered on this channel; 0 and `multiple` for everything. Not waited for.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn ack(&self, delivery_tag: u64, multiple: bool) -> Result<(), Error> {
        self.link.tell(self.number, &basic::Ack { delivery_tag, multiple }.into())
    }

    /// Refuses what was delivered on this channel: back to the queue, or to its dead letters. Not waited for.
    ///
    /// # Errors
    /// The channel is closed.
    pub fn nack(&self, delivery_tag: u64, multiple: bool, requeue: bool) -> Result<(), Error> {
        self.link.tell(self.number, &basic::Nack { delivery_tag, multiple, requeue }.into())
    }

    /// Limits what is delivered before it is acknowledged, for consumers to come; 0 for no limit.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn prefetch(&self, prefetch_count: u16) -> Result<(), Error> {
        let question = basic::Qos { prefetch_count, ..Default::default() };
        self.done(&question.into(), basic::QosOk::ID).await
    }

    /// Asks the broker to confirm publishes.
    pub(super) async fn confirm(&self) -> Result<(), Error> {
        self.done(&confirm::Select::default().into(), confirm::SelectOk::ID).await
    }

    /// Closes the channel, when everything that was sent on it before has been dealt with.
    ///
    /// # Errors
    /// It failed before, or now: the broker may answer to what was sent last.
    pub async fn close(self) -> Result<(), Error> {
        self.done(&goodbye(), channel::CloseOk::ID).await
    }
}

fn goodbye() -> Method<'static> {
    channel::Close { reply_code: GOODBYE, reply_text: "Goodbye", ..Default::default() }.into()
}

fn names(names: &[&str]) -> Result<(), Error> {
    names.iter().try_for_each(|name| short(name).map(|_| ()).map_err(Error::from))
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut state = self.link.state();
        let Some(channel) = state.channels.get_mut(&self.number) else { return };
        channel.dropped = true;
        if channel.closed.is_some() || state.ended.is_some() || state.leaving {
            state.forget(self.number);
            return;
        }
        drop(state);
        // The answer frees the number; nobody waits for it.
        let _ = self.link.ask(self.number, &goodbye(), channel::CloseOk::ID);
    }
}

/// Appends what a publisher sends.
pub(super) fn publish(out: &mut Vec<u8>, number: u16, message: &super::Message, frame_max: u32) {
    let publish = basic::Publish {
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        mandatory: message.mandatory,
        ..Default::default()
    };
    wire::content(out, number, &publish.into(), &message.properties, &message.body, frame_max);
}
