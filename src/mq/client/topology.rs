//! What has to exist before publishing or consuming, in order: declared anew on every connection.

use super::{Channel, Error};
use crate::mq::wire::TableBuf;
use crate::mq::wire::method::{exchange, queue};

/// One thing that has to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A queue.
    Queue {
        /// Empty for one that the broker names. Later steps and the consumer find it under the empty name.
        name: String,
        /// Check that it exists, whatever it is like.
        passive: bool,
        /// Survives a restart of the broker.
        durable: bool,
        /// For this connection only, and gone with it.
        exclusive: bool,
        /// Gone with its last consumer.
        auto_delete: bool,
        /// `x-message-ttl` and others.
        arguments: TableBuf,
    },
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// `direct`, `fanout`, `topic`, `headers` or the broker's own.
        kind: String,
        /// Check that it exists, whatever it is like.
        passive: bool,
        /// Survives a restart of the broker.
        durable: bool,
        /// Gone with its last binding.
        auto_delete: bool,
        /// `alternate-exchange` and others.
        arguments: TableBuf,
    },
    /// Messages of an exchange go to a queue.
    Bind {
        /// Empty for the queue declared last.
        queue: String,
        /// From where.
        exchange: String,
        /// Which.
        routing_key: String,
        /// For exchanges of type `headers`.
        arguments: TableBuf,
    },
    /// Messages of an exchange go to an exchange.
    BindExchange {
        /// Where to.
        destination: String,
        /// From where.
        source: String,
        /// Which.
        routing_key: String,
        /// For exchanges of type `headers`.
        arguments: TableBuf,
    },
}

/// Steps in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology(pub Vec<Step>);

impl Topology {
    /// Takes all steps. The name of the queue declared last, if there is one.
    ///
    /// # Errors
    /// That of the first step that fails; those before it stay done.
    pub async fn declare(&self, channel: &Channel) -> Result<Option<String>, Error> {
        let mut last = None;
        for step in &self.0 {
            match step {
                Step::Queue { name, passive, durable, exclusive, auto_delete, arguments } => {
                    let declare = queue::Declare {
                        queue: name,
                        passive: *passive,
                        durable: *durable,
                        exclusive: *exclusive,
                        auto_delete: *auto_delete,
                        arguments: arguments.as_table(),
                        ..Default::default()
                    };
                    last = Some(channel.queue_declare(declare).await?.queue);
                }
                Step::Exchange { name, kind, passive, durable, auto_delete, arguments } => {
                    let declare = exchange::Declare {
                        exchange: name,
                        kind,
                        passive: *passive,
                        durable: *durable,
                        auto_delete: *auto_delete,
                        arguments: arguments.as_table(),
                        ..Default::default()
                    };
                    channel.exchange_declare(declare).await?;
                }
                Step::Bind { queue, exchange, routing_key, arguments } => {
                    let arguments = arguments.as_table();
                    let bind = queue::Bind { queue, exchange, routing_key, arguments, ..Default::default() };
                    channel.queue_bind(bind).await?;
                }
                Step::BindExchange { destination, source, routing_key, arguments } => {
                    let arguments = arguments.as_table();
                    let bind =
                        exchange::Bind { destination, source, routing_key, arguments, ..Default::default() };
                    channel.exchange_bind(bind).await?;
                }
            }
        }
        Ok(last)
    }
}
