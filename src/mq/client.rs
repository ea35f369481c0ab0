//! The client: connections to any AMQP 0-9-1 broker, publishers that know what arrived, consumers that come back.
//!
//! ```text
//! Connection   one connection; its Channels declare, bind, get, purge: no magic, no reconnecting
//! Publisher    pipelined publishes with confirms; reconnects and publishes again what was not confirmed
//! Consumer     deliveries with prefetch and acknowledgements in bulk; reconnects and consumes again
//! Topology     what has to exist before: declared anew on every connection
//! ```
//!
//! A [`Publisher`] and a [`Consumer`] have a connection each: a broker that makes publishers wait then does not keep
//! acknowledgements waiting. A task per connection reads, writes and sends heartbeats, whatever its owner does.
//!
//! Every future here may be dropped: what was sent stays sent, and no answer is taken for that of another question.

mod acks;
mod channel;
mod connection;
mod consumer;
mod driver;
mod error;
mod link;
mod login;
pub mod management;
mod publisher;
pub mod raw;
mod retry;
mod topology;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

use crate::backoff::Backoff;
use crate::secret::Secret;
use crate::transport::{Address, ConnectOptions};

pub use channel::{Channel, Declared};
pub use connection::{Connection, ServerInfo};
pub use consumer::{ConsumeOptions, Consumer, Delivery};
pub use error::{Error, ErrorKind};
pub use publisher::{Confirms, Failure, Message, PublishOptions, Publisher, Reason};
pub use topology::{Step, Topology};

/// How often both sides show that they live, unless the broker wants it more often. RabbitMQ's own interval.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// How long login and every question to the broker may take. A broker under load declares a queue in seconds.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// By PLAIN, or AMQPLAIN if the broker has no PLAIN.
    Password {
        /// Who.
        user: String,
        /// With what.
        password: Secret,
    },
    /// By the certificate of the TLS connection: EXTERNAL.
    External,
}

impl Default for Credentials {
    /// guest, whom RabbitMQ lets in from its own machine.
    fn default() -> Self {
        Self::Password { user: "guest".to_owned(), password: Secret::new("guest") }
    }
}

/// Where to connect to, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the broker is.
    pub address: Address,
    /// TLS, and how long a connection may take.
    pub connect: ConnectOptions,
    /// How to log in.
    pub credentials: Credentials,
    /// The virtual host.
    pub vhost: String,
    /// What the broker lists the connection as; empty for nothing.
    pub name: String,
    /// The longest silence asked for, in whole seconds; zero for no heartbeats. The broker may want a shorter one.
    pub heartbeat: Duration,
    /// The largest frame asked for, in bytes.
    pub frame_max: u32,
    /// Login, and the answer to every question.
    pub reply_timeout: Duration,
    /// How long a publisher or consumer tries to come back after a loss; zero for not at all.
    pub reconnect_for: Duration,
    /// Between the attempts.
    pub backoff: Backoff,
    /// Makes the delays of clients differ.
    pub seed: u64,
}

impl Config {
    /// As guest to the virtual host `/`.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            connect: ConnectOptions::default(),
            credentials: Credentials::default(),
            vhost: "/".to_owned(),
            name: String::new(),
            heartbeat: HEARTBEAT,
            frame_max: super::wire::FRAME_SIZE_DEFAULT,
            reply_timeout: REPLY_TIMEOUT,
            reconnect_for: Duration::from_secs(60),
            backoff: Backoff::default(),
            seed: 0,
        }
    }
}

/// A message that the broker gave back: no queue wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Returned {
    code: u16,
    text: String,
    exchange: String,
    routing_key: Bytes,
    properties: Bytes,
    body: Bytes,
}
