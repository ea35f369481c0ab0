//! RabbitMQ's definitions as JSON: what a broker should have, object by object, and what of it is not there yet.

use serde_json::{Map, Value, json};

use crate::mq::client::management::path;

/// The lists of a definitions file, in the order in which they need each other.
pub const KINDS: &[Kind] = &[
    Kind { list: "vhosts", name: "virtual host", keys: &["name"], by_amqp: false },
    Kind { list: "users", name: "user", keys: &["name"], by_amqp: false },
    Kind { list: "permissions", name: "permission", keys: &["vhost", "user"], by_amqp: false },
    Kind {
        list: "topic_permissions",
        name: "topic permission",
        keys: &["vhost", "user", "exchange"],
        by_amqp: false,
    },
    Kind { list: "parameters", name: "parameter", keys: &["vhost", "component", "name"], by_amqp: false },
    Kind { list: "global_parameters", name: "global parameter", keys: &["name"], by_amqp: false },
    Kind { list: "policies", name: "policy", keys: &["vhost", "name"], by_amqp: false },
    Kind { list: "exchanges", name: "exchange", keys: &["vhost", "name"], by_amqp: true },
    Kind { list: "queues", name: "queue", keys: &["vhost", "name"], by_amqp: true },
    Kind {
        list: "bindings",
        name: "binding",
        keys: &["vhost", "source", "destination_type", "destination", "routing_key", "arguments"],
        by_amqp: true,
    },
];

/// One of the lists.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its key in the file.
    pub list: &'static str,
    /// What one of them is called.
    pub name: &'static str,
    /// What tells one from another.
    keys: &'static [&'static str],
    /// True if AMQP can declare it.
    pub by_amqp: bool,
}

/// Figures that a broker chooses for itself.
const NOT_COMPARED: &[&str] = &["password_hash", "hashing_algorithm", "limits"];

/// A parameter that every RabbitMQ makes for itself.
const CLUSTER_ID: &str = "internal_cluster_id";

/// Keys beside the lists that RabbitMQ writes.
const TALK: &[&str] = &[
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_vhost_name",
    "original_cluster_name",
    "explanation",
    "default_queue_type",
    "description",
    "metadata",
];

/// One object that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which list it stands in.
    pub kind: &'static Kind,
    /// As it stands there, with its virtual host.
    pub value: Map<String, Value>,
}

/// What it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is not there.
    Create,
    /// It is there in another form, and can be changed.
    Change,
    /// It is there in another form, which only deleting it can change.
    Conflict,
    /// It is there as it should be.
    Nothing,
}

/// A definitions file, parsed: every object in the order of [`KINDS`].
///
/// # Errors
/// Text that is no definitions file, in a sentence.
pub fn parse(text: &[u8], vhost: &str) -> Result<Vec<Object>, String> {
    let file: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Value::Object(file) = file else { return Err("it is no JSON object".to_owned()) };
    let known = |key: &str| TALK.contains(&key) || KINDS.iter().any(|kind| kind.list == key);
    if let Some(key) = file.keys().find(|key| !known(key)) {
        let lists = KINDS.iter().map(|kind| kind.list);
        return Err(match crate::spelling::near_miss(key, lists) {
            Some(near) => format!("it has a list '{key}': did you mean '{near}'?"),
            None => format!("it has a list '{key}', which definitions do not have"),
        });
    }
    if !KINDS.iter().any(|kind| file.contains_key(kind.list)) {
        return Err("it has none of the lists of definitions: queues, exchanges, bindings, …".to_owned());
    }
    let mut objects = Vec::new();
    for kind in KINDS {
        let items = match file.get(kind.list) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) => items,
            Some(_) => return Err(format!("'{}' is no list", kind.list)),
        };
        for (at, item) in items.iter().enumerate() {
            objects.push(object(kind, item, vhost).map_err(|why| format!("{}[{at}]: {why}", kind.list))?);
        }
    }
    Ok(objects)
}

fn object(kind: &'static Kind, item: &Value, vhost: &str) -> Result<Object, String> {
    let Value::Object(item) = item else { return Err("it is no JSON object".to_owned()) };
    let mut value = item.clone();
    for key in kind.keys {
        match (*key, value.get(*key)) {
            ("arguments", Some(Value::Object(_))) => {}
            ("arguments", None | Some(Value::Null)) => drop(value.insert("arguments".to_owned(), json!({}))),
            ("arguments", Some(_)) => return Err("'arguments' is no JSON object".to_owned()),
            (_, Some(Value::String(_))) => {}
            // Files of one virtual host leave it out.
            ("vhost", None) => drop(value.insert("vhost".to_owned(), vhost.into())),
            ("routing_key" | "exchange", None) => drop(value.insert((*key).to_owned(), "".into())),
            (key, None) => return Err(format!("it has no '{key}'")),
            (key, Some(_)) => return Err(format!("'{key}' is no text")),
        }
    }
    for key in ["durable", "auto_delete", "internal"] {
        if value.get(key).is_some_and(|flag| !flag.is_boolean()) {
            return Err(format!("'{key}' is neither true nor false"));
        }
    }
    if kind.list == "exchanges" && !value.get("type").is_some_and(Value::is_string) {
        return Err("it has no 'type'".to_owned());
    }
    if matches!(kind.list, "exchanges" | "queues") {
        for (key, default) in
            [("durable", json!(true)), ("auto_delete", json!(false)), ("arguments", json!({}))]
        {
            value.entry(key).or_insert(default);
        }
    }
    Ok(Object { kind, value })
}

impl Object {
    /// A text of it; empty if it has none.
    pub fn text(&self, key: &str) -> &str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A flag of it.
    pub fn flag(&self, key: &str) -> bool {
        self.value.get(key) == Some(&Value::Bool(true))
    }

    /// Its arguments.
    pub fn arguments(&self) -> Map<String, Value> {
        self.value.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// How a person calls it: `orders -> jobs (orders.#)`.
    pub fn title(&self) -> String {
        match self.kind.list {
            "bindings" => {
                let to = if self.text("destination_type") == "exchange" { "exchange " } else { "" };
                let key = match self.text("routing_key") {
                    "" => String::new(),
                    key => format!(" ({key})"),
                };
                format!("{} -> {to}{}{key}", self.text("source"), self.text("destination"))
            }
            "permissions" => self.text("user").to_owned(),
            "topic_permissions" => format!("{} {}", self.text("user"), self.text("exchange")),
            "parameters" => format!("{} {}", self.text("component"), self.text("name")),
            _ => self.text("name").to_owned(),
        }
    }

    /// True if it is one that every broker has, or makes for itself.
    pub fn is_given(&self) -> bool {
        match self.kind.list {
            "exchanges" => self.text("name").is_empty() || self.text("name").starts_with("amq."),
            "queues" => self.text("name").starts_with("amq."),
            "bindings" => self.text("source").is_empty(),
            "global_parameters" => self.text("name") == CLUSTER_ID || self.text("name") == "cluster_name",
            _ => false,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.kind.keys.iter().all(|key| self.value.get(*key) == other.value.get(*key))
    }

    /// What it needs where `there` is what the broker has; with the first difference.
    pub fn need(&self, there: &[Self]) -> (Need, String) {
        let Some(other) = there.iter().find(|other| self.is_same(other)) else {
            return (Need::Create, String::new());
        };
        let differs = |key: &str| -> Option<String> {
            let (ours, theirs) = (self.value.get(key)?, other.value.get(key).unwrap_or(&Value::Null));
            let same = ours == theirs || (key == "tags" && tags(ours) == tags(theirs));
            (!same).then(|| format!("{key}: {theirs} -> {ours}"))
        };
        let mut keys = self.value.keys().filter(|key| !NOT_COMPARED.contains(&key.as_str()));
        let difference = match keys.find_map(|key| differs(key)) {
            Some(difference) => difference,
            None if self
                .value
                .get("password_hash")
                .is_some_and(|hash| Some(hash) != other.value.get("password_hash")) =>
            {
                "another password".to_owned()
            }
            None => return (Need::Nothing, String::new()),
        };
        match self.kind.list {
            "queues" | "exchanges" => (Need::Conflict, difference),
            _ => (Need::Change, difference),
        }
    }

    /// Where the management API takes it, and what: a path for PUT, or for POST if the second is true.
    pub fn request(&self) -> (String, bool, Value) {
        let text = |key: &str| self.text(key);
        let (segments, post): (Vec<&str>, bool) = match self.kind.list {
            "bindings" => {
                let to = if text("destination_type") == "exchange" { "e" } else { "q" };
                (vec!["bindings", text("vhost"), "e", text("source"), to, text("destination")], true)
            }
            "permissions" => (vec!["permissions", text("vhost"), text("user")], false),
            "topic_permissions" => (vec!["topic-permissions", text("vhost"), text("user")], false),
            "parameters" => (vec!["parameters", text("component"), text("vhost"), text("name")], false),
            "global_parameters" => (vec!["global-parameters", text("name")], false),
            "vhosts" | "users" => (vec![self.kind.list, text("name")], false),
            _ => (vec![self.kind.list, text("vhost"), text("name")], false),
        };
        let mut body = self.value.clone();
        if self.kind.list == "users" {
            body.insert("tags".to_owned(), body.get("tags").map_or(Vec::new(), tags).join(",").into());
        }
        (path(&segments), post, Value::Object(body))
    }
}

/// A list since RabbitMQ 3.9, before that one text with commas.
fn tags(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(tags) => tags.iter().filter_map(Value::as_str).collect(),
        Value::String(tags) => tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &Value) -> Vec<Object> {
        parse(value.to_string().as_bytes(), "/").unwrap()
    }

    #[test]
    fn objects_come_in_the_order_in_which_they_need_each_other() {
        let objects = parsed(&json!({
            "rabbit_version": "3.10.8",
            "bindings": [{"source": "x", "destination": "q", "destination_type": "queue"}],
            "queues": [{"name": "q", "durable": true}],
            "exchanges": [{"name": "x", "type": "topic"}],
            "vhosts": [{"name": "/"}],
        }));
        let names: Vec<_> = objects.iter().map(|object| (object.kind.list, object.title())).collect();
        let expected = [("vhosts", "/"), ("exchanges", "x"), ("queues", "q"), ("bindings", "x -> q")]
            .map(|(a, b)| (a, b.to_owned()));
        assert_eq!(names, expected);
        assert_eq!(objects[2].text("vhost"), "/");
    }

    #[test]
    fn a_user_may_have_no_tags() {
        let objects = parsed(&json!({"users": [{"name": "u", "password": "s"}]}));
        let (path, post, body) = objects[0].request();
        assert_eq!((path.as_str(), post, &body["tags"]), ("/users/u", false, &json!("")));
    }

    #[test]
    fn what_is_no_definitions_is_a_sentence() {
        for (text, why) in [
            ("[]", "it is no JSON object"),
            ("{}", "it has none of the lists"),
            (r#"{"queus": []}"#, "did you mean 'queues'?"),
            (r#"{"queues": {}}"#, "'queues' is no list"),
            (r#"{"queues": [{}]}"#, "queues[0]: it has no 'name'"),
            (r#"{"queues": [{"name": 5}]}"#, "queues[0]: 'name' is no text"),
            (r#"{"queues": [{"name": "q", "durable": "yes"}]}"#, "'durable' is neither true nor false"),
            (r#"{"exchanges": [{"name": "x"}]}"#, "exchanges[0]: it has no 'type'"),
            ("{", "EOF while parsing"),
        ] {
            let error = parse(text.as_bytes(), "/").unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_there_needs_nothing_and_what_differs_is_named() {
        let there = parsed(&json!({
            "queues": [{"name": "q", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}}],
            "policies": [{"name": "p", "vhost": "/", "pattern": "^a", "definition": {"max-length": 1}, "priority": 0}],
            "users": [{"name": "u", "password_hash": "a", "tags": ["monitoring"]}],
        }));
        let need = |value: Value| {
            let object = parsed(&value).pop().unwrap();
            object.need(&there)
        };
        assert_eq!(need(json!({"queues": [{"name": "q"}]})), (Need::Nothing, String::new()));
        assert_eq!(
            need(json!({"queues": [{"name": "q", "durable": false}]})),
            (Need::Conflict, "durable: true -> false".to_owned())
        );
        assert_eq!(need(json!({"queues": [{"name": "r"}]})).0, Need::Create);
        assert_eq!(need(json!({"queues": [{"name": "q", "vhost": "v"}]})).0, Need::Create);
        assert_eq!(
            need(json!({"policies": [{"name": "p", "pattern": "^b"}]})),
            (Need::Change, "pattern: \"^a\" -> \"^b\"".to_owned())
        );
        assert_eq!(
            need(json!({"users": [{"name": "u", "password_hash": "a", "tags": "monitoring"}]})).0,
            Need::Nothing
        );
        assert_eq!(
            need(json!({"users": [{"name": "u", "password_hash": "b", "tags": []}]})).1,
            "tags: [\"monitoring\"] -> []"
        );
    }

    #[test]
    fn every_object_has_its_place_in_the_api() {
        let objects = parsed(&json!({
            "permissions": [{"vhost": "/", "user": "u", "configure": "", "write": "", "read": ""}],
            "bindings": [{"vhost": "a/b", "source": "x", "destination": "y", "destination_type": "exchange", "routing_key": "k"}],
        }));
        assert_eq!(objects[0].request().0, "/permissions/%2F/u");
        let (place, post, body) = objects[1].request();
        assert_eq!((place.as_str(), post), ("/bindings/a%2Fb/e/x/e/y", true));
        assert_eq!(body["routing_key"], "k");
    }
}
