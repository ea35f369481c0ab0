//! What is not set of a topic: as the broker is set while it runs, or was set at its start.

use serde_json::{Value as Json, json};

use super::NODE_ID;
use super::config::{BROKER_ONLY, SETTINGS, Setting, Values};
use super::definitions::{Definitions, key};
use crate::log::wire::api::ConfigSource;

/// Whose settings they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// This broker's.
    Own,
    /// All brokers'.
    All,
}

impl Scope {
    /// The one that a resource of this name stands for. Kafka KIP-226: without a name it is the default of all.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "" => Some(Self::All),
            name => (name == NODE_ID.to_string()).then_some(Self::Own),
        }
    }

    /// Under which its settings are defined.
    pub(super) fn key(self) -> String {
        let name = match self {
            Self::Own => NODE_ID.to_string(),
            Self::All => String::new(),
        };
        key("broker", &[&name])
    }
}

/// The broker's settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    /// Given at the start, by the names that topics have for them.
    fixed: Values,
    /// Set while it runs, by the broker's names.
    all: Values,
    own: Values,
}

impl Defaults {
    /// With what is given at the start; nothing is set yet. What is given as it is anyway is nobody's setting.
    pub(super) fn new(mut fixed: Values) -> Self {
        fixed.retain(|name, value| {
            SETTINGS.iter().all(|setting| setting.name != name || setting.default != value)
        });
        Self { fixed, ..Self::default() }
    }

    /// With what was set earlier.
    pub(super) fn read(&mut self, definitions: &Definitions) {
        for scope in [Scope::All, Scope::Own] {
            let values = definitions.get(&scope.key()).and_then(|value| serde_json::from_value(value).ok());
            self.set(scope, values.unwrap_or_default());
        }
    }

    /// What was set while it runs.
    pub(super) fn values(&self, scope: Scope) -> &Values {
        match scope {
            Scope::Own => &self.own,
            Scope::All => &self.all,
        }
    }

    /// The same, set to something else.
    pub(super) fn set(&mut self, scope: Scope, values: Values) {
        match scope {
            Scope::Own => self.own = values,
            Scope::All => self.all = values,
        }
    }

    /// How it is defined; nothing if nothing is set.
    pub(super) fn definition(values: &Values) -> Option<Json> {
        (!values.is_empty()).then(|| json!(values))
    }

    /// Every value of a setting and who set it, the one that counts first; Kafka's default is the last.
    pub(super) fn of(&self, setting: &Setting) -> Vec<(&str, ConfigSource)> {
        [
            (self.own.get(setting.of_broker), ConfigSource::Broker),
            (self.all.get(setting.of_broker), ConfigSource::DefaultBroker),
            (self.fixed.get(setting.name), ConfigSource::StaticBroker),
        ]
        .into_iter()
        .filter_map(|(value, source)| Some((value?.as_str(), source)))
        .chain([(setting.default, ConfigSource::Default)])
        .collect()
    }
}

/// The setting of the broker of that name, among those that can be set while it runs.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().chain(BROKER_ONLY).find(|setting| !name.is_empty() && setting.of_broker == name)
}
