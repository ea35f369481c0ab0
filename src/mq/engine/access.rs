//! What a user may do on a virtual host: configure, write and read by name, and topics by routing key.

use std::collections::HashMap;
use std::sync::Arc;

use super::fault::Fault;
use super::pattern::{self, Expression, PatternError};

/// A pattern that names are searched for, as RabbitMQ does: not anchored.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// Matches everything.
    All,
    /// Matches nothing but the empty name: the empty pattern, and `^$`.
    Empty,
    /// Matches what the expression finds itself in.
    Expression(Expression),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, or too large a one.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        match pattern {
            ".*" => Ok(Self::All),
            "" | "^$" => Ok(Self::Empty),
            _ => Ok(Self::Expression(pattern::regex(pattern)?)),
        }
    }

    /// Compiles that of a topic permission: `{username}` and `{vhost}` stand for these names.
    ///
    /// # Errors
    /// As above.
    pub fn of_topic(pattern: &str, user: &str, vhost: &str) -> Result<Self, PatternError> {
        Self::new(&pattern::expanded(pattern, user, vhost))
    }

    /// Whether a name is allowed.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Empty => name.is_empty(),
            Self::Expression(regex) => regex.is_match(name),
        }
    }
}

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Declare and delete.
    Configure,
    /// Publish, and be bound to.
    Write,
    /// Consume, and be bound from.
    Read,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// The permissions of one user on one virtual host.
#[derive(Debug, Clone)]
pub struct Access {
    /// Names that may be declared and deleted.
    pub configure: Pattern,
    /// Names that may be written to.
    pub write: Pattern,
    /// Names that may be read from.
    pub read: Pattern,
    /// By topic exchange: keys to write with, keys to read with.
    pub topics: HashMap<Arc<str>, (Pattern, Pattern)>,
    /// Whether the user may say in `user-id` that somebody else published.
    pub impersonates: bool,
}

impl Access {
    /// Everything.
    pub fn full() -> Self {
        Self {
            configure: Pattern::All,
            write: Pattern::All,
            read: Pattern::All,
            topics: HashMap::new(),
            impersonates: false,
        }
    }

    pub(crate) fn allows(&self, permission: Permission, name: &str) -> bool {
        let pattern = match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        };
        pattern.allows(name)
    }

    /// Whether a topic exchange may be used with a key. Without an entry for the exchange it may.
    pub(crate) fn allows_topic(&self, permission: Permission, exchange: &str, key: &[u8]) -> bool {
        let Some((write, read)) = self.topics.get(exchange) else { return true };
        let pattern = if permission == Permission::Read { read } else { write };
        pattern.allows(&String::from_utf8_lossy(key))
    }
}

/// What RabbitMQ says about a refusal. 3.11 began to name the permission; the golden table is of 3.10, where the cases
/// do not occur.
pub(crate) fn refused(permission: Permission, resource: &str, user: &str) -> Fault {
    Fault::access_refused(format_args!(
        "{} access to {resource} refused for user '{user}'",
        permission.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched_not_anchored_and_the_empty_one_matches_the_empty_name_only() {
        let allows = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().allows(name);
        assert!(allows(".*", "x") && allows("order", "my-orders") && allows("^amq\\.", "amq.topic"));
        assert!(!allows("^order$", "orders") && !allows("", "x") && allows("", "") && !allows("^$", "x"));
        assert!(Pattern::new("(").is_err() && Pattern::new("(a{1000}){1000}").is_err());
    }
}
