//! A service registration in Consul's JSON, as its clients really write it, into a [`Definition`].
//!
//! Go's decoder takes keys in any case and Consul also takes them with underscores, so clients write
//! `Name`, `name`, `DeregisterCriticalServiceAfter` and `deregister_critical_service_after` alike.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::engine::{CheckDefinition, Definition, Status};
use crate::units::parse_duration;

/// Checks of one service.
const CHECKS_MAX: usize = 16;
/// Names, ids, tags, keys.
const TEXT_SIZE_MAX: usize = 512;
const TAGS_MAX: usize = 64;

/// What Consul would run itself; only the server itself can say how it is, here.
const ACTIVE_CHECKS: [&str; 11] = [
    "http",
    "tcp",
    "udp",
    "grpc",
    "script",
    "args",
    "h2ping",
    "osservice",
    "aliasservice",
    "aliasnode",
    "dockercontainerid",
];

/// Reads the body of `PUT /v1/agent/service/register`.
///
/// # Errors
/// What is wrong with it, for the one who sent it.
pub fn parse(body: &[u8]) -> Result<Definition, String> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("Request decode failed: {error}"))?;
    let fields = Fields::new(&value, "a service")?;
    let name = fields.text("name")?;
    if name.is_empty() {
        return Err("Missing service name".to_owned());
    }
    let id = match fields.text("id")? {
        id if id.is_empty() => name.clone(),
        id => id,
    };
    let port = match fields.get("port") {
        None => 0,
        Some(port) => port
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| format!("Port {port} is not one: expected 0 to 65535"))?,
    };
    Ok(Definition {
        checks: checks(&fields)?,
        tags: tags(&fields)?,
        address: fields.text("address")?,
        meta: meta(&fields)?,
        weights: weights(&fields)?,
        id,
        name,
        port,
    })
}

/// A JSON object read by keys in any spelling. `null` is absent, as in Go.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn new(value: &'a Value, what: &str) -> Result<Self, String> {
        value
            .as_object()
            .map(Self)
            .ok_or_else(|| format!("Request decode failed: expected {what} as an object"))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let same = |key: &str| {
            key.bytes().filter(|byte| *byte != b'_').map(|b| b.to_ascii_lowercase()).eq(name.bytes())
        };
        self.0.iter().find(|(key, value)| same(key) && !value.is_null()).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.get(name).map_or(Ok(String::new()), |value| text(value, name))
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => {
                parse_duration(text).map(Some).map_err(|error| format!("{name}: {error}"))
            }
            // Go writes a bare duration as nanoseconds.
            Some(Value::Number(number)) => number
                .as_u64()
                .map(Duration::from_nanos)
                .map(Some)
                .ok_or_else(|| format!("{name}: {number} is no duration")),
            Some(other) => Err(format!("{name}: {other} is no duration")),
        }
    }
}

fn text(value: &Value, what: &str) -> Result<String, String> {
    match value {
        Value::String(text) if text.len() <= TEXT_SIZE_MAX => Ok(text.clone()),
        Value::String(text) => {
            Err(format!("{what}: {} bytes are over the limit of {TEXT_SIZE_MAX}", text.len()))
        }
        other => Err(format!("{what}: expected text, got {other}")),
    }
}

fn tags(fields: &Fields) -> Result<Vec<String>, String> {
    let Some(value) = fields.get("tags") else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or("tags: expected a list")?;
    if list.len() > TAGS_MAX {
        return Err(format!("{} tags are over the limit of {TAGS_MAX}", list.len()));
    }
    list.iter().map(|tag| text(tag, "tags")).collect()
}

fn meta(fields: &Fields) -> Result<BTreeMap<String, String>, String> {
    let Some(value) = fields.get("meta") else { return Ok(BTreeMap::new()) };
    let map = value.as_object().ok_or("meta: expected an object")?;
    if map.len() > TAGS_MAX {
        return Err(format!("{} pairs of meta are over the limit of {TAGS_MAX}", map.len()));
    }
    map.iter().map(|(key, value)| Ok((key.clone(), text(value, "meta")?))).collect()
}

fn weights(fields: &Fields) -> Result<(u32, u32), String> {
    let Some(value) = fields.get("weights") else { return Ok((1, 1)) };
    let weights = Fields::new(value, "weights")?;
    let weight = |name| match weights.get(name) {
        None => Ok(1),
        Some(value) => value
            .as_u64()
            .and_then(|weight| u32::try_from(weight).ok())
            .filter(|weight| *weight <= 65535)
            .ok_or_else(|| format!("weights: {value} is not 0 to 65535")),
    };
    Ok((weight("passing")?, weight("warning")?))
}

fn checks(fields: &Fields) -> Result<Vec<CheckDefinition>, String> {
    let one = fields.get("check").into_iter();
    let many = match fields.get("checks") {
        None => &[][..],
        Some(value) => value.as_array().ok_or("checks: expected a list")?,
    };
    if many.len() > CHECKS_MAX {
        return Err(format!("{} checks are over the limit of {CHECKS_MAX}", many.len()));
    }
    // Clients that have no check to give send an empty object.
    let given = |value: &&Value| value.as_object().is_none_or(|object| object.values().any(|v| !v.is_null()));
    one.chain(many).filter(given).map(check).collect()
}

fn check(value: &Value) -> Result<CheckDefinition, String> {
    let fields = Fields::new(value, "a check")?;
    let asked = |name: &&&str| match fields.get(name) {
        None => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    if let Some(kind) = ACTIVE_CHECKS.iter().find(asked) {
        return Err(format!(
            "this registry runs no checks of its own, so no {kind:?}: give a TTL and renew it at /v1/agent/check/pass/ID"
        ));
    }
    let ttl = fields.duration("ttl")?;
    if ttl.is_none_or(|ttl| ttl.is_zero()) {
        return Err("a check needs a TTL over 0, such as \"15s\"".to_owned());
    }
    let status = fields.text("status")?;
    let status = match status.as_str() {
        "" => Status::Critical,
        name => Status::from_name(name)
            .ok_or_else(|| format!("status: {name:?} is not passing, warning or critical"))?,
    };
    let id = match fields.text("checkid")? {
        id if id.is_empty() => fields.text("id")?,
        id => id,
    };
    Ok(CheckDefinition {
        id,
        name: fields.text("name")?,
        ttl,
        status,
        deregister_after: fields.duration("deregistercriticalserviceafter")?.filter(|after| !after.is_zero()),
        notes: fields.text("notes")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(json: &str) -> Definition {
        parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn why(json: &str) -> String {
        parse(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn keys_are_read_in_every_spelling_that_clients_use() {
        let go = service(
            r#"{"ID":"a1","Name":"a","Tags":["v1"],"Port":80,"Address":"h","Meta":{"Scheme":"grpc"},"Check":
               {"TTL":"15s","Status":"passing","DeregisterCriticalServiceAfter":"1m"},"Checks":null,"Connect":null}"#,
        );
        let python = service(
            r#"{"id":"a1","name":"a","tags":["v1"],"port":80,"address":"h","meta":{"Scheme":"grpc"},"check":
               {"ttl":"15s","status":"passing","deregister_critical_service_after":"60s"}}"#,
        );
        assert_eq!(go, python);
        assert_eq!(go.meta["Scheme"], "grpc", "the keys of meta are the user's");
        assert_eq!(go.checks[0].ttl, Some(Duration::from_secs(15)));
    }

    #[test]
    fn little_is_needed() {
        let least = service(r#"{"Name":"a"}"#);
        assert_eq!((least.id.as_str(), least.port, least.weights), ("a", 0, (1, 1)));
        assert_eq!(service(r#"{"name":"a","check":{}}"#).checks, []);
        assert_eq!(service(r#"{"name":"a","checks":[{"ttl":"1s"},{"ttl":2000000000}]}"#).checks.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert!(why("{").contains("decode failed"));
        assert!(why("[]").contains("object"));
        assert!(why(r#"{"Name":""}"#).contains("Missing service name"));
        assert!(why(r#"{"Name":"a","Port":70000}"#).contains("70000"));
        assert!(
            why(r#"{"Name":"a","Check":{"HTTP":"http://h","Interval":"1s"}}"#)
                .contains("no checks of its own")
        );
        assert!(why(r#"{"Name":"a","Check":{"Name":"x"}}"#).contains("TTL over 0"));
        assert!(why(r#"{"Name":"a","Check":{"TTL":"soon"}}"#).contains("duration"));
        assert!(why(r#"{"Name":"a","Check":{"TTL":"1s","Status":"well"}}"#).contains("passing, warning"));
        assert!(why(&format!(r#"{{"Name":"{}"}}"#, "x".repeat(600))).contains("over the limit"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn odd_values_never_panic(key in "(id|name|tags|port|meta|check|checks|weights)", value in "(null|1|-1|1e99|\"\"|\"x\"|\\[\\]|\\{\\}|\\[1\\]|\\{\"ttl\":-1\\})") {
            let _ = parse(format!(r#"{{"name":"a","{key}":{value}}}"#).as_bytes());
        }
    }
}
