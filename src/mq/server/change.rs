//! Changes of who may come in and of which rules hold where, as data: what management makes, imports and exports, and
//! what is to be kept over a restart. Shaped like RabbitMQ's definitions.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use crate::mq::engine::PolicyDefinition;

/// One change. Those that define something replace what has the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A user is there.
    User(UserDefinition),
    /// A user is gone, with all permissions.
    UserDeleted(String),
    /// A virtual host is there.
    Vhost(VhostDefinition),
    /// A virtual host is gone, with everything on it.
    VhostDeleted(String),
    /// A user may do something on a virtual host.
    Permission(PermissionDefinition),
    /// A user may do nothing any more there.
    PermissionDeleted {
        /// Whose.
        user: String,
        /// Where.
        vhost: String,
    },
    /// Which topics a user may use.
    TopicPermission(TopicPermissionDefinition),
    /// A user may use any topic again.
    TopicPermissionDeleted {
        /// Whose.
        user: String,
        /// Where.
        vhost: String,
        /// Of one exchange; none for all.
        exchange: Option<String>,
    },
    /// A policy holds.
    Policy {
        /// Where.
        vhost: String,
        /// What it says.
        policy: PolicyDefinition,
    },
    /// A policy is gone.
    PolicyDeleted {
        /// Where.
        vhost: String,
        /// Which.
        name: String,
    },
    /// An operator policy holds.
    OperatorPolicy {
        /// Where.
        vhost: String,
        /// What it says.
        policy: PolicyDefinition,
    },
    /// An operator policy is gone.
    OperatorPolicyDeleted {
        /// Where.
        vhost: String,
        /// Which.
        name: String,
    },
    /// A value that others keep here.
    GlobalParameter {
        /// Its name.
        name: String,
        /// The value.
        value: Json,
    },
    /// It is gone.
    GlobalParameterDeleted(String),
    /// A limit of a virtual host: `max-connections` or `max-queues`.
    VhostLimit {
        /// Where.
        vhost: String,
        /// Which.
        name: String,
        /// How many; negative for any number.
        value: i64,
    },
    /// It is gone.
    VhostLimitDeleted {
        /// Where.
        vhost: String,
        /// Which.
        name: String,
    },
    /// A limit of a user: `max-connections` or `max-channels`.
    UserLimit {
        /// Whose.
        user: String,
        /// Which.
        name: String,
        /// How many; negative for any number.
        value: i64,
    },
    /// It is gone.
    UserLimitDeleted {
        /// Whose.
        user: String,
        /// Which.
        name: String,
    },
}

/// The hashing algorithm that is meant where none is named.
pub const SHA256: &str = "rabbit_password_hashing_sha256";

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDefinition {
    /// The name.
    pub name: String,
    /// Base64 of four bytes of salt and the hash; empty for nobody to log in with a password.
    #[serde(default)]
    pub password_hash: String,
    /// Of the hash.
    #[serde(default)]
    pub hashing_algorithm: Option<String>,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator`, or anything else.
    #[serde(default, deserialize_with = "tags")]
    pub tags: Vec<String>,
    /// `max-connections`, `max-channels`.
    #[serde(default)]
    pub limits: BTreeMap<String, i64>,
}

/// A virtual host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostDefinition {
    /// The name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Anything.
    #[serde(default, deserialize_with = "tags")]
    pub tags: Vec<String>,
    /// RabbitMQ's default for `x-queue-type`, kept for whoever exports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// Whether the firehose is on. It is off again after a restart, as RabbitMQ's is.
    #[serde(skip)]
    pub tracing: bool,
}

/// What a user may do on a virtual host: three patterns for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionDefinition {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// Names that may be declared and deleted.
    pub configure: String,
    /// Names that may be written to.
    pub write: String,
    /// Names that may be read from.
    pub read: String,
}

/// Which topics of an exchange a user may use: two patterns for routing keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermissionDefinition {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// Of which topic exchange.
    pub exchange: String,
    /// Keys to write with.
    pub write: String,
    /// Keys to read with.
    pub read: String,
}

/// Tags are a list; RabbitMQ before 3.9 wrote them with commas between them.
pub(crate) fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(tags_of(&Json::deserialize(from)?))
}

/// The same of a value.
pub(crate) fn tags_of(value: &Json) -> Vec<String> {
    let texts: Vec<&str> = match value {
        Json::String(text) => text.split(',').collect(),
        Json::Array(list) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}
