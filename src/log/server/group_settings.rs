//! What can be set of a group of the next generation (Kafka KIP-848): how often a member is to be heard of, and when it is missed.

use std::time::Duration;

use super::Broker;
use super::config::{Kind, Setting, Values};
use super::defaults::Defaults;
use super::definitions::{Definitions, key};
use super::topics::Failed;
use crate::log::engine::group::{Config, GROUP_NAME_BYTES_MAX, Pace};
use crate::log::wire::ErrorCode;

/// Most groups with settings: each stays when the group is gone.
const GROUPS_MAX: usize = 10_000;
/// Kind of their definitions.
const KIND: &str = "group";

const INTERVAL: &str = "consumer.heartbeat.interval.ms";
const SESSION: &str = "consumer.session.timeout.ms";

/// By name. Kafka allows 5 s to 15 s and 45 s to 60 s; tests want their consumers to be missed sooner.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: INTERVAL,
        of_broker: "group.consumer.heartbeat.interval.ms",
        kind: Kind::Number(100, 60_000),
        default: "1000",
        doc: "How often a member is to be heard of.",
    },
    Setting {
        name: SESSION,
        of_broker: "group.consumer.session.timeout.ms",
        kind: Kind::Number(1000, 1_800_000),
        default: "45000",
        doc: "A member that is silent for so long is out.",
    },
];

/// The setting of that name.
pub(super) fn find(name: &str) -> Result<&'static Setting, Failed> {
    let unknown = || Failed::new(ErrorCode::INVALID_CONFIG, format!("Unknown group config name: {name}"));
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(unknown)
}

/// What was set of a group; nothing of one that nobody knows.
pub(super) fn of(definitions: &Definitions, group: &str) -> Values {
    let defined = definitions.get(&key(KIND, &[group]));
    defined.and_then(|defined| serde_json::from_value(defined).ok()).unwrap_or_default()
}

/// Groups of which anything was set.
pub(super) fn names(definitions: &Definitions) -> impl Iterator<Item = String> {
    definitions.of_kind(KIND).into_iter().filter_map(|(names, _)| names.into_iter().next())
}

/// Sets a group, which need not be there yet; how far the definitions have to be safe for it.
pub(super) fn set(broker: &Broker, group: &str, values: &Values) -> Result<i64, Failed> {
    if group.is_empty() || group.len() > GROUP_NAME_BYTES_MAX {
        let text = format!("a group's name has 1 to {GROUP_NAME_BYTES_MAX} bytes");
        return Err(Failed::new(ErrorCode::INVALID_REQUEST, text));
    }
    if broker.definitions.of_kind(KIND).len() >= GROUPS_MAX && of(&broker.definitions, group).is_empty() {
        let text = format!("{GROUPS_MAX} groups have settings, which is the limit");
        return Err(Failed::new(ErrorCode::POLICY_VIOLATION, text));
    }
    let change = (key(KIND, &[group]), Defaults::definition(values));
    let end = broker.definitions.change(vec![change])?;
    broker.coordinator.set_pace(group, pace(values));
    Ok(end)
}

/// What was set before the start is at work again.
pub(super) fn restore(broker: &Broker) {
    for group in names(&broker.definitions) {
        broker.coordinator.set_pace(&group, pace(&of(&broker.definitions, &group)));
    }
}

/// None if nothing is set.
fn pace(values: &Values) -> Option<Pace> {
    let number = |name| values.get(name).and_then(|value| value.parse::<u32>().ok());
    let default = Config::default();
    (!values.is_empty()).then(|| Pace {
        session: number(SESSION).map_or(default.consumer_session, |ms| Duration::from_millis(u64::from(ms))),
        interval_ms: number(INTERVAL)
            .and_then(|ms| i32::try_from(ms).ok())
            .unwrap_or(default.heartbeat_interval_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_it_is_by_default() {
        let values = Values::from([(SESSION.to_owned(), "2000".to_owned())]);
        assert_eq!(pace(&values), Some(Pace { session: Duration::from_secs(2), interval_ms: 1000 }));
        assert_eq!(pace(&Values::new()), None);
        let default = Config::default();
        assert_eq!(SETTINGS[0].default, default.heartbeat_interval_ms.to_string());
        assert_eq!(SETTINGS[1].default, default.consumer_session.as_millis().to_string());
    }
}
