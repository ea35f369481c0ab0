//! The client: connections to any Kafka cluster, producers that know what arrived, consumers that follow leaders.
//!
//! ```text
//! Connection   one connection to one broker: pipelined requests, login
//! Cluster      who leads what: metadata, a connection to each broker
//! Producer     records -> batches -> leaders; nothing twice, nothing out of order, again after a loss
//! Consumer     batches of many partitions from their leaders, from offsets on
//! group        a member of a group: which partitions are its own
//! admin        topics, groups, offsets, settings
//! ```

pub mod admin;
mod cluster;
mod connection;
mod consumer;
mod error;
pub mod group;
mod link;
mod login;
mod partition;
mod producer;
mod scram;
mod sealed;
mod trouble;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::backoff::Backoff;
use crate::secret::Secret;
use crate::transport::{Address, ConnectOptions};

pub use cluster::{Cluster, Coordinates, NodeInfo, PartitionInfo, TopicInfo};
pub use connection::Connection;
pub use consumer::{Assignment, ConsumeOptions, Consumer, Fetched, Lost};
pub use error::{Error, ErrorKind};
pub use partition::{murmur2, of_key};
pub use producer::{
    Acks, Ending, Message, Outcome, ProduceOptions, Producer, Receipt, TopicHandle, TransactionOptions,
};
pub use scram::{Broken, Hash};

/// How long the answer to a question may take, unless it says that it takes longer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Which way.
    pub mechanism: Mechanism,
    /// Who.
    pub user: String,
    /// With what.
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself: for connections that TLS protects.
    Plain,
    /// A proof that the password is known, from both sides.
    Scram(Hash),
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512)];
    /// How they are named in URLs.
    pub const NAMES: [&str; 3] = ["plain", "scram-sha-256", "scram-sha-512"];

    /// The mechanism of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

/// Where to connect to, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Brokers to ask for the others, in this order.
    pub bootstrap: Vec<Address>,
    /// TLS, and how long a connection may take.
    pub connect: ConnectOptions,
    /// How to log in, if at all.
    pub credentials: Option<Credentials>,
    /// What the broker lists the client as.
    pub client_id: String,
    /// The answer to every question.
    pub request_timeout: Duration,
    /// How long something that may yet succeed is tried again; zero for not at all.
    pub retry_for: Duration,
    /// Between the attempts.
    pub backoff: Backoff,
    /// Makes the delays and choices of clients differ.
    pub seed: u64,
    /// What is in trouble just now, and was told.
    troubles: std::sync::Arc<trouble::Troubles>,
}

impl Config {
    /// Without login.
    pub fn new(bootstrap: Vec<Address>) -> Self {
        Self {
            bootstrap,
            connect: ConnectOptions::default(),
            credentials: None,
            client_id: "bandy".to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            retry_for: Duration::from_secs(60),
            backoff: Backoff::default(),
            seed: 0,
            troubles: std::sync::Arc::default(),
        }
    }
}
