//! What to bind a tap to: the exchanges that were named or all there are, each so that it gives everything.

use std::collections::BTreeSet;

use serde_json::Value;

use super::firehose;
use crate::cli::exit::{Exit, Failure};
use crate::cli::mq::api::Api;
use crate::mq::client::management::{Error, path};

/// An exchange to watch, and with what key; by itself, with everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub exchange: String,
    /// The binding key; `None` for everything.
    pub key: Option<String>,
}

/// Parses `EXCHANGE[:KEY]`. The first colon divides; `\:` is one of the name.
///
/// # Errors
/// No name, or one with a line's end in it.
pub fn parse(text: &str) -> Result<Wanted, String> {
    let mut exchange = String::new();
    let mut key = None;
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => exchange.extend(rest.next()),
            ':' => {
                key = Some(rest.as_str().to_owned());
                break;
            }
            letter => exchange.push(letter),
        }
    }
    if exchange.is_empty() {
        let why = "the default exchange cannot be bound to: --firehose shows what is published there";
        return Err(why.to_owned());
    }
    Ok(Wanted { exchange: crate::cli::mq::queue::parse_exchange(&exchange)?, key })
}

/// One binding of the tap's queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// From where.
    pub exchange: String,
    /// The key.
    pub key: String,
    /// Matches every message of a headers exchange.
    pub headers: bool,
}

/// The bindings of a tap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// All of them.
    pub binds: BTreeSet<Bind>,
    /// What cannot be watched, in sentences.
    pub notes: Vec<String>,
}

/// A type of exchange, as far as a tap knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Topic,
    Fanout,
    Headers,
    Direct,
    /// Every binding takes from the others.
    Dividing,
}

fn kind(object: &Value) -> Kind {
    let name = match object["type"].as_str().unwrap_or_default() {
        // It routes as the type that it is given.
        "x-delayed-message" => object["arguments"]["x-delayed-type"].as_str().unwrap_or("direct"),
        name => name,
    };
    match name {
        "topic" | "x-rtopic" => Kind::Topic,
        "fanout" | "x-recent-history" => Kind::Fanout,
        "headers" => Kind::Headers,
        "x-consistent-hash" | "x-modulus-hash" | "x-random" | "x-local-random" => Kind::Dividing,
        _ => Kind::Direct,
    }
}

/// The broker's own types of the exchanges that every virtual host has.
fn predeclared(name: &str) -> &'static str {
    match name {
        "amq.direct" => "direct",
        "amq.fanout" => "fanout",
        "amq.headers" | "amq.match" => "headers",
        _ => "topic",
    }
}

/// What to bind now. Asked again, it finds exchanges and bindings that are new.
///
/// # Errors
/// The API's, unless the exchanges are named and AMQP will do.
pub async fn plan(api: &Api, wanted: &[Wanted]) -> Result<Plan, Error> {
    let exchanges = match api.objects("exchanges").await {
        Ok(exchanges) => exchanges,
        Err(error) if error.is_absent() && !wanted.is_empty() => return Ok(blind(wanted)),
        Err(error) => return Err(error),
    };
    let mut plan = Plan::default();
    for object in &exchanges {
        let name = object["name"].as_str().unwrap_or_default();
        let chosen: Vec<&Wanted> = wanted.iter().filter(|wanted| wanted.exchange == name).collect();
        if name.is_empty() || (wanted.is_empty() && (is_brokers_own(name))) {
            continue;
        }
        if wanted.is_empty() {
            everything(api, object, &mut plan).await?;
        }
        for wanted in chosen {
            match &wanted.key {
                Some(key) => drop(plan.binds.insert(bind(name, key, kind(object) == Kind::Headers))),
                None => everything(api, object, &mut plan).await?,
            }
        }
    }
    // One that does not exist is for the broker to refuse.
    let known = |wanted: &&Wanted| exchanges.iter().any(|object| object["name"] == *wanted.exchange);
    for wanted in wanted.iter().filter(|wanted| !known(wanted)) {
        plan.binds.insert(bind(&wanted.exchange, wanted.key.as_deref().unwrap_or("#"), false));
    }
    Ok(plan)
}

/// Those carry what the broker says of itself.
fn is_brokers_own(name: &str) -> bool {
    name.starts_with("amq.rabbitmq.")
}

fn bind(exchange: &str, key: &str, headers: bool) -> Bind {
    Bind { exchange: exchange.to_owned(), key: key.to_owned(), headers }
}

async fn everything(api: &Api, object: &Value, plan: &mut Plan) -> Result<(), Error> {
    let name = object["name"].as_str().unwrap_or_default();
    match kind(object) {
        Kind::Topic => drop(plan.binds.insert(bind(name, "#", false))),
        Kind::Fanout => drop(plan.binds.insert(bind(name, "", false))),
        Kind::Headers => drop(plan.binds.insert(bind(name, "", true))),
        Kind::Dividing => plan.notes.push(format!(
            "'{name}' divides its messages among its bindings: a tap would take some, so it is left alone"
        )),
        Kind::Direct => {
            let bindings = match api
                .management
                .list(&path(&["exchanges", api.one_vhost(), name, "bindings", "source"]))
                .await
            {
                // Deleted between the two questions.
                Err(Error::NotFound(_)) => return Ok(()),
                bindings => bindings?,
            };
            for binding in bindings {
                let key = binding["routing_key"].as_str().unwrap_or_default();
                plan.binds.insert(bind(name, key, false));
            }
        }
    }
    Ok(())
}

/// Without the API types are not known, except those of the broker's own exchanges.
fn blind(wanted: &[Wanted]) -> Plan {
    let mut plan = Plan::default();
    for Wanted { exchange, key } in wanted {
        let kind = predeclared(exchange);
        let guess = match kind {
            "topic" => "#",
            _ => "",
        };
        if kind == "direct" && key.is_none() {
            plan.notes.push(format!(
                "'{exchange}' is direct: without a management API, name its keys: {exchange}:KEY"
            ));
            continue;
        }
        if key.is_none() && !exchange.starts_with("amq.") {
            plan.notes.push(format!(
                "the type of '{exchange}' is not known without a management API: bound with '#', which is everything of a topic or fanout exchange"
            ));
        }
        plan.binds.insert(bind(exchange, key.as_deref().unwrap_or(guess), kind == "headers"));
    }
    plan
}

/// The bindings of the firehose: of publishes, or of deliveries too.
pub fn firehose(deliveries: bool) -> Plan {
    let keys: &[&str] = if deliveries { &["publish.#", "deliver.#"] } else { &["publish.#"] };
    Plan { binds: keys.iter().map(|key| bind(firehose::EXCHANGE, key, false)).collect(), notes: Vec::new() }
}

/// Nothing to bind is a reason to stop.
pub fn check(plan: &Plan, api: &Api) -> Result<(), Failure> {
    if plan.binds.is_empty() {
        let why = plan.notes.first().cloned().unwrap_or_else(|| "no exchange has anything to tap".to_owned());
        return Err(Failure::new(Exit::NotFound, format!("{}: {why}", api.url)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_exchange_may_have_a_key() {
        let wanted = |exchange: &str, key: Option<&str>| Wanted {
            exchange: exchange.into(),
            key: key.map(Into::into),
        };
        for (text, expected) in [
            ("orders", wanted("orders", None)),
            ("orders:", wanted("orders", Some(""))),
            ("orders:a.#", wanted("orders", Some("a.#"))),
            ("orders:a:b", wanted("orders", Some("a:b"))),
            (r"a\:b", wanted("a:b", None)),
            (r"a\:b:c", wanted("a:b", Some("c"))),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert!(parse(":key").is_err());
    }

    #[test]
    fn types_are_told_apart() {
        assert_eq!(kind(&json!({"type": "topic"})), Kind::Topic);
        assert_eq!(
            kind(&json!({"type": "x-delayed-message", "arguments": {"x-delayed-type": "fanout"}})),
            Kind::Fanout
        );
        assert_eq!(kind(&json!({"type": "x-consistent-hash"})), Kind::Dividing);
        assert_eq!(kind(&json!({"type": "direct"})), Kind::Direct);
    }

    #[test]
    fn without_an_api_only_the_brokers_own_types_are_known() {
        let plan = blind(&[
            parse("amq.fanout").unwrap(),
            parse("amq.match").unwrap(),
            parse("amq.direct").unwrap(),
            parse("own").unwrap(),
        ]);
        let binds: Vec<_> = plan.binds.into_iter().collect();
        assert_eq!(
            binds,
            [bind("amq.fanout", "", false), bind("amq.match", "", true), bind("own", "#", false)]
        );
        assert_eq!(plan.notes.len(), 2);
    }
}
