//! Which arguments a queue and a consumer may have, checked in RabbitMQ's order and refused in its words.

use crate::mq::wire::{Table, Value};

use super::fault::Fault;
use super::message::TTL_MAX;
use super::settings::QueueKind;

/// What an argument has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// An integer of at least 1 that is a time.
    Expires,
    /// An integer of at least 0 that is a time.
    Ttl,
    /// An integer of at least 0.
    Count,
    /// An integer from 0 to 255.
    Priority,
    /// An integer of at least 1.
    Size,
    /// Text.
    Name,
    /// Text that is nothing without a dead-letter exchange.
    DeadLetterKey,
    /// One of these, or else this error.
    OneOf(&'static [&'static str], &'static str),
    /// One of these, or else it is not supported, under this name.
    Supported(&'static [&'static str], &'static str),
    /// 1 or 2.
    Version,
    /// A truth value.
    Flag,
    /// Anything: it is taken and does nothing here.
    Any,
}

/// Which kinds of queue know an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Both,
    Classic,
    Quorum,
    Neither,
}

const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const MODES: &[&str] = &["default", "lazy"];
const LOCATORS: &[&str] = &["client-local", "balanced"];

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const CANCEL_ON_FAILOVER: &str = "x-cancel-on-ha-failover";

/// In the order in which RabbitMQ checks them.
const QUEUE: &[(&str, Rule, For)] = &[
    ("x-expires", Rule::Expires, For::Both),
    ("x-message-ttl", Rule::Ttl, For::Both),
    (DEAD_LETTER_EXCHANGE, Rule::Name, For::Both),
    ("x-dead-letter-routing-key", Rule::DeadLetterKey, For::Both),
    ("x-dead-letter-strategy", Rule::OneOf(STRATEGIES, "invalid_dlx_strategy"), For::Quorum),
    ("x-max-length", Rule::Count, For::Both),
    ("x-max-length-bytes", Rule::Count, For::Both),
    ("x-max-in-memory-length", Rule::Count, For::Quorum),
    ("x-max-in-memory-bytes", Rule::Count, For::Quorum),
    ("x-max-priority", Rule::Priority, For::Classic),
    ("x-overflow", Rule::OneOf(OVERFLOWS, "invalid_overflow"), For::Both),
    ("x-queue-mode", Rule::Supported(MODES, "queue mode"), For::Classic),
    ("x-queue-version", Rule::Version, For::Classic),
    ("x-queue-master-locator", Rule::Any, For::Classic),
    ("x-single-active-consumer", Rule::Flag, For::Both),
    ("x-consumer-timeout", Rule::Count, For::Both),
    ("x-delivery-limit", Rule::Any, For::Quorum),
    ("x-quorum-initial-group-size", Rule::Size, For::Quorum),
    ("x-queue-leader-locator", Rule::OneOf(LOCATORS, "invalid_queue_locator_arg"), For::Both),
    ("x-max-age", Rule::Any, For::Neither),
    ("x-stream-max-segment-size-bytes", Rule::Any, For::Neither),
    ("x-initial-cluster-size", Rule::Any, For::Neither),
    ("x-stream-filter-size-bytes", Rule::Any, For::Neither),
];

/// Arguments that make a declaration differ from another.
pub(crate) fn compared(kind: QueueKind) -> impl Iterator<Item = &'static str> {
    let own = move |given: For| match kind {
        QueueKind::Classic => matches!(given, For::Both | For::Classic),
        QueueKind::Quorum => matches!(given, For::Both | For::Quorum),
    };
    QUEUE.iter().filter(move |(_, _, given)| own(*given)).map(|(name, _, _)| *name).chain(["x-queue-type"])
}

/// Checks the arguments of `queue.declare` and tells the kind of queue that is asked for.
pub(crate) fn check_queue(arguments: Table<'_>, resource: &str) -> Result<QueueKind, Fault> {
    if let Some(value) = arguments.get("x-queue-type") {
        let known = |text: &str| matches!(text, "classic" | "quorum");
        match value {
            Value::Text(_) if value.as_str().is_some_and(known) => {}
            Value::Text(text) => {
                let text = String::from_utf8_lossy(text);
                return Err(invalid(
                    "x-queue-type",
                    resource,
                    &format!("\"unsupported queue type '{text}'\""),
                ));
            }
            other => return Err(invalid("x-queue-type", resource, &unacceptable(other))),
        }
    }
    let kind = QueueKind::of(arguments);
    let fits = |given: For| match kind {
        QueueKind::Classic => matches!(given, For::Both | For::Classic),
        // 4.x gives quorum queues priorities of their own; the argument stays one of classic queues.
        QueueKind::Quorum => matches!(given, For::Both | For::Quorum),
    };
    for (name, rule, _) in QUEUE.iter().filter(|(_, _, given)| fits(*given)) {
        if let Some(value) = arguments.get(name) {
            if *name == DEAD_LETTER_EXCHANGE && !matches!(value, Value::Text(_)) {
                // It is looked up before anything is checked.
                return Err(Fault::precondition_failed(format_args!(
                    "invalid type '{}' for arg '{name}' in {resource}",
                    value.type_name()
                )));
            }
            check(*rule, value, arguments).map_err(|reason| invalid(name, resource, &reason))?;
        }
    }
    for (name, _, given) in QUEUE {
        if !fits(*given) && arguments.get(name).is_some() {
            return Err(foreign(name, resource, kind));
        }
    }
    Ok(kind)
}

/// Checks the arguments of `basic.consume`.
pub(crate) fn check_consume(arguments: Table<'_>, resource: &str, kind: QueueKind) -> Result<(), Fault> {
    if let Some(value) = arguments.get("x-priority") {
        integer(value).map_err(|reason| invalid("x-priority", resource, &reason))?;
    }
    if let Some(value) = arguments.get(CANCEL_ON_FAILOVER) {
        if kind != QueueKind::Classic {
            return Err(foreign(CANCEL_ON_FAILOVER, resource, kind));
        }
        check(Rule::Flag, value, arguments)
            .map_err(|reason| invalid(CANCEL_ON_FAILOVER, resource, &reason))?;
    }
    // A stream's. Whoever asks for a place in it must not be given messages that then are gone.
    if arguments.get("x-stream-offset").is_some() {
        return Err(foreign("x-stream-offset", resource, kind));
    }
    Ok(())
}

fn foreign(name: &str, resource: &str, kind: QueueKind) -> Fault {
    Fault::precondition_failed(format_args!(
        "invalid arg '{name}' for {resource} of queue type {}",
        kind.module()
    ))
}

fn invalid(name: &str, resource: &str, reason: &str) -> Fault {
    Fault::precondition_failed(format_args!("invalid arg '{name}' for {resource}: {reason}"))
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    value.as_integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn count(value: Value<'_>) -> Result<i64, String> {
    match integer(value)? {
        number if number < 0 => Err(format!("{{value_negative,{number}}}")),
        number => Ok(number),
    }
}

fn time(value: Value<'_>) -> Result<i64, String> {
    match count(value)? {
        number if number.unsigned_abs() > TTL_MAX => Err(format!("{{value_too_large,{number}}}")),
        number => Ok(number),
    }
}

fn check(rule: Rule, value: Value<'_>, arguments: Table<'_>) -> Result<(), String> {
    let not_zero = |number: i64| if number == 0 { Err("{value_zero,0}".to_owned()) } else { Ok(()) };
    match rule {
        Rule::Expires => time(value).and_then(not_zero),
        Rule::Ttl => time(value).map(drop),
        Rule::Count => count(value).map(drop),
        Rule::Priority => match count(value)? {
            number if number > 255 => Err(format!("{{max_value_exceeded,{number}}}")),
            _ => Ok(()),
        },
        Rule::Size => count(value).and_then(not_zero),
        Rule::Name | Rule::DeadLetterKey | Rule::OneOf(..) | Rule::Supported(..)
            if !matches!(value, Value::Text(_)) =>
        {
            Err(unacceptable(value))
        }
        Rule::Name => Ok(()),
        Rule::DeadLetterKey => match arguments.get("x-dead-letter-exchange") {
            Some(_) => Ok(()),
            None => Err("routing_key_but_no_dlx_defined".to_owned()),
        },
        Rule::OneOf(allowed, error) => {
            let known = value.as_str().is_some_and(|text| allowed.contains(&text));
            if known { Ok(()) } else { Err(error.to_owned()) }
        }
        Rule::Supported(allowed, what) => match value.as_str() {
            Some(text) if allowed.contains(&text) => Ok(()),
            text => Err(format!("\"unsupported {what} '{}'\"", text.unwrap_or_default())),
        },
        Rule::Version => match integer(value)? {
            1 | 2 => Ok(()),
            other => Err(format!("\"unsupported queue version '{other}'\"")),
        },
        Rule::Flag => value.as_bool().map(drop).ok_or_else(|| unacceptable(value)),
        Rule::Any => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::mq::wire::TableBuf;

    use super::*;

    #[track_caller]
    fn refused(name: &str, value: Value<'_>, reason: &str) {
        let arguments = TableBuf::new().with(name, value);
        let fault = check_queue(arguments.as_table(), "queue 'q' in vhost '/'").unwrap_err();
        let expected =
            format!("PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/'{reason}");
        assert_eq!(fault.text, expected);
    }

    #[test]
    fn arguments_are_refused_in_rabbitmqs_words() {
        refused("x-message-ttl", Value::text("5"), ": \"expected integer, got longstr\"");
        refused("x-message-ttl", Value::I64(315_360_000_001), ": {value_too_large,315360000001}");
        refused("x-expires", Value::U8(0), ": {value_zero,0}");
        refused("x-max-length", Value::I16(-5), ": {value_negative,-5}");
        refused("x-max-priority", Value::I32(256), ": {max_value_exceeded,256}");
        refused("x-queue-mode", Value::text("odd"), ": \"unsupported queue mode 'odd'\"");
        refused("x-queue-mode", Value::Bool(true), ": {unacceptable_type,bool}");
        refused("x-queue-version", Value::text("2"), ": \"expected integer, got longstr\"");
        refused("x-queue-version", Value::I32(3), ": \"unsupported queue version '3'\"");
        refused("x-max-age", Value::text("1D"), " of queue type rabbit_classic_queue");
        refused("x-single-active-consumer", Value::text("true"), ": {unacceptable_type,longstr}");
        refused("x-queue-type", Value::text("stream"), ": \"unsupported queue type 'stream'\"");
        refused("x-delivery-limit", Value::U8(3), " of queue type rabbit_classic_queue");
    }

    #[test]
    fn a_dead_letter_exchange_has_a_name() {
        let arguments = TableBuf::new().with("x-dead-letter-exchange", Value::U8(1));
        let fault = check_queue(arguments.as_table(), "queue 'q' in vhost '/'").unwrap_err();
        let expected = "PRECONDITION_FAILED - invalid type 'unsignedbyte' for arg 'x-dead-letter-exchange' in \
                        queue 'q' in vhost '/'";
        assert_eq!(fault.text, expected);
    }

    #[test]
    fn what_a_consumer_asks_of_the_wrong_kind_of_queue_is_refused() {
        let says = |name: &str, value: Value<'_>, kind: QueueKind| {
            let arguments = TableBuf::new().with(name, value);
            let checked = check_consume(arguments.as_table(), "q", kind);
            checked.map_err(|fault| fault.text.trim_start_matches("PRECONDITION_FAILED - ").to_owned())
        };
        let offset = says("x-stream-offset", Value::text("first"), QueueKind::Classic);
        assert_eq!(
            offset,
            Err("invalid arg 'x-stream-offset' for q of queue type rabbit_classic_queue".into())
        );
        let word = "x-cancel-on-ha-failover";
        assert_eq!(says(word, Value::Bool(true), QueueKind::Classic), Ok(()));
        let wrong = says(word, Value::text("a"), QueueKind::Classic);
        assert_eq!(wrong, Err(format!("invalid arg '{word}' for q: {{unacceptable_type,longstr}}")));
        let quorum = says(word, Value::Bool(true), QueueKind::Quorum);
        assert_eq!(quorum, Err(format!("invalid arg '{word}' for q of queue type rabbit_quorum_queue")));
        assert_eq!(says("x-foo", Value::Void, QueueKind::Quorum), Ok(()));
    }

    #[test]
    fn what_is_not_known_is_taken() {
        let arguments = TableBuf::new()
            .with("x-foo", Value::U8(1))
            .with("x-queue-mode", Value::text("lazy"))
            .with("x-queue-version", Value::U8(2));
        assert_eq!(check_queue(arguments.as_table(), "q"), Ok(QueueKind::Classic));
        let arguments = TableBuf::new()
            .with("x-queue-type", Value::text("quorum"))
            .with("x-delivery-limit", Value::U8(3));
        assert_eq!(check_queue(arguments.as_table(), "q"), Ok(QueueKind::Quorum));
    }
}
