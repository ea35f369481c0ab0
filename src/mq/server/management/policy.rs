//! Policies from JSON: which settings there are and what each may be, with RabbitMQ's words for those that are wrong.

use serde_json::{Map, Value as Json};

use crate::mq::engine::{PolicyDefinition, regex};

/// What a setting may be, and what RabbitMQ calls it when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A whole number from 0 on.
    Number(&'static str),
    /// The same from 1 on.
    Positive(&'static str),
    Text(&'static str),
    OneOf(&'static [&'static str], &'static str),
    /// 1 or 2.
    Version(&'static str),
    /// Of something that is not here: taken, and of no effect.
    Any,
}

const LEADER_LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders"];

/// The settings of RabbitMQ 3.10 and of later ones, and whether operator policies may have them.
const SETTINGS: &[(&str, Shape, bool)] = &[
    ("alternate-exchange", Shape::Text("alternate exchange name"), false),
    ("dead-letter-exchange", Shape::Text("dead letter exchange name"), false),
    ("dead-letter-routing-key", Shape::Text("dead letter routing key"), false),
    ("dead-letter-strategy", Shape::OneOf(&["at-most-once", "at-least-once"], "dead letter strategy"), false),
    ("message-ttl", Shape::Number("message TTL"), true),
    ("expires", Shape::Positive("queue expiry"), true),
    ("max-length", Shape::Number("maximum length"), true),
    ("max-length-bytes", Shape::Number("maximum length in bytes"), true),
    ("max-in-memory-length", Shape::Number("maximum memory in bytes"), true),
    ("max-in-memory-bytes", Shape::Number("maximum memory in bytes"), true),
    ("delivery-limit", Shape::Number("delivery limit"), true),
    ("consumer-timeout", Shape::Number("consumer timeout"), true),
    (
        "overflow",
        Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"], "overflow value"),
        false,
    ),
    ("queue-mode", Shape::OneOf(&["default", "lazy"], "queue-mode value"), false),
    ("queue-version", Shape::Version("queue-version value"), false),
    ("queue-master-locator", Shape::Any, false),
    ("queue-leader-locator", Shape::OneOf(LEADER_LOCATORS, "queue leader locator value"), false),
    ("initial-cluster-size", Shape::Any, false),
    ("target-group-size", Shape::Any, true),
    ("max-age", Shape::Any, false),
    ("stream-max-segment-size-bytes", Shape::Any, false),
    ("stream-filter-size-bytes", Shape::Any, false),
    ("ha-mode", Shape::Any, false),
    ("ha-params", Shape::Any, false),
    ("ha-sync-mode", Shape::Any, false),
    ("ha-sync-batch-size", Shape::Any, false),
    ("ha-promote-on-shutdown", Shape::Any, false),
    ("ha-promote-on-failure", Shape::Any, false),
    ("federation-upstream", Shape::Any, false),
    ("federation-upstream-set", Shape::Any, false),
    ("federation-upstream-pattern", Shape::Any, false),
];

/// A policy, or why there is none.
pub(super) fn read(
    name: &str,
    pattern: &Json,
    definition: &Json,
    object: &Map<String, Json>,
    is_operator: bool,
) -> Result<PolicyDefinition, String> {
    let pattern = pattern
        .as_str()
        .ok_or_else(|| format!("pattern should be a string, actually was {}", term(pattern)))?;
    regex(pattern)
        .map_err(|wrong| format!("pattern should be regular expression but is invalid: {}", wrong.reason))?;
    let apply_to = match object.get("apply-to") {
        None | Some(Json::Null) => "all".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let known = ["queues", "exchanges", "all", "classic_queues", "quorum_queues", "streams"];
    if !known.contains(&&*apply_to) {
        return Err(format!("apply-to '{apply_to}' unrecognised; should be 'queues', 'exchanges' or 'all'"));
    }
    let priority = match object.get("priority") {
        None | Some(Json::Null) => 0,
        Some(value) => value
            .as_i64()
            .ok_or_else(|| format!("priority should be a number, actually was {}", term(value)))?,
    };
    let definition = definition.as_object().filter(|settings| !settings.is_empty());
    let definition = definition.ok_or_else(|| "no policy provided".to_owned())?;
    check_settings(definition, is_operator)?;
    Ok(PolicyDefinition {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        apply_to,
        priority,
        definition: definition.clone(),
    })
}

/// Why settings cannot be.
pub(in crate::mq::server) fn check_settings(
    definition: &Map<String, Json>,
    is_operator: bool,
) -> Result<(), String> {
    let setting = |name: &str| SETTINGS.iter().find(|(known, ..)| *known == name);
    let unknown: Vec<String> = definition
        .iter()
        .filter(|(name, _)| !setting(name).is_some_and(|(_, _, operators)| *operators || !is_operator))
        .map(|(name, value)| format!("{{{},{}}}", term(&name.as_str().into()), term(value)))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (name, value) in definition {
        if let Some((_, shape, _)) = setting(name) {
            check(*shape, value)?;
        }
    }
    Ok(())
}

fn check(shape: Shape, value: &Json) -> Result<(), String> {
    let (fits, what) = match shape {
        Shape::Number(what) => (value.as_u64().is_some(), what),
        Shape::Positive(what) => (value.as_u64().is_some_and(|number| number > 0), what),
        Shape::Text(what) => (value.is_string(), what),
        Shape::OneOf(words, what) => (value.as_str().is_some_and(|word| words.contains(&word)), what),
        Shape::Version(what) => (matches!(value.as_u64(), Some(1 | 2)), what),
        Shape::Any => return Ok(()),
    };
    if fits { Ok(()) } else { Err(format!("{} is not a valid {what}", term(value))) }
}

/// A value as RabbitMQ's texts have it: an Erlang term, written for a page.
fn term(value: &Json) -> String {
    match value {
        Json::String(text) => format!("&lt;&lt;{}&gt;&gt;", Json::from(text.as_str())),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn why(definition: Json, rest: Json, is_operator: bool) -> String {
        let rest = rest.as_object().unwrap().clone();
        read("p", &json!("^q"), &definition, &rest, is_operator).map_or_else(|why| why, |_| String::new())
    }

    #[test]
    fn what_is_wrong_is_said_in_rabbitmqs_words() {
        for (definition, expected) in [
            (json!({}), "no policy provided"),
            (json!({"nope": 1}), "[{&lt;&lt;\"nope\"&gt;&gt;,1}] are not recognised policy settings"),
            (json!({"max-length": "a"}), "&lt;&lt;\"a\"&gt;&gt; is not a valid maximum length"),
            (json!({"max-length": -1}), "-1 is not a valid maximum length"),
            (json!({"overflow": "zz"}), "&lt;&lt;\"zz\"&gt;&gt; is not a valid overflow value"),
            (json!({"queue-version": 3}), "3 is not a valid queue-version value"),
            (
                json!({"queue-leader-locator": "x"}),
                "&lt;&lt;\"x\"&gt;&gt; is not a valid queue leader locator value",
            ),
            (json!({"max-length": 1, "ha-mode": "all", "queue-version": 2}), ""),
        ] {
            assert_eq!(why(definition, json!({}), false), expected);
        }
        let fine = || json!({"max-length": 1});
        let apply = "apply-to 'zz' unrecognised; should be 'queues', 'exchanges' or 'all'";
        assert_eq!(why(fine(), json!({"apply-to": "zz"}), false), apply);
        assert!(why(fine(), json!({"priority": "a"}), false).starts_with("priority should be a number"));
        assert!(why(json!({"dead-letter-exchange": "x"}), json!({}), true).contains("not recognised"));
        assert_eq!(why(fine(), json!({}), true), "");
    }
}
