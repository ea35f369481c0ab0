//! What PUT, POST and DELETE do: to queues, exchanges, bindings and connections here, to the rest elsewhere.

use std::sync::Arc;

use http::Method as Verb;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};

use super::Management;
use super::ask::{self, Caller, Order, missing};
use super::object;
use super::read::exchange_name;
use super::reply::{Outcome, Refusal, Reply};
use crate::mq::engine::{Reply as Answered, Send as Out, table_of};
use crate::mq::server::host::Host;
use crate::mq::server::session::Session;
use crate::mq::wire::method::{exchange, queue};
use crate::mq::wire::{Method, TableBuf};

/// Bytes of a name or a routing key: AMQP's short strings.
const NAME_SIZE_MAX: usize = 255;

/// What RabbitMQ tells a client that is sent away without a reason.
const CLOSED: &str = "Closed via management plugin";

impl Management {
    pub(super) async fn write(&self, verb: &Verb, order: &Order<'_>, path: &[&str]) -> Outcome {
        match path {
            ["connections", ..] => self.close_connections(order, path),
            ["queues", vhost, name, rest @ ..] => {
                let host = self.host_for(order, vhost, verb)?;
                match (verb, rest) {
                    (&Verb::PUT, []) => self.declare_queue(order, &host, name).await,
                    (&Verb::DELETE, []) => self.delete_queue(order, &host, name).await,
                    (&Verb::DELETE, ["contents"]) => self.purge(order, &host, name).await,
                    (&Verb::POST, ["get"]) => self.get(order, &host, name).await,
                    (&Verb::POST, ["actions"]) => act(order),
                    _ => missing(),
                }
            }
            ["exchanges", vhost, name, rest @ ..] => {
                let host = self.host_for(order, vhost, verb)?;
                match (verb, rest) {
                    (&Verb::PUT, []) => self.declare_exchange(order, &host, name).await,
                    (&Verb::DELETE, []) => self.delete_exchange(order, &host, name).await,
                    (&Verb::POST, ["publish"]) => self.publish(order, &host, exchange_name(name)).await,
                    _ => missing(),
                }
            }
            ["bindings", vhost, "e", from, kind, to, rest @ ..] => {
                let host = self.host_for(order, vhost, verb)?;
                let ends = Ends { from: exchange_name(from), to, is_queue: *kind == "q" };
                match (verb, rest) {
                    (&Verb::POST, []) => self.bind(order, &host, &ends).await,
                    (&Verb::DELETE, [key]) => self.unbind(order, &host, &ends, key).await,
                    _ => missing(),
                }
            }
            _ => self.administer(verb, order, path).await,
        }
    }

    /// The virtual host of a path. What would be made there says so otherwise than what would be looked for.
    pub(super) fn host_for(&self, _order: &Order<'_>, name: &str, verb: &Verb) -> Result<Arc<Host>, Refusal> {
        self.broker.host(name).ok_or_else(|| match *verb {
            Verb::PUT | Verb::POST => Refusal::not_found("vhost_not_found"),
            _ => Refusal::nothing_there(),
        })
    }

    /// The caller's own connection.
    pub(super) fn session(&self, caller: &Caller, host: &Arc<Host>) -> Result<Session, Refusal> {
        let access = self.broker.users().access(&caller.name, host.name());
        let access = access.ok_or_else(|| Refusal::not_authorised("Access refused."))?;
        Ok(Session::open(host, Arc::clone(&caller.name), access))
    }

    fn close_connections(&self, order: &Order<'_>, path: &[&str]) -> Outcome {
        let links = self.broker.live.all();
        let chosen: Vec<_> = match path {
            [_, "username", name] => links.into_iter().filter(|link| *link.terms.user == **name).collect(),
            [_, name] => links.into_iter().filter(|link| link.name == *name).collect(),
            _ => return missing(),
        };
        if chosen.is_empty() {
            return missing();
        }
        let own = |user: &Arc<str>| *user == order.caller.name || order.caller.is_administrator();
        if !chosen.iter().all(|link| own(&link.terms.user)) {
            return Err(Refusal::not_authorised("User not authorised to access object"));
        }
        chosen.iter().for_each(|link| link.close(order.reason.unwrap_or(CLOSED)));
        Ok(Reply::Done)
    }

    /// Does something that is answered by a single method.
    async fn simply(&self, order: &Order<'_>, host: &Arc<Host>, method: Method<'_>) -> Result<(), Refusal> {
        let mut session = self.session(order.caller, host)?;
        let answered = session.call(&method, None, |send| matches!(send, Out::Reply { .. })).await;
        answered.map(drop).map_err(|closed| Refusal::of_declaration(&closed))
    }

    async fn declare_queue(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        fits(name)?;
        let object = ask::object(order.body)?;
        let arguments = arguments(&object)?;
        let existed = host.look(|engine| engine.queue_id(name).is_some());
        let declare = queue::Declare {
            queue: name,
            durable: ask::boolean(object.get("durable"))?.unwrap_or(false),
            auto_delete: ask::boolean(object.get("auto_delete"))?.unwrap_or(false),
            arguments: arguments.as_table(),
            ..queue::Declare::default()
        };
        self.simply(order, host, declare.into()).await?;
        Ok(made(existed))
    }

    async fn delete_queue(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        self.has_queue(host, name)?;
        let delete = queue::Delete {
            queue: name,
            if_unused: order.query.get("if-unused") == Some("true"),
            if_empty: order.query.get("if-empty") == Some("true"),
            ..queue::Delete::default()
        };
        self.simply(order, host, delete.into()).await?;
        Ok(Reply::Done)
    }

    async fn purge(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        self.has_queue(host, name)?;
        let purge = queue::Purge { queue: name, ..queue::Purge::default() };
        self.simply(order, host, purge.into()).await?;
        Ok(Reply::Done)
    }

    fn has_queue(&self, host: &Arc<Host>, name: &str) -> Result<(), Refusal> {
        let is_there = host.look(|engine| engine.queue_id(name).is_some());
        if is_there { Ok(()) } else { Err(Refusal::nothing_there()) }
    }

    async fn declare_exchange(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        fits(name)?;
        let object = ask::object(order.body)?;
        let arguments = arguments(&object)?;
        let kind = object.get("type").map_or(Ok("direct"), |kind| ask::text(kind, "type"))?;
        let existed = host.look(|engine| engine.has_exchange(name));
        let declare = exchange::Declare {
            exchange: name,
            kind,
            durable: ask::boolean(object.get("durable"))?.unwrap_or(false),
            auto_delete: ask::boolean(object.get("auto_delete"))?.unwrap_or(false),
            internal: ask::boolean(object.get("internal"))?.unwrap_or(false),
            arguments: arguments.as_table(),
            ..exchange::Declare::default()
        };
        // RabbitMQ says of types that it does not know only this much here.
        self.simply(order, host, declare.into()).await?;
        Ok(made(existed))
    }

    async fn delete_exchange(&self, order: &Order<'_>, host: &Arc<Host>, name: &str) -> Outcome {
        if !host.look(|engine| engine.has_exchange(exchange_name(name))) {
            return missing();
        }
        let if_unused = order.query.get("if-unused") == Some("true");
        let delete =
            exchange::Delete { exchange: exchange_name(name), if_unused, ..exchange::Delete::default() };
        self.simply(order, host, delete.into()).await?;
        Ok(Reply::Done)
    }

    async fn bind(&self, order: &Order<'_>, host: &Arc<Host>, ends: &Ends<'_>) -> Outcome {
        let object = ask::object(order.body)?;
        let arguments = arguments(&object)?;
        let key = object.get("routing_key").map_or(Ok(""), |key| ask::text(key, "routing_key"))?;
        for name in [ends.from, ends.to, key] {
            fits(name)?;
        }
        let method: Method<'_> = if ends.is_queue {
            queue::Bind {
                queue: ends.to,
                exchange: ends.from,
                routing_key: key,
                arguments: arguments.as_table(),
                ..queue::Bind::default()
            }
            .into()
        } else {
            exchange::Bind {
                destination: ends.to,
                source: ends.from,
                routing_key: key,
                arguments: arguments.as_table(),
                ..exchange::Bind::default()
            }
            .into()
        };
        self.simply(order, host, method).await?;
        let quoted = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let properties = object::properties_key(key.as_bytes(), arguments.as_table());
        let properties: Vec<String> = properties.split('~').map(quoted).collect();
        Ok(Reply::Created(Some(format!("{}/{}", quoted(ends.to), properties.join("~")))))
    }

    async fn unbind(&self, order: &Order<'_>, host: &Arc<Host>, ends: &Ends<'_>, key: &str) -> Outcome {
        let Some(view) = self.binding_named(host, ends.from, ends.is_queue, ends.to, key) else {
            return missing();
        };
        let key = String::from_utf8_lossy(&view.key);
        let method: Method<'_> = if ends.is_queue {
            queue::Unbind {
                queue: ends.to,
                exchange: ends.from,
                routing_key: &key,
                arguments: view.arguments.as_table(),
                ..queue::Unbind::default()
            }
            .into()
        } else {
            exchange::Unbind {
                destination: ends.to,
                source: ends.from,
                routing_key: &key,
                arguments: view.arguments.as_table(),
                ..exchange::Unbind::default()
            }
            .into()
        };
        self.simply(order, host, method).await?;
        Ok(Reply::Done)
    }
}

/// What a binding leads from and to.
struct Ends<'a> {
    from: &'a str,
    to: &'a str,
    is_queue: bool,
}

fn made(existed: bool) -> Reply {
    if existed { Reply::Done } else { Reply::Created(None) }
}

/// Actions on mirrors of queues: there are none, so all are in step.
fn act(order: &Order<'_>) -> Outcome {
    let object = ask::object(order.body)?;
    let [action] = ask::wanted(&object, ["action"])?;
    match action.as_str() {
        Some("sync" | "cancel_sync") => Ok(Reply::Done),
        _ => Err(Refusal::bad_request(serde_json::json!(["unknown", action]))),
    }
}

/// Names are short strings on the wire.
pub(super) fn fits(name: &str) -> Result<(), Refusal> {
    if name.len() <= NAME_SIZE_MAX {
        return Ok(());
    }
    Err(Refusal::bad_request(format!("a name of {} bytes is over the limit of {NAME_SIZE_MAX}", name.len())))
}

/// The arguments of a declaration or a binding.
fn arguments(object: &Map<String, Json>) -> Result<TableBuf, Refusal> {
    match object.get("arguments") {
        None | Some(Json::Null) => Ok(TableBuf::new()),
        // PHP writes an empty object so.
        Some(Json::Array(list)) if list.is_empty() => Ok(TableBuf::new()),
        Some(Json::Object(arguments)) => table(arguments),
        Some(_) => Err(Refusal::bad_request("arguments_not_object")),
    }
}

/// JSON as a table, if its names fit.
pub(super) fn table(json: &Map<String, Json>) -> Result<TableBuf, Refusal> {
    fn check(json: &Json) -> Result<(), Refusal> {
        match json {
            Json::Null => Err(Refusal::bad_request("null_not_allowed")),
            Json::Bool(_) | Json::Number(_) | Json::String(_) => Ok(()),
            Json::Array(list) => list.iter().try_for_each(check),
            Json::Object(map) => {
                map.iter().try_for_each(|(name, value)| fits(name).and_then(|()| check(value)))
            }
        }
    }
    json.iter().try_for_each(|(name, value)| fits(name).and_then(|()| check(value)))?;
    Ok(table_of(json))
}

/// Whether it is a reply of the kind that is waited for.
pub(super) fn is_reply(send: &Out, wanted: &Answered) -> bool {
    matches!(send, Out::Reply { reply, .. } if reply == wanted)
}
