//! Settings of topics, groups and the broker: described and changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::answer::{Head, Pending};
use super::config::{self, BROKER_ONLY, Kind, SETTINGS, Setting, Values, value_of};
use super::defaults::{self, Defaults, Scope};
use super::group_settings;
use super::session::Session;
use super::topics::{Failed, Topic};
use super::{Broker, NODE_ID};
use crate::log::wire::api::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use crate::log::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::log::wire::api::incremental_alter_configs::{
    self as incremental, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::log::wire::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::log::wire::{ErrorCode, api::AclOperation, api::ConfigResourceType, api::ConfigSource};

/// Kinds of values, as they are told to clients.
fn type_of(kind: Kind) -> i8 {
    match kind {
        Kind::Switch => 1,
        Kind::Word(_) => 2,
        Kind::Number(_, max) if max <= i64::from(i32::MAX) => 3,
        Kind::Number(..) => 5,
        Kind::Share => 6,
        Kind::Words(_) => 7,
    }
}

/// `DescribeConfigs`.
pub(super) fn describe(session: &Session, head: Head, request: DescribeConfigsRequest) -> Pending {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.into_iter().map(|asked| {
        let found = may(session, AclOperation::DescribeConfigs, (asked.resource_type, &asked.resource_name))
            .and_then(|()| described(&session.broker, &asked, (synonyms, docs), session.advertised()));
        let (error_code, error_message, configs) = match found {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err(Failed { error, message }) => (error, Some(message), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs,
        }
    });
    let response =
        DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() };
    Pending::ready::<DescribeConfigsRequest>(head, &response)
}

/// Whether someone may see settings, or change them.
fn may(session: &Session, operation: AclOperation, resource: (i8, &str)) -> Result<(), Failed> {
    let (is_allowed, error) = match ConfigResourceType::from_code(resource.0) {
        Some(ConfigResourceType::Topic) => {
            (session.may_topic(operation, resource.1), ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        }
        Some(ConfigResourceType::Group) => {
            (session.may_group(operation, resource.1), ErrorCode::GROUP_AUTHORIZATION_FAILED)
        }
        _ => (session.may_cluster(operation), ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
    };
    if is_allowed { Ok(()) } else { Err(Failed::new(error, format!("needs '{operation}'"))) }
}

fn described(
    broker: &Broker,
    asked: &DescribeConfigsResource,
    (synonyms, docs): (bool, bool),
    advertised: (String, i32),
) -> Result<Vec<DescribeConfigsResourceResult>, Failed> {
    let is_wanted = |name: &str| {
        asked
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name))
    };
    let defaults = broker.topics.defaults();
    match ConfigResourceType::from_code(asked.resource_type) {
        Some(ConfigResourceType::Topic) => {
            let own = topic(broker, &asked.resource_name)?.values();
            let wanted = SETTINGS.iter().filter(|setting| is_wanted(setting.name));
            Ok(wanted.map(|setting| of_topic(setting, &own, &defaults, synonyms, docs)).collect())
        }
        Some(ConfigResourceType::Broker) => {
            let scope = scope(&asked.resource_name)?;
            let all = SETTINGS.iter().chain(BROKER_ONLY).filter(|setting| !setting.of_broker.is_empty());
            let set = defaults.values(scope);
            // Of all brokers together only what is set is known; this one has everything.
            let known = all.filter(|setting| match scope {
                Scope::All => set.contains_key(setting.of_broker),
                Scope::Own => !setting.name.is_empty() || set.contains_key(setting.of_broker),
            });
            let wanted = known.filter(|setting| is_wanted(setting.of_broker));
            let mut configs: Vec<_> =
                wanted.map(|setting| of_broker(setting, &defaults, scope, synonyms, docs)).collect();
            if scope == Scope::Own {
                configs.extend(fixed(broker, advertised).into_iter().filter(|it| is_wanted(&it.name)));
            }
            Ok(configs)
        }
        Some(ConfigResourceType::Group) => {
            let own = group_settings::of(&broker.definitions, &asked.resource_name);
            let wanted = group_settings::SETTINGS.iter().filter(|setting| is_wanted(setting.name));
            Ok(wanted.map(|setting| of_group(setting, &own, synonyms, docs)).collect())
        }
        _ => {
            let text = "only topics, groups and brokers have settings here";
            Err(Failed::new(ErrorCode::INVALID_REQUEST, text))
        }
    }
}

/// What cannot be changed while the broker runs.
fn fixed(broker: &Broker, (host, port): (String, i32)) -> Vec<DescribeConfigsResourceResult> {
    let listener = format!("PLAINTEXT://{host}:{port}");
    let all = [
        ("auto.create.topics.enable", broker.options.auto_create.to_string(), 1),
        ("advertised.listeners", listener.clone(), 7),
        ("broker.id", NODE_ID.to_string(), 3),
        ("listeners", listener, 7),
        ("node.id", NODE_ID.to_string(), 3),
        ("num.partitions", broker.options.partitions.to_string(), 3),
    ];
    all.into_iter()
        .map(|(name, value, config_type)| DescribeConfigsResourceResult {
            name: name.to_owned(),
            value: Some(value),
            read_only: true,
            config_source: ConfigSource::StaticBroker as i8,
            config_type,
            ..DescribeConfigsResourceResult::default()
        })
        .collect()
}

fn synonym(name: &str, (value, source): (&str, ConfigSource)) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source: source as i8 }
}

fn of_topic(
    setting: &Setting,
    own: &Values,
    defaults: &Defaults,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult {
    let (value, config_source) = value_of(setting, own, defaults);
    let mut synonyms = Vec::new();
    if with_synonyms {
        let own = own.get(setting.name).map(|value| (value.as_str(), ConfigSource::Topic));
        synonyms.extend(own.map(|set| synonym(setting.name, set)));
        synonyms.extend(defaults.of(setting).into_iter().map(|set| synonym(setting.of_broker, set)));
    }
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value),
        read_only: false,
        config_source,
        is_sensitive: false,
        synonyms,
        config_type: type_of(setting.kind),
        documentation: docs.then(|| setting.doc.to_owned()),
    }
}

fn of_group(
    setting: &Setting,
    own: &Values,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult {
    let set = own.get(setting.name).map(|value| (value.as_str(), ConfigSource::Group));
    let default = (setting.default, ConfigSource::Default);
    let (value, source) = set.unwrap_or(default);
    let mut synonyms: Vec<_> = set.map(|set| synonym(setting.name, set)).into_iter().collect();
    synonyms.push(synonym(setting.of_broker, default));
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value.to_owned()),
        config_source: source as i8,
        synonyms: if with_synonyms { synonyms } else { Vec::new() },
        config_type: type_of(setting.kind),
        documentation: docs.then(|| setting.doc.to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}

fn of_broker(
    setting: &Setting,
    defaults: &Defaults,
    scope: Scope,
    with_synonyms: bool,
    docs: bool,
) -> DescribeConfigsResourceResult {
    let mut all = defaults.of(setting);
    if scope == Scope::All {
        all.retain(|(_, source)| *source != ConfigSource::Broker);
    }
    let (value, source) = all[0];
    DescribeConfigsResourceResult {
        name: setting.of_broker.to_owned(),
        value: Some(value.to_owned()),
        read_only: false,
        config_source: source as i8,
        is_sensitive: false,
        synonyms: match with_synonyms {
            true => all.iter().map(|set| synonym(setting.of_broker, *set)).collect(),
            false => Vec::new(),
        },
        config_type: type_of(setting.kind),
        documentation: docs.then(|| setting.doc.to_owned()),
    }
}

fn topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, Failed> {
    broker.topics.get(name).ok_or_else(|| {
        Failed::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."))
    })
}

fn scope(name: &str) -> Result<Scope, Failed> {
    let text = || format!("there is one broker, {NODE_ID}, and none named '{name}'");
    Scope::of(name).ok_or_else(|| Failed::new(ErrorCode::INVALID_REQUEST, text()))
}

/// What is to become of one setting.
struct Edit {
    name: String,
    operation: Operation,
}

enum Operation {
    Set(String),
    Unset,
    /// Adds words to a list, or takes them out.
    Append(String),
    Subtract(String),
}

/// Changes settings of a topic, a group, or the broker; how far the definitions have to be safe for it. `before` are those that
/// stay unless they are named.
fn change(
    broker: &Broker,
    resource: (i8, &str),
    before: Before,
    edits: &[Edit],
    validate_only: bool,
) -> Result<Option<i64>, Failed> {
    let edited = |set: &Values, find: Find| match before {
        Before::Stay => edited(set, edits, find),
        Before::Go => edited(&Values::new(), edits, find),
    };
    match ConfigResourceType::from_code(resource.0) {
        Some(ConfigResourceType::Topic) => {
            let topic = topic(broker, resource.1)?;
            let (before, values) = (topic.values(), edited(&topic.values(), of_topics)?);
            if validate_only || values == before {
                return Ok(None);
            }
            broker.topics.configure(&topic, values).map(Some)
        }
        Some(ConfigResourceType::Broker) => {
            let scope = scope(resource.1)?;
            let defaults = broker.topics.defaults();
            let values = edited(defaults.values(scope), of_brokers)?;
            if validate_only || values == *defaults.values(scope) {
                return Ok(None);
            }
            broker.topics.set_defaults(scope, values).map(Some)
        }
        Some(ConfigResourceType::Group) => {
            let before = group_settings::of(&broker.definitions, resource.1);
            let values = edited(&before, group_settings::find)?;
            if validate_only || values == before {
                return Ok(None);
            }
            group_settings::set(broker, resource.1, &values).map(Some)
        }
        _ => {
            let message = "only topics, groups and brokers have settings that can be changed";
            Err(Failed::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

/// What becomes of settings that are not named.
#[derive(Clone, Copy)]
enum Before {
    Stay,
    Go,
}

/// Finds a setting by its name.
type Find = fn(&str) -> Result<&'static Setting, Failed>;

fn of_topics(name: &str) -> Result<&'static Setting, Failed> {
    let unknown = || Failed::new(ErrorCode::INVALID_CONFIG, format!("Unknown topic config name: {name}"));
    config::find(name).ok_or_else(unknown)
}

fn of_brokers(name: &str) -> Result<&'static Setting, Failed> {
    let message = || format!("Cannot update these configs dynamically: Set({name})");
    defaults::find(name).ok_or_else(|| Failed::new(ErrorCode::INVALID_REQUEST, message()))
}

fn edited(before: &Values, edits: &[Edit], find: Find) -> Result<Values, Failed> {
    let mut values = before.clone();
    let mut seen = HashSet::new();
    for Edit { name, operation } in edits {
        if !seen.insert(name) {
            let message = format!("'{name}' is named more than once in the request");
            return Err(Failed::new(ErrorCode::INVALID_REQUEST, message));
        }
        let setting = find(name)?;
        let is_list = matches!(setting.kind, Kind::Words(_));
        let words = || -> Vec<String> {
            let value = values.get(name).map_or(setting.default, String::as_str);
            value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let joined = match operation {
            Operation::Unset => {
                values.remove(name);
                continue;
            }
            Operation::Set(value) => value.clone(),
            Operation::Append(_) | Operation::Subtract(_) if !is_list => {
                let message = format!("'{name}' is no list: words cannot be added to it or taken out");
                return Err(Failed::new(ErrorCode::INVALID_CONFIG, message));
            }
            Operation::Append(value) => {
                let mut words = words();
                let new: Vec<String> = value
                    .split(',')
                    .filter(|word| !words.iter().any(|known| known == word))
                    .map(str::to_owned)
                    .collect();
                words.extend(new);
                words.join(",")
            }
            Operation::Subtract(value) => {
                let gone: Vec<&str> = value.split(',').collect();
                words()
                    .into_iter()
                    .filter(|word| !gone.contains(&word.as_str()))
                    .collect::<Vec<_>>()
                    .join(",")
            }
        };
        let checked = config::check_value(setting, name, &joined);
        checked.map_err(|why| Failed::new(ErrorCode::INVALID_CONFIG, why.0))?;
        values.insert(name.clone(), joined);
    }
    Ok(values)
}

/// `IncrementalAlterConfigs`.
pub(super) fn alter_some(
    session: &Arc<Session>,
    head: Head,
    request: IncrementalAlterConfigsRequest,
) -> Pending {
    let mut end = None;
    let responses = request.resources.into_iter().map(|asked| {
        let edits: Result<Vec<Edit>, Failed> = asked.configs.into_iter().map(edit).collect();
        let resource = (asked.resource_type, asked.resource_name.as_str());
        let edits = may(session, AclOperation::AlterConfigs, resource).and(edits);
        let done = edits
            .and_then(|edits| change(&session.broker, resource, Before::Stay, &edits, request.validate_only));
        let (error_code, error_message) = outcome(done, &mut end);
        incremental::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
        }
    });
    let response = IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    };
    Pending::when_defined::<IncrementalAlterConfigsRequest>(&session.broker.definitions, end, head, response)
}

fn edit(asked: incremental::AlterableConfig) -> Result<Edit, Failed> {
    let value = || {
        let message = format!("Null value not supported for : {}", asked.name);
        asked.value.clone().ok_or_else(|| Failed::new(ErrorCode::INVALID_REQUEST, message))
    };
    let operation = match asked.config_operation {
        0 => Operation::Set(value()?),
        1 => Operation::Unset,
        2 => Operation::Append(value()?),
        3 => Operation::Subtract(value()?),
        other => return Err(Failed::new(ErrorCode::INVALID_REQUEST, format!("Unknown operation {other}"))),
    };
    Ok(Edit { name: asked.name, operation })
}

/// `AlterConfigs`: what is not named is at its default again.
pub(super) fn alter_all(session: &Arc<Session>, head: Head, request: AlterConfigsRequest) -> Pending {
    let mut end = None;
    let responses = request.resources.into_iter().map(|asked| {
        let edits: Vec<Edit> = asked
            .configs
            .into_iter()
            .map(|config| Edit {
                name: config.name,
                operation: config.value.map_or(Operation::Unset, Operation::Set),
            })
            .collect();
        let resource = (asked.resource_type, asked.resource_name.as_str());
        let done = may(session, AclOperation::AlterConfigs, resource)
            .and_then(|()| change(&session.broker, resource, Before::Go, &edits, request.validate_only));
        let (error_code, error_message) = outcome(done, &mut end);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
        }
    });
    let response = AlterConfigsResponse { responses: responses.collect(), ..AlterConfigsResponse::default() };
    Pending::when_defined::<AlterConfigsRequest>(&session.broker.definitions, end, head, response)
}

fn outcome(done: Result<Option<i64>, Failed>, end: &mut Option<i64>) -> (ErrorCode, Option<String>) {
    match done {
        Ok(safe) => {
            *end = (*end).max(safe);
            (ErrorCode::NONE, None)
        }
        Err(Failed { error, message }) => (error, Some(message)),
    }
}

/// `ListConfigResources`: topics, the broker, and groups of which anything is set.
pub(super) fn list(session: &Session, head: Head, request: &ListConfigResourcesRequest) -> Pending {
    if !session.may_cluster(AclOperation::DescribeConfigs) {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        let response = ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
        return Pending::ready::<ListConfigResourcesRequest>(head, &response);
    }
    let is_wanted = |kind: ConfigResourceType| {
        // Version 0 asks for subscriptions to metrics, of which there are none.
        head.version > 0
            && (request.resource_types.is_empty() || request.resource_types.contains(&(kind as i8)))
    };
    let mut resources = Vec::new();
    if is_wanted(ConfigResourceType::Topic) {
        let one = |topic: &Arc<Topic>| ConfigResource {
            resource_name: topic.name.clone(),
            resource_type: ConfigResourceType::Topic as i8,
        };
        resources.extend(session.broker.topics.all().iter().map(one));
    }
    if is_wanted(ConfigResourceType::Broker) {
        let resource_type = ConfigResourceType::Broker as i8;
        resources.push(ConfigResource { resource_name: NODE_ID.to_string(), resource_type });
    }
    if is_wanted(ConfigResourceType::Group) {
        let resource_type = ConfigResourceType::Group as i8;
        let names = group_settings::names(&session.broker.definitions);
        resources.extend(names.map(|resource_name| ConfigResource { resource_name, resource_type }));
    }
    let response =
        ListConfigResourcesResponse { config_resources: resources, ..ListConfigResourcesResponse::default() };
    Pending::ready::<ListConfigResourcesRequest>(head, &response)
}
