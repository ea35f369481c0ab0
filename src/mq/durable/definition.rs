//! Definitions as the log keeps them: JSON as RabbitMQ writes it, and what JSON cannot say beside it.
//!
//! ```text
//! queue, exchange   {"log": UUID or null, "definition": {…}, "exact": base64 of the table of arguments}
//! binding           {"source": …, "exact": as above}
//! ```
//!
//! `exact` is there only if reading the JSON would give something else. Binding keys are always text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::metadata::key;
use crate::mq::engine::{BindingDefinition, ExchangeDefinition, QueueDefinition};
use crate::mq::wire::{Table, TableBuf};

/// A value as it is kept, with the exact arguments.
fn with_exact(mut value: Json, exact: Option<&TableBuf>) -> Json {
    if let Some(exact) = exact {
        value["exact"] = STANDARD.encode(exact.as_table().as_bytes()).into();
    }
    value
}

fn exact_in(value: &Json) -> Option<TableBuf> {
    let bytes = STANDARD.decode(value["exact"].as_str()?).ok()?;
    Some(Table::parse(&bytes).ok()?.into())
}

fn parsed<T: DeserializeOwned>(value: &Json, names: &[String]) -> Option<T> {
    match serde_json::from_value(value.clone()) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            tracing::error!(%error, ?names, "a definition that this version cannot read is left alone");
            None
        }
    }
}

/// A queue, with the name of its log.
pub(super) fn of_queue(log: Option<String>, definition: &QueueDefinition) -> Json {
    with_exact(json!({"log": log, "definition": definition}), definition.exact.as_ref())
}

/// An exchange; a delayed one with the name of its log.
pub(super) fn of_exchange(log: Option<String>, definition: &ExchangeDefinition) -> Json {
    with_exact(json!({"log": log, "definition": definition}), definition.exact.as_ref())
}

/// A binding.
pub(super) fn of_binding(binding: &BindingDefinition) -> Json {
    with_exact(json!(binding), binding.exact.as_ref())
}

/// The queue that a value defines.
pub(super) fn queue(value: &Json, names: &[String]) -> Option<QueueDefinition> {
    let definition = parsed(&value["definition"], names)?;
    Some(QueueDefinition { exact: exact_in(value), ..definition })
}

/// The exchange that a value defines.
pub(super) fn exchange(value: &Json, names: &[String]) -> Option<ExchangeDefinition> {
    let definition = parsed(&value["definition"], names)?;
    Some(ExchangeDefinition { exact: exact_in(value), ..definition })
}

/// The binding that a value defines.
pub(super) fn binding(value: &Json, names: &[String]) -> Option<BindingDefinition> {
    let definition = parsed(value, names)?;
    Some(BindingDefinition { exact: exact_in(value), ..definition })
}

/// Bindings are told apart by everything about them, but not by the types of numbers, as the engine does.
pub(super) fn binding_key(vhost: &str, binding: &BindingDefinition) -> String {
    /// What stands where bytes were no text.
    const LOST: char = char::REPLACEMENT_CHARACTER;
    let BindingDefinition { source, destination, destination_type, routing_key, arguments, exact } = binding;
    let mut sorted: Vec<_> = arguments.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    let arguments: Vec<Json> = sorted.into_iter().map(|(name, value)| json!([name, value])).collect();
    let arguments = Json::from(arguments).to_string();
    let lost = exact.as_ref().filter(|_| arguments.contains(LOST));
    let lost = lost.map(|exact| STANDARD.encode(exact.as_table().as_bytes()));
    let mut names = vec![vhost, destination_type, destination, source, routing_key, &arguments];
    names.extend(lost.as_deref());
    key("binding", &names)
}
