//! Exchanges made, found and deleted; bindings from them to queues and exchanges.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mq::wire::{Table, TableBuf, method::exchange as method};

use super::access::Permission;
use super::bindings::{Bindings, Destination, Inner, Kind};
use super::config::Compat;
use super::consumer::Consumers;
use super::declare::without_breaks;
use super::definitions::{BindingDefinition, ExchangeDefinition};
use super::exchange::{self, Exchange};
use super::fault::Fault;
use super::id::{ExchangeId, QueueId};
use super::output::{Change, Outputs, Reply};
use super::policy::Subject;
use super::publish::{REPLY_TO, exchange_permission_name};
use super::queue::{self, Counts, Log, Queue};
use super::ready::Ready;
use super::settings::{QueueKind, Settings};
use super::{At, Engine, trace, value};

/// What makes an exchange.
pub(crate) struct NewExchange<'a> {
    pub name: Arc<str>,
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table<'a>,
}

/// Exchanges that are there from the start (RabbitMQ, "Default exchanges").
pub(crate) const PREDECLARED: &[(&str, Kind)] = &[
    ("", Kind::Direct),
    ("amq.direct", Kind::Direct),
    ("amq.fanout", Kind::Fanout),
    ("amq.topic", Kind::Topic),
    ("amq.headers", Kind::Headers),
    ("amq.match", Kind::Headers),
    (trace::EXCHANGE, Kind::Topic),
];

/// A binding as a client names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub source: &'a str,
    pub target: Target<'a>,
    pub key: &'a str,
    pub arguments: Table<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

/// What to do with a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Add,
    Remove,
}

impl Engine {
    pub(crate) fn exchange(&self, name: &str) -> Result<ExchangeId, Fault> {
        self.exchange_names.get(name).copied().ok_or_else(|| self.no_exchange(name))
    }

    pub(crate) fn no_exchange(&self, name: &str) -> Fault {
        Fault::not_found(format_args!("no exchange '{name}' in vhost '{}'", self.vhost))
    }

    /// `exchange.declare`
    pub(crate) fn declare_exchange(
        &mut self,
        at: At,
        method: &method::Declare<'_>,
        out: &mut Outputs,
    ) -> Result<Reply, Fault> {
        let name = without_breaks(method.exchange);
        let resource = || exchange::resource(&name, &self.vhost);
        if method.passive {
            not_default(&name)?;
            self.permit_any(at, &name, resource)?;
            return self.exchange(&name).map(|_| Reply::ExchangeDeclareOk);
        }
        let compat = self.config.compat;
        let is_known = |kind: &Kind| *kind != Kind::LocalRandom || compat == Compat::V4;
        let Some(kind) = Kind::from_name(method.kind).filter(is_known) else {
            let text = exchange::unknown_kind(method.kind);
            return Err(match compat {
                Compat::V3 => Fault::command_invalid(text),
                Compat::V4 => Fault::precondition_failed(text),
            });
        };
        not_default(&name)?;
        self.permit(at, Permission::Configure, &name, resource)?;
        let resource = resource();
        if let Some(held) = self.exchange_names.get(&*name).and_then(|id| self.exchanges.get(*id)) {
            same_exchange(held, kind, method, &resource)?;
            return Ok(Reply::ExchangeDeclareOk);
        }
        if name.starts_with("amq.") {
            return Err(Fault::access_refused(format_args!(
                "exchange name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        if let Some(value) = method.arguments.get("alternate-exchange") {
            let Some(alternate) = value.as_str() else {
                return Err(Fault::precondition_failed(format_args!(
                    "invalid type '{}' for arg 'alternate-exchange' in {resource}",
                    value.type_name()
                )));
            };
            self.permit(at, Permission::Read, &name, || resource.clone())?;
            let alternate = exchange_permission_name(alternate);
            self.permit(at, Permission::Write, alternate, || exchange::resource(alternate, &self.vhost))?;
        }
        let new = NewExchange {
            name: name.into(),
            kind: with_inner(kind, method.arguments)?,
            durable: method.durable,
            auto_delete: method.auto_delete,
            internal: method.internal,
            arguments: method.arguments,
        };
        self.insert_exchange(&new);
        if new.durable {
            out.changes.push(Change::ExchangeDeclared(ExchangeDefinition::new(&new)));
        }
        Ok(Reply::ExchangeDeclareOk)
    }

    /// Makes an exchange, whoever asked for it.
    pub(crate) fn insert_exchange(&mut self, new: &NewExchange<'_>) -> ExchangeId {
        let delays = matches!(new.kind, Kind::Delayed(_));
        let delay_queue =
            (delays && new.durable && self.config.durable).then(|| self.insert_delay_queue(&new.name));
        let id = self.exchanges.insert_with(|id| Exchange {
            id,
            name: new.name.clone(),
            kind: new.kind,
            durable: new.durable,
            auto_delete: new.auto_delete,
            internal: new.internal,
            arguments: TableBuf::from(new.arguments),
            policy: None,
            operator_policy: None,
            alternate: None,
            bindings: Bindings::new(new.kind, new.arguments),
            bound: Vec::new(),
            passed: (0, 0),
            stamp: 0,
            delayed: BTreeMap::new(),
            delayed_next: 0,
            delay_timer: u64::MAX,
            delay_queue,
        });
        self.exchange_names.insert(new.name.clone(), id);
        self.generation += 1;
        self.apply_exchange_policy(id);
        id
    }

    /// The queue whose log keeps what a durable delayed exchange holds back.
    fn insert_delay_queue(&mut self, exchange: &Arc<str>) -> QueueId {
        self.queues.insert_with(|id| Queue {
            id,
            name: exchange.clone(),
            kind: QueueKind::Classic,
            durable: true,
            auto_delete: false,
            exclusive: None,
            single_active: false,
            arguments: TableBuf::new(),
            policy: None,
            operator_policy: None,
            settings: Settings::default(),
            ready: Ready::new(0),
            unacked: 0,
            unacked_bytes: 0,
            consumers: Consumers::default(),
            log: Some(Log::default()),
            spilled: 0,
            spill_left: 0,
            used: 0,
            message_timer: u64::MAX,
            expiry_timer: u64::MAX,
            getting: Default::default(),
            offline: false,
            expiring: false,
            bound: Vec::new(),
            hidden: true,
            counts: Counts::default(),
            stamp: 0,
        })
    }

    pub(crate) fn apply_exchange_policy(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let policy = self.policies.find(Subject::Exchange, &exchange.name);
        let operator = self.operator_policies.find(Subject::Exchange, &exchange.name);
        exchange.policy = policy.map(|policy| policy.name.clone());
        exchange.operator_policy = operator.map(|policy| policy.name.clone());
        let argument =
            exchange.arguments.as_table().get("alternate-exchange").and_then(|value| value.as_str());
        exchange.alternate =
            argument.map(Arc::from).or_else(|| policy?.definition.text("alternate-exchange").map(Arc::from));
        self.generation += 1;
    }

    /// `exchange.delete`
    pub(crate) fn exchange_delete(
        &mut self,
        at: At,
        method: &method::Delete<'_>,
        out: &mut Outputs,
    ) -> Result<Reply, Fault> {
        let name = without_breaks(method.exchange);
        not_default(&name)?;
        let resource = || exchange::resource(&name, &self.vhost);
        if name.starts_with("amq.") {
            return Err(Fault::access_refused(format_args!("deletion of system {} not allowed", resource())));
        }
        self.permit(at, Permission::Configure, &name, resource)?;
        let Some(id) = self.exchange_names.get(&*name).copied() else { return Ok(Reply::ExchangeDeleteOk) };
        if method.if_unused && self.exchanges.get(id).is_some_and(|held| held.bindings.len() > 0) {
            return Err(Fault::precondition_failed(format_args!("{} in use", resource())));
        }
        self.delete_exchange(id, at.now, out);
        Ok(Reply::ExchangeDeleteOk)
    }

    /// Deletes an exchange and its bindings, and the exchanges that were there for it only.
    pub(crate) fn delete_exchange(&mut self, id: ExchangeId, now: u64, out: &mut Outputs) {
        let Some(exchange) = self.exchanges.remove(id) else { return };
        self.exchange_names.remove(&exchange.name);
        self.generation += 1;
        for (to, key, arguments) in exchange.bindings.iter() {
            let (target, durable, bound) = match to {
                Destination::Queue(queue) => match self.queues.get_mut(queue) {
                    Some(queue) => (&queue.name, queue.durable, &mut queue.bound),
                    None => continue,
                },
                Destination::Exchange(other) => match self.exchanges.get_mut(other) {
                    Some(other) => (&other.name, other.durable, &mut other.bound),
                    None => continue,
                },
            };
            bound.retain(|held| *held != id);
            if exchange.durable && durable {
                let binding = BindingDefinition::new(&exchange.name, target, to, key, arguments.as_table());
                out.changes.push(Change::Unbound(binding));
            }
        }
        for held in exchange.delayed.values() {
            self.resident = self.resident.saturating_sub(held.message.cost());
        }
        if let Some(queue) = exchange.delay_queue {
            self.delete_queue(queue, now, out);
        }
        if exchange.durable {
            out.changes.push(Change::ExchangeDeleted(exchange.name.clone()));
        }
        for source in exchange.bound {
            self.unbind_all(source, Destination::Exchange(id), now, out);
        }
    }

    /// Takes away every binding from an exchange to something that is gone.
    pub(crate) fn unbind_all(&mut self, source: ExchangeId, to: Destination, now: u64, out: &mut Outputs) {
        let Some(exchange) = self.exchanges.get_mut(source) else { return };
        for (key, arguments) in exchange.bindings.to(to) {
            exchange.bindings.remove(to, &key, arguments.as_table());
        }
        self.generation += 1;
        self.delete_if_unbound(source, now, out);
    }

    /// An auto-delete exchange goes with its last binding.
    fn delete_if_unbound(&mut self, id: ExchangeId, now: u64, out: &mut Outputs) {
        if self.exchanges.get(id).is_some_and(|exchange| exchange.auto_delete && exchange.bindings.len() == 0)
        {
            self.delete_exchange(id, now, out);
        }
    }

    /// `queue.bind`, `queue.unbind`, `exchange.bind`, `exchange.unbind`
    pub(crate) fn binding(
        &mut self,
        at: At,
        action: Action,
        binding: Binding<'_>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let last = self.channel(at).map(|channel| channel.last_queue.clone()).unwrap_or_default();
        let source = without_breaks(binding.source);
        let (target, key) = match binding.target {
            Target::Queue("") if last.is_empty() => {
                return Err(Fault::not_found("no previously declared queue"));
            }
            // Nothing said at all: the last queue, by its name (AMQP 0-9-1, queue.bind).
            Target::Queue("") => {
                (last.to_string(), if binding.key.is_empty() { &*last } else { binding.key })
            }
            Target::Queue(name) | Target::Exchange(name) => (without_breaks(name), binding.key),
        };
        let is_queue = matches!(binding.target, Target::Queue(_));
        let target_resource = || match is_queue {
            true => queue::resource(&target, &self.vhost),
            false => exchange::resource(exchange_permission_name(&target), &self.vhost),
        };
        // RabbitMQ 3 knows no queue of that name.
        if self.config.compat == Compat::V4 && is_queue && target.starts_with(REPLY_TO) {
            return Err(Fault::access_refused("cannot bind or unbind to a volatile (direct reply-to) queue"));
        }
        if !is_queue {
            not_default(&target)?;
        }
        self.permit(at, Permission::Write, &target, target_resource)?;
        not_default(&source)?;
        self.permit(at, Permission::Read, &source, || exchange::resource(&source, &self.vhost))?;
        let (from, to) = self.ends(at, action, &source, &target, is_queue)?;
        let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
        self.check_topic(at, from, key)?;
        if action == Action::Add {
            self.check_binding(from, to, key, binding.arguments)?;
        }
        let key: Arc<[u8]> = key.as_bytes().into();
        self.change_binding(action, from, to, &key, binding.arguments, at.now, out);
        Ok(())
    }

    /// Source and destination. Only a new binding needs both to exist; another connection's queue is refused to both.
    fn ends(
        &self,
        at: At,
        action: Action,
        source: &str,
        target: &str,
        is_queue: bool,
    ) -> Result<(Option<ExchangeId>, Option<Destination>), Fault> {
        let from = self.exchange_names.get(source).copied();
        if action == Action::Add && from.is_none() {
            return Err(self.no_exchange(source));
        }
        let to = match is_queue {
            true => self.open_queue(at, target).map(Destination::Queue),
            false => self.exchange(target).map(Destination::Exchange),
        };
        match to {
            Ok(to) => Ok((from, Some(to))),
            Err(fault) if action == Action::Remove && fault.code.number() == 404 => Ok((from, None)),
            Err(fault) => Err(fault),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a binding is named by four things")]
    pub(crate) fn change_binding(
        &mut self,
        action: Action,
        from: ExchangeId,
        to: Destination,
        key: &Arc<[u8]>,
        arguments: Table<'_>,
        now: u64,
        out: &mut Outputs,
    ) {
        let Some(exchange) = self.exchanges.get_mut(from) else { return };
        let changed = match action {
            Action::Add => exchange.bindings.add(to, key, arguments).then(|| arguments.into()),
            Action::Remove => exchange.bindings.remove(to, key, arguments),
        };
        // What goes is named as it was made, whoever says it in other words.
        let Some(held): Option<TableBuf> = changed else { return };
        self.generation += 1;
        let still = exchange.bindings.is_bound(to);
        let (source, source_durable) = (exchange.name.clone(), exchange.durable);
        let (target, target_durable, bound) = match to {
            Destination::Queue(id) => match self.queues.get_mut(id) {
                Some(queue) => (queue.name.clone(), queue.durable, &mut queue.bound),
                None => return,
            },
            Destination::Exchange(id) => match self.exchanges.get_mut(id) {
                Some(other) => (other.name.clone(), other.durable, &mut other.bound),
                None => return,
            },
        };
        match (still, bound.iter().position(|held| *held == from)) {
            (true, None) => bound.push(from),
            (false, Some(at)) => drop(bound.swap_remove(at)),
            (true, Some(_)) | (false, None) => {}
        }
        if source_durable && target_durable {
            let definition = BindingDefinition::new(&source, &target, to, key, held.as_table());
            out.changes.push(match action {
                Action::Add => Change::Bound(definition),
                Action::Remove => Change::Unbound(definition),
            });
        }
        if action == Action::Remove {
            self.delete_if_unbound(from, now, out);
        }
    }
}

fn not_default(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::access_refused("operation not permitted on the default exchange"));
    }
    Ok(())
}

/// A delayed exchange has the kind inside that its argument names.
pub(crate) fn with_inner(kind: Kind, arguments: Table<'_>) -> Result<Kind, Fault> {
    let Kind::Delayed(_) = kind else { return Ok(kind) };
    let inner = arguments.get("x-delayed-type").and_then(|value| value.as_str()).and_then(Inner::from_name);
    inner.map(Kind::Delayed).ok_or_else(|| {
        Fault::precondition_failed("Invalid argument, 'x-delayed-type' must be an existing exchange type")
    })
}

fn same_exchange(
    held: &Exchange,
    kind: Kind,
    method: &method::Declare<'_>,
    resource: &str,
) -> Result<(), Fault> {
    if kind.name() != held.kind.name() {
        return Err(value::inequivalent(
            "type",
            resource,
            &format!("'{}'", kind.name()),
            &format!("'{}'", held.kind.name()),
        ));
    }
    value::same_flag("durable", resource, method.durable, held.durable)?;
    value::same_flag("auto_delete", resource, method.auto_delete, held.auto_delete)?;
    value::same_flag("internal", resource, method.internal, held.internal)?;
    for name in ["alternate-exchange", "x-delayed-type", "hash-header", "hash-property"] {
        value::same_argument(name, resource, method.arguments, held.arguments.as_table())?;
    }
    Ok(())
}
