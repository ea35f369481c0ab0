//! Arguments of declarations and bindings: how RabbitMQ compares them and what it calls them.

use crate::mq::wire::{Array, Table, Value};

use super::fault::Fault;

/// Whether two values are the same, whatever the types of their numbers and strings.
pub(crate) fn is_same(a: Value<'_>, b: Value<'_>) -> bool {
    if let (Some(a), Some(b)) = (a.as_integer(), b.as_integer()) {
        return a == b;
    }
    match (a, b) {
        (Value::Text(a) | Value::Bytes(a), Value::Text(b) | Value::Bytes(b)) => a == b,
        (Value::Table(a), Value::Table(b)) => is_same_table(a, b),
        (Value::Array(a), Value::Array(b)) => is_same_array(a, b),
        (Value::F32(a), Value::F64(b)) | (Value::F64(b), Value::F32(a)) => f64::from(a) == b,
        (Value::Timestamp(a), b) | (b, Value::Timestamp(a)) => match b {
            Value::Timestamp(b) => a == b,
            b => b.as_integer().is_some_and(|b| u64::try_from(b) == Ok(a)),
        },
        (a, b) => a == b,
    }
}

fn is_same_array(a: Array<'_>, b: Array<'_>) -> bool {
    let (mut a, mut b) = (a.iter(), b.iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if is_same(a, b) => {}
            _ => return false,
        }
    }
}

/// Whether two tables hold the same, in any order.
pub(crate) fn is_same_table(a: Table<'_>, b: Table<'_>) -> bool {
    let within = |a: Table<'_>, b: Table<'_>| {
        a.iter().all(|(name, value)| {
            b.iter().find(|(other, _)| *other == name).is_some_and(|(_, held)| is_same(held, value))
        })
    };
    a.as_bytes() == b.as_bytes() || (within(a, b) && within(b, a))
}

/// What a consistent-hash exchange hashes of a header.
pub(crate) fn bytes_of(value: Value<'_>) -> Vec<u8> {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => bytes.to_vec(),
        other => other.as_integer().map_or_else(Vec::new, |number| number.to_be_bytes().to_vec()),
    }
}

/// A value as Erlang would print it.
pub(crate) fn printed(value: Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        other => other.as_integer().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

fn described(value: Option<Value<'_>>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", printed(value), value.type_name()),
    }
}

/// The refusal of a declaration that differs from what exists.
pub(crate) fn inequivalent(name: &str, resource: &str, received: &str, current: &str) -> Fault {
    Fault::precondition_failed(format_args!(
        "inequivalent arg '{name}' for {resource}: received {received} but current is {current}"
    ))
}

/// Refuses a flag that differs from what exists.
pub(crate) fn same_flag(name: &str, resource: &str, received: bool, current: bool) -> Result<(), Fault> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(name, resource, &format!("'{received}'"), &format!("'{current}'")))
}

/// Refuses an argument that differs from what exists. Numbers compare by value, not by type.
pub(crate) fn same_argument(
    name: &str,
    resource: &str,
    received: Table<'_>,
    current: Table<'_>,
) -> Result<(), Fault> {
    let (received, current) = (received.get(name), current.get(name));
    let (new, old) = match (received, current) {
        (None, None) => return Ok(()),
        (Some(new), Some(old)) if is_same(new, old) => return Ok(()),
        (Some(new), Some(old)) => (format!("'{}'", printed(new)), format!("'{}'", printed(old))),
        // Classic is what a queue is when nothing is said.
        (Some(one), None) | (None, Some(one))
            if name == "x-queue-type" && one.as_str() == Some("classic") =>
        {
            return Ok(());
        }
        (new, old) => (described(new), described(old)),
    };
    Err(inequivalent(name, resource, &new, &old))
}

#[cfg(test)]
mod tests {
    use crate::mq::wire::TableBuf;

    use super::*;

    #[test]
    fn arguments_compare_by_value_and_not_by_type_or_order() {
        let a = TableBuf::new().with("x", Value::U8(5)).with("y", Value::text("z"));
        let b = TableBuf::new().with("y", Value::Bytes(b"z")).with("x", Value::I64(5));
        assert!(is_same_table(a.as_table(), b.as_table()));
        let c = b.clone().with("more", Value::Void);
        assert!(!is_same_table(a.as_table(), c.as_table()) && !is_same_table(c.as_table(), a.as_table()));
        assert!(!is_same(Value::text("5"), Value::U8(5)));
    }

    #[test]
    fn a_difference_is_told_as_rabbitmq_tells_it() {
        let received = TableBuf::new().with("x-max-length", Value::I8(5));
        let error =
            same_argument("x-max-length", "queue 'q' in vhost '/'", received.as_table(), Table::default());
        let expected = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': \
                        received the value '5' of type 'byte' but current is none";
        assert_eq!(error.unwrap_err().text, expected);
    }
}
