//! What a queue or exchange was told to do: arguments of its declaration joined with the policies that match it.

use std::sync::Arc;

use crate::mq::wire::Table;

use super::policy::Definition;

/// What happens to a message that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest goes.
    #[default]
    DropHead,
    /// The new one is refused.
    RejectPublish,
    /// The new one is refused and dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "drop-head" => Self::DropHead,
            "reject-publish" => Self::RejectPublish,
            "reject-publish-dlx" => Self::RejectPublishDlx,
            _ => return None,
        })
    }
}

/// Which of RabbitMQ's queue types was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueKind {
    /// `classic`
    #[default]
    Classic,
    /// `quorum`: a durable queue that counts deliveries.
    Quorum,
}

impl QueueKind {
    /// The name in `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// RabbitMQ's name for the module, which its texts use.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    pub(crate) fn of(arguments: Table<'_>) -> Self {
        match arguments.get("x-queue-type").and_then(|value| value.as_str()) {
            Some("quorum") => Self::Quorum,
            _ => Self::Classic,
        }
    }
}

/// The settings of a queue in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Time to live of its messages, in milliseconds.
    pub message_ttl: Option<u64>,
    /// Messages that may be ready.
    pub length_max: Option<u64>,
    /// Bytes of bodies that may be ready.
    pub bytes_max: Option<u64>,
    /// How long it may be unused before it is deleted, in milliseconds.
    pub expires: Option<u64>,
    /// What happens to more.
    pub overflow: Overflow,
    /// The exchange for what expires, is rejected or does not fit.
    pub dead_letter_exchange: Option<Arc<str>>,
    /// The key to use there in place of the message's own.
    pub dead_letter_key: Option<Arc<[u8]>>,
    /// How often a message may come back.
    pub delivery_limit: Option<u32>,
    /// How long a delivery may stay unacknowledged, in milliseconds; that of the broker if there is none.
    pub consumer_timeout: Option<u64>,
}

/// The default delivery limit of quorum queues since RabbitMQ 4.0.
const DELIVERY_LIMIT_V4: u32 = 20;

impl Settings {
    /// Numbers: the smaller of argument and policy. Others: the argument before the policy (RabbitMQ, "Policies").
    pub(crate) fn new(
        kind: QueueKind,
        arguments: Table<'_>,
        policy: &Definition,
        operator: &Definition,
        v4: bool,
    ) -> Self {
        let number = |name: &str| {
            let argument = arguments.get(&format!("x-{name}")).and_then(|value| value.as_integer());
            let all = [
                argument.and_then(|number| u64::try_from(number).ok()),
                policy.number(name),
                operator.number(name),
            ];
            all.into_iter().flatten().min()
        };
        let text = |name: &str| {
            let argument =
                arguments.get(&format!("x-{name}")).and_then(|value| value.as_str()).map(str::to_owned);
            argument.or_else(|| policy.text(name)).or_else(|| operator.text(name))
        };
        let default_limit = (v4 && kind == QueueKind::Quorum).then_some(DELIVERY_LIMIT_V4);
        Self {
            message_ttl: number("message-ttl"),
            expires: number("expires"),
            length_max: number("max-length"),
            bytes_max: number("max-length-bytes"),
            overflow: text("overflow").and_then(|name| Overflow::from_name(&name)).unwrap_or_default(),
            dead_letter_exchange: text("dead-letter-exchange").map(Arc::from),
            dead_letter_key: text("dead-letter-routing-key").map(|key| Arc::from(key.into_bytes())),
            delivery_limit: number("delivery-limit")
                .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))
                .or(default_limit),
            consumer_timeout: number("consumer-timeout"),
        }
    }

    /// Whether so much is over the limits.
    #[inline]
    pub(crate) fn is_over(&self, length: u64, bytes: u64) -> bool {
        self.length_max.is_some_and(|max| length > max) || self.bytes_max.is_some_and(|max| bytes > max)
    }
}
