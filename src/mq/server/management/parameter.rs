//! Parameters: those of components, of which there are two here, the global ones, and limits of virtual hosts and users.

use serde_json::{Map, Value as Json, json};

use super::Management;
use super::administer::{self, Existed};
use super::ask::{self, Order, missing};
use super::policy::{self, for_page, term};
use super::reply::{Outcome, Refusal, Reply};
use crate::mq::server::change::Change;

/// Limits of a virtual host, and the one name under which the component keeps them.
const VHOST_LIMITS: [&str; 2] = ["max-connections", "max-queues"];
const LIMITS: &str = "limits";
const USER_LIMITS: [&str; 2] = ["max-connections", "max-channels"];

impl Management {
    /// Sets or deletes a parameter of a component.
    pub(super) async fn parameter(
        &self,
        order: &Order<'_>,
        component: &str,
        vhost: &str,
        name: &str,
        deletes: bool,
    ) -> Outcome {
        match component {
            "policy" if deletes && !self.has_policy(vhost, name, false) => missing(),
            "policy" if deletes => Err(Refusal::bad_request("policies may not be cleared using this method")),
            "policy" => Err(Refusal::bad_request("policies may not be set using this method")),
            "operator_policy" if deletes => self.delete_policy(vhost, name, true).await,
            "operator_policy" => {
                let value = value_of(order)?;
                let settings = settings_of(name, &value)?;
                let policy = operator_policy(name, &settings).map_err(invalid)?;
                let existed = Existed(self.has_policy(vhost, name, true));
                self.apply(administer::of_policy(vhost, policy, true)).await?;
                Ok(existed.into())
            }
            "vhost-limits" => self.limits(order, vhost, name, deletes).await,
            _ if deletes => missing(),
            _ => Err(invalid(format!("component {component} not found"))),
        }
    }

    /// All limits of a virtual host at once.
    async fn limits(&self, order: &Order<'_>, vhost: &str, name: &str, deletes: bool) -> Outcome {
        let existed = self.broker.users().vhost_limits().any(|(held, ..)| held == vhost);
        if deletes && (name != LIMITS || !existed) {
            return missing();
        }
        let limits = if deletes {
            Map::new()
        } else {
            if name != LIMITS {
                return Err(invalid(format!("those of a virtual host have the name {LIMITS}, not {name}")));
            }
            let value = value_of(order)?;
            let settings = settings_of(name, &value)?;
            check_limits(&settings, &VHOST_LIMITS, LIMITS).map_err(|why| invalid(for_page(&why)))?;
            settings
        };
        for known in VHOST_LIMITS {
            let (vhost, name) = (vhost.to_owned(), known.to_owned());
            self.apply(match limits.get(known).and_then(Json::as_i64) {
                Some(value) => Change::VhostLimit { vhost, name, value },
                None => Change::VhostLimitDeleted { vhost, name },
            })
            .await?;
        }
        if deletes { Ok(Reply::Done) } else { Ok(Existed(existed).into()) }
    }

    pub(super) async fn global(&self, order: &Order<'_>, name: &str, deletes: bool) -> Outcome {
        let existed = Existed(self.broker.parameters().contains_key(name));
        if deletes {
            if !existed.0 {
                return missing();
            }
            self.apply(Change::GlobalParameterDeleted(name.to_owned())).await?;
            return Ok(Reply::Done);
        }
        let value = value_of(order)?;
        self.apply(Change::GlobalParameter { name: name.to_owned(), value }).await?;
        Ok(existed.into())
    }

    pub(super) async fn vhost_limit(
        &self,
        order: &Order<'_>,
        vhost: &str,
        name: &str,
        deletes: bool,
    ) -> Outcome {
        let (vhost, name) = (vhost.to_owned(), name.to_owned());
        if deletes {
            self.apply(Change::VhostLimitDeleted { vhost, name }).await?;
            return Ok(Reply::Done);
        }
        let value = limit(&name, value_of(order)?, &VHOST_LIMITS, LIMITS).map_err(invalid)?;
        self.apply(Change::VhostLimit { vhost, name, value }).await?;
        Ok(Reply::Done)
    }

    pub(super) async fn user_limit(
        &self,
        order: &Order<'_>,
        user: &str,
        name: &str,
        deletes: bool,
    ) -> Outcome {
        let (user, name) = (user.to_owned(), name.to_owned());
        if self.broker.users().user(&user).is_none() {
            return if deletes {
                missing()
            } else {
                Err(Refusal::bad_request(json!(["no_such_user", user])))
            };
        }
        if deletes {
            self.apply(Change::UserLimitDeleted { user, name }).await?;
            return Ok(Reply::Done);
        }
        let value =
            limit(&name, value_of(order)?, &USER_LIMITS, "user-limits").map_err(Refusal::bad_request)?;
        self.apply(Change::UserLimit { user, name, value }).await?;
        Ok(Reply::Done)
    }
}

/// A policy as the parameter that it is.
pub(super) fn of_policy(policy: Json) -> Json {
    let Json::Object(mut policy) = policy else { return policy };
    let mut take = |name: &str| policy.remove(name).unwrap_or_default();
    let (vhost, name) = (take("vhost"), take("name"));
    json!({"component": "policy", "vhost": vhost, "name": name, "value": policy})
}

fn invalid(why: impl std::fmt::Display) -> Refusal {
    Refusal::bad_request(format!("Validation failed\n\n{why}\n"))
}

fn value_of(order: &Order<'_>) -> Result<Json, Refusal> {
    let object = ask::object(order.body)?;
    let [value] = ask::wanted(&object, ["value"])?;
    Ok(value.clone())
}

/// A value that has settings: to RabbitMQ an object is a list of them, and an empty list one of none.
fn settings_of(name: &str, value: &Json) -> Result<Map<String, Json>, Refusal> {
    match value {
        Json::Object(settings) => Ok(settings.clone()),
        Json::Array(list) if list.is_empty() => Ok(Map::new()),
        other => Err(invalid(format!("{name} not a list {}", for_page(&term(other))))),
    }
}

/// An operator policy. All of it has to be there and nothing else, and everything that is wrong is told.
fn operator_policy(
    name: &str,
    settings: &Map<String, Json>,
) -> Result<crate::mq::engine::PolicyDefinition, String> {
    const NEEDED: [&str; 3] = ["definition", "pattern", "priority"];
    let known = |setting: &str| NEEDED.contains(&setting) || setting == "apply-to";
    let nothing = Json::from("");
    let given = |setting: &str| settings.get(setting);
    let mut wrong = Vec::new();
    let unknown: Vec<String> = settings
        .iter()
        .filter(|(setting, _)| !known(setting))
        .map(|(setting, value)| format!("{{{},{}}}", term(&setting.as_str().into()), term(value)))
        .collect();
    if !unknown.is_empty() {
        wrong.push(for_page(&format!("Unrecognised terms [{}] in {name}", unknown.join(","))));
    }
    // What is absent is told below, and not as something that is wrong with it.
    let placeholder = json!({"max-length": 0});
    let (pattern, definition) =
        (given("pattern").unwrap_or(&nothing), given("definition").unwrap_or(&placeholder));
    let policy = policy::read(name, pattern, definition, settings, true);
    if let Err(why) = &policy {
        wrong.push(for_page(why));
    }
    let absent = NEEDED.into_iter().filter(|setting| given(setting).is_none());
    wrong.extend(absent.map(|setting| format!("Key \"{setting}\" not found in {name}")));
    if wrong.is_empty() { policy } else { Err(wrong.join("\n")) }
}

/// Why limits cannot be.
fn check_limits(limits: &Map<String, Json>, known: &[&str], whose: &str) -> Result<(), String> {
    let unknown: Vec<String> = limits
        .iter()
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(name, value)| format!("{{{},{}}}", term(&name.as_str().into()), term(value)))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("Unrecognised terms [{}] in {whose}", unknown.join(",")));
    }
    match limits.iter().find(|(_, value)| value.as_i64().is_none()) {
        Some((name, value)) => Err(format!("{name} should be a number, actually was {}", term(value))),
        None => Ok(()),
    }
}

fn limit(name: &str, value: Json, known: &[&str], whose: &str) -> Result<i64, String> {
    let number = value.as_i64().unwrap_or_default();
    check_limits(&Map::from_iter([(name.to_owned(), value)]), known, whose)?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn everything_that_is_wrong_with_an_operator_policy_is_told_as_rabbitmq_tells_it() {
        for (value, expected) in [
            (json!({"pattern": "^z", "definition": {"max-length": 1}, "priority": 0}), ""),
            (json!({"pattern": "^z", "definition": {"max-length": 1}}), "Key \"priority\" not found in b"),
            (json!({"pattern": "^z"}), "Key \"definition\" not found in b\nKey \"priority\" not found in b"),
            (
                json!({"pattern": "^z", "definition": {}}),
                "no policy provided\nKey \"priority\" not found in b",
            ),
            (
                json!({"pattern": "^z", "definition": {"nope": 1}, "priority": 0}),
                "[{&lt;&lt;\"nope\"&gt;&gt;,1}] are not recognised policy settings",
            ),
            (
                json!({"pattern": "^z", "definition": {"max-length": 1}, "extra": 1}),
                "Unrecognised terms [{&lt;&lt;\"extra\"&gt;&gt;,1}] in b\nKey \"priority\" not found in b",
            ),
            (
                json!({"pattern": "^z", "definition": {"max-length": 1}, "priority": "x"}),
                "priority should be a number, actually was &lt;&lt;\"x\"&gt;&gt;",
            ),
        ] {
            let told =
                operator_policy("b", &settings(value.clone())).map_or_else(|why| why, |_| String::new());
            assert_eq!(told, expected, "{value}");
        }
    }

    #[test]
    fn limits_are_numbers_of_known_names() {
        for (value, expected) in [
            (json!({"max-queues": 3, "max-connections": -1}), ""),
            (json!({"max-foo": 3}), "Unrecognised terms [{<<\"max-foo\">>,3}] in limits"),
            (json!({"max-queues": "x"}), "max-queues should be a number, actually was <<\"x\">>"),
            (json!({"max-queues": 1.5}), "max-queues should be a number, actually was 1.5"),
            (json!({}), ""),
        ] {
            let told = check_limits(&settings(value), &VHOST_LIMITS, LIMITS);
            assert_eq!(told.err().unwrap_or_default(), expected);
        }
    }
}
