//! Policies from JSON: which settings there are and what each may be, with RabbitMQ's words for those that are wrong.

use serde_json::{Map, Number, Value as Json};

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
    /// Where queues begin: as [`Self::OneOf`], in other words.
    Master,
    /// Bytes of a file of a stream.
    Segment,
    /// A number and a unit of time.
    Age,
    /// Of mirrors, which [`check_mirrors`] looks at: taken, and of no effect.
    Mirrors,
    /// Of something that is not here: taken, and of no effect.
    Any,
}

/// RabbitMQ's bound for the files of streams.
const SEGMENT_BYTES_MAX: u64 = 3_000_000_000;

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
    ("queue-master-locator", Shape::Master, false),
    ("queue-leader-locator", Shape::OneOf(LEADER_LOCATORS, "queue leader locator value"), false),
    ("initial-cluster-size", Shape::Number("cluster size"), false),
    ("target-group-size", Shape::Any, true),
    ("max-age", Shape::Age, false),
    ("stream-max-segment-size-bytes", Shape::Segment, false),
    ("stream-filter-size-bytes", Shape::Any, false),
    ("ha-mode", Shape::Mirrors, false),
    ("ha-params", Shape::Mirrors, false),
    ("ha-sync-mode", Shape::Mirrors, false),
    ("ha-sync-batch-size", Shape::Mirrors, false),
    ("ha-promote-on-shutdown", Shape::Mirrors, false),
    ("ha-promote-on-failure", Shape::Mirrors, false),
];

/// A policy, or why there is none.
pub(super) fn read(
    name: &str,
    pattern: &Json,
    definition: &Json,
    object: &Map<String, Json>,
    is_operator: bool,
) -> Result<PolicyDefinition, String> {
    let shown = |value: &Json| shown(value, is_operator);
    let pattern =
        pattern.as_str().ok_or_else(|| format!("pattern should be a binary but was {}", shown(pattern)))?;
    regex(pattern)
        .map_err(|wrong| format!("pattern should be regular expression but is invalid: {}", wrong.reason))?;
    let apply_to = match object.get("apply-to") {
        None => "all".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let known = ["queues", "exchanges", "all", "classic_queues", "quorum_queues"];
    if !known.contains(&&*apply_to) {
        return Err(format!("apply-to '{apply_to}' unrecognised; should be 'queues', 'exchanges' or 'all'"));
    }
    let priority = match object.get("priority") {
        None => Number::from(0),
        Some(Json::Number(number)) => number.clone(),
        Some(other) => return Err(format!("priority should be a number, actually was {}", shown(other))),
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
    let shown = |value: &Json| shown(value, is_operator);
    // By name, so that the same one of several mistakes is told as by RabbitMQ.
    let mut sorted: Vec<(&String, &Json)> = definition.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let unknown: Vec<String> = sorted
        .iter()
        .filter(|(name, _)| !setting(name).is_some_and(|(_, _, operators)| *operators || !is_operator))
        .map(|(name, value)| format!("{{{},{}}}", shown(&name.as_str().into()), shown(value)))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (name, value) in sorted {
        if let Some((_, shape, _)) = setting(name) {
            check(*shape, value, &shown)?;
        }
    }
    check_mirrors(definition, &shown)
}

fn check(shape: Shape, value: &Json, shown: &dyn Fn(&Json) -> String) -> Result<(), String> {
    let (fits, what) = match shape {
        Shape::Number(what) => (value.as_u64().is_some(), what),
        Shape::Positive(what) => (value.as_u64().is_some_and(|number| number > 0), what),
        Shape::Text(what) => (value.is_string(), what),
        Shape::OneOf(words, what) => (value.as_str().is_some_and(|word| words.contains(&word)), what),
        Shape::Version(what) => (matches!(value.as_u64(), Some(1 | 2)), what),
        Shape::Segment => (value.as_u64().is_some_and(|size| size <= SEGMENT_BYTES_MAX), "segment size"),
        Shape::Age => (value.as_str().is_some_and(is_age), "max age"),
        Shape::Master => {
            let known = ["client-local", "min-masters", "random"];
            if value.as_str().is_some_and(|word| known.contains(&word)) {
                return Ok(());
            }
            return Err(format!("{} invalid queue-master-locator value", shown(value)));
        }
        Shape::Mirrors | Shape::Any => return Ok(()),
    };
    if fits { Ok(()) } else { Err(format!("{} is not a valid {what}", shown(value))) }
}

/// `7D`: a number and years, months, days, hours, minutes or seconds.
fn is_age(text: &str) -> bool {
    let Some(number) = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']) else { return false };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// What RabbitMQ says of mirrors that cannot be; those that can are none here, for there is one node.
fn check_mirrors(definition: &Map<String, Json>, shown: &dyn Fn(&Json) -> String) -> Result<(), String> {
    let Some(mode) = definition.get("ha-mode") else {
        if definition.keys().any(|name| name.starts_with("ha-")) {
            let needed = "ha-params, ha-sync-mode or ha-promote-on-shutdown";
            return Err(format!("ha-mode must be specified to specify {needed}"));
        }
        return Ok(());
    };
    let params = definition.get("ha-params");
    let given = || params.map_or_else(|| "none".to_owned(), shown);
    match mode.as_str() {
        Some("all") if params.is_some() => return Err("ha-mode=\"all\" does not take parameters".to_owned()),
        Some("all") => {}
        Some("exactly") => {
            if params.and_then(Json::as_u64).is_none_or(|count| count == 0) {
                return Err(format!("ha-mode=\"exactly\" takes an integer, {} given", given()));
            }
        }
        Some("nodes") => {
            let Some(nodes) = params.and_then(Json::as_array) else {
                return Err(format!("ha-mode=\"nodes\" takes a list, {} given", given()));
            };
            if nodes.is_empty() {
                return Err("ha-mode=\"nodes\" list must be non-empty".to_owned());
            }
            let others: Vec<Json> = nodes.iter().filter(|node| !node.is_string()).cloned().collect();
            if !others.is_empty() {
                let others = shown(&Json::Array(others));
                return Err(format!("ha-mode=\"nodes\" takes a list of strings, {others} was not a string"));
            }
        }
        // Of what is no text, RabbitMQ says nothing: it fails.
        _ => return Err(format!("{} is not a valid ha-mode value", shown(mode))),
    }
    let one_of = |name: &str, [first, second]: [&str; 2]| match definition.get(name) {
        Some(value) if value != first && value != second => {
            Err(format!("{name} must be \"{first}\" or \"{second}\", got {}", shown(value)))
        }
        Some(_) | None => Ok(()),
    };
    one_of("ha-sync-mode", ["manual", "automatic"])?;
    if let Some(size) = definition.get("ha-sync-batch-size")
        && size.as_u64().is_none_or(|size| size == 0)
    {
        let size = shown(size);
        return Err(format!("ha-sync-batch-size takes an integer greater than 0, {size} given"));
    }
    one_of("ha-promote-on-shutdown", ["always", "when-synced"])?;
    one_of("ha-promote-on-failure", ["always", "when-synced"])
}

/// A value as RabbitMQ's texts have it: an Erlang term, and where it is about policies of users written for a page.
fn shown(value: &Json, is_operator: bool) -> String {
    let term = term(value);
    if is_operator { term } else { for_page(&term) }
}

/// Written for a page.
pub(super) fn for_page(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A value as Erlang writes it.
pub(super) fn term(value: &Json) -> String {
    let list = |terms: Vec<String>| terms.join(",");
    match value {
        Json::String(text) => format!("<<{}>>", Json::from(text.as_str())),
        Json::Array(values) => format!("[{}]", list(values.iter().map(term).collect())),
        Json::Object(map) => {
            let one = |(name, value): (&String, &Json)| {
                format!("<<{}>> => {}", Json::from(name.as_str()), term(value))
            };
            format!("#{{{}}}", list(map.iter().map(one).collect()))
        }
        // Erlang has a point in every float.
        Json::Number(number) if number.is_f64() && !number.to_string().contains('.') => {
            number.to_string().replace("e+", "e").replacen('e', ".0e", 1)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.to_string(),
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
            (
                json!({"nope": [1, "a", {"b": null}], "nada": 1.5, "max-length": 1}),
                "[{&lt;&lt;\"nada\"&gt;&gt;,1.5},{&lt;&lt;\"nope\"&gt;&gt;,[1,&lt;&lt;\"a\"&gt;&gt;,\
                #{&lt;&lt;\"b\"&gt;&gt; =&gt; null}]}] are not recognised policy settings",
            ),
            (
                json!({"nope": "a\"b\\c<\n"}),
                "[{&lt;&lt;\"nope\"&gt;&gt;,&lt;&lt;\"a\\\"b\\\\c&lt;\\n\"&gt;&gt;}] are not recognised policy settings",
            ),
            (json!({"overflow": "y", "max-length": 1e300}), "1.0e300 is not a valid maximum length"),
            (
                json!({"queue-master-locator": "zz"}),
                "&lt;&lt;\"zz\"&gt;&gt; invalid queue-master-locator value",
            ),
            (json!({"queue-master-locator": "min-masters", "initial-cluster-size": 3, "max-age": "1D"}), ""),
            (json!({"initial-cluster-size": "x"}), "&lt;&lt;\"x\"&gt;&gt; is not a valid cluster size"),
            (
                json!({"stream-max-segment-size-bytes": 3_000_000_001_u64}),
                "3000000001 is not a valid segment size",
            ),
            (json!({"max-age": "D"}), "&lt;&lt;\"D\"&gt;&gt; is not a valid max age"),
            (
                json!({"federation-upstream": "x"}),
                "[{&lt;&lt;\"federation-upstream\"&gt;&gt;,&lt;&lt;\"x\"&gt;&gt;}] are not recognised policy settings",
            ),
        ] {
            assert_eq!(why(definition, json!({}), false), expected);
        }
        let fine = || json!({"max-length": 1});
        let apply = "apply-to 'zz' unrecognised; should be 'queues', 'exchanges' or 'all'";
        assert_eq!(why(fine(), json!({"apply-to": "zz"}), false), apply);
        let null = "apply-to 'null' unrecognised; should be 'queues', 'exchanges' or 'all'";
        assert_eq!(why(fine(), json!({"apply-to": null}), false), null);
        for (priority, shown) in
            [(json!("a"), "&lt;&lt;\"a\"&gt;&gt;"), (json!(null), "null"), (json!([1]), "[1]")]
        {
            let text = format!("priority should be a number, actually was {shown}");
            assert_eq!(why(fine(), json!({"priority": priority}), false), text);
        }
        assert_eq!(why(fine(), json!({"priority": -0.5}), false), "");
        let pattern = read("p", &json!(1), &fine(), &Map::new(), false);
        assert_eq!(pattern.unwrap_err(), "pattern should be a binary but was 1");
        // Of operators' policies RabbitMQ writes for no page.
        let overflow = why(json!({"overflow": "drop-head"}), json!({}), true);
        assert_eq!(overflow, "[{<<\"overflow\">>,<<\"drop-head\">>}] are not recognised policy settings");
        assert!(why(json!({"dead-letter-exchange": "x"}), json!({}), true).contains("not recognised"));
        assert_eq!(why(fine(), json!({}), true), "");
    }
    #[test]
    fn mirrors_are_refused_in_rabbitmqs_words() {
        let needs_mode =
            "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown";
        for (definition, expected) in [
            (json!({"ha-mode": "zz", "max-length": -1}), "-1 is not a valid maximum length"),
            (json!({"ha-mode": "zz"}), "&lt;&lt;\"zz\"&gt;&gt; is not a valid ha-mode value"),
            (json!({"ha-params": 2}), needs_mode),
            (json!({"ha-sync-batch-size": 5}), needs_mode),
            (json!({"ha-promote-on-failure": "always"}), needs_mode),
            (json!({"ha-mode": "all", "ha-params": 2}), "ha-mode=\"all\" does not take parameters"),
            (json!({"ha-mode": "exactly"}), "ha-mode=\"exactly\" takes an integer, none given"),
            (json!({"ha-mode": "exactly", "ha-params": 0}), "ha-mode=\"exactly\" takes an integer, 0 given"),
            (
                json!({"ha-mode": "exactly", "ha-params": "2"}),
                "ha-mode=\"exactly\" takes an integer, &lt;&lt;\"2\"&gt;&gt; given",
            ),
            (json!({"ha-mode": "exactly", "ha-params": 2}), ""),
            (json!({"ha-mode": "nodes"}), "ha-mode=\"nodes\" takes a list, none given"),
            (json!({"ha-mode": "nodes", "ha-params": []}), "ha-mode=\"nodes\" list must be non-empty"),
            (
                json!({"ha-mode": "nodes", "ha-params": ["a", 1]}),
                "ha-mode=\"nodes\" takes a list of strings, [1] was not a string",
            ),
            (json!({"ha-mode": "nodes", "ha-params": ["a@b"]}), ""),
            (
                json!({"ha-mode": "all", "ha-sync-mode": "x", "ha-promote-on-failure": "y"}),
                "ha-sync-mode must be \"manual\" or \"automatic\", got &lt;&lt;\"x\"&gt;&gt;",
            ),
            (
                json!({"ha-mode": "all", "ha-sync-batch-size": 0}),
                "ha-sync-batch-size takes an integer greater than 0, 0 given",
            ),
            (
                json!({"ha-mode": "all", "ha-promote-on-shutdown": 1}),
                "ha-promote-on-shutdown must be \"always\" or \"when-synced\", got 1",
            ),
            (
                json!({"ha-mode": "all", "ha-promote-on-failure": "x"}),
                "ha-promote-on-failure must be \"always\" or \"when-synced\", got &lt;&lt;\"x\"&gt;&gt;",
            ),
            (
                json!({"ha-mode": "all", "ha-sync-mode": "automatic", "ha-promote-on-failure": "when-synced"}),
                "",
            ),
        ] {
            assert_eq!(why(definition, json!({}), false), expected);
        }
        assert!(why(json!({"ha-mode": "all"}), json!({}), true).contains("not recognised"));
    }
}
