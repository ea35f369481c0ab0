//! Definitions as plain data, shaped like RabbitMQ's JSON: what is exported, imported, and kept over a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};

use crate::mq::wire::{Table, TableBuf, Value};

use super::Engine;
use super::bind::{Action, NewExchange, with_inner};
use super::bindings::{Destination, Kind};
use super::declare::NewQueue;
use super::id::QueueId;
use super::output::Outputs;
use super::pattern;
use super::policy::{ApplyTo, Definition, Policy};
use super::settings::QueueKind;

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueDefinition {
    /// Its name.
    pub name: String,
    /// Whether it survives a restart.
    #[serde(default)]
    pub durable: bool,
    /// Whether it goes with its last consumer.
    #[serde(default)]
    pub auto_delete: bool,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Json>,
    /// Its arguments as they were given, if JSON does not say all of it. Not exported.
    #[serde(skip)]
    pub exact: Option<TableBuf>,
}

/// An exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExchangeDefinition {
    /// Its name.
    pub name: String,
    /// The name of its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it survives a restart.
    #[serde(default)]
    pub durable: bool,
    /// Whether it goes with its last binding.
    #[serde(default)]
    pub auto_delete: bool,
    /// Whether only exchanges publish to it.
    #[serde(default)]
    pub internal: bool,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Json>,
    /// Its arguments as they were given, if JSON does not say all of it. Not exported.
    #[serde(skip)]
    pub exact: Option<TableBuf>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindingDefinition {
    /// The exchange it leads from.
    pub source: String,
    /// What it leads to.
    pub destination: String,
    /// `queue` or `exchange`.
    pub destination_type: String,
    /// The binding key.
    #[serde(default)]
    pub routing_key: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Json>,
    /// Its arguments as they were given, if JSON does not say all of it. Not exported.
    #[serde(skip)]
    pub exact: Option<TableBuf>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyDefinition {
    /// Its name.
    pub name: String,
    /// A regular expression for names.
    pub pattern: String,
    /// `queues`, `exchanges` or `all`, …
    #[serde(rename = "apply-to", default = "all")]
    pub apply_to: String,
    /// The highest wins; it may have a fraction.
    #[serde(default = "no_priority")]
    pub priority: Number,
    /// What it says.
    pub definition: Map<String, Json>,
}

fn no_priority() -> Number {
    Number::from(0)
}

fn all() -> String {
    ApplyTo::All.name().to_owned()
}

/// Everything defined on one virtual host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Definitions {
    /// Policies.
    pub policies: Vec<PolicyDefinition>,
    /// Operator policies, which only make limits smaller.
    pub operator_policies: Vec<PolicyDefinition>,
    /// Queues that are not exclusive.
    pub queues: Vec<QueueDefinition>,
    /// Exchanges that are not there from the start.
    pub exchanges: Vec<ExchangeDefinition>,
    /// Bindings of those.
    pub bindings: Vec<BindingDefinition>,
}

/// A definition that cannot be taken over. Everything before it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{name}': {reason}")]
pub struct DefinitionError {
    /// `queue`, `exchange`, `binding`, `policy`.
    pub what: &'static str,
    /// Which one.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl QueueDefinition {
    pub(crate) fn new(new: &NewQueue<'_>) -> Self {
        Self {
            name: new.name.to_string(),
            durable: new.durable,
            auto_delete: new.auto_delete,
            arguments: json_of(new.arguments),
            exact: exact(new.arguments),
        }
    }
}

impl ExchangeDefinition {
    pub(crate) fn new(new: &NewExchange<'_>) -> Self {
        Self {
            name: new.name.to_string(),
            kind: new.kind.name().to_owned(),
            durable: new.durable,
            auto_delete: new.auto_delete,
            internal: new.internal,
            arguments: json_of(new.arguments),
            exact: exact(new.arguments),
        }
    }
}

impl BindingDefinition {
    pub(crate) fn new(source: &str, target: &str, to: Destination, key: &[u8], arguments: Table<'_>) -> Self {
        let destination_type = match to {
            Destination::Queue(_) => "queue",
            Destination::Exchange(_) => "exchange",
        };
        Self {
            source: source.to_owned(),
            destination: target.to_owned(),
            destination_type: destination_type.to_owned(),
            routing_key: String::from_utf8_lossy(key).into_owned(),
            arguments: json_of(arguments),
            exact: exact(arguments),
        }
    }
}

/// The arguments, if their JSON would be read as others.
fn exact(arguments: Table<'_>) -> Option<TableBuf> {
    let given = TableBuf::from(arguments);
    (table_of(&json_of(arguments)) != given).then_some(given)
}

/// The arguments that are defined.
fn given(json: &Map<String, Json>, exact: Option<&TableBuf>) -> TableBuf {
    exact.cloned().unwrap_or_else(|| table_of(json))
}

/// A table as JSON. Types that JSON does not have are lost, as in RabbitMQ's export.
pub fn json_of(table: Table<'_>) -> Map<String, Json> {
    table
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), json_value(value)))
        .collect()
}

fn json_value(value: Value<'_>) -> Json {
    match value {
        Value::Bool(value) => value.into(),
        Value::F32(number) => Number::from_f64(number.into()).map_or(Json::Null, Json::Number),
        Value::F64(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        Value::Decimal { scale, value } => (f64::from(value) / 10_f64.powi(scale.into())).into(),
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned().into(),
        Value::Array(array) => array.iter().map(json_value).collect(),
        Value::Timestamp(seconds) => seconds.into(),
        Value::Table(table) => Json::Object(json_of(table)),
        Value::Void => Json::Null,
        other => other.as_integer().map_or(Json::Null, Into::into),
    }
}

/// JSON as a table: whole numbers become longs, others doubles.
pub fn table_of(json: &Map<String, Json>) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in json {
        with_value(value, &mut |value| table.push(name, value));
    }
    table
}

fn with_value(json: &Json, then: &mut dyn FnMut(Value<'_>)) {
    match json {
        Json::Null => then(Value::Void),
        Json::Bool(value) => then(Value::Bool(*value)),
        Json::Number(number) => then(match number.as_i64() {
            Some(whole) => Value::I64(whole),
            None => Value::F64(number.as_f64().unwrap_or(0.0)),
        }),
        Json::String(text) => then(Value::text(text)),
        Json::Array(values) => {
            let mut array = crate::mq::wire::ArrayBuf::new();
            values.iter().for_each(|value| with_value(value, &mut |value| array.push(value)));
            then(Value::Array(array.as_array()));
        }
        Json::Object(map) => then(Value::Table(table_of(map).as_table())),
    }
}

impl PolicyDefinition {
    fn of(policy: &Policy) -> Self {
        Self {
            name: policy.name.clone(),
            pattern: policy.pattern.as_str().to_owned(),
            apply_to: policy.apply_to.name().to_owned(),
            priority: policy.priority.clone(),
            definition: json_of(policy.definition.0.as_table()),
        }
    }

    /// The policy that it defines.
    ///
    /// # Errors
    /// The pattern is no regular expression, or nothing that policies apply to is named.
    pub fn policy(&self) -> Result<Policy, DefinitionError> {
        let error = |reason: String| DefinitionError { what: "policy", name: self.name.clone(), reason };
        Ok(Policy {
            name: self.name.clone(),
            pattern: pattern::regex(&self.pattern).map_err(|bad| error(bad.to_string()))?,
            apply_to: ApplyTo::from_name(&self.apply_to)
                .ok_or_else(|| error(format!("cannot apply to '{}'", self.apply_to)))?,
            priority: self.priority.clone(),
            definition: Definition(table_of(&self.definition)),
        })
    }
}

impl Engine {
    /// The policies of both kinds, and nothing else.
    pub fn rules(&self) -> Definitions {
        Definitions {
            policies: self.policies.iter().map(PolicyDefinition::of).collect(),
            operator_policies: self.operator_policies.iter().map(PolicyDefinition::of).collect(),
            ..Definitions::default()
        }
    }

    /// Everything that is defined, exclusive queues left out.
    pub fn definitions(&self) -> Definitions {
        let mut definitions = self.rules();
        let exported = |id: &QueueId| {
            self.queues.get(*id).is_some_and(|queue| queue.exclusive.is_none() && !queue.hidden)
        };
        for (_, queue) in self.queues.iter().filter(|(id, _)| exported(id)) {
            definitions.queues.push(QueueDefinition {
                name: queue.name.to_string(),
                durable: queue.durable,
                auto_delete: queue.auto_delete,
                arguments: json_of(queue.arguments.as_table()),
                exact: None,
            });
        }
        for (_, exchange) in self.exchanges.iter() {
            if !exchange.name.is_empty() && !exchange.name.starts_with("amq.") {
                definitions.exchanges.push(ExchangeDefinition {
                    name: exchange.name.to_string(),
                    kind: exchange.kind.name().to_owned(),
                    durable: exchange.durable,
                    auto_delete: exchange.auto_delete,
                    internal: exchange.internal,
                    arguments: json_of(exchange.arguments.as_table()),
                    exact: None,
                });
            }
            for (to, key, arguments) in exchange.bindings.iter() {
                let name = match to {
                    Destination::Queue(id) if !exported(&id) => continue,
                    Destination::Queue(id) => self.queues.get(id).map(|queue| &queue.name),
                    Destination::Exchange(id) => self.exchanges.get(id).map(|other| &other.name),
                };
                if let Some(name) = name {
                    let arguments = arguments.as_table();
                    definitions.bindings.push(BindingDefinition::new(
                        &exchange.name,
                        name,
                        to,
                        key,
                        arguments,
                    ));
                }
            }
        }
        definitions
    }

    /// Takes definitions over. What exists already with the same name stays as it is.
    ///
    /// # Errors
    /// The first definition that makes no sense; those before it were taken.
    pub fn define(
        &mut self,
        now: u64,
        definitions: &Definitions,
        out: &mut Outputs,
    ) -> Result<(), DefinitionError> {
        self.define_unless(now, definitions, out, &mut Err)
    }

    /// The same, asking `refused` about each definition of an object that makes no sense: whether it is left alone.
    ///
    /// # Errors
    /// That of `refused`; or a policy that makes no sense.
    pub fn define_unless(
        &mut self,
        now: u64,
        definitions: &Definitions,
        out: &mut Outputs,
        refused: &mut dyn FnMut(DefinitionError) -> Result<(), DefinitionError>,
    ) -> Result<(), DefinitionError> {
        for policy in &definitions.policies {
            self.policies.set(policy.policy()?);
        }
        for policy in &definitions.operator_policies {
            self.operator_policies.set(policy.policy()?);
        }
        for exchange in &definitions.exchanges {
            self.define_exchange(exchange, out).or_else(&mut *refused)?;
        }
        for queue in &definitions.queues {
            self.define_queue(now, queue, out).map(drop).or_else(&mut *refused)?;
        }
        for binding in &definitions.bindings {
            self.define_binding(now, binding, out).or_else(&mut *refused)?;
        }
        self.apply_policies(now, out);
        Ok(())
    }

    fn define_exchange(
        &mut self,
        exchange: &ExchangeDefinition,
        out: &mut Outputs,
    ) -> Result<(), DefinitionError> {
        let error =
            |reason: String| DefinitionError { what: "exchange", name: exchange.name.clone(), reason };
        let arguments = given(&exchange.arguments, exchange.exact.as_ref());
        let kind = Kind::from_name(&exchange.kind)
            .ok_or_else(|| error(super::exchange::unknown_kind(&exchange.kind)))?;
        if self.exchange_names.contains_key(&*exchange.name) {
            return Ok(());
        }
        let new = NewExchange {
            name: Arc::from(&*exchange.name),
            kind: with_inner(kind, arguments.as_table()).map_err(|fault| error(fault.text))?,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: arguments.as_table(),
        };
        self.insert_exchange(&new);
        if new.durable {
            out.changes.push(super::Change::ExchangeDeclared(exchange.clone()));
        }
        Ok(())
    }

    /// Makes a queue that somebody defined; the one of that name if it exists.
    ///
    /// # Errors
    /// Its arguments make no sense.
    pub fn define_queue(
        &mut self,
        now: u64,
        queue: &QueueDefinition,
        out: &mut Outputs,
    ) -> Result<QueueId, DefinitionError> {
        let error = |reason: String| DefinitionError { what: "queue", name: queue.name.clone(), reason };
        if let Some(id) = self.queue_names.get(&*queue.name) {
            return Ok(*id);
        }
        if queue.name.is_empty() {
            return Err(error("a queue needs a name".to_owned()));
        }
        let arguments = given(&queue.arguments, queue.exact.as_ref());
        let resource = super::queue::resource(&queue.name, &self.vhost);
        super::arguments::check_queue(arguments.as_table(), &resource).map_err(|fault| error(fault.text))?;
        let new = NewQueue {
            name: Arc::from(&*queue.name),
            kind: QueueKind::of(arguments.as_table()),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            exclusive: None,
            arguments: arguments.as_table(),
        };
        let id = self.insert_queue(&new, now);
        if new.durable {
            out.changes.push(super::Change::QueueDeclared(id, queue.clone()));
        }
        Ok(id)
    }

    fn define_binding(
        &mut self,
        now: u64,
        binding: &BindingDefinition,
        out: &mut Outputs,
    ) -> Result<(), DefinitionError> {
        let error = |reason: String| {
            let name = format!("{} -> {}", binding.source, binding.destination);
            DefinitionError { what: "binding", name, reason }
        };
        let from = self.exchange(&binding.source).map_err(|fault| error(fault.text))?;
        let to = match &*binding.destination_type {
            "queue" => {
                let id = self.queue_names.get(&*binding.destination).copied();
                Destination::Queue(id.ok_or_else(|| error(self.no_queue(&binding.destination).text))?)
            }
            "exchange" => {
                Destination::Exchange(self.exchange(&binding.destination).map_err(|fault| error(fault.text))?)
            }
            other => return Err(error(format!("unknown destination_type '{other}'"))),
        };
        let key: Arc<[u8]> = binding.routing_key.as_bytes().into();
        let arguments = given(&binding.arguments, binding.exact.as_ref());
        self.change_binding(Action::Add, from, to, &key, arguments.as_table(), now, out);
        Ok(())
    }

    /// Sets a policy and applies it.
    pub fn set_policy(&mut self, now: u64, policy: Policy, out: &mut Outputs) {
        self.policies.set(policy);
        self.apply_policies(now, out);
    }

    /// Sets an operator policy and applies it.
    pub fn set_operator_policy(&mut self, now: u64, policy: Policy, out: &mut Outputs) {
        self.operator_policies.set(policy);
        self.apply_policies(now, out);
    }

    /// Removes a policy; false if there is none of that name.
    pub fn remove_policy(&mut self, now: u64, name: &str, out: &mut Outputs) -> bool {
        let removed = self.policies.remove(name);
        self.apply_policies(now, out);
        removed
    }

    /// Removes an operator policy; false if there is none of that name.
    pub fn remove_operator_policy(&mut self, now: u64, name: &str, out: &mut Outputs) -> bool {
        let removed = self.operator_policies.remove(name);
        self.apply_policies(now, out);
        removed
    }

    fn apply_policies(&mut self, now: u64, out: &mut Outputs) {
        for id in self.exchanges.ids() {
            self.apply_exchange_policy(id);
        }
        for id in self.queues.ids() {
            if self.queues.get(id).is_some_and(|queue| !queue.hidden) {
                self.apply_queue_policy(id);
                self.serve(id, now, out);
                self.watch_use(id);
            }
        }
        self.bury(now, out);
    }
}
