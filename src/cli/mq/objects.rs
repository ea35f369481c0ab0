//! What a broker has, as rows: the management API's objects under short names, the same in lists and in `info`.

use serde_json::{Map, Value, json};

use crate::cli::figures::per_second;
use crate::output::Column;

/// A row: keys are a promise.
pub type Row = Map<String, Value>;

/// What there is to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Queues
    #[default]
    #[value(alias = "queue")]
    Queues,
    /// Exchanges
    #[value(alias = "exchange")]
    Exchanges,
    /// Bindings of exchanges to queues and exchanges
    #[value(alias = "binding")]
    Bindings,
    /// Consumers
    #[value(alias = "consumer")]
    Consumers,
    /// Connections
    #[value(alias = "connection")]
    Connections,
    /// Channels
    #[value(alias = "channel")]
    Channels,
    /// Virtual hosts
    #[value(alias = "vhost")]
    Vhosts,
    /// Users
    #[value(alias = "user")]
    Users,
}

impl Kind {
    /// As the API calls them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::Bindings => "bindings",
            Self::Consumers => "consumers",
            Self::Connections => "connections",
            Self::Channels => "channels",
            Self::Vhosts => "vhosts",
            Self::Users => "users",
        }
    }

    /// True if they belong to a virtual host.
    pub fn has_vhost(self) -> bool {
        !matches!(self, Self::Vhosts | Self::Users)
    }

    /// True if the API lists those of one virtual host alone.
    pub fn is_listed_by_vhost(self) -> bool {
        matches!(self, Self::Queues | Self::Exchanges | Self::Bindings | Self::Consumers)
    }

    /// The columns that are shown unless others are asked for.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Queues => QUEUES,
            Self::Exchanges => EXCHANGES,
            Self::Bindings => BINDINGS,
            Self::Consumers => CONSUMERS,
            Self::Connections => CONNECTIONS,
            Self::Channels => CHANNELS,
            Self::Vhosts => VHOSTS,
            Self::Users => USERS,
        }
    }

    /// The row of an object of the API.
    pub fn row(self, object: &Value) -> Row {
        let row = match self {
            Self::Queues => queue(object),
            Self::Exchanges => exchange(object),
            Self::Bindings => binding(object),
            Self::Consumers => consumer(object),
            Self::Connections => connection(object),
            Self::Channels => channel(object),
            Self::Vhosts => vhost(object),
            Self::Users => user(object),
        };
        match row {
            Value::Object(row) => row,
            _ => unreachable!("every row is an object"),
        }
    }
}

fn rate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), per_second)
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// The default exchange has no name.
fn exchange_name(value: &Value) -> String {
    match value.as_str() {
        Some("") => "(default)".to_owned(),
        Some(name) => name.to_owned(),
        None => String::new(),
    }
}

/// How a person reads the columns that are not text.
const SHOWN: &[Column] = &[
    Column::right("ready").shown(number),
    Column::right("unacked").shown(number),
    Column::right("messages").shown(number),
    Column::right("bytes").shown(number),
    Column::right("memory").shown(number),
    Column::right("consumers").shown(number),
    Column::right("channels").shown(number),
    Column::right("prefetch").shown(number),
    Column::right("unconfirmed").shown(number),
    Column::right("in").shown(rate),
    Column::right("out").shown(rate),
    Column::left("source").shown(exchange_name),
];

/// The column of any key, for `--columns`.
pub fn column(key: &'static str) -> Column {
    SHOWN.iter().find(|column| column.key == key).copied().unwrap_or(Column::left(key))
}

const QUEUES: &[Column] = &[
    Column::left("name"),
    Column::right("ready").shown(number),
    Column::right("unacked").shown(number),
    Column::right("consumers").shown(number),
    Column::right("in").shown(rate),
    Column::right("out").shown(rate),
];

const EXCHANGES: &[Column] = &[
    Column::left("name").shown(exchange_name),
    Column::left("type"),
    Column::left("features"),
    Column::right("in").shown(rate),
    Column::right("out").shown(rate),
];

const BINDINGS: &[Column] = &[
    Column::left("source").shown(exchange_name),
    Column::left("key"),
    Column::left("destination"),
    Column::left("to"),
    Column::left("arguments"),
];

const CONSUMERS: &[Column] = &[
    Column::left("queue"),
    Column::left("tag"),
    Column::right("prefetch").shown(number),
    Column::left("ack"),
    Column::left("active"),
    Column::left("user"),
    Column::left("connection"),
];

const CONNECTIONS: &[Column] = &[
    Column::left("name"),
    Column::left("user"),
    Column::left("vhost"),
    Column::left("state"),
    Column::right("channels").shown(number),
    Column::left("client"),
    Column::left("peer"),
];

const CHANNELS: &[Column] = &[
    Column::left("name"),
    Column::left("user"),
    Column::right("consumers").shown(number),
    Column::right("unacked").shown(number),
    Column::right("unconfirmed").shown(number),
    Column::right("prefetch").shown(number),
    Column::right("in").shown(rate),
    Column::right("out").shown(rate),
];

const VHOSTS: &[Column] = &[
    Column::left("name"),
    Column::right("ready").shown(number),
    Column::right("unacked").shown(number),
    Column::left("tracing"),
    Column::left("description"),
];

const USERS: &[Column] = &[Column::left("name"), Column::left("tags"), Column::left("vhosts")];

/// Per second; none where nothing was counted yet.
fn per(object: &Value, counter: &str) -> Value {
    object["message_stats"][format!("{counter}_details")]["rate"].clone()
}

/// Flags and policy in a few words.
fn features(object: &Value) -> Value {
    let mut words: Vec<String> = ["durable", "auto_delete", "exclusive", "internal"]
        .into_iter()
        .filter(|flag| object[*flag] == true)
        .map(|flag| flag.replace('_', "-"))
        .collect();
    if let Some(policy) = object["policy"].as_str().filter(|policy| !policy.is_empty()) {
        words.push(format!("policy={policy}"));
    }
    if let Some(arguments) = object["arguments"].as_object() {
        words.extend(arguments.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        }));
    }
    words.into()
}

fn queue(object: &Value) -> Value {
    let stats = object.get("message_stats").is_some();
    // A queue that nothing was ever sent to has no statistics of messages.
    let per = |counter: &str| match per(object, counter) {
        Value::Null if stats || object["messages_ready"].is_number() => json!(0.0),
        rate => rate,
    };
    json!({
        "name": object["name"],
        "ready": object["messages_ready"],
        "unacked": object["messages_unacknowledged"],
        "consumers": object["consumers"],
        "in": per("publish"),
        "out": per("deliver_get"),
        "messages": object["messages"],
        "bytes": object["message_bytes"],
        "memory": object["memory"],
        "state": object["state"],
        "type": object.get("type").cloned().unwrap_or_else(|| "classic".into()),
        "features": features(object),
        "durable": object["durable"],
        "auto_delete": object["auto_delete"],
        "exclusive": object.get("exclusive").cloned().unwrap_or(false.into()),
        "policy": object["policy"],
        "arguments": object["arguments"],
        "node": object["node"],
        "vhost": object["vhost"],
    })
}

fn exchange(object: &Value) -> Value {
    json!({
        "name": object["name"],
        "type": object["type"],
        "features": features(object),
        "in": per(object, "publish_in"),
        "out": per(object, "publish_out"),
        "durable": object["durable"],
        "auto_delete": object["auto_delete"],
        "internal": object["internal"],
        "policy": object["policy"],
        "arguments": object["arguments"],
        "vhost": object["vhost"],
    })
}

fn binding(object: &Value) -> Value {
    json!({
        "source": object["source"],
        "key": object["routing_key"],
        "destination": object["destination"],
        "to": object["destination_type"],
        "arguments": object["arguments"],
        "vhost": object["vhost"],
    })
}

fn consumer(object: &Value) -> Value {
    json!({
        "queue": object["queue"]["name"],
        "tag": object["consumer_tag"],
        "prefetch": object["prefetch_count"],
        "ack": object["ack_required"],
        "active": object["active"],
        "exclusive": object["exclusive"],
        "user": object["channel_details"]["user"],
        "connection": object["channel_details"]["connection_name"],
        "channel": object["channel_details"]["number"],
        "arguments": object["arguments"],
        "vhost": object["queue"]["vhost"],
    })
}

fn connection(object: &Value) -> Value {
    let properties = &object["client_properties"];
    let client: Vec<&str> =
        ["product", "version"].iter().filter_map(|key| properties[*key].as_str()).collect();
    let host = object["peer_host"].as_str().unwrap_or_default();
    let peer = match &object["peer_port"] {
        Value::Number(port) if host.contains(':') => format!("[{host}]:{port}"),
        Value::Number(port) => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    let named = object.get("user_provided_name").or_else(|| properties.get("connection_name"));
    json!({
        "name": named.unwrap_or(&object["name"]),
        "user": object["user"],
        "vhost": object["vhost"],
        "state": object["state"],
        "channels": object["channels"],
        "client": client.join(" "),
        "peer": peer,
        "protocol": object["protocol"],
        "tls": object["ssl"],
        "in_bytes": object["recv_oct_details"]["rate"],
        "out_bytes": object["send_oct_details"]["rate"],
        "connected_at": object["connected_at"],
        "connection": object["name"],
    })
}

fn channel(object: &Value) -> Value {
    json!({
        "name": object["name"],
        "user": object["user"],
        "consumers": object["consumer_count"],
        "unacked": object["messages_unacknowledged"],
        "unconfirmed": object["messages_unconfirmed"],
        "prefetch": object["prefetch_count"],
        "in": per(object, "publish"),
        "out": per(object, "deliver_get"),
        "state": object["state"],
        "confirm": object["confirm"],
        "transactional": object["transactional"],
        "number": object["number"],
        "connection": object["connection_details"]["name"],
        "vhost": object["vhost"],
    })
}

fn vhost(object: &Value) -> Value {
    json!({
        "name": object["name"],
        "ready": object["messages_ready"],
        "unacked": object["messages_unacknowledged"],
        "tracing": object["tracing"],
        "description": object["description"],
        "tags": object["tags"],
    })
}

fn user(object: &Value) -> Value {
    // One text with commas before RabbitMQ 3.9.
    let tags = match &object["tags"] {
        Value::String(tags) => tags.split(',').filter(|tag| !tag.is_empty()).collect::<Vec<_>>().into(),
        tags => tags.clone(),
    };
    json!({ "name": object["name"], "tags": tags, "vhosts": [] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_key_of_its_row() {
        for kind in <Kind as clap::ValueEnum>::value_variants() {
            let row = kind.row(&json!({}));
            for column in kind.columns() {
                assert!(row.contains_key(column.key), "{kind:?} {}", column.key);
            }
        }
    }

    #[test]
    fn features_are_what_is_out_of_the_ordinary() {
        let queue = json!({"durable": true, "exclusive": true, "policy": "ttl",
            "arguments": {"x-max-length": 5, "x-overflow": "reject-publish"}});
        assert_eq!(
            Kind::Queues.row(&queue)["features"],
            json!(["durable", "exclusive", "policy=ttl", "x-max-length=5", "x-overflow=reject-publish"])
        );
    }

    #[test]
    fn a_connection_is_called_what_its_client_calls_it() {
        let object = json!({"name": "127.0.0.1:1 -> 127.0.0.1:2", "peer_host": "::1", "peer_port": 1,
            "client_properties": {"product": "pika", "version": "1.3", "connection_name": "worker"}});
        let row = Kind::Connections.row(&object);
        assert_eq!(
            (&row["name"], &row["peer"], &row["client"]),
            (&"worker".into(), &"[::1]:1".into(), &"pika 1.3".into())
        );
    }
}
