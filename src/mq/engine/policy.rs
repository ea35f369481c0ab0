//! Policies: settings for every queue or exchange whose name matches, the highest priority winning.

use std::cmp::Ordering;

use serde_json::Number;

use super::pattern::Expression;
use crate::mq::wire::TableBuf;

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// `queues`
    Queues,
    /// `classic_queues`
    ClassicQueues,
    /// `quorum_queues`
    QuorumQueues,
    /// `exchanges`
    Exchanges,
    /// `all`
    All,
}

impl ApplyTo {
    /// From its name in definitions.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "queues" => Self::Queues,
            "classic_queues" => Self::ClassicQueues,
            "quorum_queues" => Self::QuorumQueues,
            "exchanges" => Self::Exchanges,
            "all" => Self::All,
            _ => return None,
        })
    }

    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Exchanges => "exchanges",
            Self::All => "all",
        }
    }
}

/// The settings in a policy: `message-ttl`, `max-length`, `dead-letter-exchange`, `alternate-exchange`, …
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Definition(pub TableBuf);

impl Definition {
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.as_table().get(name)?.as_integer().and_then(|number| u64::try_from(number).ok())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.as_table().get(name)?.as_str().map(str::to_owned)
    }
}

/// A policy, or an operator policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// A regular expression for names, not anchored.
    pub pattern: Expression,
    /// What it applies to.
    pub apply_to: ApplyTo,
    /// The highest that matches wins.
    pub priority: Number,
    /// What it says.
    pub definition: Definition,
}

/// What a policy is looked up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    ClassicQueue,
    QuorumQueue,
    Exchange,
}

impl Policy {
    fn matches(&self, subject: Subject, name: &str) -> bool {
        let applies = match self.apply_to {
            ApplyTo::All => true,
            ApplyTo::Queues => subject != Subject::Exchange,
            ApplyTo::ClassicQueues => subject == Subject::ClassicQueue,
            ApplyTo::QuorumQueues => subject == Subject::QuorumQueue,
            ApplyTo::Exchanges => subject == Subject::Exchange,
        };
        applies && self.pattern.is_match(name)
    }
}

/// As numbers, whole or not.
fn order(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

/// The policies of a virtual host, by name.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    list: Vec<Policy>,
}

impl Policies {
    pub fn set(&mut self, policy: Policy) {
        match self.list.iter_mut().find(|held| held.name == policy.name) {
            Some(held) => *held = policy,
            None => self.list.push(policy),
        }
    }

    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|policy| policy.name != name);
        self.list.len() < before
    }

    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.list.iter()
    }

    /// The one in force; of equals, the first by name.
    pub fn find(&self, subject: Subject, name: &str) -> Option<&Policy> {
        let matching = self.list.iter().filter(|policy| policy.matches(subject, name));
        matching.min_by(|a, b| order(&b.priority, &a.priority).then_with(|| a.name.cmp(&b.name)))
    }
}
